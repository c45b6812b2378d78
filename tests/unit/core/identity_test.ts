import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { deriveSerial, deriveUuid } from "../../../lib/core/identity.ts";

const pure = { permissions: "none" } as const;

Deno.test("deriveUuid() makes UUIDs of version 5 and the RFC's variant", pure, () => {
  for (let i = 0; i < 200; i++) {
    const uuid = deriveUuid(`seed ${i}`, "root/partition");
    assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  }
});

Deno.test("deriveUuid() is the UUIDv5 of RFC 9562 in a namespace that never changes", pure, () => {
  // Computed from the RFC's text: SHA-1 of namespace and name, with version and variant set.
  const hash = createHash("sha1").update("5ac7a7a63a444c1f9b5f0d8f6b8c2f1e", "hex").update("4:seedname");
  const bytes = hash.digest();
  bytes.writeUInt8(0x50 | bytes.readUInt8(6) & 0x0f, 6);
  bytes.writeUInt8(0x80 | bytes.readUInt8(8) & 0x3f, 8);
  const parts = [[0, 4], [4, 6], [6, 8], [8, 10], [10, 16]].map(([a, b]) => bytes.toString("hex", a, b));
  assert.equal(deriveUuid("seed", "name"), parts.join("-"));
});

Deno.test("deriveUuid() and deriveSerial() differ for every seed and name", pure, () => {
  const pairs = [["a", "bc"], ["ab", "c"], ["a", "b"], ["", "ab"], ["a", ""], ["1:a", ""], [
    "",
    "1:a",
  ]] as const;
  assert.equal(new Set(pairs.map(([seed, name]) => deriveUuid(seed, name))).size, pairs.length);
  assert.equal(new Set(pairs.map(([seed, name]) => deriveSerial(seed, name))).size, pairs.length);
});

Deno.test("deriveUuid() tells seeds apart that are not ASCII", pure, () => {
  assert.notEqual(deriveUuid("é", ""), deriveUuid("e\u0301", ""));
  assert.equal(deriveUuid("日本", "x"), deriveUuid("日本", "x"));
});

Deno.test("deriveSerial() makes eight hexadecimal digits", pure, () => {
  assert.match(deriveSerial("seed", "x"), /^[0-9a-f]{8}$/);
  assert.equal(deriveSerial("seed", "x"), deriveSerial("seed", "x"));
});
