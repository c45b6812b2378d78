import assert from "node:assert/strict";
import { readSmallFile } from "../../../lib/core/small-file.ts";
import { evaluate, quiet, tempDir } from "../../lab/helpers.ts";

Deno.test("readSmallFile() reads a regular file up to its limit, whatever it is called", () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/file`, "x".repeat(1000));
    await Deno.symlink("file", `${dir}/link`);
    assert.equal(readSmallFile(`${dir}/file`, 1000).length, 1000);
    assert.equal(readSmallFile(`${dir}/link`, 2000).length, 1000);
    assert.throws(() => readSmallFile(`${dir}/file`, 999), { message: "it has more than 999 B" });
    assert.throws(() => readSmallFile(`${dir}/none`, 9), { message: "no such file or directory" });
    assert.throws(() => readSmallFile(dir, 9), { message: "it is no regular file" });
  }));

Deno.test("readSmallFile() waits for nobody, and reads no device", () =>
  tempDir(async (dir) => {
    await quiet`mkfifo ${dir}/fifo`;
    for (const path of [`${dir}/fifo`, "/dev/zero", "/dev/null"]) {
      assert.throws(() => readSmallFile(path, 1e6), { message: "it is no regular file" });
    }
  }));

Deno.test("nothing that is no file is read as Raptor.toml, key or certificate, or written as manifest or log", () =>
  tempDir(async (dir) => {
    await quiet`mkfifo ${dir}/fifo`;
    await Deno.mkdir(`${dir}/tree`);
    await Deno.writeTextFile(`${dir}/tree/x`, "x");
    const part = ["part-image", `--input=${dir}/tree`, `--output=${dir}/image`];
    const lines = [`${dir}/fifo`, "/dev/zero"].flatMap((path) => [
      ["--file", path],
      ["disk-image", `--secure-boot-key=${path}`],
      ["disk-image", `--secure-boot-cert=${path}`],
      [...part, `--manifest=${path}`],
      [...part, `--sbom=${path}`],
      ["part-image", `--input=${path}`, `--output=${dir}/image`],
      ["part-image", `--input=${dir}/tree`, `--output=${path}`],
    ]);
    const { code, stdout, stderr } = await evaluate(
      "../builders/mod.ts",
      `for (const line of ${JSON.stringify(lines)}) console.log(await lib.main(line));`,
    );
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "2\n".repeat(lines.length), stderr);
  }));
