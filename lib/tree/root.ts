/**
 * An open tree, and access to its files by their rows in {@link Nodes}.
 *
 * Nothing here leaves the root: a directory is opened by a path that had no symlinks during the walk, and the kernel
 * refuses to follow any (`RESOLVE_IN_ROOT`). Everything else is opened by name in an open directory, never through a
 * symlink, and never blocks on a FIFO or device.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { cannot } from "../system/failure.ts";
import * as posix from "../system/posix.ts";
import { nameBytes, nameText, type Nodes, pathOf, typeOf } from "./nodes.ts";

/** An open tree. */
export interface Root {
  /** Absolute, without symlinks or trailing slash. */
  readonly path: string;
  readonly fd: posix.Fd;
  /** Deep directories to keep open, by row, most recently used last. */
  readonly places: Map<number, posix.Fd>;
  table?: Nodes;
}

/**
 * Maximum bytes of a path per system call. A directory is kept open at the end of each such piece, so the time to open
 * something does not grow with its depth.
 */
const PIECE = 256;

/** Maximum number of directories kept open. */
const MAX_PLACES = 64;

/** Opens the directory that holds a tree. Close it with `closeRoot`. */
export function openRoot(path: string): Root {
  const fd = posix.open(posix.cString(path), posix.OPEN.place);
  if (fd < 0) throw cannotRead(path, fd);
  return { path: Deno.realPathSync(path).replace(/\/+$/, ""), fd, places: new Map() };
}

export function closeRoot(root: Root): void {
  closePlaces(root);
  posix.close(root.fd);
}

function closePlaces(root: Root): void {
  for (const fd of root.places.values()) posix.close(fd);
  root.places.clear();
}

/** The error for a system call that failed for a path. */
export function cannotRead(path: string, errno: number): BuildError {
  const denied = Math.abs(errno) === posix.EACCES;
  const hint = denied ? "Run as root, in a container with --cap-add=DAC_READ_SEARCH" : undefined;
  return cannot("read", path, errno, hint);
}

/** The error for a file that changed during the build. */
export function changed(nodes: Nodes, node: number): BuildError {
  return new BuildError(`Cannot read ${quote(pathOf(nodes, node))}: it changed during the build`, {
    hint: "Do not change the tree during a build",
  });
}

/** Opens a node by path. @throws {BuildError} when it is missing, has become a symlink, or is unreadable. */
export function openNode(root: Root, nodes: Nodes, node: number, flags: number): posix.Fd {
  if (root.table !== nodes) {
    closePlaces(root);
    root.table = nodes;
  }
  // The path from the nearest open directory.
  const way: number[] = [];
  let at = node;
  for (; at !== 0 && (at === node || !root.places.has(at)); at = nodes.parent[at]!) way.push(at);
  let fd = at === 0 ? root.fd : usePlace(root, at);
  while (fd >= 0) {
    const piece = [way.pop() ?? 0];
    let length = nodes.nameLength[piece[0]!]! + 1;
    while (way.length > 0 && (length += nodes.nameLength[way.at(-1)!]! + 1) <= PIECE) piece.push(way.pop()!);
    const path = joinNames(nodes, piece);
    if (way.length === 0) {
      const opened = posix.openInside(fd, path, flags);
      if (opened >= 0) return opened;
      fd = opened;
    } else {
      fd = posix.openInside(fd, path, posix.OPEN.place);
      if (fd >= 0) keepPlace(root, piece.at(-1)!, fd);
    }
  }
  throw cannotRead(pathOf(nodes, node), fd);
}

/** Joins names to a NUL-terminated path; `.` for the root. */
function joinNames(nodes: Nodes, piece: readonly number[]): Uint8Array<ArrayBuffer> {
  if (piece[0] === 0) return posix.cString(".");
  const path = new Uint8Array(piece.reduce((sum, node) => sum + nodes.nameLength[node]! + 1, 0));
  let end = 0;
  for (const node of piece) {
    if (end > 0) path[end - 1] = 0x2f;
    path.set(nameBytes(nodes, node), end);
    end += nodes.nameLength[node]! + 1;
  }
  return path;
}

function usePlace(root: Root, node: number): posix.Fd {
  const fd = root.places.get(node)!;
  root.places.delete(node);
  root.places.set(node, fd);
  return fd;
}

function keepPlace(root: Root, node: number, fd: posix.Fd): void {
  root.places.set(node, fd);
  if (root.places.size <= MAX_PLACES) return;
  const [oldest, unused] = root.places.entries().next().value!;
  root.places.delete(oldest);
  posix.close(unused);
}

const stat = new Uint8Array(256);
const statView = new DataView(stat.buffer);

/** Whether an open file is still as the walk found it: the same inode, size and times. */
export function isUnchanged(nodes: Nodes, node: number, fd: posix.Fd): boolean {
  return posix.statx(fd, stat) >= 0 &&
    statView.getUint32(posix.STATX.ino, true) === nodes.inoLow[node] &&
    statView.getUint32(posix.STATX.ino + 4, true) === nodes.inoHigh[node] &&
    getNumber64(statView, posix.STATX.size) === nodes.size[node] &&
    Number(statView.getBigInt64(posix.STATX.mtime, true)) === nodes.mtimeSeconds[node] &&
    statView.getUint32(posix.STATX.mtime + 8, true) === nodes.mtimeNanoseconds[node];
}

/** A 64-bit number, exact up to 2^53. */
export function getNumber64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

/** The files of a tree, for those who look into some of them. */
export interface TreeFiles {
  readonly nodes: Nodes;
  /** Reads up to `length` bytes at `offset`. */
  readonly read: (node: number, offset: number, length: number) => Uint8Array<ArrayBuffer>;
}

/**
 * Reads `limit` bytes of a regular file from `offset` on, or as many as there are.
 *
 * @throws {BuildError} when it is not a regular file, is unreadable, or has changed since the walk.
 */
export function readFile(
  root: Root,
  nodes: Nodes,
  node: number,
  { limit, offset = 0 }: { readonly limit: number; readonly offset?: number },
): Uint8Array<ArrayBuffer> {
  const type = typeOf(nodes, node);
  if (type !== "file") {
    throw new BuildError(`Cannot read ${quote(pathOf(nodes, node))}: it is a ${type}, not a file`);
  }
  const fd = openNode(root, nodes, node, posix.OPEN.file);
  try {
    if (!isUnchanged(nodes, node, fd)) throw changed(nodes, node);
    const contents = new Uint8Array(Math.max(0, Math.min(limit, nodes.size[node]! - offset)));
    for (let done = 0; done < contents.length;) {
      const got = posix.pread(fd, contents.subarray(done), offset + done);
      if (got < 0) throw cannotRead(pathOf(nodes, node), got);
      if (got === 0) throw changed(nodes, node);
      done += got;
    }
    return contents;
  } finally {
    posix.close(fd);
  }
}

/**
 * The path of a node, for other programs. No component below the root is a symlink.
 *
 * @throws {BuildError} when a name in it is not UTF-8, which cannot be passed as an argument.
 */
export function realPath(root: Root, nodes: Nodes, node: number): string {
  const names: string[] = [];
  for (let at = node; at !== 0; at = nodes.parent[at]!) {
    const name = nameText(nodes, at);
    if (name === undefined) {
      throw new BuildError(`Cannot pass ${quote(pathOf(nodes, node))} to a program: it is not UTF-8`);
    }
    names.push(name);
  }
  return [root.path, ...names.reverse()].join("/");
}
