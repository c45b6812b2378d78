/**
 * Plans an ext4 to the block: its size, its layout, and where everything goes.
 *
 * There is no estimate: a plan is tried by placing all entries, with the same functions that place them when
 * the filesystem is filled.
 *
 * @module
 */

import { fromHex } from "../../core/bytes.ts";
import { alignUp, KiB, MiB } from "../../core/units.ts";
import type { Selection } from "../contents.ts";
import { type Allocation, allocationOf, placeSystem, skipEntry, withLostAndFound } from "./allocation.ts";
import { FULL, newSpace, remaining } from "./extents.ts";
import type { HashSeed } from "./hash.ts";
import { BLOCK_SIZE, type Layout, layoutOf } from "./layout.ts";

/** The resize inode, which a mounted filesystem needs to grow, has 32-bit block numbers. */
export const MAX_EXT4_SIZE = (2 ** 32 - 1) * BLOCK_SIZE;

/** The requirements for a filesystem. At most one of `size` and `free` is set; with neither, it is as small as possible. */
export interface Ext4Request {
  /** At most 16 bytes. */
  readonly label: string;
  readonly uuid: string;
  /** A UUID: the seed of the directory index. */
  readonly hashSeed: string;
  /** Seconds since 1970: the creation time of the filesystem, and atime and ctime of all entries. */
  readonly time: number;
  /** Seconds since 1970: later modification times are set to this. */
  readonly latest?: number;
  /** Exact size in bytes. */
  readonly size?: number;
  /** Bytes that `df` must show as available in the mounted filesystem. */
  readonly free?: number;
  /** Bytes, at least 4 MiB; 0: none. Default: what mke2fs chooses for the size, or less if that does not fit. */
  readonly journal?: number;
}

export interface Ext4Plan {
  /** Bytes. */
  readonly size: number;
  /** Bytes that `df` will show as available. */
  readonly available: number;
  /** Bytes of contents that will be written. */
  readonly bytes: number;
  /** As `dumpe2fs` shows them. */
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly journalBlocks: number;
  readonly layout: Layout;
  readonly allocation: Allocation;
  readonly selection: Selection;
  readonly request: Ext4Request;
  readonly hashSeed: HashSeed;
}

/** One inode per this many free bytes, mke2fs's default. */
const BYTES_PER_INODE = 16 * KiB;
/** At least one inode per this many bytes in total: few large files would otherwise leave few inodes to grow with. */
const BYTES_PER_INODE_AT_LEAST = 64 * KiB;
/** Inodes that are always left free. */
const SPARE_INODES = 16;

/**
 * Plans the filesystem of a selection.
 *
 * @returns `undefined` if the selection does not fit into `size`, or the filesystem would be too large.
 * @throws {BuildError} for an entry that no ext4 can hold.
 */
export function planExt4(contents: Selection, request: Ext4Request): Ext4Plan | undefined {
  const selection = withLostAndFound(contents);
  const hashSeed = hashSeedWords(request.hashSeed);
  const attempt = { selection, allocation: allocationOf(selection, hashSeed), request, hashSeed };
  if (request.size !== undefined) {
    return planSize(attempt, Math.floor(request.size / BLOCK_SIZE), request.size);
  }
  return planFree(attempt, request.free);
}

/** What all attempts at a layout share. */
interface Attempt {
  readonly selection: Selection;
  readonly allocation: Allocation;
  readonly request: Ext4Request;
  readonly hashSeed: HashSeed;
}

/** The seed as four words, as in the superblock. */
function hashSeedWords(uuid: string): HashSeed {
  const view = new DataView(fromHex(uuid).buffer);
  return Uint32Array.from({ length: 4 }, (_, i) => view.getUint32(i * 4, true));
}

/** Plans for a given size. Journal and inodes are as large as usual if they fit, smaller if not. */
function planSize(attempt: Attempt, blocks: number, size: number): Ext4Plan | undefined {
  if (size > MAX_EXT4_SIZE) return undefined;
  for (const journal of journalChoices(attempt.request, blocks)) {
    const spare = Math.max(0, blocks - attempt.allocation.totalBlocks - journal) * BLOCK_SIZE;
    for (const inodes of [spareInodes(spare, blocks, attempt.allocation), SPARE_INODES]) {
      const plan = tryLayout(attempt, blocks, size, journal, inodes);
      if (typeof plan !== "number") return plan;
    }
  }
  return undefined;
}

