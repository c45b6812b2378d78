/**
 * The filesystem's metadata: superblock, group descriptors and bitmaps. mke2fs wrote all of it; after the fill,
 * counts, times and journal are updated.
 *
 * https://docs.kernel.org/filesystems/ext4/globals.html
 *
 * @module
 */

import { crc32c, crc32cWord } from "../../core/crc32c.ts";
import { type Image, writeAt } from "../../image/writer.ts";
import type { Space } from "./extents.ts";
import { I_BLOCK, type Time } from "./inode.ts";
import { BLOCK_SIZE, DESCRIPTOR_SIZE, hasSuperblock, type Layout } from "./layout.ts";
import { JOURNAL_INODE } from "./system.ts";

/** The superblock is 1024 bytes long and starts at byte 1024. */
export const SUPERBLOCK_AT = 1024;

/** Offsets in `struct ext4_super_block`, by name without `s_`. */
export const SUPER = {
  inodesCount: 0x00,
  blocksCount: 0x04,
  freeBlocksCount: 0x0c,
  freeInodesCount: 0x10,
  blocksPerGroup: 0x20,
  inodesPerGroup: 0x28,
  mtime: 0x2c,
  wtime: 0x30,
  mntCount: 0x34,
  magic: 0x38,
  state: 0x3a,
  errors: 0x3c,
  lastcheck: 0x40,
  checkinterval: 0x44,
  blockGroupNr: 0x5a,
  featureCompat: 0x5c,
  featureIncompat: 0x60,
  featureRoCompat: 0x64,
  uuid: 0x68,
  reservedGdtBlocks: 0xce,
  journalInum: 0xe0,
  jnlBackupType: 0xfd,
  descSize: 0xfe,
  defaultMountOpts: 0x100,
  mkfsTime: 0x108,
  jnlBlocks: 0x10c,
  flags: 0x160,
  kbytesWritten: 0x178,
  overheadClusters: 0x248,
  wtimeHigh: 0x274,
  mtimeHigh: 0x275,
  mkfsTimeHigh: 0x276,
  lastcheckHigh: 0x277,
  checksum: 0x3fc,
} as const;

const HAS_JOURNAL = 0x4;
/** Half MD4 with signed `char`, whatever machine mke2fs was compiled for. */
const SIGNED_DIRECTORY_HASH = 0x1;
/** user_xattr and acl. */
const DEFAULT_MOUNT_OPTIONS = 0x0c;
const ERRORS_CONTINUE = 1;
const VALID_FS = 1;
/** `bg_flags`: the inode table reads as zeros where no inode was written. */
const INODE_ZEROED = 0x4;

/** Everything that the metadata of the finished filesystem depends on. */
interface Finished {
  /** As mke2fs wrote it. */
  readonly superblock: Uint8Array<ArrayBuffer>;
  readonly layout: Layout;
  readonly uuid: Uint8Array<ArrayBuffer>;
  readonly time: Time;
  readonly space: Space;
  readonly freeBlocks: number;
  readonly lastInode: number;
  /** Number of directories per group. */
  readonly directories: Uint32Array<ArrayBuffer>;
  readonly journalBlocks: number;
  /** The journal's inode, or `undefined` without one. */
  readonly journal: Uint8Array<ArrayBuffer> | undefined;
}

/** Writes bitmaps, and descriptors and superblocks with all copies; the primary superblock comes last. */
export function writeSummary(image: Image, finished: Finished): void {
  const { layout } = finished;
  const descriptors = writeBitmaps(image, finished);
  const superblock = finishSuperblock(finished);
  const view = new DataView(superblock.buffer);
  for (let group = layout.groups - 1; group >= 0; group--) {
    if (!hasSuperblock(group)) continue;
    const start = group * layout.blocksPerGroup * BLOCK_SIZE;
    writeAt(image, descriptors, start + BLOCK_SIZE);
    // As with mke2fs, copies are not marked clean, so that the filesystem is checked if one of them is used.
    view.setUint16(SUPER.state, group === 0 ? VALID_FS : 0, true);
    view.setUint16(SUPER.blockGroupNr, Math.min(group, 0xffff), true);
    view.setUint32(SUPER.checksum, crc32c(~0, superblock, 0, SUPER.checksum), true);
    writeAt(image, superblock, start + (group === 0 ? SUPERBLOCK_AT : 0));
  }
}

