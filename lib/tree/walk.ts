/**
 * Reads a tree from disk: one sorted walk that returns {@link Nodes}.
 *
 * @module
 */

import { latin1 } from "../core/bytes.ts";
import { BuildError, quote } from "../core/error.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { MiB, STAT_BLOCK } from "../core/units.ts";
import { MAX_NAME } from "../system/files.ts";
import * as posix from "../system/posix.ts";
import { yieldToEventLoop } from "../system/process.ts";
import { addBytes, addRow, encodeDevice, encodeXattrs, newNodes, type NodesBuilder } from "./builder.ts";
import { ALL_FLAGS, STATX_FLAGS } from "./flags.ts";
import { FUSE, isMachines } from "./mounted.ts";
import { type Nodes, pathOf, typeOf, type Xattr } from "./nodes.ts";
import { cannotRead, changed, getNumber64, openNode, type Root } from "./root.ts";
import { isSwap, SWAP_HEADER_SIZE } from "./swap.ts";
import { isKept, isValueKept, xattrKind, XATTRS } from "./xattrs.ts";

/** A file up to this size has at most four extents, so its block count tells whether it has holes. */
const SURELY_DENSE = 4 * 4096;

/** Yield to the event loop after this many entries, which take a few milliseconds. */
const ENTRIES_PER_TURN = 4096;

/** `STATX_ATTR_MOUNT_ROOT`: something is mounted there. */
const MOUNT_ROOT = 0x2000;

/** Bytes that are looked through for zeros at a time. */
const SCAN_SIZE = MiB;

/** What is noticed on the way, by rows. */
export interface WalkNotes {
  /** Directories on which the machine's own filesystems are mounted: their contents are left out. */
  readonly mounted: number[];
  /** Swap files with holes, which are taken as data. */
  readonly swapFiles: number[];
  /** Names of xattrs that only the tree's filesystem has, with the first row. */
  readonly foreignXattrs: Map<string, number>;
}

export function newWalkNotes(): WalkNotes {
  return { mounted: [], swapFiles: [], foreignXattrs: new Map() };
}

const encoder = new TextEncoder();
const NOTHING = new Uint8Array();
const stat = new Uint8Array(256);
const statView = new DataView(stat.buffer);

/** The state of the walk: results, reused buffers, and known inodes with several names. */
interface Walk {
  readonly root: Root;
  readonly notes: WalkNotes;
  readonly nodes: NodesBuilder;
  readonly entries: Uint8Array<ArrayBuffer>;
  readonly value: Uint8Array<ArrayBuffer>;
  /** What to put before the names in the open directory, so that system calls that take a path find them. */
  prefix: Uint8Array<ArrayBuffer>;
  readonly inodes: Map<string, number>;
  readonly xattrSets: Map<string, number>;
}

/**
 * Reads the whole tree. Symlinks are entries like others; other filesystems mounted inside it belong to it, apart from those
 * in which the kernel shows the machine.
 */
export async function walk(root: Root, notes: WalkNotes = newWalkNotes()): Promise<NodesBuilder> {
  const state: Walk = {
    root,
    notes,
    nodes: newNodes(),
    entries: new Uint8Array(65536),
    value: new Uint8Array(65536),
    prefix: NOTHING,
    inodes: new Map(),
    xattrSets: new Map(),
  };
  const { nodes } = state;
  nodes.nameAt[addRow(nodes)] = addBytes(nodes, NOTHING);
  const home = openHome();
  const pending = [0];
  let turn = 0;
  while (pending.length > 0) {
    const directory = pending.pop()!;
    const fd = openNode(root, nodes, directory, posix.OPEN.directory);
    // Nothing else runs until this directory is left again.
    const isInside = home !== undefined && posix.enter(fd) >= 0;
    state.prefix = isInside ? NOTHING : encoder.encode(`/proc/self/fd/${fd}/`);
    try {
      if (directory === 0) readEntry(state, fd, 0, posix.cString("."));
      const flags = posix.inodeFlags(fd);
      if (flags > 0 && flags & ALL_FLAGS) nodes.flags.set(directory, flags & ALL_FLAGS);
      readDirectory(state, fd, directory);
    } finally {
      if (isInside) posix.enter(home);
      posix.close(fd);
    }
    const first = nodes.firstChild[directory]!;
    for (let child = first + nodes.childCount[directory]! - 1; child >= first; child--) {
      if (typeOf(nodes, child) === "directory" && !notes.mounted.includes(child)) pending.push(child);
    }
    if (nodes.count - turn < ENTRIES_PER_TURN) continue;
    turn = nodes.count;
    await yieldToEventLoop();
  }
  if (home !== undefined) posix.close(home);
  return nodes;
}

