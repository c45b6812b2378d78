/**
 * What a selection needs in an ext4, wherever it will be placed: inode numbers, links, blocks.
 *
 * @module
 */

import { BuildError, quote } from "../../core/error.ts";
import { FILE_TYPES, isDirectoryMode, TYPE_MASK } from "../../core/mode.ts";
import { compareNames, inodeRow } from "../../tree/nodes.ts";
import {
  addedOf,
  contentsOf,
  linkedRows,
  modeOf,
  nameOf,
  type Selection,
  sizeOf,
  treePath,
} from "../contents.ts";
import type { ResolvedFile } from "../entries.ts";
import { xattrKey, xattrsIn } from "../labels.ts";
import { planDirectory } from "./directory.ts";
import { placeFile, type Placement, skip, type Space, takeBlock } from "./extents.ts";
import type { HashSeed } from "./hash.ts";
import { BLOCK_SIZE, FIRST_INODE } from "./layout.ts";
import { planXattrs } from "./xattr.ts";

const ROOT_INODE = 2;
const LOST_AND_FOUND = new TextEncoder().encode("lost+found");
/** A link target shorter than this is stored in the inode itself. */
const FAST_SYMLINK_SIZE = 60;
/** `EXT4_LINK_MAX`. A directory with more subdirectories has a link count of 1 (`dir_nlink`). */
const MAX_LINKS = 65000;
/** Logical blocks are numbered with 32 bits. */
const MAX_FILE_SIZE = (2 ** 32 - 1) * BLOCK_SIZE;

/** One cell per entry of the selection, most of them zero wherever possible: zeros that are not written take no memory. */
export interface Allocation {
  readonly inode: Uint32Array<ArrayBuffer>;
  /** Whether the entry is a further name of an inode. Only the first name writes the inode. */
  readonly isFurther: Uint8Array<ArrayBuffer>;
  /** Links of the inode besides the first, at its first name only. */
  readonly moreLinks: Uint32Array<ArrayBuffer>;
  /** Blocks of contents, at the first name only, without extent tree and xattrs. */
  readonly blocks: Uint32Array<ArrayBuffer>;
  readonly hasXattrBlock: Uint8Array<ArrayBuffer>;
  /** The highest inode number in use; so are all below it. */
  readonly lastInode: number;
  /** Blocks of contents and xattrs of all entries. */
  readonly totalBlocks: number;
}

/** Allocates for a selection with a `lost+found`. @throws {BuildError} naming an entry that ext4 cannot hold. */
export function allocationOf(selection: Selection, seed: HashSeed): Allocation {
  const { count, nodes } = selection;
  const lostAndFound = entryNamed(selection, LOST_AND_FOUND).entry;
  const inode = new Uint32Array(count), moreLinks = new Uint32Array(count), blocks = new Uint32Array(count);
  const isFurther = new Uint8Array(count), hasXattrBlock = new Uint8Array(count);
  const linked = linkedRows(selection);
  /** The first entry of each of them. */
  const firstNames = new Map<number, number>();
  const xattrBlockOf = new Map<number, boolean>([[0, false]]);
  let next = FIRST_INODE + 1, totalBlocks = 0;
  for (let entry = 0; entry < count; entry++) {
    const mode = modeOf(selection, entry);
    const source = selection.source[entry]!;
    if (source >= 0 && !isDirectory(mode)) {
      const row = inodeRow(nodes, source);
      const first = firstNames.get(row);
      if (first !== undefined) {
        isFurther[entry] = 1;
        inode[entry] = inode[first]!;
        if (++moreLinks[first]! >= MAX_LINKS) {
          throw cannotStore(selection, entry, `it has more than ${MAX_LINKS} hard links`);
        }
        continue;
      }
      if (linked.has(row)) firstNames.set(row, entry);
    }
    inode[entry] = entry === 0 ? ROOT_INODE : entry === lostAndFound ? FIRST_INODE : next++;
    if (isDirectory(mode)) {
      // By "." and "..".
      moreLinks[entry]!++;
      if (entry > 0) moreLinks[selection.parent[entry]!]!++;
    }
    blocks[entry] = isDirectory(mode)
      ? planDirectory(selection, entry, seed).blocks
      : blocksOf(selection, entry);
    if (needsXattrBlock(selection, entry, xattrBlockOf)) hasXattrBlock[entry] = 1;
    totalBlocks += blocks[entry]! + hasXattrBlock[entry]!;
  }
  return { inode, isFurther, moreLinks, blocks, hasXattrBlock, lastInode: next - 1, totalBlocks };
}

export function isDirectory(mode: number): boolean {
  return isDirectoryMode(mode);
}

/** The value of `i_links_count`. */
export function linkCount(allocation: Allocation, entry: number): number {
  const links = 1 + allocation.moreLinks[entry]!;
  return links > MAX_LINKS ? 1 : links;
}

/** The position of an entry of the root directory, or where it would be inserted. */
function entryNamed(selection: Selection, name: Uint8Array): { entry: number; found: boolean } {
  const first = selection.firstChild[0]!, end = first + selection.childCount[0]!;
  let entry = first;
  while (entry < end && compareNames(nameOf(selection, entry), name) < 0) entry++;
  return { entry, found: entry < end && compareNames(nameOf(selection, entry), name) === 0 };
}

/**
 * Adds the `lost+found` that e2fsck puts orphans into, unless the tree has one.
 *
 * @throws {BuildError} when the tree has something else by that name.
 */
