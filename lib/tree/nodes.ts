/**
 * A tree as a table: one row per name, stored in columns, so that a million entries take tens of megabytes
 * and no objects. Pure data: `walk()` reads one from a disk, {@link buildNodes} makes one from a list.
 *
 * The order of rows is the order in which everything else works: row 0 is the root; the children of a directory
 * are contiguous, sorted by the bytes of their names; then come, child by child, their descendants.
 * Names are bytes, and need not be UTF-8.
 *
 * @module
 */

import { type FileType, fileType } from "../core/mode.ts";

/** Linux's limit of symlinks in one lookup. */
const MAX_LINKS_FOLLOWED = 40;

/**
 * The columns. Use the functions below, which know the meaning of cells. Arrays may be longer than `count`. What most rows have
 * is zero wherever possible: zeros that are never written take no memory.
 */
export interface Nodes {
  readonly count: number;
  /** Names and link targets, each followed by a NUL, and sets of xattrs. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly parent: Uint32Array<ArrayBuffer>;
  readonly nameAt: Uint32Array<ArrayBuffer>;
  readonly nameLength: Uint8Array<ArrayBuffer>;
  readonly firstChild: Uint32Array<ArrayBuffer>;
  readonly childCount: Uint32Array<ArrayBuffer>;
  /** Type and permissions, as `st_mode`. */
  readonly mode: Uint16Array<ArrayBuffer>;
  readonly uid: Uint32Array<ArrayBuffer>;
  readonly gid: Uint32Array<ArrayBuffer>;
  /** Bytes of a file or of a link's target; 0 for anything else. */
  readonly size: Float64Array<ArrayBuffer>;
  readonly mtimeSeconds: Float64Array<ArrayBuffer>;
  readonly mtimeNanoseconds: Uint32Array<ArrayBuffer>;
  readonly inoLow: Uint32Array<ArrayBuffer>;
  readonly inoHigh: Uint32Array<ArrayBuffer>;
  /** For further names of an inode (hard links), its first row, which is never the root; else 0. See {@link inodeRow}. */
  readonly link: Uint32Array<ArrayBuffer>;
  /** The position of a symlink's target in `bytes`, or Linux's 32-bit number of a device. */
  readonly special: Uint32Array<ArrayBuffer>;
  /** The position of the xattrs in `bytes`; 0 if there are none. */
  readonly xattrsAt: Uint32Array<ArrayBuffer>;
  /** Data ranges of files with holes, as pairs of start and end in bytes. Other files have no entry. */
  readonly data: ReadonlyMap<number, Float64Array<ArrayBuffer>>;
  /** The flags that chattr sets, as in `FLAGS` of flags.ts. Most rows have none, and no entry. */
  readonly flags: ReadonlyMap<number, number>;
}

/** An extended attribute. The name is Latin-1, one character per byte: Linux allows any bytes. */
export interface Xattr {
  readonly name: string;
  readonly value: Uint8Array<ArrayBuffer>;
}

export function typeOf(nodes: Nodes, node: number): FileType {
  return fileType(nodes.mode[node]!);
}

/** Modification time in nanoseconds since 1970. */
export function mtimeOf(nodes: Nodes, node: number): bigint {
  return BigInt(nodes.mtimeSeconds[node]!) * 1_000_000_000n + BigInt(nodes.mtimeNanoseconds[node]!);
}

/** The first row of the same inode: its own, unless it is a further name of a file. */
export function inodeRow(nodes: Nodes, node: number): number {
  return nodes.link[node]! || node;
}

