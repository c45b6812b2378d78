import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { openImageFile } from "../../../lib/image/image.ts";
import { writeAside } from "../../../lib/image/writer.ts";
import * as posix from "../../../lib/system/posix.ts";
import { tempDir } from "../../lab/helpers.ts";

const BYTES = new TextEncoder().encode("contents");

Deno.test("writeAside() writes at a position of the image, and says why it could not", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`;
    await Deno.writeFile(path, new Uint8Array(10));
    {
      using image = openImageFile(path);
      await writeAside({ ...image, offset: 4 }, BYTES, 3);
    }
    assert.equal(await Deno.readTextFile(path), "\0".repeat(7) + "contents");
    const fd = posix.open(posix.cString(path), posix.OPEN.read);
    try {
      await assert.rejects(writeAside({ fd, path, offset: 0 }, BYTES, 0), {
        name: BuildError.name,
        message: /^Cannot write ".*image": Bad file descriptor$/,
      });
    } finally {
      posix.close(fd);
    }
  }));