function finishSuperblock(finished: Finished): Uint8Array<ArrayBuffer> {
  const { superblock: bytes, layout, time, freeBlocks, lastInode, journal, journalBlocks } = finished;
  const view = new DataView(bytes.buffer);
  const set = (at: number, value: number) => view.setUint32(at, value, true);
  set(SUPER.freeBlocksCount, freeBlocks);
  set(SUPER.freeInodesCount, layout.groups * layout.inodesPerGroup - lastInode);
  set(SUPER.flags, SIGNED_DIRECTORY_HASH);
  set(SUPER.defaultMountOpts, DEFAULT_MOUNT_OPTIONS);
  view.setUint16(SUPER.errors, ERRORS_CONTINUE, true);
  view.setUint16(SUPER.mntCount, 0, true);
  set(SUPER.checkinterval, 0);
  set(SUPER.mtime, 0);
  bytes[SUPER.mtimeHigh] = 0;
  for (
    const [low, high] of [
      [SUPER.wtime, SUPER.wtimeHigh],
      [SUPER.lastcheck, SUPER.lastcheckHigh],
      [SUPER.mkfsTime, SUPER.mkfsTimeHigh],
    ] as const
  ) {
    set(low, time.seconds);
    view.setUint8(high, Math.floor(time.seconds / 2 ** 32));
  }
  view.setBigUint64(SUPER.kbytesWritten, 0n, true);
  set(SUPER.overheadClusters, layout.blocks - layout.freeBlocks + journalBlocks);
  if (journal) {
    set(SUPER.featureCompat, view.getUint32(SUPER.featureCompat, true) | HAS_JOURNAL);
    set(SUPER.journalInum, JOURNAL_INODE);
    // A backup of the journal's inode: `i_block`, then the upper and lower half of its size.
    view.setUint8(SUPER.jnlBackupType, 1);
    bytes.set(journal.subarray(I_BLOCK, I_BLOCK + 60), SUPER.jnlBlocks);
    bytes.set(journal.subarray(108, 112), SUPER.jnlBlocks + 60);
    bytes.set(journal.subarray(4, 8), SUPER.jnlBlocks + 64);
  }
  return bytes;
}

/** Writes all bitmaps and returns the table of group descriptors. */
function writeBitmaps(image: Image, finished: Finished): Uint8Array<ArrayBuffer> {
  const { layout, uuid, space, lastInode, directories } = finished;
  const { groups, blocksPerGroup, inodesPerGroup } = layout;
  const seed = crc32c(~0, uuid);
  const table = new Uint8Array(layout.descriptorBlocks * BLOCK_SIZE);
  const view = new DataView(table.buffer);
  const bitmap = new Uint8Array(BLOCK_SIZE);
  let run = space.run;
  for (let group = 0; group < groups; group++) {
    const at = group * DESCRIPTOR_SIZE;
    const first = group * blocksPerGroup, end = Math.min(layout.blocks, first + blocksPerGroup);
    bitmap.fill(0xff);
    let freeBlocks = 0;
    for (; run < space.runs.length; run += 2) {
      const from = Math.max(first, run === space.run ? space.front : space.runs[run]!);
      const to = Math.min(end, space.runs[run + 1]!);
      if (from < to) {
        clearBits(bitmap, from - first, to - first);
        freeBlocks += to - from;
      }
      if (space.runs[run + 1]! > end) break;
    }
    const blockSum = crc32c(seed, bitmap, 0, blocksPerGroup / 8);
    writeAt(image, bitmap, layout.blockBitmaps[group]! * BLOCK_SIZE);
    const usedInodes = Math.min(Math.max(lastInode - group * inodesPerGroup, 0), inodesPerGroup);
    bitmap.fill(0xff);
    clearBits(bitmap, usedInodes, inodesPerGroup);
    const inodeSum = crc32c(seed, bitmap, 0, inodesPerGroup / 8);
    writeAt(image, bitmap, layout.inodeBitmaps[group]! * BLOCK_SIZE);
    view.setUint32(at, layout.blockBitmaps[group]!, true);
    view.setUint32(at + 4, layout.inodeBitmaps[group]!, true);
    view.setUint32(at + 8, layout.inodeTables[group]!, true);
    view.setUint16(at + 12, freeBlocks, true);
    view.setUint16(at + 14, inodesPerGroup - usedInodes, true);
    view.setUint16(at + 16, directories[group]!, true);
    view.setUint16(at + 18, INODE_ZEROED, true);
    view.setUint16(at + 24, blockSum, true);
    view.setUint16(at + 26, inodeSum, true);
    view.setUint16(at + 28, inodesPerGroup - usedInodes, true);
    view.setUint16(at + 56, blockSum >>> 16, true);
    view.setUint16(at + 58, inodeSum >>> 16, true);
    const sum = crc32c(crc32cWord(seed, group), table, at, at + DESCRIPTOR_SIZE);
    view.setUint16(at + 30, sum, true);
  }
  return table;
}

/** Clears the bits `[from, to)`. */
function clearBits(bitmap: Uint8Array, from: number, to: number): void {
  const firstByte = Math.ceil(from / 8), lastByte = Math.floor(to / 8);
  for (let bit = from; bit < Math.min(to, firstByte * 8); bit++) bitmap[bit >> 3]! &= ~(1 << (bit & 7));
  if (firstByte < lastByte) bitmap.fill(0, firstByte, lastByte);
  for (let bit = Math.max(from, lastByte * 8); bit < to; bit++) bitmap[bit >> 3]! &= ~(1 << (bit & 7));
}