/**
 * Opens the working directory, which can be left for another one from then on; `undefined` if this thread cannot have its own,
 * or could not come back, as after `sudo -u` in a private directory.
 */
function openHome(): posix.Fd | undefined {
  if (posix.ownWorkingDirectory() < 0) return undefined;
  const home = posix.open(posix.cString("."), posix.OPEN.place);
  if (home >= 0 && posix.enter(home) >= 0) return home;
  if (home >= 0) posix.close(home);
  return undefined;
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
    // The NUL after each name ends the loop: two names in one directory always differ.
    while (bytes[a] === bytes[b]) a++, b++;
    return bytes[a]! - bytes[b]!;
  });
  nodes.firstChild[directory] = nodes.count;
  nodes.childCount[directory] = names.length;
  for (const nameAt of names) {
    const node = addRow(nodes);
    nodes.parent[node] = directory;
    nodes.nameAt[node] = nameAt;
    const length = nodes.bytes.indexOf(0, nameAt) - nameAt;
    if (length > MAX_NAME) throw tooLong(nodes, directory, nodes.bytes.subarray(nameAt, nameAt + length));
    nodes.nameLength[node] = length;
    readEntry(state, fd, node, nodes.bytes.subarray(nameAt));
  }
}

/** Some FUSE filesystems have such names. */
function tooLong(nodes: Nodes, directory: number, name: Uint8Array): BuildError {
  const start = new TextDecoder().decode(name.subarray(0, 40));
  return new BuildError(
    `Cannot store ${quote(`${start}…`)} in ${
      quote(pathOf(nodes, directory))
    }: its name has ${name.length} bytes`,
    { hint: `At most ${MAX_NAME} bytes are possible in Linux' filesystems: rename it` },
  );
}

/** Sets a cell that is mostly zero, without touching it then: {@link Nodes}. */
function put(column: Uint32Array<ArrayBuffer>, node: number, value: number): void {
  if (value > 0) column[node] = value;
}

/** Fills the row of an entry of an open directory. */
function readEntry(state: Walk, directory: posix.Fd, node: number, name: Uint8Array<ArrayBuffer>): void {
  const { nodes } = state;
  const errno = posix.statxAt(directory, name, stat);
  if (errno < 0) {
    throw errno === -posix.ENOENT ? changed(nodes, node) : cannotRead(pathOf(nodes, node), errno);
  }
  const at = posix.STATX;
  nodes.mode[node] = statView.getUint16(at.mode, true);
  put(nodes.uid, node, statView.getUint32(at.uid, true));
  put(nodes.gid, node, statView.getUint32(at.gid, true));
  nodes.mtimeSeconds[node] = Number(statView.getBigInt64(at.mtime, true));
  nodes.mtimeNanoseconds[node] = statView.getUint32(at.mtime + 8, true);
  nodes.inoLow[node] = statView.getUint32(at.ino, true);
  put(nodes.inoHigh, node, statView.getUint32(at.ino + 4, true));
  const attributes = statView.getUint32(at.attributes, true);
  const flags = attributes & STATX_FLAGS;
  if (flags) nodes.flags.set(node, flags);
  const type = typeOf(nodes, node);
  if (
    type === "directory" && node > 0 && attributes & MOUNT_ROOT && isMounted(state, directory, node, name)
  ) {
    return coverMount(state, node);
  }
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
  readXattrs(state, node, name);
  // The block count of a file includes xattrs and the extent tree, which can make up for holes.
  const size = nodes.size[node]!;
  const mayHaveHoles = occupied < size || size > SURELY_DENSE || nodes.xattrsAt[node]! > 0;
  if (type === "file" && size > 0 && mayHaveHoles) readHoles(state, directory, node, name, occupied);
}

