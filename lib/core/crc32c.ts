/**
 * CRC-32C (Castagnoli) as ext4 uses it: seeded with the previous checksum, not inverted at the end.
 *
 * @module
 */

/** Eight tables, to process eight bytes at a time ("slicing by 8"); one byte at a time is 3 × slower. */
const TABLE = new Int32Array(8 * 256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  TABLE[byte] = crc;
}
for (let at = 256; at < TABLE.length; at++) {
  const before = TABLE[at - 256]!;
  TABLE[at] = (before >>> 8) ^ TABLE[before & 0xff]!;
}

/** The checksum of `bytes[from, to)`, seeded with `seed`; unsigned. */
export function crc32c(seed: number, bytes: Uint8Array, from = 0, to = bytes.length): number {
  let crc = seed | 0;
  let at = from;
  for (const end = to - 7; at < end; at += 8) {
    crc ^= bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
    crc = TABLE[0x700 | crc & 0xff]! ^ TABLE[0x600 | crc >>> 8 & 0xff]! ^
      TABLE[0x500 | crc >>> 16 & 0xff]! ^ TABLE[0x400 | crc >>> 24]! ^
      TABLE[0x300 | bytes[at + 4]!]! ^ TABLE[0x200 | bytes[at + 5]!]! ^
      TABLE[0x100 | bytes[at + 6]!]! ^ TABLE[bytes[at + 7]!]!;
  }
  for (; at < to; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[at]!) & 0xff]!;
  return crc >>> 0;
}

const word = new Uint8Array(4);

/** The checksum of a 32-bit little-endian number, seeded with `seed`. */
export function crc32cWord(seed: number, value: number): number {
  word[0] = value;
  word[1] = value >>> 8;
  word[2] = value >>> 16;
  word[3] = value >>> 24;
  return crc32c(seed, word);
}
