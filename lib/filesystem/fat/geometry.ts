/**
 * Sizes and layouts of FAT filesystems, to find out whether everything fits before anything is written.
 *
 * - Microsoft's FAT specification (fatgen103); UEFI 2.10, section 13.3
 *
 * @module
 */

import { BuildError, quote } from "../../core/error.ts";
import { formatBytes, GiB, MiB, SECTOR } from "../../core/units.ts";
import type { Recipe } from "../../efi/recipes.ts";
import { SLOT } from "./directory.ts";
import { slotsOf } from "./names.ts";

/** Bytes of the largest cluster that every implementation supports. */
const MAX_CLUSTER = 32768;

/** Entries of the root directory of FAT12 and FAT16, which has a fixed size. */
export const FAT_ROOT_ENTRIES = 512;

/** The variants by number of clusters, which is all that tells them apart. The limits leave a margin for rounding. */
const VARIANTS = [
  { bits: 32, reserved: 32, min: 65525 + 16, max: 2 ** 28 - 16, clusters: [8, 4, 2, 1] },
  { bits: 16, reserved: 4, min: 4085 + 16, max: 65524 - 16, clusters: [1, 2, 4, 8, 16, 32, 64] },
  { bits: 12, reserved: 4, min: 1, max: 4084 - 16, clusters: [1, 2] },
] as const;

/** Up to this size, FAT16 is used: FAT32 needs 65,525 clusters, more than 32 MiB even with 512-byte clusters. */
const MAX_FAT16 = 32 * MiB;

/** The largest filesystem that we make; up to here, clusters are at most 4 KiB. */
export const MAX_FAT_SIZE = 512 * GiB;

/** A directory can have at most 2 MiB. */
const MAX_SLOTS = 65536;

export interface FatGeometry {
  readonly bits: 12 | 16 | 32;
  /** Bytes per sector. */
  readonly sector: number;
  /** Sectors per cluster. */
  readonly perCluster: number;
  readonly reserved: number;
  /** Clusters for files and directories. mkfs.vfat makes at least this many. */
  readonly clusters: number;
  /** How many of them the entries use. */
  readonly used: number;
}

/** A file or directory in the filesystem. Paths start with a slash. */
export interface FatEntry {
  readonly path: string;
  /** The path in the tree, for messages; absent: the same. */
  readonly treePath?: string;
  readonly type: "directory" | "file";
  readonly size: number;
  /** Where a file's contents come from: a row of the tree, a text, or a recipe. */
  readonly node?: number;
  readonly text?: Uint8Array<ArrayBuffer>;
  readonly recipe?: Recipe;
}

/**
 * The geometry of a filesystem of `size` bytes that holds the entries; `undefined` if they do not fit.
 *
 * @throws {BuildError} when one of the directories is too large for any filesystem.
 */
export function fatGeometry(
  size: number,
  entries: readonly FatEntry[],
  sector: number = SECTOR,
): FatGeometry | undefined {
  return layOut(size, sector, allocationOf(entries));
}

/**
 * The smallest size that the entries fit into, in bytes, a multiple of 1 MiB. All larger sizes work, too.
 *
 * @throws {BuildError} when that would be more than {@link MAX_FAT_SIZE}.
 */
export function smallestFat(entries: readonly FatEntry[], sector: number = SECTOR): number {
  const allocation = allocationOf(entries);
  let [low, high] = [0, MAX_FAT_SIZE / MiB];
  if (!layOut(high * MiB, sector, allocation)) {
    const bytes = entries.reduce((sum, { size }) => sum + size, 0);
    throw new BuildError(
      `Cannot fit ${formatBytes(bytes)} in ${entries.length} entries into a FAT filesystem`,
      { hint: `Leave files out: the largest possible filesystem has ${formatBytes(MAX_FAT_SIZE)}` },
    );
  }
  while (low + 1 < high) {
    const middle = (low + high) >>> 1;
    if (layOut(middle * MiB, sector, allocation)) high = middle;
    else low = middle;
  }
  return high * MiB;
}

/** The first layout that fits. Larger clusters are tried first: their tables are smaller. */
function layOut(
  size: number,
  sector: number,
  { rootSlots, clusters: needed }: Allocation,
): FatGeometry | undefined {
  if (size > MAX_FAT_SIZE) return undefined;
  for (const { bits, reserved, min, max, clusters: choices } of VARIANTS) {
    if (bits === 32 ? size <= MAX_FAT16 : rootSlots > FAT_ROOT_ENTRIES) continue;
    for (const perCluster of choices) {
      if (perCluster * sector > MAX_CLUSTER) continue;
      const rootSectors = bits === 32 ? 0 : FAT_ROOT_ENTRIES * SLOT / sector;
      const sectors = Math.floor(size / sector) - reserved - rootSectors;
      // Two tables with `bits` per cluster; mkfs.vfat rounds each up by less than four sectors.
      const tables = 2 * (Math.ceil(sectors / perCluster * bits / 8 / sector) + 4);
      const clusters = Math.floor((sectors - tables) / perCluster);
      if (clusters < min || clusters > max) continue;
      const root = bits === 32 ? Math.ceil(rootSlots * SLOT / (perCluster * sector)) : 0;
      const used = root + needed(perCluster * sector);
      if (used <= clusters) return { bits, sector, perCluster, reserved, clusters, used };
    }
  }
}

/** The space that entries need. */
interface Allocation {
  /** Slots of the root directory, which is outside the clusters in FAT12 and FAT16. */
  readonly rootSlots: number;
  /** The number of clusters of that many bytes for everything else. */
  readonly clusters: (bytes: number) => number;
}

/** Counts the space that the entries need. */
function allocationOf(entries: readonly FatEntry[]): Allocation {
  const slots = directorySlots(entries);
  const rootSlots = slots.get("/")!;
  slots.delete("/");
  const known = new Map<number, number>();
  const clusters = (bytes: number) => {
    let count = known.get(bytes);
    if (count === undefined) {
      count = 0;
      for (const { size } of entries) count += Math.ceil(size / bytes);
      for (const some of slots.values()) count += Math.ceil(some * SLOT / bytes);
      known.set(bytes, count);
    }
    return count;
  };
  return { rootSlots, clusters };
}

/**
 * The number of slots that each directory needs, by path.
 *
 * @throws {BuildError} when a directory would need too many.
 */
export function directorySlots(entries: readonly FatEntry[]): Map<string, number> {
  // Every directory starts with "." and "..", the root with the volume label.
  const slots = new Map<string, number>([["/", 1]]);
  for (const { path, treePath = path, type } of entries) {
    const parent = parentOf(path);
    const count = (slots.get(parent) ?? 2) + slotsOf(nameOf(path));
    if (count > MAX_SLOTS) {
      throw cannotHold(
        parentOf(treePath),
        "it has too many entries for a FAT directory",
        "Spread them over several directories",
      );
    }
    slots.set(parent, count);
    if (type === "directory") slots.set(path, slots.get(path) ?? 2);
  }
  return slots;
}

/** The path of the parent directory. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The last component of a path. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The error for something that FAT would lose or change; `path` is in the tree. */
export function cannotHold(path: string, reason: string, hint: string): BuildError {
  return new BuildError(`Cannot put ${quote(path)} into a FAT filesystem: ${reason}`, { hint });
}