export function withLostAndFound(selection: Selection): Selection {
  const { entry: place, found } = entryNamed(selection, LOST_AND_FOUND);
  if (found && isDirectory(modeOf(selection, place))) return selection;
  if (found) throw cannotStore(selection, place, "only a directory can have this name");
  const added: ResolvedFile = {
    name: LOST_AND_FOUND,
    mode: FILE_TYPES.directory | 0o700,
    attributesFrom: undefined,
    contentsFrom: undefined,
    text: undefined,
  };
  const { count, labels } = selection;
  const source = new Int32Array(count + 1), parent = new Uint32Array(count + 1);
  // Only directories have something here, and zeros that are not written take no memory.
  const firstChild = new Uint32Array(count + 1), childCount = new Uint32Array(count + 1);
  const labelOf = new Uint16Array(labels ? count + 1 : 0);
  const shift = (at: number) => at >= place ? at + 1 : at;
  for (let entry = 0; entry < count; entry++) {
    const to = shift(entry), children = selection.childCount[entry]!;
    source[to] = selection.source[entry]!;
    parent[to] = shift(selection.parent[entry]!);
    if (labels) labelOf[to] = labels.of[entry]!;
    if (children > 0) {
      firstChild[to] = shift(selection.firstChild[entry]!);
      childCount[to] = children;
    }
  }
  source[place] = ~selection.added.length;
  firstChild[0] = selection.firstChild[0]!;
  childCount[0]!++;
  if (labels) labelOf[place] = labels.lostAndFound;
  return {
    nodes: selection.nodes,
    count: count + 1,
    source,
    parent,
    firstChild,
    childCount,
    added: [...selection.added, added],
    ...labels && { labels: { ...labels, of: labelOf } },
  };
}

function cannotStore(selection: Selection, entry: number, reason: string): BuildError {
  return new BuildError(`Cannot store ${quote(treePath(selection, entry))} in ext4: ${reason}`, {
    hint: "Leave it out of the tree, or make it smaller",
  });
}

function blocksOf(selection: Selection, entry: number): number {
  const size = sizeOf(selection, entry);
  switch (modeOf(selection, entry) & TYPE_MASK) {
    case FILE_TYPES.symlink:
      return size < FAST_SYMLINK_SIZE ? 0 : 1;
    case FILE_TYPES.file: {
      if (size > MAX_FILE_SIZE) {
        throw cannotStore(
          selection,
          entry,
          `its ${size} bytes are more than the ${MAX_FILE_SIZE} that a file can have`,
        );
      }
      const ranges = rangesOf(selection, entry, Math.ceil(size / BLOCK_SIZE));
      let blocks = 0;
      for (let at = 0; at < ranges.length; at += 2) blocks += ranges[at + 1]! - ranges[at]!;
      return blocks;
    }
    default:
      return 0;
  }
}

/** The logical blocks of an entry that hold data, as pairs of start and end. Without holes, that is `0, blocks`. */
function rangesOf(selection: Selection, entry: number, blocks: number): number[] {
  const node = contentsOf(selection, entry);
  const data = node === undefined || addedOf(selection, entry)?.text
    ? undefined
    : selection.nodes.data.get(node);
  if (!data) return blocks === 0 ? [] : [0, blocks];
  const ranges: number[] = [];
  for (let at = 0; at < data.length; at += 2) {
    const start = Math.floor(data[at]! / BLOCK_SIZE), end = Math.ceil(data[at + 1]! / BLOCK_SIZE);
    if (ranges.length > 0 && start <= ranges.at(-1)!) ranges[ranges.length - 1] = end;
    else ranges.push(start, end);
  }
  return ranges;
}

function needsXattrBlock(selection: Selection, entry: number, known: Map<number, boolean>): boolean {
  const key = xattrKey(selection, entry);
  let needed = known.get(key);
  if (needed === undefined) {
    const plan = planXattrs(xattrsIn(selection, entry));
    if (!plan) {
      throw cannotStore(selection, entry, "its extended attributes do not fit into a block of 4 KiB");
    }
    known.set(key, needed = plan.block.length > 0);
  }
  return needed;
}

/** Where the blocks of an entry are. */
interface EntryPlacement extends Placement {
  /** 0 if there is none. */
  readonly xattrBlock: number;
}

/** Takes the blocks of one entry from the free space: contents, extent tree, xattrs. */
export function placeEntry(
  allocation: Allocation,
  selection: Selection,
  space: Space,
  entry: number,
): EntryPlacement {
  const placement = placeFile(space, rangesOf(selection, entry, allocation.blocks[entry]!));
  return { ...placement, xattrBlock: allocation.hasXattrBlock[entry]! ? takeBlock(space) : 0 };
}

/** Takes the same blocks without returning where they are. Fast for a file without holes that fits in one piece. */
export function skipEntry(allocation: Allocation, selection: Selection, space: Space, entry: number): void {
  const blocks = allocation.blocks[entry]! + allocation.hasXattrBlock[entry]!;
  if (blocks === 0) return;
  const node = contentsOf(selection, entry);
  const hasHoles = node !== undefined && selection.nodes.data.has(node);
  if (hasHoles || !skip(space, blocks)) placeEntry(allocation, selection, space, entry);
}

/** Where the blocks of the filesystem's own inodes are, before those of the first entry. */
export interface SystemPlacement {
  /** The resize inode's block of pointers to the reserved descriptor blocks. */
  readonly resize: number;
  readonly journal: Placement;
}

/** Takes the blocks of the filesystem's own inodes. */
export function placeSystem(space: Space, journalBlocks: number): SystemPlacement {
  return {
    resize: takeBlock(space),
    journal: placeFile(space, journalBlocks === 0 ? [] : [0, journalBlocks]),
  };
}
