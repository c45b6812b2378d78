import assert from "node:assert/strict";
import { contradiction, type FormatName, FORMATS, promisedFormats } from "../../../lib/image/formats.ts";

const pure = { permissions: "none" } as const;
const NAMES = Object.keys(FORMATS) as FormatName[];

Deno.test("a file name's suffix stands for a format, or for none", pure, () => {
  for (const name of NAMES) {
    const { suffix } = FORMATS[name];
    for (const file of [`disk.${suffix}`, `a.b.${suffix.toUpperCase()}`]) {
      assert.ok(promisedFormats(file)!.includes(name), file);
      assert.equal(contradiction(file, name), undefined);
    }
  }
  assert.deepEqual(promisedFormats("disk.qcow2"), ["qcow2", "qcow2-zstd"]);
  assert.deepEqual(promisedFormats("disk.vhd"), ["vpc"]);
  for (
    const file of [
      "disk.img",
      "disk",
      "web_1.0",
      "linux.efi",
      ".raw",
      "raw",
      "a.raw.",
      "disk.raw.part",
      "sda",
    ]
  ) {
    assert.equal(promisedFormats(file), undefined, file);
    for (const name of NAMES) assert.equal(contradiction(file, name), undefined);
  }
});

Deno.test("a name that contradicts the format gets a hint with two solutions", pure, () => {
  assert.deepEqual(contradiction("x.qcow2", "raw"), {
    problem: ".qcow2 means qcow2, not raw",
    hint: "Set OUTPUT_FORMAT to qcow2, or end the name in .raw or .img",
  });
  assert.deepEqual(contradiction("x.RAW", "vpc"), {
    problem: ".RAW means raw, not vpc",
    hint: "Set OUTPUT_FORMAT to raw, or end the name in .vhd or .img",
  });
  assert.deepEqual(contradiction("x.img.zst", "raw"), {
    problem: ".zst is not a supported format",
    hint: "End the name in .raw or .img, and compress or pack the finished image yourself",
  });
});
