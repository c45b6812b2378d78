/**
 * Directories: entries packed into one block, or hash-indexed leaves below a tree of one or two levels.
 *
 * https://docs.kernel.org/filesystems/ext4/dynamic.html#directory-entries
 *
 * @module
 */

import { crc32c, crc32cWord } from "../../core/crc32c.ts";
import { BuildError, quote } from "../../core/error.ts";
import { modeOf, nameLengthOf, nameOf, type Selection, treePath } from "../contents.ts";
import { hashName, type HashSeed } from "./hash.ts";
import { BLOCK_SIZE } from "./layout.ts";

/** `struct ext4_dir_entry_tail`: a checksum that looks like an unused entry. */
const TAIL_SIZE = 12;
const ROOM = BLOCK_SIZE - TAIL_SIZE;
/** Bytes of `.` and `..` in the first block. */
const DOTS_SIZE = 24;
/** After them come `struct dx_root_info` and the index. Root and nodes of the index end with a checksum. */
const ROOT_INDEX_AT = 32, NODE_INDEX_AT = 8;
const ROOT_LIMIT = (BLOCK_SIZE - ROOT_INDEX_AT - 8) / 8;
const NODE_LIMIT = (BLOCK_SIZE - NODE_INDEX_AT - 8) / 8;
const HALF_MD4 = 1;

/** `file_type` of an entry, by the top four bits of the mode. */
const FILE_TYPE: Readonly<Record<number, number>> = {
  0o10: 1,
  0o04: 2,
  0o02: 3,
  0o06: 4,
  0o01: 5,
  0o14: 6,
  0o12: 7,
};

/** How the entries of one directory are spread over its blocks. */
interface DirectoryPlan {
  /** Number of blocks, including those of the index. */
  readonly blocks: number;
  /** Entries of the selection in storage order. */
  readonly order: Uint32Array<ArrayBuffer>;
  /** Where each leaf starts in `order`. Without an index, there is a single leaf. */
  readonly leaves: readonly number[];
  /** The hashes in the same order; absent without an index. */
  readonly hashes?: Uint32Array<ArrayBuffer>;
}

/** Bytes of one entry: eight plus the name, rounded up to a multiple of four. */
function entrySize(nameLength: number): number {
  return (8 + nameLength + 3) & ~3;
}

/** Decides where the entries of a directory go. @throws {BuildError} when there are too many. */
export function planDirectory(selection: Selection, directory: number, seed: HashSeed): DirectoryPlan {
  const first = selection.firstChild[directory]!, count = selection.childCount[directory]!;
  let size = DOTS_SIZE;
  for (let entry = first; entry < first + count && size <= ROOM; entry++) {
    size += entrySize(nameLengthOf(selection, entry));
  }
  if (size <= ROOM) {
    const order = new Uint32Array(count);
    for (let i = 0; i < count; i++) order[i] = first + i;
    return { blocks: 1, order, leaves: [0] };
  }
  const keys = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const name = nameOf(selection, first + i);
    // Hash (31 bits) and position (22 bits) in one number, so that equal hashes keep the order of the names.
    keys[i] = hashName(name, 0, name.length, seed) / 2 * 2 ** 22 + i;
  }
  keys.sort();
  const order = new Uint32Array(count), hashes = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    hashes[i] = Math.floor(keys[i]! / 2 ** 22) * 2;
    order[i] = first + keys[i]! % 2 ** 22;
  }
  const leaves: number[] = [];
  for (let i = 0, left = 0; i < count; i++) {
    const size = entrySize(nameLengthOf(selection, order[i]!));
    if (size > left) {
      leaves.push(i);
      left = ROOM;
    }
    left -= size;
  }
  const nodes = leaves.length <= ROOT_LIMIT ? 0 : Math.ceil(leaves.length / NODE_LIMIT);
  if (nodes > ROOT_LIMIT || count >= 2 ** 22) {
    throw new BuildError(
      `Cannot store ${quote(treePath(selection, directory))}: ${count} entries are too many`,
      {
        hint: "An ext4 directory holds a few million entries; spread them over several directories",
      },
    );
  }
  return { blocks: 1 + nodes + leaves.length, order, leaves, hashes };
}

/** The inodes that the blocks of a directory refer to. */
interface DirectoryInodes {
  readonly self: number;
  readonly parent: number;
  /** Returns the inode number of an entry of the selection. */
  readonly of: (entry: number) => number;
  /** The checksum seed of the directory's inode. */
  readonly seed: number;
}

