/**
 * Checks, before anything is touched, that a build writes to no file that it also reads, or writes twice.
 *
 * Files are compared, not names: two paths can lead to one file through links, `..` or mounts.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { type FileFacts, inspectFile, inspectOpen, placeOf } from "../system/files.ts";
import * as posix from "../system/posix.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { pathOf } from "../tree/nodes.ts";
import { openNode } from "../tree/root.ts";

/** A file that a build reads or writes. */
export interface Place {
  /** Who names it: `MANIFEST`, `the output`. */
  readonly what: string;
  readonly path: string;
}

/** An ID that is the same for all paths to a file, even if the file does not exist. */
export async function keyOf(path: string): Promise<string> {
  const facts = inspectFile(path);
  if (facts) return fileKey(facts);
  const { directory, name } = await placeOf(path);
  const parent = inspectFile(directory);
  return `${parent ? fileKey(parent) : directory}/${name}`;
}

function fileKey({ type, device, inode, number }: FileFacts): string {
  return type === FILE_TYPES.block ? `block ${number}` : `${device} ${inode}`;
}

/**
 * Compares the written places with each other and with those that are read.
 *
 * @throws {BuildError} (usage) naming two that are the same.
 */
export async function checkPlaces(written: readonly Place[], read: readonly Place[]): Promise<void> {
  const seen = new Map<string, Place>();
  for (const place of read) seen.set(await keyOf(place.path), place);
  for (const place of written) {
    const key = await keyOf(place.path);
    const other = seen.get(key);
    seen.set(key, place);
    if (!other) continue;
    throw refuse(place, `it is ${other.what}`, `Name another file for ${place.what}`);
  }
}

/**
 * Checks that nothing is written into the tree that the image is made from.
 *
 * @throws {BuildError} (usage) naming the place and the file of the tree.
 */
export async function checkOutside(
  written: readonly Place[],
  { root, nodes }: Pick<OpenTree, "root" | "nodes">,
): Promise<void> {
  const wanted = new Map<bigint, { place: Place; facts: FileFacts }[]>();
  for (const place of written) {
    const { directory } = await placeOf(place.path);
    if (`${directory}/`.startsWith(`${root.path}/`)) throw inTree(place);
    for (const facts of [inspectFile(place.path), inspectFile(directory)]) {
      if (facts) wanted.set(facts.inode, [...wanted.get(facts.inode) ?? [], { place, facts }]);
    }
  }
  const lows = new Set([...wanted.keys()].map((inode) => Number(inode & 0xffffffffn)));
  for (let node = 0; node < nodes.count; node++) {
    if (!lows.has(nodes.inoLow[node]!)) continue;
    const inode = BigInt(nodes.inoHigh[node]!) << 32n | BigInt(nodes.inoLow[node]!);
    for (const { place, facts } of wanted.get(inode) ?? []) {
      const fd = openNode(root, nodes, node, posix.OPEN.path);
      const { device } = inspectOpen(fd);
      posix.close(fd);
      if (device === facts.device) throw inTree(place, pathOf(nodes, node));
    }
  }
}

function inTree(place: Place, path?: string): BuildError {
  const where = path === undefined || path === "/" ? "" : `: there it is, or is in, ${quote(path)}`;
  return refuse(place, `it is inside the tree that the image is made from${where}`, "Name a file elsewhere");
}

function refuse({ what, path }: Place, reason: string, hint: string): BuildError {
  return new BuildError(`Cannot write ${what} ${quote(path)}: ${reason}`, { kind: "usage", hint });
}
