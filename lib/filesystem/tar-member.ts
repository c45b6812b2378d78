/**
 * Headers of archive members that are no files of a tree: texts, and disks.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 * - Sparse files in GNU's old format: https://www.gnu.org/software/tar/manual/html_node/Old-GNU-Format.html
 *
 * @module
 */

import { TAR_BLOCK } from "./pax-header.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A regular file in an archive. */
export interface Member {
  /** Up to 100 ASCII characters. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Seconds since 1970. */
  readonly time: number;
}

/** A part of a file that is stored, in bytes. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

const encoder = new TextEncoder();

/** The header of a file, whose contents follow. */
export function memberHeader(member: Member): Bytes {
  const block = new Uint8Array(TAR_BLOCK);
  writeFields(block, member, "0", "ustar\u{0}00");
  return finish(block);
}

/** Ranges in a header, and in each block behind it. */
const FIRST_RANGES = 4, MORE_RANGES = 21;

/** Bytes per range: two numbers. */
const RANGE = 24;

/** The header of a file of which only these ranges are stored, ascending; what is in them follows. */
export function sparseHeader(member: Member, stored: readonly Range[]): Bytes {
  // A file that ends in a hole has an empty range there.
  const last = stored.at(-1);
  const hasEnd = last !== undefined && last.offset + last.length === member.size;
  const ranges = hasEnd ? stored : [...stored, { offset: member.size, length: 0 }];
  const blocks = Math.ceil(Math.max(0, ranges.length - FIRST_RANGES) / MORE_RANGES);
  const bytes = new Uint8Array((1 + blocks) * TAR_BLOCK);
  const size = stored.reduce((sum, { length }) => sum + length, 0);
  writeFields(bytes, { ...member, size }, "S", "ustar  \0");
  const put = (at: number, { offset, length }: Range) => {
    number(bytes, at, 12, offset);
    number(bytes, at + 12, 12, length);
  };
  ranges.slice(0, FIRST_RANGES).forEach((range, i) => put(386 + i * RANGE, range));
  ranges.slice(FIRST_RANGES).forEach((range, i) => {
    put((1 + Math.floor(i / MORE_RANGES)) * TAR_BLOCK + i % MORE_RANGES * RANGE, range);
  });
  // Whether another block with ranges follows.
  if (blocks > 0) bytes[482] = 1;
  for (let block = 1; block < blocks; block++) bytes[block * TAR_BLOCK + MORE_RANGES * RANGE] = 1;
  number(bytes, 483, 12, member.size);
  return finish(bytes);
}

/** What follows contents of `size` bytes, up to a whole block. */
export function padding(size: number): Bytes {
  return new Uint8Array((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/** Two empty blocks. */
export const ARCHIVE_END: Bytes = new Uint8Array(2 * TAR_BLOCK);

function writeFields(block: Bytes, { name, size, time }: Member, flag: string, magic: string): void {
  const text = (at: number, value: string) => encoder.encodeInto(value, block.subarray(at));
  text(0, name);
  number(block, 100, 8, 0o644);
  number(block, 108, 8, 0);
  number(block, 116, 8, 0);
  number(block, 124, 12, size);
  number(block, 136, 12, time);
  text(156, flag);
  text(257, magic);
}

/** Octal digits and a NUL; what has too many of them as a binary number, marked by its highest bit, as GNU tar does it. */
function number(block: Bytes, at: number, width: number, value: number): void {
  const digits = value.toString(8).padStart(width - 1, "0");
  if (digits.length < width) encoder.encodeInto(digits, block.subarray(at));
  else {
    block[at] = 0x80;
    new DataView(block.buffer).setBigUint64(at + width - 8, BigInt(value));
  }
}

/** Writes the checksum, which is computed with its own eight bytes as spaces. */
function finish(bytes: Bytes): Bytes {
  bytes.fill(0x20, 148, 156);
  const sum = bytes.subarray(0, TAR_BLOCK).reduce((total, byte) => total + byte, 0);
  encoder.encodeInto(`${sum.toString(8).padStart(6, "0")}\0 `, bytes.subarray(148));
  return bytes;
}