function isMounted(
  { nodes }: Walk,
  directory: posix.Fd,
  node: number,
  name: Uint8Array<ArrayBuffer>,
): boolean {
  const fd = posix.openAt(directory, name, posix.OPEN.directory);
  if (fd < 0) throw cannotRead(pathOf(nodes, node), fd);
  try {
    return isMachines(posix.filesystemType(fd), pathOf(nodes, node));
  } finally {
    posix.close(fd);
  }
}

/** Makes the row the empty directory that was there before: nobody can see its attributes. */
function coverMount({ nodes, notes }: Walk, node: number): void {
  const parent = nodes.parent[node]!;
  nodes.mode[node] = FILE_TYPES.directory | 0o755;
  nodes.uid[node] = nodes.gid[node] = 0;
  nodes.mtimeSeconds[node] = nodes.mtimeSeconds[parent]!;
  nodes.mtimeNanoseconds[node] = nodes.mtimeNanoseconds[parent]!;
  nodes.flags.delete(node);
  notes.mounted.push(node);
}

/** If the inode has been read before, makes the row a hard link to it. */
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
  put(nodes.special, node, nodes.special[first]!);
  put(nodes.xattrsAt, node, nodes.xattrsAt[first]!);
  const data = nodes.data.get(first);
  if (data) nodes.data.set(node, data);
  return true;
}

/** Asks where the data of a file is that occupies less than its size. */
function readHoles(
  { nodes, notes }: Walk,
  directory: posix.Fd,
  node: number,
  name: Uint8Array<ArrayBuffer>,
  occupied: number,
): void {
  const fd = posix.openAt(directory, name, posix.OPEN.file);
  if (fd < 0) throw cannotRead(pathOf(nodes, node), fd);
  const size = nodes.size[node]!;
  let ranges: number[] | undefined;
  try {
    const isDense = posix.seek(fd, 0, "hole") >= size;
    // FUSE passes on how much of a file there is, but not where.
    if (isDense && (size - occupied < SCAN_BLOCK || posix.filesystemType(fd) !== FUSE)) return;
    if (hasSwapHeader(fd, size)) {
      notes.swapFiles.push(node);
      return;
    }
    ranges = isDense ? findData(nodes, node, fd) : seekData(nodes, node, fd);
  } finally {
    posix.close(fd);
  }
  // Compressed files occupy less than their size, too, but have no holes.
  if (ranges && (ranges[0] !== 0 || ranges[1] !== size)) nodes.data.set(node, Float64Array.from(ranges));
}

/** Where the filesystem has data for a file; `undefined` when it does not know (procfs): every byte is taken as data. */
function seekData(nodes: Nodes, node: number, fd: posix.Fd): number[] | undefined {
  const size = nodes.size[node]!;
  const ranges: number[] = [];
  for (let end = 0; end < size;) {
    const start = posix.seek(fd, end, "data");
    if (start === -posix.ENXIO) break;
    if (start === -posix.EINVAL) return undefined;
    end = start < 0 ? start : posix.seek(fd, start, "hole");
    if (end < 0) throw cannotRead(pathOf(nodes, node), end);
    ranges.push(start, end);
  }
  return ranges;
}

/** Zeros are looked for in blocks of this size, on multiples of it. */
const SCAN_BLOCK = 4096;

