/**
 * SHA-1, of which UUIDs of version 5 are made. Every build needs some, and node:crypto takes longer to load than all of them.
 *
 * https://www.rfc-editor.org/rfc/rfc3174
 *
 * @module
 */

import { viewOf } from "./bytes.ts";

const BLOCK = 64;

/** The digest of a short message: 20 bytes. */
export function sha1(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const padded = new Uint8Array(Math.ceil((message.length + 9) / BLOCK) * BLOCK);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = viewOf(padded);
  view.setBigUint64(padded.length - 8, BigInt(message.length) * 8n);
  const digest = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);
  const words = new Uint32Array(80);
  for (let at = 0; at < padded.length; at += BLOCK) {
    for (let i = 0; i < 80; i++) {
      words[i] = i < 16
        ? view.getUint32(at + i * 4)
        : rotate(words[i - 3]! ^ words[i - 8]! ^ words[i - 14]! ^ words[i - 16]!, 1);
    }
    let [a = 0, b = 0, c = 0, d = 0, e = 0] = digest;
    for (let i = 0; i < 80; i++) {
      const [mixed, constant] = i < 20
        ? [b & c | ~b & d, 0x5a827999]
        : i < 40
        ? [b ^ c ^ d, 0x6ed9eba1]
        : i < 60
        ? [b & c | b & d | c & d, 0x8f1bbcdc]
        : [b ^ c ^ d, 0xca62c1d6];
      const sum = rotate(a, 5) + mixed + e + words[i]! + constant | 0;
      [a, b, c, d, e] = [sum, a, rotate(b, 30), c, d];
    }
    [a, b, c, d, e].forEach((word, i) => digest[i]! += word);
  }
  const bytes = new Uint8Array(20);
  digest.forEach((word, i) => viewOf(bytes).setUint32(i * 4, word));
  return bytes;
}

function rotate(word: number, bits: number): number {
  return word << bits | word >>> 32 - bits;
}
