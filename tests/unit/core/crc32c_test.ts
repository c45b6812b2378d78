import * as assert from "node:assert/strict";
import { crc32c, crc32cWord } from "../../../lib/core/crc32c.ts";

const CHECK = new TextEncoder().encode("123456789");

Deno.test("crc32c() gives the check value of CRC-32C", { permissions: "none" }, () => {
  assert.equal((~crc32c(~0, CHECK)) >>> 0, 0xe3069283);
});

Deno.test("crc32c() can be continued, at any length and position", { permissions: "none" }, () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => i * 7);
  const whole = crc32c(~0, bytes);
  for (let at = 0; at <= 100; at++) {
    assert.equal(crc32c(crc32c(~0, bytes, 0, at), bytes, at), whole);
  }
  assert.equal(crc32cWord(5, 0x04030201), crc32c(5, Uint8Array.of(1, 2, 3, 4)));
});
