/**
 * Reads a tree from the disk: one sorted walk that gives {@link Nodes}.
 *
 * @module
 */

import { STAT_BLOCK } from "../core/units.ts";
import * as posix from "../system/posix.ts";
import { yieldToEventLoop } from "../system/process.ts";
import { addBytes, addRow, encodeDevice, encodeXattrs, newNodes, type NodesBuilder } from "./builder.ts";
import { type Nodes, pathOf, typeOf, type Xattr } from "./nodes.ts";
import { cannotRead, changed, getNumber64, openNode, type Root } from "./root.ts";

/** A file up to this size has no more than four extents, so its blocks tell whether it has holes. */
const SURELY_DENSE = 4 * 4096;

/** So many entries are read before the event loop gets a turn: some milliseconds. */
const ENTRIES_PER_TURN = 4096;

/**
 * The xattrs that belong to a file. All others are made up by the filesystem that the tree is read from
 * (`btrfs.*`, `system.nfs4_acl`) or by the overlay below it.
 */
const XATTR_KEPT = /^(user|trusted|security)\.|^system\.posix_acl_(access|default)$/;
const XATTR_OF_OVERLAY = /^(user|trusted)\.overlay\./;

const encoder = new TextEncoder();
const stat = new Uint8Array(256);
const statView = new DataView(stat.buffer);

/** Where the walk is: what it has, what it reuses, which inodes with several names it has seen. */
interface Walk {
  readonly root: Root;
  readonly nodes: NodesBuilder;
  readonly entries: Uint8Array<ArrayBuffer>;
  readonly value: Uint8Array<ArrayBuffer>;
  /** The path of the entry that xattrs are asked for; its first part stays while the directory does. */
  readonly path: Uint8Array<ArrayBuffer>;
  pathFor: posix.Fd;
  pathLength: number;
  readonly inodes: Map<string, number>;
  readonly xattrSets: Map<string, number>;
}

/** Reads the whole tree. Symlinks are entries like others; other filesystems mounted inside it belong to it. */
export async function walk(root: Root): Promise<Nodes> {
  const state: Walk = {
    root,
    nodes: newNodes(),
    entries: new Uint8Array(65536),
    value: new Uint8Array(65536),
    path: new Uint8Array(512),
    pathFor: -1,
    pathLength: 0,
    inodes: new Map(),
    xattrSets: new Map(),
  };
  const { nodes } = state;
  nodes.nameAt[addRow(nodes)] = addBytes(nodes, new Uint8Array());
  const pending = [0];
  let turn = 0;
  while (pending.length > 0) {
    const directory = pending.pop()!;
    const fd = openNode(root, nodes, directory, posix.OPEN.directory);
    try {
      if (directory === 0) readEntry(state, fd, 0, posix.cString("."));
      readDirectory(state, fd, directory);
    } finally {
      posix.close(fd);
    }
    const first = nodes.firstChild[directory]!;
    for (let child = first + nodes.childCount[directory]! - 1; child >= first; child--) {
      if (typeOf(nodes, child) === "directory") pending.push(child);
    }
    if (nodes.count - turn < ENTRIES_PER_TURN) continue;
    turn = nodes.count;
    await yieldToEventLoop();
  }
  return nodes;
}

/** Adds the children of an open directory, sorted. */
function readDirectory(state: Walk, fd: posix.Fd, directory: number): void {
  const { nodes, entries } = state;
  const names: number[] = [];
  for (;;) {
    const length = posix.getdents(fd, entries);
    if (length < 0) throw cannotRead(pathOf(nodes, directory), length);
    if (length === 0) break;
    for (let at = 0; at < length; at += entries[at + 16]! | entries[at + 17]! << 8) {
      const start = at + 19, end = entries.indexOf(0, start);
      const dots = end - start <= 2 && entries[start] === 0x2e &&
        (end - start === 1 || entries[start + 1] === 0x2e);
      if (!dots) names.push(addBytes(nodes, entries.subarray(start, end)));
    }
  }
  const { bytes } = nodes;
  names.sort((a, b) => {
    // The NUL behind each name ends the loop: two names of one directory always differ.
    while (bytes[a] === bytes[b]) a++, b++;
    return bytes[a]! - bytes[b]!;
  });
  nodes.firstChild[directory] = nodes.count;
  nodes.childCount[directory] = names.length;
  for (const nameAt of names) {
    const node = addRow(nodes);
    nodes.parent[node] = directory;
    nodes.nameAt[node] = nameAt;
    nodes.nameLength[node] = nodes.bytes.indexOf(0, nameAt) - nameAt;
    readEntry(state, fd, node, nodes.bytes.subarray(nameAt));
  }
}