/** Plans the smallest size in whole MiB that leaves `free` bytes, or that just holds everything. */
function planFree(attempt: Attempt, free: number | undefined): Ext4Plan | undefined {
  const wanted = Math.ceil((free ?? 0) / BLOCK_SIZE);
  const unit = MiB / BLOCK_SIZE;
  // Too small for its own tables at first. Each attempt returns how many more blocks it needs at least.
  let blocks = alignUp(attempt.allocation.totalBlocks + wanted, unit);
  for (;;) {
    const size = blocks * BLOCK_SIZE;
    if (size > MAX_EXT4_SIZE) return undefined;
    const choices = journalChoices(attempt.request, blocks);
    const journal = free === undefined ? choices.at(-1)! : choices[0]!;
    const inodes = free === undefined ? SPARE_INODES : spareInodes(free, blocks, attempt.allocation);
    const plan = tryLayout(attempt, blocks, size, journal, inodes);
    const missing = typeof plan === "number" ? plan : wanted - plan.available / BLOCK_SIZE;
    if (typeof plan !== "number" && missing <= 0) return plan;
    blocks += alignUp(Math.max(missing, 1), unit);
  }
}

/** Inodes to leave free, by free space and by total size: groups added when it grows have the same number each. */
function spareInodes(free: number, blocks: number, { lastInode }: Allocation): number {
  const least = blocks * BLOCK_SIZE / BYTES_PER_INODE_AT_LEAST - lastInode;
  return Math.ceil(Math.max(SPARE_INODES, free / BYTES_PER_INODE, least));
}

/**
 * Journal sizes to try, in blocks: first what mke2fs chooses for the size (`ext2fs_default_journal_size`), then
 * smaller ones for a tight filesystem.
 */
function journalChoices({ journal }: Ext4Request, blocks: number): number[] {
  if (journal !== undefined) return [Math.ceil(journal / BLOCK_SIZE)];
  const steps: readonly (readonly [from: number, journal: number])[] = [
    [32768 * KiB, 262144],
    [16384 * KiB, 131072],
    [8192 * KiB, 65536],
    [4096 * KiB, 32768],
    [512 * KiB, 16384],
    [256 * KiB, 8192],
    [32 * KiB, 4096],
    [2 * KiB, 1024],
  ];
  const choices = steps.filter(([from]) => blocks >= from).map(([, journal]) => journal);
  // Below 32 MiB, there may be no room for a journal.
  return blocks < 8 * KiB ? [...choices, 0] : choices;
}

/** Tries one layout. @returns a number if it does not fit: how many more blocks it needs at least. */
function tryLayout(
  attempt: Attempt,
  blocks: number,
  size: number,
  journalBlocks: number,
  spare: number,
): Ext4Plan | number {
  const { selection, allocation } = attempt;
  const layout = layoutOf(blocks, allocation.lastInode + spare);
  if (!layout) return Math.ceil(blocks / 64);
  const least = allocation.totalBlocks + journalBlocks + 1;
  if (layout.freeBlocks < least) return least - layout.freeBlocks;
  const space = newSpace(layout.free);
  try {
    placeSystem(space, journalBlocks);
    for (let entry = 0; entry < selection.count; entry++) {
      if (!allocation.isFurther[entry]) skipEntry(allocation, selection, space, entry);
    }
  } catch (error) {
    if (error === FULL) return 1;
    throw error;
  }
  const freeBlocks = remaining(space);
  return {
    size,
    available: Math.max(0, freeBlocks - kernelReservedBlocks(layout.blocks)) * BLOCK_SIZE,
    bytes: allocation.totalBlocks * BLOCK_SIZE,
    freeBlocks,
    freeInodes: layout.inodesPerGroup * layout.groups - allocation.lastInode,
    journalBlocks,
    layout,
    ...attempt,
  };
}

/** Blocks that the kernel reserves, so that `df` does not count them (`ext4_calculate_resv_clusters`). */
function kernelReservedBlocks(blocks: number): number {
  return Math.min(Math.floor(blocks / 50), 4096);
}