/** The name as bytes, without a NUL; empty for the root. */
export function nameBytes(nodes: Nodes, node: number): Uint8Array<ArrayBuffer> {
  const at = nodes.nameAt[node]!;
  return nodes.bytes.subarray(at, at + nodes.nameLength[node]!);
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lossy = new TextDecoder("utf-8", { ignoreBOM: true });

/** The name as text, or `undefined` if it is not UTF-8. */
export function nameText(nodes: Nodes, node: number): string | undefined {
  try {
    return strict.decode(nameBytes(nodes, node));
  } catch {
    return undefined;
  }
}

/** The absolute path for messages: anything that is not UTF-8 becomes U+FFFD. */
export function pathOf(nodes: Nodes, node: number): string {
  const names: string[] = [];
  for (let at = node; at !== 0; at = nodes.parent[at]!) names.push(lossy.decode(nameBytes(nodes, at)));
  return "/" + names.reverse().join("/");
}

/** The target of a symlink as bytes, without a NUL. */
export function targetBytes(nodes: Nodes, node: number): Uint8Array<ArrayBuffer> {
  const at = nodes.special[node]!;
  return nodes.bytes.subarray(at, at + nodes.size[node]!);
}

/** Major and minor number of Linux's 32-bit device number: `new_decode_dev()` in include/linux/kdev_t.h. */
export function decodeDevice(device: number): [major: number, minor: number] {
  return [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
}

/** The children of a directory, sorted by the bytes of their names. */
export function* children(nodes: Nodes, node: number): Generator<number, void> {
  const first = nodes.firstChild[node]!, end = first + nodes.childCount[node]!;
  for (let child = first; child < end; child++) yield child;
}

/** Compares names by their bytes. @returns less than, equal to or greater than 0. */
export function compareNames(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return a[at]! - b[at]!;
  return a.length - b.length;
}

/** The child with that name. */
export function childNamed(nodes: Nodes, node: number, name: Uint8Array): number | undefined {
  let low = nodes.firstChild[node]!, high = low + nodes.childCount[node]!;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareNames(nameBytes(nodes, middle), name);
    if (order === 0) return middle;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return undefined;
}

/**
 * Finds a path as a process inside the tree would (`chroot`): symlinks, absolute or not, are followed within the
 * tree, and `..` at the root stays there. With `follow: false`, a symlink at the end is not followed.
 *
 * @returns `undefined` if nothing is there, or symlinks form a loop.
 */
export function lookup(
  nodes: Nodes,
  path: string,
  { follow = true }: { readonly follow?: boolean } = {},
): number | undefined {
  return resolve(nodes, 0, new TextEncoder().encode(path), follow);
}

/** Like {@link lookup}, for a path as bytes that starts at a directory of the tree. */
export function resolve(nodes: Nodes, from: number, path: Uint8Array, follow = true): number | undefined {
  const pending = split(path).reverse();
  let node = path[0] === SLASH ? 0 : from;
  let followed = 0;
  while (pending.length > 0) {
    const name = pending.pop()!;
    if (typeOf(nodes, node) !== "directory") return undefined;
    if (name.length === 1 && name[0] === DOT) continue;
    if (name.length === 2 && name[0] === DOT && name[1] === DOT) {
      node = nodes.parent[node]!;
      continue;
    }
    const child = childNamed(nodes, node, name);
    if (child === undefined) return undefined;
    if (typeOf(nodes, child) !== "symlink" || (pending.length === 0 && !follow)) {
      node = child;
      continue;
    }
    if (++followed > MAX_LINKS_FOLLOWED) return undefined;
    const target = targetBytes(nodes, child);
    if (target[0] === SLASH) node = 0;
    pending.push(...split(target).reverse());
  }
  return node;
}

const DOT = 0x2e, SLASH = 0x2f;

/** The components of a path, without empty ones (`//`, a leading or trailing slash). */
function split(path: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  for (let from = 0, at = 0; at <= path.length; at++) {
    if (at < path.length && path[at] !== SLASH) continue;
    if (at > from) names.push(path.subarray(from, at));
    from = at + 1;
  }
  return names;
}

/**
 * The extended attributes, sorted by name. In `bytes`, they are stored as their number (two bytes), then for each
 * one: length of the name (one byte), name, length of the value (four bytes), value.
 */
export function xattrsOf(nodes: Nodes, node: number): Xattr[] {
  let at = nodes.xattrsAt[node]!;
  if (at === 0) return [];
  const { bytes } = nodes;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const xattrs: Xattr[] = [];
  const count = view.getUint16(at, true);
  at += 2;
  for (let i = 0; i < count; i++) {
    const nameEnd = at + 1 + bytes[at]!;
    const name = String.fromCharCode(...bytes.subarray(at + 1, nameEnd));
    at = nameEnd + 4 + view.getUint32(nameEnd, true);
    xattrs.push({ name, value: bytes.subarray(nameEnd + 4, at) });
  }
  return xattrs;
}
