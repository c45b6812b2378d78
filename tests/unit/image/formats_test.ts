import assert from "node:assert/strict";
import { contradiction, formatNames, formatOf, promisedFormats } from "../../../lib/image/formats.ts";

const pure = { permissions: "none" } as const;
const BUILDERS = ["disk-image", "part-image"] as const;

Deno.test("every builder makes formats, and every format has a builder", pure, () => {
  for (const builder of BUILDERS) assert.ok(formatNames(builder).includes("raw"));
  assert.deepEqual(new Set(BUILDERS.flatMap(formatNames)), new Set(formatNames()));
});

Deno.test("a file name's suffix stands for a format, or for none", pure, () => {
  for (const name of formatNames()) {
    for (const suffix of formatOf(name).suffixes) {
      for (const builder of formatOf(name).builders) {
        for (const file of [`disk.${suffix}`, `a.b.${suffix.toUpperCase()}`]) {
          assert.ok(promisedFormats(file, builder).includes(name), file);
          assert.equal(contradiction(file, name, builder), undefined);
        }
      }
    }
  }
  assert.deepEqual(promisedFormats("disk.qcow2", "disk-image"), ["qcow2", "qcow2-zstd"]);
  assert.deepEqual(promisedFormats("disk.vhd", "disk-image"), ["vpc"]);
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
    assert.deepEqual(promisedFormats(file, "disk-image"), [], file);
    for (const name of formatNames()) assert.equal(contradiction(file, name, "disk-image"), undefined);
  }
});

Deno.test("a name that contradicts the format gets a hint with two solutions", pure, () => {
  assert.deepEqual(contradiction("x.qcow2", "raw", "disk-image"), {
    problem: ".qcow2 means qcow2, not raw",
    hint: "Set OUTPUT_FORMAT to qcow2, or end the name in .raw or .img",
  });
  assert.deepEqual(contradiction("x.RAW", "vpc", "disk-image"), {
    problem: ".RAW means raw, not vpc",
    hint: "Set OUTPUT_FORMAT to raw, or end the name in .vhd or .img",
  });
  assert.deepEqual(contradiction("x.img.zst", "raw", "disk-image"), {
    problem: ".zst is not a supported format",
    hint: "End the name in .raw or .img, and compress or pack the finished image yourself",
  });
});
