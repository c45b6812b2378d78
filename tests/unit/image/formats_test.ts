import assert from "node:assert/strict";
import {
  compressibleFormats,
  COMPRESSORS,
  contradiction,
  type FormatName,
  formatNames,
  formatOf,
  promised,
} from "../../../lib/image/formats.ts";

const pure = { permissions: "none" } as const;
const plain = (outputFormat: FormatName) => ({ outputFormat, compress: "none" } as const);
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
          assert.ok(promised(file, builder).formats.includes(name), file);
          assert.equal(contradiction(file, plain(name), builder), undefined);
        }
      }
    }
  }
  assert.deepEqual(promised("disk.qcow2", "disk-image").formats, ["qcow2", "qcow2-zstd"]);
  assert.deepEqual(promised("disk.vhd", "disk-image").formats, ["vpc"]);
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
    assert.deepEqual(promised(file, "disk-image"), { formats: [] }, file);
    for (const name of formatNames()) assert.equal(contradiction(file, plain(name), "disk-image"), undefined);
  }
});

Deno.test("a name that contradicts the format gets a hint with two solutions", pure, () => {
  assert.deepEqual(contradiction("x.qcow2", plain("raw"), "disk-image"), {
    problem: ".qcow2 means qcow2, not raw",
    hint: "Set OUTPUT_FORMAT to qcow2, or end the name in .raw or .img",
  });
  assert.deepEqual(contradiction("x.RAW", plain("vpc"), "disk-image"), {
    problem: ".RAW means raw, not vpc",
    hint: "Set OUTPUT_FORMAT to raw, or end the name in .vhd or .img",
  });
  assert.deepEqual(contradiction("x.img.lz4", plain("raw"), "disk-image"), {
    problem: ".lz4 is not a supported format",
    hint: "End the name in .raw or .img, and compress or pack the finished image yourself",
  });
});

Deno.test("the longest suffix of the builder's own formats counts", pure, () => {
  assert.deepEqual(promised("x.tar", "part-image").formats[0], "tar");
  assert.deepEqual(promised("x.tar.gz", "part-image"), {
    formats: ["tar", "oci", "incus"],
    compressor: "gz",
  });
  assert.deepEqual(promised("x.oci.tar", "part-image").formats, ["oci"]);
  assert.deepEqual(promised("x.tar", "disk-image").formats, []);
  assert.deepEqual(contradiction("x.tar", plain("raw"), "disk-image"), {
    problem: ".tar means tar, which disk-image does not make",
    hint: "Use part-image, or end the name in .raw or .img",
  });
  assert.deepEqual(contradiction("x.raw", plain("tar"), "part-image"), {
    problem: ".raw means raw, not tar",
    hint: "Set OUTPUT_FORMAT to raw, or end the name in .tar",
  });
});

Deno.test("a suffix behind that of a format stands for the compression of the whole image", pure, () => {
  for (const compressor of COMPRESSORS) {
    for (
      const [file, formats] of [
        [`disk.img.${compressor}`, compressibleFormats("disk-image")],
        [`disk.${compressor}`, compressibleFormats("disk-image")],
        [`web_1.0.RAW.${compressor.toUpperCase()}`, ["raw"]],
        [`disk.vhd.${compressor}`, ["vpc"]],
      ] as const
    ) {
      assert.deepEqual(promised(file, "disk-image"), { formats, compressor }, file);
      for (const outputFormat of formats) {
        assert.equal(contradiction(file, { outputFormat, compress: compressor }, "disk-image"), undefined);
      }
    }
    assert.deepEqual(contradiction(`x.img.${compressor}`, plain("raw"), "disk-image"), {
      problem: `.${compressor} says that the image is compressed with ${compressor}, but COMPRESS is none`,
      hint: `Set COMPRESS to ${compressor}, or end the name in .raw or .img`,
    });
    assert.deepEqual(promised(`disk.qcow2.${compressor}`, "disk-image"), { formats: [] });
    assert.deepEqual(
      contradiction(`x.qcow2.${compressor}`, plain("qcow2"), "disk-image")?.problem,
      `.qcow2.${compressor} is not a supported format`,
    );
  }
  assert.deepEqual(contradiction("x.raw", { outputFormat: "raw", compress: "gz" }, "part-image"), {
    problem: ".raw says that the image is not compressed, but COMPRESS is gz",
    hint: "Set COMPRESS to none, or end the name in .raw.gz or .img.gz",
  });
  // What it has always been called in a container, whatever it is.
  assert.equal(contradiction("disk.img", { outputFormat: "raw", compress: "gz" }, "disk-image"), undefined);
});
