import assert from "node:assert/strict";
import { findInstalled } from "../../../lib/make/sbom.ts";
import { archiveOptions } from "../../../lib/make/archive.ts";
import { inspectTree } from "../../../lib/tree/inspect.ts";
import { closeRoot } from "../../../lib/tree/root.ts";
import { tempDir } from "../../lab/helpers.ts";

Deno.test("findInstalled() lists as many packages as a tree has", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/lib/apk/db`, { recursive: true });
    const count = 300_000;
    const text = Array.from({ length: count }, (_, i) => `P:p${i}\nV:1\n`).join("\n");
    await Deno.writeTextFile(`${dir}/lib/apk/db/installed`, text);
    const tree = await inspectTree(dir);
    try {
      assert.equal(findInstalled(tree).packages.length, count);
    } finally {
      closeRoot(tree.root);
    }
  }));

Deno.test("archiveOptions() knows zstd that begins with a skippable frame, as pzstd writes it", () =>
  tempDir(async (dir) => {
    for (let kind = 0; kind < 16; kind++) {
      await Deno.writeFile(
        `${dir}/file`,
        Uint8Array.of(0x50 + kind, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4),
      );
      assert.deepEqual(await archiveOptions(`${dir}/file`), ["--use-compress-program=zstd --long=31"]);
    }
    await Deno.writeFile(`${dir}/file`, Uint8Array.of(0x60, 0x2a, 0x4d, 0x18));
    assert.equal(await archiveOptions(`${dir}/file`), undefined);
  }));
