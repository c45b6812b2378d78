import assert from "node:assert/strict";
import { dirname } from "node:path";
import { verityFiles } from "../../../lib/make/verity.ts";

Deno.test("hashes are in their directory, whatever the image is called", { permissions: "none" }, () => {
  for (const name of ["web.raw", "web.img", "web", ".raw", "..raw", "...img", ".a.raw"]) {
    for (const path of verityFiles("/cache/hashes", name)) assert.equal(dirname(path), "/cache/hashes", name);
  }
  assert.equal(verityFiles("/cache", "web.raw")[0], "/cache/web.verity");
});
