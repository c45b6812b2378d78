/**
 * Headers of archive members that are no files of a tree: texts, and disks.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 * - Sparse files in GNU's old format: https://www.gnu.org/software/tar/manual/html_node/Old-GNU-Format.html
 *
 * @module
 */

import { OLD_GNU_MAGIC, TAR_BLOCK, type Ustar, ustar, writeChecksum, writeNumber } from "./pax-header.ts";

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
  ustar(block, fieldsOf(member, "0"));
  return block;
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
  ustar(bytes, fieldsOf({ ...member, size }, "S"), { magic: OLD_GNU_MAGIC });
  const put = (at: number, { offset, length }: Range) => {
    writeNumber(bytes, at, 11, offset);
    writeNumber(bytes, at + 12, 11, length);
  };
  ranges.slice(0, FIRST_RANGES).forEach((range, i) => put(386 + i * RANGE, range));
  ranges.slice(FIRST_RANGES).forEach((range, i) => {
    put((1 + Math.floor(i / MORE_RANGES)) * TAR_BLOCK + i % MORE_RANGES * RANGE, range);
  });
  // Whether another block with ranges follows.
  if (blocks > 0) bytes[482] = 1;
  for (let block = 1; block < blocks; block++) bytes[block * TAR_BLOCK + MORE_RANGES * RANGE] = 1;
  writeNumber(bytes, 483, 11, member.size);
  writeChecksum(bytes);
  return bytes;
}

function fieldsOf({ name, size, time }: Member, flag: string): Ustar {
  // A plain header has no time before 1970.
  const mtime = Math.max(0, time);
  return { name: encoder.encode(name), flag, mode: 0o644, uid: 0, gid: 0, size, mtime };
}

/** What follows contents of `size` bytes, up to a whole block. */
export function padding(size: number): Bytes {
  return new Uint8Array((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/** Two empty blocks. */
export const ARCHIVE_END: Bytes = new Uint8Array(2 * TAR_BLOCK);
