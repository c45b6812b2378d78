import assert from "node:assert/strict";
import { dirname } from "node:path";
import { checkVerityNames, verityFiles } from "../../../lib/make/verity.ts";

Deno.test("hashes are in their directory, whatever the image is called", { permissions: "none" }, () => {
  for (const name of ["web.raw", "web.img", "web", ".raw", "..raw", "...img", ".a.raw"]) {
    for (const path of verityFiles("/cache/hashes", name)) assert.equal(dirname(path), "/cache/hashes", name);
  }
  assert.equal(verityFiles("/cache", "web.raw")[0], "/cache/web.verity");
});

Deno.test("checkVerityNames() refuses a name that is too long for the longest of them", {
  permissions: "none",
}, () => {
  checkVerityNames("x".repeat(242));
  checkVerityNames(`${"x".repeat(242)}.raw`);
  for (const name of ["x".repeat(243), `${"x".repeat(243)}.raw`, "é".repeat(122)]) {
    assert.throws(() => checkVerityNames(name), {
      kind: "usage",
      message: /^Cannot name the dm-verity hashes after/,
      hint: /OUTPUT_NAME/,
    });
  }
});
