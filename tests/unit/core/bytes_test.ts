import assert from "node:assert/strict";
import { decodeText, encodeText } from "../../../lib/core/bytes.ts";
import { newRandom } from "../../lab/random_tree.ts";

Deno.test("decodeText() reads UTF-8 as it is, a byte order mark included", { permissions: "none" }, () => {
  for (const text of ["", "plain", "é日本語😀", "\ufeffmark", "\ufffd", "\0"]) {
    const bytes = new TextEncoder().encode(text);
    assert.equal(decodeText(bytes), text);
    assert.deepEqual(encodeText(text), bytes);
  }
});

Deno.test("decodeText() keeps what is not UTF-8, and all around it", { permissions: "none" }, () => {
  const latin1 = Uint8Array.from("/srv/f\xfcr caf\xe9", (character) => character.charCodeAt(0));
  assert.equal(decodeText(latin1), "/srv/f\udcfcr caf\udce9");
  // Over-long, surrogates, beyond Unicode, cut short: all the ways of not being UTF-8 (RFC 3629, 3).
  const cases = [[0xc0, 0x80], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [
    0xf0,
    0x9f,
    0x98,
  ]];
  for (const bytes of cases) {
    const inText = Uint8Array.from([
      0x61,
      0xc3,
      0xa9,
      ...bytes,
      0xef,
      0xbf,
      0xbd,
      0xf0,
      0x9f,
      0x98,
      0x80,
      0x0a,
    ]);
    const text = decodeText(inText);
    assert.equal(text, `aé${bytes.map((byte) => String.fromCharCode(0xdc00 + byte)).join("")}\ufffd😀\n`);
    assert.deepEqual(encodeText(text), inText);
  }
});

Deno.test(
  "encodeText() gives back the bytes of decodeText(), whatever they are",
  { permissions: "none" },
  () => {
    const random = newRandom(1);
    const pieces = [[0x20], [0xff], [0xc3], [0xa9], [0xed], [0xa0, 0x80], [0xf0, 0x9f], [0x98, 0x80], [
      0xef,
      0xbb,
      0xbf,
    ]];
    for (let i = 0; i < 3000; i++) {
      const bytes = Uint8Array.from(
        Array.from({ length: random.below(12) }, () => random.pick(pieces)).flat(),
      );
      assert.deepEqual(encodeText(decodeText(bytes)), bytes);
      // Programs that know nothing of this read the same where it is UTF-8.
      const [ours, others] = [
        decodeText(bytes).toWellFormed(),
        new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
      ];
      assert.equal(ours.replaceAll("\ufffd", ""), others.replaceAll("\ufffd", ""));
    }
  },
);