/** The ranges of a file that are not zeros. */
function findData(nodes: Nodes, node: number, fd: posix.Fd): number[] {
  const size = nodes.size[node]!;
  const buffer = new Uint8Array(SCAN_SIZE);
  const words = new BigUint64Array(buffer.buffer);
  const ranges: number[] = [];
  for (let at = 0; at < size; at += buffer.length) {
    const length = Math.min(buffer.length, size - at);
    for (let done = 0; done < length;) {
      const got = posix.pread(fd, buffer.subarray(done, length), at + done);
      if (got < 0) throw cannotRead(pathOf(nodes, node), got);
      if (got === 0) throw changed(nodes, node);
      done += got;
    }
    buffer.fill(0, length);
    for (let block = 0; block < length; block += SCAN_BLOCK) {
      const last = (block + SCAN_BLOCK) / 8;
      let word = block / 8;
      while (word < last && words[word] === 0n) word++;
      if (word === last) continue;
      const start = at + block, end = Math.min(start + SCAN_BLOCK, size);
      if (ranges.at(-1) === start) ranges[ranges.length - 1] = end;
      else ranges.push(start, end);
    }
  }
  return ranges;
}

/** Whether a file is a swap file by its header. */
function hasSwapHeader(fd: posix.Fd, size: number): boolean {
  const head = new Uint8Array(Math.min(size, SWAP_HEADER_SIZE));
  const got = posix.pread(fd, head, 0);
  return got > 0 && isSwap(head.subarray(0, got));
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
function readXattrs(state: Walk, node: number, name: Uint8Array<ArrayBuffer>): void {
  const { nodes, notes, prefix, value, xattrSets } = state;
  // Linux has no call that takes an open directory and a name (before 6.13), and the way through /proc takes three times as long.
  const path = prefix === NOTHING ? name : Uint8Array.of(...prefix, ...name.subarray(0, name.indexOf(0) + 1));
  const list = () => {
    const length = fit(value, (out) => posix.listxattr(path, out));
    if (length === 0 || length === -posix.EOPNOTSUPP) return [];
    if (length < 0) throw cannotRead(pathOf(nodes, node), length);
    return latin1(value.subarray(0, length)).split("\0");
  };
  const xattrs: Xattr[] = [];
  for (const xattr of list()) {
    if (xattr === "") continue;
    if (!isKept(xattr)) {
      if (xattrKind(xattr) === XATTRS.at(-1) && !notes.foreignXattrs.has(xattr)) {
        notes.foreignXattrs.set(xattr, node);
      }
      continue;
    }
    const key = Uint8Array.from(xattr + "\0", (c) => c.charCodeAt(0));
    const size = fit(value, (out) => posix.getxattr(path, key, out));
    if (size === -posix.ENODATA) {
      // Linux shows these only to root, but some filesystems (Btrfs) list them for everyone.
      if (xattr.startsWith("trusted.") && list().includes(xattr)) continue;
      throw changed(nodes, node);
    }
    if (size < 0) throw cannotRead(pathOf(nodes, node), size);
    if (isValueKept(xattr, value.subarray(0, size))) {
      xattrs.push({ name: xattr, value: value.slice(0, size) });
    }
  }
  if (xattrs.length === 0) return;
  const set = encodeXattrs(xattrs);
  const key = latin1(set);
  let at = xattrSets.get(key);
  if (at === undefined) xattrSets.set(key, at = addBytes(nodes, set));
  nodes.xattrsAt[node] = at;
}

/** Bytes that most lists and values of xattrs fit into. */
const SHORT = 256;

/** Fills a buffer, of which Linux allocates and clears as much as it is offered: first a short piece of it, if that will do. */
function fit(buffer: Uint8Array<ArrayBuffer>, fill: (out: Uint8Array<ArrayBuffer>) => number): number {
  const length = fill(buffer.subarray(0, SHORT));
  return length === -posix.ERANGE ? fill(buffer) : length;
}
