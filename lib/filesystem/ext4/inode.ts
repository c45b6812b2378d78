/**
 * Inodes as ext4 stores them: 256 bytes, checksummed.
 *
 * https://docs.kernel.org/filesystems/ext4/dynamic.html#index-nodes
 *
 * @module
 */

import { crc32c, crc32cWord } from "../../core/crc32c.ts";
import { BLOCK_SIZE, INODE_SIZE, type Layout } from "./layout.ts";

/** `i_flags`. */
export const INDEX_FL = 0x1000, HUGE_FILE_FL = 0x40000, EXTENTS_FL = 0x80000;

/** Where `i_block` is: 60 bytes of extents, of a short link target, or a device number. */
export const I_BLOCK = 40;

/** `i_extra_isize`: how much of the inode behind its first 128 bytes are fields. */
export const EXTRA_ISIZE = 128, INODE_EXTRA_SIZE = 32;

/** A point in time: seconds since 1970, and nanoseconds. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What an inode says about a file besides where it is. */
interface InodeFields {
  /** Type and permissions, as `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly links: number;
  /** All blocks of the file, those of its extent tree and xattrs included. */
  readonly blocks: number;
  readonly flags: number;
  readonly mtime: Time;
  /** Access, change and creation. */
  readonly time: Time;
  /** 0: none. */
  readonly xattrBlock: number;
}

/** Offsets of the times, and of the halves that `i_extra_isize` adds: nanoseconds and two more bits of seconds. */
export const TIMES = { atime: [8, 140], ctime: [12, 132], mtime: [16, 136], crtime: [144, 148] } as const;

const FIRST_SECOND = -(2 ** 31), LAST_SECOND = 2 ** 34 - 2 ** 31 - 1;

/** Writes one time. What ext4 cannot say (before 1901, after 2446) becomes the nearest that it can, as in Linux. */
export function writeTime(view: DataView, [low, extra]: readonly [number, number], time: Time): void {
  const seconds = Math.min(Math.max(time.seconds, FIRST_SECOND), LAST_SECOND);
  const nanoseconds = seconds === time.seconds ? time.nanoseconds : 0;
  const epoch = (seconds - (seconds | 0)) / 2 ** 32;
  view.setInt32(low, seconds | 0, true);
  view.setUint32(extra, (nanoseconds * 4 + epoch) >>> 0, true);
}

/** Fills a zeroed inode; `i_block`, xattrs and checksum are written by others. */
export function writeInode(view: DataView, fields: InodeFields): void {
  const { mode, uid, gid, size, links, blocks, flags, xattrBlock } = fields;
  // Counted in sectors; a file of 2 TiB and more fills the upper half, too (`huge_file`).
  const sectors = blocks * 8;
  view.setUint16(0, mode, true);
  view.setUint16(2, uid & 0xffff, true);
  view.setUint32(4, size % 2 ** 32, true);
  view.setUint16(24, gid & 0xffff, true);
  view.setUint16(26, links, true);
  view.setUint32(28, sectors % 2 ** 32, true);
  view.setUint32(32, flags, true);
  view.setUint32(104, xattrBlock, true);
  view.setUint32(108, Math.floor(size / 2 ** 32), true);
  view.setUint16(116, Math.floor(sectors / 2 ** 32), true);
  view.setUint16(120, uid >>> 16, true);
  view.setUint16(122, gid >>> 16, true);
  view.setUint16(EXTRA_ISIZE, INODE_EXTRA_SIZE, true);
  writeTime(view, TIMES.mtime, fields.mtime);
  for (const at of [TIMES.atime, TIMES.ctime, TIMES.crtime]) writeTime(view, at, fields.time);
}

/** Where an inode is, in bytes. */
export function inodePosition({ inodesPerGroup, inodeTables }: Layout, inode: number): number {
  const group = Math.floor((inode - 1) / inodesPerGroup);
  return inodeTables[group]! * BLOCK_SIZE + ((inode - 1) % inodesPerGroup) * INODE_SIZE;
}

/** What the checksums of an inode, its extent tree and its directory blocks start from; the generation is 0. */
export function inodeSeed(filesystemSeed: number, inode: number): number {
  return crc32cWord(crc32cWord(filesystemSeed, inode), 0);
}

/** Writes the checksum, over the inode with both of its halves as zero. */
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

/** A device number in `i_block`: in 16 bits if it fits, else in 32. */
export function writeDevice(view: DataView, device: number): void {
  const major = device >>> 8 & 0xfff, minor = device & 0xff | device >>> 12 & 0xfff00;
  if (major < 256 && minor < 256) view.setUint32(I_BLOCK, major << 8 | minor, true);
  else view.setUint32(I_BLOCK + 4, device, true);
}
