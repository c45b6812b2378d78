import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { toHex } from "../../../lib/core/bytes.ts";
import { sha1 } from "../../../lib/core/sha1.ts";
import { newRandom } from "../../lab/random_tree.ts";

Deno.test("sha1() is what node:crypto computes, for messages of any length", { permissions: "none" }, () => {
  const random = newRandom(1);
  for (let length = 0; length <= 300; length++) {
    const message = random.bytes(length);
    assert.equal(toHex(sha1(message)), createHash("sha1").update(message).digest("hex"), String(length));
  }
});
