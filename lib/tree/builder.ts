/**
 * Builds {@link Nodes}: columns that grow, and the list form that tests of pure code start from.
 *
 * @module
 */

import { FILE_TYPES, type FileType } from "../core/mode.ts";
import { compareNames, type Nodes, type Xattr } from "./nodes.ts";

/** {@link Nodes} while rows are added. */
export interface NodesBuilder extends Mutable<Omit<Nodes, "data" | "flags">> {
  readonly data: Map<number, Float64Array<ArrayBuffer>>;
  readonly flags: Map<number, number>;
  /** How much of `bytes` is used. */
  used: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The columns with one cell per row. They grow together. */
const COLUMNS = [
  "parent",
  "nameAt",
  "nameLength",
  "firstChild",
  "childCount",
  "mode",
  "uid",
  "gid",
  "size",
  "mtimeSeconds",
  "mtimeNanoseconds",
  "inoLow",
  "inoHigh",
  "link",
  "special",
  "xattrsAt",
] as const satisfies (keyof Nodes)[];

export function newNodes(): NodesBuilder {
  return {
    count: 0,
    bytes: new Uint8Array(1 << 14),
    // Offset 0 stays unused, because it means "none" in `xattrsAt`.
    used: 1,
    parent: new Uint32Array(256),
    nameAt: new Uint32Array(256),
    nameLength: new Uint8Array(256),
    firstChild: new Uint32Array(256),
    childCount: new Uint32Array(256),
    mode: new Uint16Array(256),
    uid: new Uint32Array(256),
    gid: new Uint32Array(256),
    size: new Float64Array(256),
    mtimeSeconds: new Float64Array(256),
    mtimeNanoseconds: new Uint32Array(256),
    inoLow: new Uint32Array(256),
    inoHigh: new Uint32Array(256),
    link: new Uint32Array(256),
    special: new Uint32Array(256),
    xattrsAt: new Uint32Array(256),
    data: new Map(),
    flags: new Map(),
  };
}

/**
 * How much columns grow at a time. Zeros that nobody wrote take no memory, so that much room costs nothing, but what is copied
 * does: many cells are zero, and stay so with as few copies as possible.
 */
const GROWTH = 4;

/** Adds an empty row. */
export function addRow(nodes: NodesBuilder): number {
  const node = nodes.count++;
  if (node === nodes.parent.length) {
    const columns = nodes as unknown as Record<string, Uint32Array<ArrayBuffer>>;
    for (const name of COLUMNS) {
      const old = columns[name]!;
      const grown = new (old.constructor as Uint32ArrayConstructor)(node * GROWTH);
      grown.set(old);
      columns[name] = grown;
      // Frees it now, not when garbage is collected.
      old.buffer.transfer(0);
    }
  }
  return node;
}

/** Stores bytes followed by a NUL, and returns their position. */
export function addBytes(nodes: NodesBuilder, bytes: Uint8Array): number {
  const at = nodes.used;
  const needed = at + bytes.length + 1;
  if (needed > nodes.bytes.length) {
    const grown = new Uint8Array(Math.max(needed, nodes.bytes.length * GROWTH));
    grown.set(nodes.bytes);
    nodes.bytes = grown;
  }
  nodes.bytes.set(bytes, at);
  nodes.used = needed;
  return at;
}

/** Encodes xattrs for `xattrsOf`, sorted by name. */
export function encodeXattrs(xattrs: readonly Xattr[]): Uint8Array<ArrayBuffer> {
  const sorted = xattrs.toSorted((a, b) => a.name < b.name ? -1 : 1);
  const length = sorted.reduce((sum, { name, value }) => sum + 5 + name.length + value.length, 2);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sorted.length, true);
  let at = 2;
  for (const { name, value } of sorted) {
    bytes[at++] = name.length;
    for (let i = 0; i < name.length; i++) bytes[at++] = name.charCodeAt(i);
    view.setUint32(at, value.length, true);
    bytes.set(value, at + 4);
    at += 4 + value.length;
  }
  return bytes;
}

