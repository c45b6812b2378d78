import assert from "node:assert/strict";
import { partImage } from "../../../builders/part-image/build.ts";
import { run } from "../../../lib/cli/cli.ts";
import { readTranscript } from "../../../lib/core/log.ts";
import { tempDir } from "../../lab/helpers.ts";

Deno.test("STRICT=1 refuses a tree with warnings, names them all, and leaves the output alone", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree/etc/ssh`, { recursive: true });
    await Deno.chmod(`${dir}/tree`, 0o755);
    await Deno.writeTextFile(`${dir}/tree/etc/ssh/ssh_host_rsa_key`, "secret");
    await Deno.writeTextFile(`${dir}/out`, "an older image");
    const args = ["--input", `${dir}/tree`, "--output", `${dir}/out`, "--strict=1"];
    assert.equal(await run(partImage, args, {}), 1);
    const { text } = readTranscript();
    assert.match(text, /^\[E\] Cannot build with STRICT=1: 1 finding is an error$/m);
    assert.match(
      text,
      /^\[E\] "\/etc\/ssh\/ssh_host_rsa_key": The image has no SSH host keys \(no-host-keys\)$/m,
    );
    assert.equal(await Deno.readTextFile(`${dir}/out`), "an older image");
  }));
