/**
 * Inodes as ext4 stores them: 256 bytes with a checksum.
 *
 * https://docs.kernel.org/filesystems/ext4/dynamic.html#index-nodes
 *
 * @module
 */

import { crc32c, crc32cWord } from "../../core/crc32c.ts";
import { BLOCK_SIZE, INODE_SIZE, type Layout } from "./layout.ts";

/** `i_flags`. */
export const INDEX_FL = 0x1000, HUGE_FILE_FL = 0x40000, EXTENTS_FL = 0x80000;

/** Offset of `i_flags`. */
export const I_FLAGS = 32;

/** Offset of `i_block`: 60 bytes for extents, a short link target, or a device number. */
export const I_BLOCK = 40;

/** `i_extra_isize`: how many bytes after the first 128 of the inode are fields. */
export const EXTRA_ISIZE = 128, INODE_EXTRA_SIZE = 32;

/** A point in time: seconds since 1970, and nanoseconds. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** The fields of an inode, apart from `i_block`. */
interface InodeFields {
  /** Type and permissions, as `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly links: number;
  /** Blocks of the file, including its extent tree and xattrs. */
  readonly blocks: number;
  readonly flags: number;
  readonly mtime: Time;
  /** atime, ctime and crtime. */
  readonly time: Time;
  /** 0 if there is none. */
  readonly xattrBlock: number;
}

/** Offsets of the times, and of their extra fields: nanoseconds and two more bits of seconds. */
export const TIMES = { atime: [8, 140], ctime: [12, 132], mtime: [16, 136], crtime: [144, 148] } as const;

const FIRST_SECOND = -(2 ** 31), LAST_SECOND = 2 ** 34 - 2 ** 31 - 1;

/** Writes one time, clamped to the range of ext4 (1901 to 2446), as Linux does. */
export function writeTime(view: DataView, [low, extra]: readonly [number, number], time: Time): void {
  const seconds = Math.min(Math.max(time.seconds, FIRST_SECOND), LAST_SECOND);
  const nanoseconds = seconds === time.seconds ? time.nanoseconds : 0;
  const epoch = (seconds - (seconds | 0)) / 2 ** 32;
  view.setInt32(low, seconds | 0, true);
  view.setUint32(extra, (nanoseconds * 4 + epoch) >>> 0, true);
}

/** Fills a zeroed inode, except for `i_block`, xattrs and checksum. */
export function writeInode(view: DataView, fields: InodeFields): void {
  const { mode, uid, gid, size, links, blocks, flags, xattrBlock } = fields;
  // In sectors. Files of 2 TiB or more need the upper half, too (`huge_file`).
  const sectors = blocks * 8;
  view.setUint16(0, mode, true);
  view.setUint16(2, uid & 0xffff, true);
  view.setUint32(4, size % 2 ** 32, true);
  view.setUint16(24, gid & 0xffff, true);
  view.setUint16(26, links, true);
  view.setUint32(28, sectors % 2 ** 32, true);
  view.setUint32(I_FLAGS, flags, true);
  view.setUint32(104, xattrBlock, true);
  view.setUint32(108, Math.floor(size / 2 ** 32), true);
  view.setUint16(116, Math.floor(sectors / 2 ** 32), true);
  view.setUint16(120, uid >>> 16, true);
  view.setUint16(122, gid >>> 16, true);
  view.setUint16(EXTRA_ISIZE, INODE_EXTRA_SIZE, true);
  writeTime(view, TIMES.mtime, fields.mtime);
  for (const at of [TIMES.atime, TIMES.ctime, TIMES.crtime]) writeTime(view, at, fields.time);
}

/** The position of an inode, in bytes. */
export function inodePosition({ inodesPerGroup, inodeTables }: Layout, inode: number): number {
  const group = Math.floor((inode - 1) / inodesPerGroup);
  return inodeTables[group]! * BLOCK_SIZE + ((inode - 1) % inodesPerGroup) * INODE_SIZE;
}

/** The seed for the checksums of an inode, its extent tree and its directory blocks. The generation is 0. */
export function inodeSeed(filesystemSeed: number, inode: number): number {
  return crc32cWord(crc32cWord(filesystemSeed, inode), 0);
}

/** Writes the checksum, which is computed with both of its own halves as zero. */
export function sealInode(inode: Uint8Array<ArrayBuffer>, seed: number): void {
  const LOW = 124, HIGH = 130;
  inode[LOW] =
    inode[LOW + 1] =
    inode[HIGH] =
    inode[HIGH + 1] =
      0;
  const sum = crc32c(seed, inode, 0, INODE_SIZE);
  inode[LOW] = sum;
  inode[LOW + 1] = sum >>> 8;
  inode[HIGH] = sum >>> 16;
  inode[HIGH + 1] = sum >>> 24;
}

/** Writes a device number into `i_block`: in 16 bits if it fits, otherwise in 32. */
export function writeDevice(view: DataView, device: number): void {
  const major = device >>> 8 & 0xfff, minor = device & 0xff | device >>> 12 & 0xfff00;
  if (major < 256 && minor < 256) view.setUint32(I_BLOCK, major << 8 | minor, true);
  else view.setUint32(I_BLOCK + 4, device, true);
}