/** Fills the row of one entry of an open directory. */
function readEntry(state: Walk, directory: posix.Fd, node: number, name: Uint8Array<ArrayBuffer>): void {
  const { nodes } = state;
  const errno = posix.statxAt(directory, name, stat);
  if (errno < 0) {
    throw errno === -posix.ENOENT ? changed(nodes, node) : cannotRead(pathOf(nodes, node), errno);
  }
  const at = posix.STATX;
  nodes.mode[node] = statView.getUint16(at.mode, true);
  nodes.uid[node] = statView.getUint32(at.uid, true);
  nodes.gid[node] = statView.getUint32(at.gid, true);
  nodes.mtimeSeconds[node] = Number(statView.getBigInt64(at.mtime, true));
  nodes.mtimeNanoseconds[node] = statView.getUint32(at.mtime + 8, true);
  nodes.inoLow[node] = statView.getUint32(at.ino, true);
  nodes.inoHigh[node] = statView.getUint32(at.ino + 4, true);
  const type = typeOf(nodes, node);
  if (type === "block" || type === "char") {
    nodes.special[node] = encodeDevice(
      statView.getUint32(at.rdevMajor, true),
      statView.getUint32(at.rdevMinor, true),
    );
  }
  const several = type !== "directory" && statView.getUint32(at.nlink, true) > 1;
  if (several && linkToFirst(state, node)) return;
  let occupied = 0;
  if (type === "file") {
    nodes.size[node] = getNumber64(statView, at.size);
    occupied = getNumber64(statView, at.blocks) * STAT_BLOCK;
  }
  if (type === "symlink") readTarget(state, directory, node, name);
  readXattrs(state, directory, node, name);
  // The blocks of a file include those of its xattrs and of a large extent tree, which can make up for holes.
  const size = nodes.size[node]!;
  const mayHaveHoles = occupied < size || size > SURELY_DENSE || nodes.xattrsAt[node]! > 0;
  if (type === "file" && size > 0 && mayHaveHoles) readHoles(state, directory, node, name);
}

/** Makes the row another name of an inode that was read before, if it is one. */
function linkToFirst({ nodes, inodes }: Walk, node: number): boolean {
  const at = posix.STATX;
  const device = `${statView.getUint32(at.devMajor, true)}:${statView.getUint32(at.devMinor, true)}`;
  const key = `${device}:${statView.getBigUint64(at.ino, true)}`;
  const first = inodes.get(key);
  if (first === undefined) {
    inodes.set(key, node);
    return false;
  }
  nodes.link[node] = first;
  nodes.size[node] = nodes.size[first]!;
  nodes.special[node] = nodes.special[first]!;
  nodes.xattrsAt[node] = nodes.xattrsAt[first]!;
  const data = nodes.data.get(first);
  if (data) nodes.data.set(node, data);
  return true;
}

/** Asks where the data of a file is that occupies less than its size. */
function readHoles({ nodes }: Walk, directory: posix.Fd, node: number, name: Uint8Array<ArrayBuffer>): void {
  const fd = posix.openAt(directory, name, posix.OPEN.file);
  if (fd < 0) throw cannotRead(pathOf(nodes, node), fd);
  const size = nodes.size[node]!;
  const ranges: number[] = [];
  try {
    if (posix.seek(fd, 0, "hole") >= size) return;
    for (let end = 0; end < size;) {
      const start = posix.seek(fd, end, "data");
      if (start === -posix.ENXIO) break;
      // A filesystem that does not know where its data is (procfs): every byte is taken as data.
      if (start === -posix.EINVAL) return;
      end = start < 0 ? start : posix.seek(fd, start, "hole");
      if (end < 0) throw cannotRead(pathOf(nodes, node), end);
      ranges.push(start, end);
    }
  } finally {
    posix.close(fd);
  }
  // Compressed files occupy less than their size, too, but have no holes.
  if (ranges[0] !== 0 || ranges[1] !== size) nodes.data.set(node, Float64Array.from(ranges));
}

function readTarget(
  { nodes, value }: Walk,
  directory: posix.Fd,
  node: number,
  name: Uint8Array<ArrayBuffer>,
): void {
  const length = posix.readlinkAt(directory, name, value);
  if (length < 0) throw cannotRead(pathOf(nodes, node), length);
  nodes.size[node] = length;
  nodes.special[node] = addBytes(nodes, value.subarray(0, length));
}

/** Reads the xattrs of an entry of an open directory; equal sets are stored once. */
function readXattrs(state: Walk, directory: posix.Fd, node: number, name: Uint8Array<ArrayBuffer>): void {
  const { nodes, path, value, xattrSets } = state;
  // There is no call that takes an open directory and a name: this path is as good and never too long.
  if (state.pathFor !== directory) {
    state.pathFor = directory;
    state.pathLength = encoder.encodeInto(`/proc/self/fd/${directory}/`, path).written;
  }
  path.set(name.subarray(0, nodes.nameLength[node]! + 1), state.pathLength);
  if (node === 0) path[state.pathLength] = 0;
  const list = () => {
    const length = posix.listxattr(path, value);
    if (length === -posix.EOPNOTSUPP) return [];
    if (length < 0) throw cannotRead(pathOf(nodes, node), length);
    return latin1(value.subarray(0, length)).split("\0");
  };
  const xattrs: Xattr[] = [];
  for (const xattr of list()) {
    if (!XATTR_KEPT.test(xattr) || XATTR_OF_OVERLAY.test(xattr)) continue;
    const size = posix.getxattr(path, Uint8Array.from(xattr + "\0", (c) => c.charCodeAt(0)), value);
    if (size === -posix.ENODATA) {
      // Linux shows these only to root, but some filesystems (Btrfs) list them for anybody. All others were there.
      if (xattr.startsWith("trusted.") && list().includes(xattr)) continue;
      throw changed(nodes, node);
    }
    if (size < 0) throw cannotRead(pathOf(nodes, node), size);
    xattrs.push({ name: xattr, value: value.slice(0, size) });
  }
  if (xattrs.length === 0) return;
  const set = encodeXattrs(xattrs);
  const key = latin1(set);
  let at = xattrSets.get(key);
  if (at === undefined) xattrSets.set(key, at = addBytes(nodes, set));
  nodes.xattrsAt[node] = at;
}

/** Bytes as a string with one character each. */
function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}
