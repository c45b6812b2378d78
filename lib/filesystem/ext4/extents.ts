/**
 * Free space that is used up from the front, and the extents of files in it.
 *
 * https://docs.kernel.org/filesystems/ext4/ifork.html#extent-tree
 *
 * @module
 */

import { crc32c } from "../../core/crc32c.ts";
import { BLOCK_SIZE } from "./layout.ts";

/** The remaining free space. */
export interface Space {
  /** Pairs of first block and end (exclusive). */
  readonly runs: Uint32Array<ArrayBuffer>;
  /** Index of the pair that contains `front`. */
  run: number;
  front: number;
}

/** Thrown when there is no free block left. Code that tries out sizes catches it. */
export const FULL = Symbol("no free block left");

export function newSpace(runs: Uint32Array<ArrayBuffer>): Space {
  return { runs, run: 0, front: runs[0] ?? 0 };
}

/** Takes up to `count` contiguous blocks and returns the first; their number is `space.front` minus that. */
function takeRun(space: Space, count: number): number {
  const { runs } = space;
  while (space.run < runs.length && space.front === runs[space.run + 1]) {
    space.run += 2;
    space.front = runs[space.run] ?? 0;
  }
  if (space.run >= runs.length) throw FULL;
  const start = space.front;
  space.front = Math.min(start + count, runs[space.run + 1]!);
  return start;
}

/** Takes `count` blocks if they are free in one piece at the front and need no extent tree. @returns whether it did. */
export function skip(space: Space, count: number): boolean {
  const end = space.front + count;
  if (count > MAX_EXTENT || end > (space.runs[space.run + 1] ?? 0)) return false;
  space.front = end;
  return true;
}

/** Takes one block. */
export function takeBlock(space: Space): number {
  return takeRun(space, 1);
}

/** The number of free blocks left. */
export function remaining({ runs, run, front }: Space): number {
  let count = 0;
  for (let at = run; at < runs.length; at += 2) count += runs[at + 1]! - (at === run ? front : runs[at]!);
  return count;
}

/** Maximum length of an initialized extent in blocks (`ee_len`). */
const MAX_EXTENT = 32768;
/** Extents that fit after the header: in an inode (60 bytes), and in a block (which ends with a checksum). */
const EXTENTS_IN_INODE = 4;
const EXTENTS_IN_BLOCK = 340;

/** Where a file is. Extents are triples: first logical block, first physical block, length. */
export interface Placement {
  readonly extents: readonly number[];
  /** Blocks of the extent tree, leaves first; empty if the extents fit into the inode. */
  readonly tree: readonly number[];
}

/**
 * Places the blocks of one file at the front of the free space, followed by its extent tree.
 *
 * @param ranges Pairs of first logical block and end (exclusive). Anything between them is a hole.
 */
export function placeFile(space: Space, ranges: ArrayLike<number>): Placement {
  const extents: number[] = [];
  for (let at = 0; at < ranges.length; at += 2) {
    const end = ranges[at + 1]!;
    for (let logical = ranges[at]!; logical < end;) {
      const start = takeRun(space, Math.min(end - logical, MAX_EXTENT));
      extents.push(logical, start, space.front - start);
      logical += space.front - start;
    }
  }
  const tree: number[] = [];
  let width = extents.length / 3;
  while (width > EXTENTS_IN_INODE) {
    width = Math.ceil(width / EXTENTS_IN_BLOCK);
    for (let i = 0; i < width; i++) tree.push(takeBlock(space));
  }
  return { extents, tree };
}

/** `struct ext4_extent_header`. */
function writeHeader(view: DataView, at: number, entries: number, max: number, depth: number): void {
  view.setUint16(at, 0xf30a, true);
  view.setUint16(at + 2, entries, true);
  view.setUint16(at + 4, max, true);
  view.setUint16(at + 6, depth, true);
  view.setUint32(at + 8, 0, true);
}

/** Writes `struct ext4_extent`. Block numbers could have 48 bits; this project uses 32. */
function writeExtents(
  view: DataView,
  at: number,
  extents: readonly number[],
  from: number,
  to: number,
): void {
  for (let i = from; i < to; i++, at += 12) {
    view.setUint32(at, extents[i * 3]!, true);
    // Lengths above 32768 would mean that the extent is not initialized.
    view.setUint16(at + 4, extents[i * 3 + 2]!, true);
    view.setUint16(at + 6, 0, true);
    view.setUint32(at + 8, extents[i * 3 + 1]!, true);
  }
}

/** Writes a `struct ext4_extent_idx` for each node below: its first logical block and its location. */
function writeIndex(view: DataView, at: number, nodes: readonly (readonly [number, number])[]): void {
  for (const [logical, block] of nodes) {
    view.setUint32(at, logical, true);
    view.setUint32(at + 4, block, true);
    view.setUint32(at + 8, 0, true);
    at += 12;
  }
}

/**
 * Writes the root of the extent tree into `i_block` of an inode, and passes the other blocks of the tree to `write`.
 *
 * @param seed The checksum seed of the inode.
 */
export function writeExtentTree(
  inode: DataView,
  at: number,
  { extents, tree }: Placement,
  seed: number,
  write: (block: number, contents: Uint8Array<ArrayBuffer>) => void,
): void {
  const count = extents.length / 3;
  if (tree.length === 0) {
    writeHeader(inode, at, count, EXTENTS_IN_INODE, 0);
    writeExtents(inode, at + 12, extents, 0, count);
    return;
  }
  const emit = (block: number, entries: number, depth: number, fill: (view: DataView) => void) => {
    const contents = new Uint8Array(BLOCK_SIZE);
    const view = new DataView(contents.buffer);
    writeHeader(view, 0, entries, EXTENTS_IN_BLOCK, depth);
    fill(view);
    view.setUint32(BLOCK_SIZE - 4, crc32c(seed, contents, 0, BLOCK_SIZE - 4), true);
    write(block, contents);
  };
  let used = 0, depth = 0;
  let level: [logical: number, block: number][] = [];
  for (let from = 0; from < count; from += EXTENTS_IN_BLOCK) {
    const to = Math.min(count, from + EXTENTS_IN_BLOCK);
    const block = tree[used++]!;
    emit(block, to - from, depth, (view) => writeExtents(view, 12, extents, from, to));
    level.push([extents[from * 3]!, block]);
  }
  while (level.length > EXTENTS_IN_INODE) {
    depth++;
    const above: typeof level = [];
    for (let from = 0; from < level.length; from += EXTENTS_IN_BLOCK) {
      const nodes = level.slice(from, from + EXTENTS_IN_BLOCK);
      const block = tree[used++]!;
      emit(block, nodes.length, depth, (view) => writeIndex(view, 12, nodes));
      above.push([nodes[0]![0], block]);
    }
    level = above;
  }
  writeHeader(inode, at, level.length, EXTENTS_IN_INODE, depth + 1);
  writeIndex(inode, at + 12, level);
}
