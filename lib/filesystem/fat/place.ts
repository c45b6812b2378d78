/**
 * Decides where the files and directories of a FAT filesystem go.
 *
 * @module
 */

import { SLOT } from "./directory.ts";
import { directorySlots, type FatEntry, type FatGeometry, parentOf } from "./geometry.ts";
import { FIRST_CLUSTER } from "./layout.ts";

/** A directory with its entries. */
export interface Directory {
  readonly path: string;
  /** Its first cluster; 0 for the root. */
  readonly first: number;
  /** Its length in bytes: a whole number of slots. */
  readonly length: number;
  /** Absent for the root. */
  readonly parent?: Directory;
  readonly entries: Placed[];
}

/** A file or directory with its first cluster; 0 for an empty file. */
export interface Placed {
  readonly entry: FatEntry;
  readonly first: number;
  /** Set for a directory. */
  readonly directory?: Directory;
}

export interface Placement {
  readonly root: Directory;
  /** In disk order. */
  readonly all: readonly Placed[];
  /** The last cluster of each, ascending. Every other cluster is followed by the next one. */
  readonly ends: readonly number[];
}

/** Assigns clusters from the front, in path order, so that nothing is fragmented. */
export function placeEntries(entries: readonly FatEntry[], geometry: FatGeometry): Placement {
  const { bits, sector, perCluster, used } = geometry;
  const slots = directorySlots(entries);
  const ends: number[] = [];
  let next = FIRST_CLUSTER;
  const take = (bytes: number) => {
    if (bytes === 0) return 0;
    const first = next;
    next += Math.ceil(bytes / (perCluster * sector));
    ends.push(next - 1);
    return first;
  };
  const lengthOf = (path: string) => slots.get(path)! * SLOT;
  // In FAT12 and FAT16, the root directory has its own area.
  if (bits === 32) take(lengthOf("/"));
  const root: Directory = { path: "/", first: 0, length: lengthOf("/"), entries: [] };
  const directories = new Map([["/", root]]);
  const all = entries.map((entry) => {
    const { path, type, size } = entry;
    const parent = directories.get(parentOf(path))!;
    const length = type === "directory" ? lengthOf(path) : size;
    const first = take(length);
    const placed = type === "file"
      ? { entry, first }
      : { entry, first, directory: { path, first, length, parent, entries: [] } };
    parent.entries.push(placed);
    if (placed.directory) directories.set(path, placed.directory);
    return placed;
  });
  if (next - FIRST_CLUSTER !== used) throw new Error(`Placed ${next - FIRST_CLUSTER} clusters, not ${used}`);
  return { root, all, ends };
}