/** Writes the blocks in logical order; `next` returns each one, zeroed. */
export function writeDirectory(
  selection: Selection,
  plan: DirectoryPlan,
  inodes: DirectoryInodes,
  next: () => Uint8Array<ArrayBuffer>,
): void {
  const { leaves, hashes } = plan;
  if (hashes) writeIndex(plan, hashes, inodes, next);
  for (let leaf = 0; leaf < leaves.length; leaf++) {
    const block = next();
    const view = new DataView(block.buffer, block.byteOffset, BLOCK_SIZE);
    let at = 0, last = 0;
    if (!hashes) {
      writeDots(view, inodes, 12);
      last = 12;
      at = DOTS_SIZE;
    }
    for (let i = leaves[leaf]!; i < (leaves[leaf + 1] ?? plan.order.length); i++) {
      const entry = plan.order[i]!;
      const name = nameOf(selection, entry);
      const size = entrySize(name.length);
      writeEntry(view, at, inodes.of(entry), size, name.length, FILE_TYPE[modeOf(selection, entry) >> 12]!);
      block.set(name, at + 8);
      last = at;
      at += size;
    }
    // The last entry takes up the rest of the block.
    view.setUint16(last + 4, ROOM - last, true);
    writeEntry(view, ROOM, 0, TAIL_SIZE, 0, 0xde);
    view.setUint32(BLOCK_SIZE - 4, crc32c(inodes.seed, block, 0, ROOM), true);
  }
}

/** `struct ext4_dir_entry_2`, without the name. */
function writeEntry(
  view: DataView,
  at: number,
  inode: number,
  size: number,
  length: number,
  type: number,
): void {
  view.setUint32(at, inode, true);
  view.setUint16(at + 4, size, true);
  view.setUint8(at + 6, length);
  view.setUint8(at + 7, type);
}

/** Writes `.` and `..`; the record of `..` is `size` bytes long. */
function writeDots(view: DataView, { self, parent }: DirectoryInodes, size: number): void {
  const DOT = 0x2e;
  writeEntry(view, 0, self, 12, 1, 2);
  view.setUint8(8, DOT);
  writeEntry(view, 12, parent, size, 2, 2);
  view.setUint16(20, DOT | DOT << 8, true);
}

/** Writes the root of the hash tree (`struct dx_root`) and, if there are many leaves, its nodes (`struct dx_node`). */
function writeIndex(
  { leaves, order }: DirectoryPlan,
  hashes: Uint32Array<ArrayBuffer>,
  inodes: DirectoryInodes,
  next: () => Uint8Array<ArrayBuffer>,
): void {
  const nodes = leaves.length <= ROOT_LIMIT ? 0 : Math.ceil(leaves.length / NODE_LIMIT);
  /** The first hash of a leaf; odd if the previous leaf ends with the same hash. */
  const hashOf = (leaf: number) => {
    const at = leaves[leaf]!;
    return at > 0 && at < order.length && hashes[at] === hashes[at - 1] ? hashes[at]! + 1 : hashes[at]!;
  };
  const root = next();
  const view = new DataView(root.buffer, root.byteOffset, BLOCK_SIZE);
  writeDots(view, inodes, BLOCK_SIZE - 12);
  view.setUint8(28, HALF_MD4);
  view.setUint8(29, 8);
  view.setUint8(30, nodes > 0 ? 1 : 0);
  const below = nodes > 0
    ? Array.from({ length: nodes }, (_, node) => [hashOf(node * NODE_LIMIT), 1 + node] as const)
    : leaves.map((_, leaf) => [hashOf(leaf), 1 + leaf] as const);
  writeIndexEntries(root, view, ROOT_INDEX_AT, ROOT_LIMIT, below, inodes.seed);
  for (let node = 0; node < nodes; node++) {
    const block = next();
    const view = new DataView(block.buffer, block.byteOffset, BLOCK_SIZE);
    writeEntry(view, 0, 0, BLOCK_SIZE, 0, 0);
    const end = Math.min(leaves.length, (node + 1) * NODE_LIMIT);
    const below: (readonly [number, number])[] = [];
    for (let leaf = node * NODE_LIMIT; leaf < end; leaf++) below.push([hashOf(leaf), 1 + nodes + leaf]);
    writeIndexEntries(block, view, NODE_INDEX_AT, NODE_LIMIT, below, inodes.seed);
  }
}

/** Writes a `struct dx_entry` for each block below. The first one has limit and count in place of a hash. */
function writeIndexEntries(
  block: Uint8Array<ArrayBuffer>,
  view: DataView,
  at: number,
  limit: number,
  below: readonly (readonly [hash: number, block: number])[],
  seed: number,
): void {
  below.forEach(([hash, block], i) => {
    view.setUint32(at + i * 8, hash, true);
    view.setUint32(at + i * 8 + 4, block, true);
  });
  view.setUint16(at, limit, true);
  view.setUint16(at + 2, below.length, true);
  // `struct dx_tail` follows the last possible entry. Its checksum is computed with the checksum field as zero.
  const sum = crc32cWord(crc32cWord(crc32c(seed, block, 0, at + below.length * 8), 0), 0);
  view.setUint32(at + limit * 8 + 4, sum, true);
}
