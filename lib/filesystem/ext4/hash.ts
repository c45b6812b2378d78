/**
 * The hash that ext4's directory index sorts names by: half MD4 with signed `char`.
 *
 * https://docs.kernel.org/filesystems/ext4/dynamic.html#hash-tree-directories, fs/ext4/hash.c of Linux.
 *
 * @module
 */

/** The 128 bits of `s_hash_seed` as four words; all zero means the default. */
export type HashSeed = Uint32Array<ArrayBuffer>;

const DEFAULT_SEED = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
const K2 = 0x5a827999, K3 = 0x6ed9eba1;

const words = new Int32Array(8);
const state = new Int32Array(4);

/** The major hash of a name: even, below 2^32. */
export function hashName(name: Uint8Array, from: number, to: number, seed: HashSeed): number {
  state.set(seed.some((word) => word !== 0) ? seed : DEFAULT_SEED);
  for (let at = from; at < to; at += 32) {
    fillWords(name, at, to);
    halfMd4();
  }
  const hash = (state[1]! & ~1) >>> 0;
  // The kernel uses the largest value to mark the end of a directory.
  return hash === 0xfffffffe ? 0xfffffffc : hash;
}

/** Up to 32 bytes of a name as eight words, padded with the remaining length (`str2hashbuf`). */
function fillWords(name: Uint8Array, from: number, to: number): void {
  const left = to - from;
  let pad = left | left << 8;
  pad |= pad << 16;
  const end = Math.min(to, from + 32);
  let word = 0;
  for (let at = from; at < end; word++) {
    let value = pad;
    for (const stop = Math.min(end, at + 4); at < stop; at++) {
      value = (name[at]! << 24 >> 24) + (value << 8) | 0;
    }
    words[word] = value;
  }
  while (word < 8) words[word++] = pad;
}

function halfMd4(): void {
  let a = state[0]!, b = state[1]!, c = state[2]!, d = state[3]!;
  const [w0, w1, w2, w3, w4, w5, w6, w7] = words as unknown as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  a = rotate(a + (d ^ b & (c ^ d)) + w0, 3);
  d = rotate(d + (c ^ a & (b ^ c)) + w1, 7);
  c = rotate(c + (b ^ d & (a ^ b)) + w2, 11);
  b = rotate(b + (a ^ c & (d ^ a)) + w3, 19);
  a = rotate(a + (d ^ b & (c ^ d)) + w4, 3);
  d = rotate(d + (c ^ a & (b ^ c)) + w5, 7);
  c = rotate(c + (b ^ d & (a ^ b)) + w6, 11);
  b = rotate(b + (a ^ c & (d ^ a)) + w7, 19);

  a = rotate(a + majority(b, c, d) + w1 + K2, 3);
  d = rotate(d + majority(a, b, c) + w3 + K2, 5);
  c = rotate(c + majority(d, a, b) + w5 + K2, 9);
  b = rotate(b + majority(c, d, a) + w7 + K2, 13);
  a = rotate(a + majority(b, c, d) + w0 + K2, 3);
  d = rotate(d + majority(a, b, c) + w2 + K2, 5);
  c = rotate(c + majority(d, a, b) + w4 + K2, 9);
  b = rotate(b + majority(c, d, a) + w6 + K2, 13);

  a = rotate(a + (b ^ c ^ d) + w3 + K3, 3);
  d = rotate(d + (a ^ b ^ c) + w7 + K3, 9);
  c = rotate(c + (d ^ a ^ b) + w2 + K3, 11);
  b = rotate(b + (c ^ d ^ a) + w6 + K3, 15);
  a = rotate(a + (b ^ c ^ d) + w1 + K3, 3);
  d = rotate(d + (a ^ b ^ c) + w5 + K3, 9);
  c = rotate(c + (d ^ a ^ b) + w0 + K3, 11);
  b = rotate(b + (c ^ d ^ a) + w4 + K3, 15);
  state[0]! += a;
  state[1]! += b;
  state[2]! += c;
  state[3]! += d;
}

function rotate(value: number, bits: number): number {
  return value << bits | (value | 0) >>> 32 - bits;
}

function majority(x: number, y: number, z: number): number {
  return (x & y) + ((x ^ y) & z);
}