/** Linux's 32-bit device number: `new_encode_dev()` in include/linux/kdev_t.h. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** One entry of {@link buildNodes}. */
export interface NodeInput {
  /** Absolute. Missing parents are created (0755, root:root). */
  readonly path: string;
  /** Default: `directory` for `/`, `symlink` with a `target`, else `file`. */
  readonly type?: FileType;
  /** Permissions. Default: 0755 for directories, 0777 for symlinks, else 0644. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly target?: string;
  /** Nanoseconds since 1970. */
  readonly mtime?: bigint;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number];
  readonly xattrs?: readonly Xattr[];
  /** The path of an earlier entry that this is a hard link to. */
  readonly linkTo?: string;
  /** Data ranges of a file with holes: pairs of start and end in bytes. */
  readonly data?: readonly number[];
  /** What chattr set. */
  readonly flags?: number;
}

interface Branch {
  name: Uint8Array;
  input: NodeInput;
  below: Map<string, Branch>;
}

/** Makes the table of an imaginary tree, from a list in any order. */
export function buildNodes(list: readonly NodeInput[]): Nodes {
  const encoder = new TextEncoder();
  const root: Branch = { name: new Uint8Array(), input: { path: "/" }, below: new Map() };
  for (const input of list) {
    let branch = root;
    for (const part of input.path.split("/").filter(Boolean)) {
      let next = branch.below.get(part);
      if (!next) {
        next = { name: encoder.encode(part), input: { path: part, type: "directory" }, below: new Map() };
        branch.below.set(part, next);
      }
      branch = next;
    }
    branch.input = input;
  }
  const nodes = newNodes();
  const byPath = new Map<string, number>();
  addInput(nodes, root, 0);
  const pending: [number, Branch][] = [[0, root]];
  const links: [number, string][] = [];
  while (pending.length > 0) {
    const [parent, branch] = pending.pop()!;
    const sorted = [...branch.below.values()].sort((a, b) => compareNames(a.name, b.name));
    nodes.firstChild[parent] = nodes.count;
    nodes.childCount[parent] = sorted.length;
    const below: [number, Branch][] = sorted.map((child) => [addInput(nodes, child, parent), child]);
    for (const [node, { input }] of below) {
      byPath.set(input.path, node);
      if (input.linkTo !== undefined) links.push([node, input.linkTo]);
    }
    for (const entry of below.filter(([, child]) => child.below.size > 0).reverse()) pending.push(entry);
  }
  for (const [path, names] of Map.groupBy(links, ([, path]) => path)) {
    const other = byPath.get(path);
    if (other === undefined) throw new Error(`No entry ${path} to link to`);
    const first = names.reduce((least, [node]) => Math.min(least, node), other);
    for (const node of [other, ...names.map(([node]) => node)]) {
      if (node !== first) nodes.link[node] = first;
    }
  }
  return nodes;
}

function addInput(nodes: NodesBuilder, { name, input }: Branch, parent: number): number {
  const node = addRow(nodes);
  const target = input.target === undefined ? undefined : new TextEncoder().encode(input.target);
  const type = input.type ?? (input.path === "/" ? "directory" : target ? "symlink" : "file");
  const mtime = input.mtime ?? 0n;
  const seconds = (mtime - ((mtime % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n) / 1_000_000_000n;
  nodes.parent[node] = parent;
  nodes.nameAt[node] = addBytes(nodes, name);
  nodes.nameLength[node] = name.length;
  nodes.mode[node] = FILE_TYPES[type] |
    (input.mode ?? (type === "directory" ? 0o755 : type === "symlink" ? 0o777 : 0o644));
  nodes.uid[node] = input.uid ?? 0;
  nodes.gid[node] = input.gid ?? 0;
  nodes.size[node] = target ? target.length : input.size ?? 0;
  nodes.mtimeSeconds[node] = Number(seconds);
  nodes.mtimeNanoseconds[node] = Number(mtime - seconds * 1_000_000_000n);
  if (target) nodes.special[node] = addBytes(nodes, target);
  if (input.device) nodes.special[node] = encodeDevice(...input.device);
  if (input.xattrs?.length) nodes.xattrsAt[node] = addBytes(nodes, encodeXattrs(input.xattrs));
  if (input.data) nodes.data.set(node, Float64Array.from(input.data));
  if (input.flags) nodes.flags.set(node, input.flags);
  return node;
}
