/**
 * Where `mke2fs` puts the parts of an empty ext4: superblock copies, group descriptors, bitmaps and inode tables.
 * Pure arithmetic, so that a filesystem can be planned to the block before it exists.
 *
 * With `packed_meta_blocks`, all bitmaps and inode tables are at the front, one after another. Only the copies of
 * superblock and descriptors are spread out; the rest is one long free space. `fillExt4` compares this with what
 * mke2fs wrote, so a version that places things differently cannot go unnoticed.
 *
 * https://docs.kernel.org/filesystems/ext4/overview.html (block groups, flexible groups, sparse_super)
 *
 * @module
 */

import { alignUp } from "../../core/units.ts";

/** Always 4 KiB: on a disk with 4096-byte sectors, smaller blocks cannot be mounted. */
export const BLOCK_SIZE = 4096;
export const INODE_SIZE = 256;
/** Bytes of a file from which on its blocks are shared with the tree: for smaller ones, that takes longer than a copy. */
export const LEAST_SHARED = 4 * BLOCK_SIZE;
const INODES_PER_BLOCK = BLOCK_SIZE / INODE_SIZE;
/** With the `64bit` feature, a descriptor has 64 bytes. */
export const DESCRIPTOR_SIZE = 64;
const DESCRIPTORS_PER_BLOCK = BLOCK_SIZE / DESCRIPTOR_SIZE;
/** A bitmap is one block. */
const BITS_PER_BLOCK = BLOCK_SIZE * 8;
/** The resize inode has one pointer per reserved descriptor block, all in one block. */
const POINTERS_PER_BLOCK = BLOCK_SIZE / 4;
/** The first inode that is not reserved. */
export const FIRST_INODE = 11;

/** The layout of an empty filesystem of a given size and number of inodes. */
export interface Layout {
  /** May be fewer than requested: a last group with hardly any room besides its own tables is left out. */
  readonly blocks: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  readonly groups: number;
  readonly descriptorBlocks: number;
  /** Reserved after the descriptors, so that the mounted filesystem can grow. */
  readonly reservedDescriptorBlocks: number;
  readonly inodeTableBlocks: number;
  /** Block numbers, one per group. */
  readonly blockBitmaps: Uint32Array<ArrayBuffer>;
  readonly inodeBitmaps: Uint32Array<ArrayBuffer>;
  readonly inodeTables: Uint32Array<ArrayBuffer>;
  /** The free space, as pairs of first block and end (exclusive). */
  readonly free: Uint32Array<ArrayBuffer>;
  readonly freeBlocks: number;
}

/** Whether a group has a copy of superblock and descriptors: groups 0, 1 and powers of 3, 5 and 7 do. */
export function hasSuperblock(group: number): boolean {
  return group <= 1 || [3, 5, 7].some((base) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  });
}

/**
 * The layout of `blocks` blocks with at least `inodes` inodes, or `undefined` if there are too few blocks. Blocks
 * per group are as many as one bitmap can count. They are fewer if that many groups would not have enough inodes,
 * whose bitmap has the same limit.
 */
export function layoutOf(blocks: number, inodes: number): Layout | undefined {
  const groups = Math.max(1, Math.ceil(blocks / BITS_PER_BLOCK), Math.ceil(inodes / BITS_PER_BLOCK));
  const sizes = [groups, groups + 1].map((count) =>
    Math.max(256, Math.floor(Math.ceil(blocks / count) / 8) * 8)
  );
  for (const blocksPerGroup of [BITS_PER_BLOCK, ...sizes]) {
    const layout = layoutWith(blocksPerGroup, blocks, inodes);
    if (layout) return layout;
  }
  return undefined;
}

/** Follows `ext2fs_initialize()` of e2fsprogs. */
function layoutWith(blocksPerGroup: number, blocks: number, inodes: number): Layout | undefined {
  for (;;) {
    const groups = Math.ceil(blocks / blocksPerGroup);
    if (groups === 0) return undefined;
    const inodesPerGroup = alignUp(Math.ceil(inodes / groups), INODES_PER_BLOCK);
    if (inodesPerGroup > BITS_PER_BLOCK) return undefined;
    const inodeTableBlocks = inodesPerGroup / INODES_PER_BLOCK;
    const descriptorBlocks = Math.ceil(groups / DESCRIPTORS_PER_BLOCK);
    const reservedDescriptorBlocks = reservedDescriptors(blocks, blocksPerGroup, descriptorBlocks);
    const copy = 1 + descriptorBlocks + reservedDescriptorBlocks;
    if (copy + 2 + inodeTableBlocks > blocksPerGroup) return undefined;
    const rest = blocks % blocksPerGroup;
    const least = 2 + inodeTableBlocks + (hasSuperblock(groups - 1) ? copy : 0);
    if (rest > 0 && groups === 1 && rest < least) return undefined;
    if (rest > 0 && rest < least + 50) {
      blocks -= rest;
      continue;
    }
    const shape = {
      blocks,
      blocksPerGroup,
      inodesPerGroup,
      groups,
      descriptorBlocks,
      reservedDescriptorBlocks,
    };
    return placeTables({ ...shape, inodeTableBlocks }, copy);
  }
}

/** Descriptor blocks for the filesystem to grow 1024-fold, as far as the resize inode can point. */
function reservedDescriptors(blocks: number, blocksPerGroup: number, descriptorBlocks: number): number {
  const most = Math.min(blocks * 1024, 0xffffffff);
  const wanted = Math.ceil(Math.ceil(most / blocksPerGroup) / DESCRIPTORS_PER_BLOCK) - descriptorBlocks;
  return Math.min(wanted, POINTERS_PER_BLOCK);
}

type Shape = Omit<Layout, "blockBitmaps" | "inodeBitmaps" | "inodeTables" | "free" | "freeBlocks">;

/** First fit, in this order: all block bitmaps, all inode bitmaps, all inode tables. */
function placeTables(shape: Shape, copy: number): Layout | undefined {
  const { blocks, blocksPerGroup, groups, inodeTableBlocks } = shape;
  const used: [start: number, end: number][] = [];
  for (let group = 0; group < groups; group++) {
    if (hasSuperblock(group)) used.push([group * blocksPerGroup, group * blocksPerGroup + copy]);
  }
  const copies = used.length;
  let next = 0, obstacle = 0;
  const place = (length: number) => {
    while (obstacle < copies && next + length > used[obstacle]![0]) {
      next = Math.max(next, used[obstacle++]![1]);
    }
    used.push([next, next + length]);
    return (next += length) - length;
  };
  const tables = {
    blockBitmaps: Uint32Array.from({ length: groups }, () => place(1)),
    inodeBitmaps: Uint32Array.from({ length: groups }, () => place(1)),
    inodeTables: Uint32Array.from({ length: groups }, () => place(inodeTableBlocks)),
  };
  if (next > blocks) return undefined;
  used.sort(([a], [b]) => a - b);
  const free: number[] = [];
  let freeBlocks = 0, at = 0;
  for (const [start, end] of [...used, [blocks, blocks] as const]) {
    if (start > at) {
      free.push(at, start);
      freeBlocks += start - at;
    }
    at = Math.max(at, end);
  }
  return { ...shape, ...tables, free: Uint32Array.from(free), freeBlocks };
}
