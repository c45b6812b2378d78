/**
 * Decides where the files and directories of a FAT filesystem go.
 *
 * @module
 */

import { SLOT } from "./directory.ts";
import { directorySlots, type FatEntry, type FatGeometry, parentOf } from "./geometry.ts";
import { FIRST_CLUSTER } from "./layout.ts";

/** A directory with what is in it. */
export interface Directory {
  readonly path: string;
  /** Its first cluster; 0 for the root. */
  readonly first: number;
  /** Its length in bytes, in whole slots. */
  readonly length: number;
  /** Absent: it is the root. */
  readonly parent?: Directory;
  readonly entries: Placed[];
}

/** A file or directory with its first cluster, which is 0 for an empty file. */
export interface Placed {
  readonly entry: FatEntry;
  readonly first: number;
  /** Set for a directory. */
  readonly directory?: Directory;
}

export interface Placement {
  readonly root: Directory;
  /** In the order in which they lie on the disk. */
  readonly all: readonly Placed[];
  /** The last cluster of each, ascending: all others are followed by the next one. */
  readonly ends: readonly number[];
}

/** Gives each its clusters, from the front in the order of the paths, so that nothing is in pieces. */
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
  // Before FAT32 the root directory has a place of its own.
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
  if (next - FIRST_CLUSTER !== used) throw new Error(`${next - FIRST_CLUSTER} clusters, not ${used}`);
  return { root, all, ends };
}
