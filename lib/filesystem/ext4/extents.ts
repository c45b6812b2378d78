/**
 * The free space as a line that is used up from the front, and files as extents on it.
 *
 * https://docs.kernel.org/filesystems/ext4/ifork.html#extent-tree
 *
 * @module
 */

import { crc32c } from "../../core/crc32c.ts";
import { BLOCK_SIZE } from "./layout.ts";

/** The rest of the free space; `take` moves its front. */
export interface Space {
  /** Pairs: first block, and the block behind the last. */
  readonly runs: Uint32Array<ArrayBuffer>;
  /** The pair that the front is in. */
  run: number;
  front: number;
}

/** Thrown by {@link take}; whoever plans a size catches it. */
export const FULL = Symbol("no free block left");

export function newSpace(runs: Uint32Array<ArrayBuffer>): Space {
  return { runs, run: 0, front: runs[0] ?? 0 };
}

/** Takes up to `count` contiguous blocks and returns the first; how many it were is `front` less that. */
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

/** Takes blocks if the front has so many in one piece, and they need no extent tree. */
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

/** Blocks that stay free. */
export function remaining({ runs, run, front }: Space): number {
  let count = 0;
  for (let at = run; at < runs.length; at += 2) count += runs[at + 1]! - (at === run ? front : runs[at]!);
  return count;
}

/** So many blocks fit into one extent that is initialized (`ee_len`). */
const MAX_EXTENT = 32768;
/** What fits behind the header of an inode (60 bytes) and of a block (which ends with a checksum). */
const EXTENTS_IN_INODE = 4;
const EXTENTS_IN_BLOCK = 340;

/** Where a file is. Extents are triples: first logical block, first physical block, length. */
export interface Placement {
  readonly extents: readonly number[];
  /** Blocks of the extent tree, leaves first; none when the extents fit into the inode. */
  readonly tree: readonly number[];
}

/**
 * Places the blocks of one file at the front of the space, and its extent tree behind them.
 *
 * @param ranges Pairs: first logical block, and the block behind the last. What is not in them is a hole.
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

/** `struct ext4_extent`; the physical block has 48 bits, of which this project uses 32. */
function writeExtents(
  view: DataView,
  at: number,
  extents: readonly number[],
  from: number,
  to: number,
): void {
  for (let i = from; i < to; i++, at += 12) {
    view.setUint32(at, extents[i * 3]!, true);
    // A length of 32768 is initialized, everything above it would not be.
    view.setUint16(at + 4, extents[i * 3 + 2]!, true);
    view.setUint16(at + 6, 0, true);
    view.setUint32(at + 8, extents[i * 3 + 1]!, true);
  }
}

/** `struct ext4_extent_idx` for each node below: its first logical block and where it is. */
function writeIndex(view: DataView, at: number, nodes: readonly (readonly [number, number])[]): void {
  for (const [logical, block] of nodes) {
    view.setUint32(at, logical, true);
    view.setUint32(at + 4, block, true);
    view.setUint32(at + 8, 0, true);
    at += 12;
  }
}

/**
 * Writes the root of the extent tree into `i_block` of an inode, and hands each block of the tree to `write`.
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
