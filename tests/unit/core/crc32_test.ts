import assert from "node:assert/strict";
import { crc32 as reference } from "node:zlib";
import { crc32 } from "../../../lib/core/crc32.ts";
import { newRandom } from "../../lab/random_tree.ts";

Deno.test("crc32() is what node:zlib computes", { permissions: "none" }, () => {
  const random = newRandom(1);
  for (let length = 0; length <= 300; length++) {
    const bytes = random.bytes(length);
    assert.equal(crc32(bytes), reference(bytes), String(length));
  }
});
