/**
 * The filesystem's own inodes: moves the resize inode to its planned location, and creates the journal.
 *
 * https://docs.kernel.org/filesystems/ext4/special_inodes.html,
 * https://docs.kernel.org/filesystems/ext4/journal.html
 *
 * @module
 */

import { crc32c } from "../../core/crc32c.ts";
import { FILE_TYPES } from "../../core/mode.ts";
import { type Image, readAt, writeAt } from "../../image/writer.ts";
import type { SystemPlacement } from "./allocation.ts";
import { writeExtentTree } from "./extents.ts";
import {
  EXTENTS_FL,
  EXTRA_ISIZE,
  I_BLOCK,
  INODE_EXTRA_SIZE,
  inodePosition,
  inodeSeed,
  sealInode,
  type Time,
  TIMES,
  writeInode,
  writeTime,
} from "./inode.ts";
import { BLOCK_SIZE, INODE_SIZE, type Layout } from "./layout.ts";

const RESIZE_INODE = 7;
export const JOURNAL_INODE = 8;
/** `i_block[13]`: the double indirect block. */
const DOUBLE_INDIRECT = I_BLOCK + 13 * 4;

/** Moves the resize inode, creates the journal, and sets the times of all reserved inodes. */
export function writeSystemInodes(
  image: Image,
  layout: Layout,
  system: SystemPlacement,
  journalBlocks: number,
  uuid: Uint8Array<ArrayBuffer>,
  time: Time,
): Uint8Array<ArrayBuffer> | undefined {
  const seed = crc32c(~0, uuid);
  const table = readAt(image, 10 * INODE_SIZE, inodePosition(layout, 1));
  let journal: Uint8Array<ArrayBuffer> | undefined;
  for (let number = 1; number <= 10; number++) {
    const bytes = table.subarray((number - 1) * INODE_SIZE, number * INODE_SIZE);
    const inode = new DataView(bytes.buffer, bytes.byteOffset, INODE_SIZE);
    if (number === RESIZE_INODE) {
      const before = inode.getUint32(DOUBLE_INDIRECT, true) * BLOCK_SIZE;
      const pointers = readAt(image, BLOCK_SIZE, before);
      writeAt(image, new Uint8Array(BLOCK_SIZE), before);
      writeAt(image, pointers, system.resize * BLOCK_SIZE);
      inode.setUint32(DOUBLE_INDIRECT, system.resize, true);
    }
    if (number === JOURNAL_INODE && journalBlocks > 0) {
      const { tree } = system.journal;
      writeInode(inode, {
        mode: FILE_TYPES.file | 0o600,
        uid: 0,
        gid: 0,
        size: journalBlocks * BLOCK_SIZE,
        links: 1,
        blocks: journalBlocks + tree.length,
        flags: EXTENTS_FL,
        mtime: time,
        time,
        xattrBlock: 0,
      });
      const write = (block: number, contents: Uint8Array<ArrayBuffer>) =>
        writeAt(image, contents, block * BLOCK_SIZE);
      writeExtentTree(inode, I_BLOCK, system.journal, inodeSeed(seed, number), write);
      write(system.journal.extents[1]!, journalSuperblock(journalBlocks, uuid));
      journal = bytes;
    }
    if (inode.getUint16(0, true) === 0 && inode.getUint32(TIMES.ctime[0], true) === 0) continue;
    inode.setUint16(EXTRA_ISIZE, INODE_EXTRA_SIZE, true);
    for (const at of Object.values(TIMES)) writeTime(inode, at, time);
    sealInode(bytes, inodeSeed(seed, number));
  }
  writeAt(image, table, inodePosition(layout, 1));
  return journal;
}

/** An empty journal: https://docs.kernel.org/filesystems/ext4/journal.html#super-block (big-endian). */
function journalSuperblock(blocks: number, uuid: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK_SIZE);
  const view = new DataView(block.buffer);
  const SUPERBLOCK_V2 = 4;
  [0xc03b3998, SUPERBLOCK_V2, 0, BLOCK_SIZE, blocks, 1, 1].forEach((word, i) => view.setUint32(i * 4, word));
  block.set(uuid, 0x30);
  view.setUint32(0x40, 1);
  return block;
}
