/**
 * A selection as a stream in the pax format: what programs that fill a read-only filesystem take on stdin,
 * so that nothing is copied or mounted first.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03
 * - xattrs as `SCHILY.xattr.NAME`, with the value as bytes; files with holes as GNU tar's sparse format 1.0:
 *   https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html
 *
 * @module
 */

import { addedOf, attributesOf, contentsOf, modeOf, nameOf, type Selection, sizeOf } from "./contents.ts";
import { assertUnchanged, closeReader, newReader, openFile, type Reader, readInto } from "./ext4-read.ts";
import { FILE_TYPES, targetBytes, xattrsOf } from "./nodes.ts";
import * as posix from "./posix.ts";
import { makeRecipe } from "./recipes.ts";
import type { Root } from "./root.ts";
import { alignUp, MiB } from "./units.ts";

const BLOCK = 512;

/** The type flag of a header, by file type. A socket has none: the caller leaves it out. */
const TYPE_FLAGS: Readonly<Record<number, string>> = {
  [FILE_TYPES.file]: "0",
  [FILE_TYPES.symlink]: "2",
  [FILE_TYPES.char]: "3",
  [FILE_TYPES.block]: "4",
  [FILE_TYPES.directory]: "5",
  [FILE_TYPES.fifo]: "6",
};
const HARD_LINK = "1", EXTENDED = "x";

const S_IFMT = 0o170000;
const encoder = new TextEncoder();

export interface PaxOptions {
  /** Seconds since 1970: later modification times become this one; what was added has it. */
  readonly time: number;
  /** Whether an entry `./` describes the root. */
  readonly root: boolean;
  /** Whether holes are left out, and not written as zeros. */
  readonly sparse: boolean;
  /** Whether times have nanoseconds. */
  readonly nanoseconds: boolean;
  /** Whether ACLs are kept; else owner, group and others get what the ACL gives them, and nobody else anything. */
  readonly acls: boolean;
  /** Seconds since 1970: earlier modification times become this one. */
  readonly firstTime: number;
  /** Told how many bytes of contents are written. */
  readonly onProgress?: (done: number) => void;
}

/** Pieces of the stream, collected to one size. */
interface Output {
  readonly buffer: Uint8Array<ArrayBuffer>;
  used: number;
}

type Pieces = Generator<Uint8Array<ArrayBuffer>, void>;

/**
 * The stream, in pieces that are worth something only until the next one is asked for.
 *
 * @throws {BuildError} when a file cannot be read or changed since the walk.
 */
export function* paxStream(selection: Selection, root: Root, options: PaxOptions): Pieces {
  const { nodes } = selection;
  const reader = newReader(root, nodes);
  const output: Output = { buffer: new Uint8Array(MiB), used: 0 };
  const firstNames = new Map<number, Uint8Array<ArrayBuffer>>();
  let done = 0;
  try {
    for (let entry = options.root ? 0 : 1; entry < selection.count; entry++) {
      const type = modeOf(selection, entry) & S_IFMT;
      const name = archivePath(selection, entry);
      const source = selection.source[entry]!;
      const inode = source < 0 || type === FILE_TYPES.directory ? undefined : nodes.link[source]!;
      const first = inode === undefined ? undefined : firstNames.get(inode);
      if (inode !== undefined && !first) firstNames.set(inode, name);
      if (TYPE_FLAGS[type] === undefined) continue;
      if (first) {
        yield* put(output, header(selection, entry, options, { name, flag: HARD_LINK, link: first }));
        continue;
      }
      const { text: written, made } = addedOf(selection, entry) ?? {};
      const text = made ? makeRecipe(root, nodes, made.recipe) : written;
      const node = contentsOf(selection, entry);
      const link = type === FILE_TYPES.symlink ? targetBytes(nodes, node!) : undefined;
      const size = type === FILE_TYPES.file ? sizeOf(selection, entry) : 0;
      const ranges = node === undefined ? undefined : nodes.data.get(node);
      const map = options.sparse && ranges && type === FILE_TYPES.file ? sparseMap(ranges, size) : undefined;
      yield* put(
        output,
        header(selection, entry, options, { name, flag: TYPE_FLAGS[type]!, link, size, map }),
      );
      if (text) {
        yield* put(output, text);
        yield* put(output, new Uint8Array(alignUp(text.length, BLOCK) - text.length));
      } else if (size > 0) {
        if (map) yield* put(output, map.bytes);
        yield* contentsOfFile(
          output,
          reader,
          node!,
          ranges ?? Float64Array.of(0, size),
          map ? undefined : size,
        );
      }
      options.onProgress?.(done += size);
    }
    // Two empty blocks end the archive.
    yield* put(output, new Uint8Array(2 * BLOCK));
    if (output.used > 0) yield output.buffer.subarray(0, output.used);
  } finally {
    closeReader(reader);
  }
}

/** Appends bytes, and yields the buffer whenever it is full. */
function* put(output: Output, bytes: Uint8Array<ArrayBuffer>): Pieces {
  for (let from = 0; from < bytes.length;) {
    const piece = bytes.subarray(from, from + output.buffer.length - output.used);
    output.buffer.set(piece, output.used);
    output.used += piece.length;
    from += piece.length;
    if (output.used === output.buffer.length) yield* flush(output);
  }
}

function* flush(output: Output): Pieces {
  yield output.buffer.subarray(0, output.used);
  output.used = 0;
}

/** Appends the data of a file, with zeros between its ranges up to `size` unless it is sparse. */
function* contentsOfFile(
  output: Output,
  reader: Reader,
  node: number,
  ranges: Float64Array<ArrayBuffer>,
  size: number | undefined,
): Pieces {
  const fd = openFile(reader, node);
  try {
    let position = 0, written = 0;
    for (let i = 0; i < ranges.length; i += 2) {
      const start = ranges[i]!, end = ranges[i + 1]!;
      if (size !== undefined) yield* zeros(output, start - position);
      for (let at = start; at < end;) {
        const length = Math.min(end - at, output.buffer.length - output.used);
        readInto(reader, node, fd, output.buffer.subarray(output.used, output.used + length), at);
        output.used += length;
        at += length;
        if (output.used === output.buffer.length) yield* flush(output);
      }
      position = end;
      written += end - start;
    }
    if (size !== undefined) yield* zeros(output, size - position);
    const length = size ?? written;
    yield* zeros(output, alignUp(length, BLOCK) - length);
    assertUnchanged(reader, node, fd);
  } finally {
    posix.close(fd);
  }
}

function* zeros(output: Output, count: number): Pieces {
  while (count > 0) {
    const length = Math.min(count, output.buffer.length - output.used);
    output.buffer.fill(0, output.used, output.used + length);
    output.used += length;
    count -= length;
    if (output.used === output.buffer.length) yield* flush(output);
  }
}

/** The path without a slash at its start; the root is `.`, and directories end with a slash. */
function archivePath(selection: Selection, entry: number): Uint8Array<ArrayBuffer> {
  if (entry === 0) return encoder.encode("./");
  const names: Uint8Array[] = [];
  for (let at = entry; at !== 0; at = selection.parent[at]!) names.push(nameOf(selection, at));
  const directory = (modeOf(selection, entry) & S_IFMT) === FILE_TYPES.directory;
  const path = new Uint8Array(names.reduce((sum, { length }) => sum + length + 1, directory ? 0 : -1));
  let at = 0;
  for (const name of names.reverse()) {
    if (at > 0) path[at++] = 0x2f;
    path.set(name, at);
    at += name.length;
  }
  if (directory) path[at] = 0x2f;
  return path;
}

/** Where the data of a file with holes is, as the first blocks of its contents say it. */
interface SparseMap {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of data. */
  readonly data: number;
}

function sparseMap(ranges: Float64Array<ArrayBuffer>, size: number): SparseMap {
  const pairs: number[] = [];
  let data = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    pairs.push(ranges[i]!, ranges[i + 1]! - ranges[i]!);
    data += ranges[i + 1]! - ranges[i]!;
  }
  // An empty range at the end says how long the file is.
  if (ranges.length === 0 || ranges.at(-1)! < size) pairs.push(size, 0);
  const text = encoder.encode(`${[pairs.length / 2, ...pairs].join("\n")}\n`);
  const bytes = new Uint8Array(alignUp(text.length, BLOCK));
  bytes.set(text);
  return { bytes, data };
}

interface HeaderOptions {
  readonly name: Uint8Array<ArrayBuffer>;
  readonly flag: string;
  readonly link?: Uint8Array<ArrayBuffer> | undefined;
  readonly size?: number;
  readonly map?: SparseMap | undefined;
}

/** The largest numbers that fit into the octal fields of a header. */
const MAX_ID = 0o7777777, MAX_SIZE = 0o77777777777;

/** The header of an entry, with an extended one before it for all that does not fit. */
function header(
  selection: Selection,
  entry: number,
  { time, nanoseconds, acls, firstTime }: PaxOptions,
  { name, flag, link, size = 0, map }: HeaderOptions,
): Uint8Array<ArrayBuffer> {
  const { nodes } = selection;
  const records: Uint8Array[] = [];
  const record = (key: string, value: string | Uint8Array) => records.push(paxRecord(key, value));
  const attributes = attributesOf(selection, entry);
  const uid = attributes === undefined ? 0 : nodes.uid[attributes]!;
  const gid = attributes === undefined ? 0 : nodes.gid[attributes]!;
  const timeOf = contentsOf(selection, entry);
  const seconds = timeOf === undefined ? time : nodes.mtimeSeconds[timeOf]!;
  const fraction = timeOf === undefined ? 0 : nodes.mtimeNanoseconds[timeOf]!;
  const late = seconds > time || (seconds === time && fraction > 0);
  const stored = map ? map.bytes.length + map.data : size;
  if (uid > MAX_ID) record("uid", String(uid));
  if (gid > MAX_ID) record("gid", String(gid));
  if (stored > MAX_SIZE) record("size", String(stored));
  const [at, rest] = late
    ? [time, 0]
    : seconds < firstTime
    ? [firstTime, 0]
    : [seconds, nanoseconds ? fraction : 0];
  // Always written, since a header knows neither nanoseconds nor times before 1970.
  record("mtime", `${at}.${String(rest).padStart(9, "0")}`);
  if (map) {
    record("GNU.sparse.major", "1");
    record("GNU.sparse.minor", "0");
    record("GNU.sparse.name", name);
    record("GNU.sparse.realsize", String(size));
  } else if (name.length > 100) record("path", name);
  if (link && link.length > 100) record("linkpath", link);
  let mode = modeOf(selection, entry) & 0o7777;
  for (const { name, value } of attributes === undefined ? [] : xattrsOf(nodes, attributes)) {
    if (!acls && name.startsWith(ACL)) mode = withoutAcl(mode, name, value);
    else if (flag !== HARD_LINK) record(`SCHILY.xattr.${name}`, value);
  }
  const extended = concat(records);
  const padded = alignUp(extended.length, BLOCK);
  const bytes = new Uint8Array(BLOCK + padded + BLOCK);
  const common = { uid: 0, gid: 0, mode: 0o644, device: 0 };
  ustar(bytes, { ...common, name: encoder.encode("pax"), flag: EXTENDED, size: extended.length });
  bytes.set(extended, BLOCK);
  const isDevice = flag === "3" || flag === "4";
  ustar(bytes.subarray(BLOCK + padded), {
    name: map ? encoder.encode("sparse") : name.subarray(0, 100),
    flag,
    link: link?.subarray(0, 100),
    mode,
    uid: Math.min(uid, MAX_ID),
    gid: Math.min(gid, MAX_ID),
    size: Math.min(stored, MAX_SIZE),
    device: isDevice ? nodes.special[contentsOf(selection, entry)!]! : 0,
  });
  return bytes;
}

/** What the names of the xattrs begin with that are ACLs. */
export const ACL = "system.posix_acl_";

/** The permissions of a file without its ACL: the group's bits were the most that the ACL gives to anybody. */
function withoutAcl(mode: number, name: string, value: Uint8Array): number {
  if (name !== `${ACL}access`) return mode;
  const GROUP_OBJ = 0x04;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  // After a version, entries of eight bytes: tag, permissions, ID (include/uapi/linux/posix_acl_xattr.h).
  for (let at = 4; at + 8 <= value.length; at += 8) {
    if (view.getUint16(at, true) === GROUP_OBJ) return (mode & ~0o070) | view.getUint16(at + 2, true) << 3;
  }
  return mode;
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. A key is Latin-1: one character per byte. */
function paxRecord(key: string, value: string | Uint8Array): Uint8Array<ArrayBuffer> {
  const text = typeof value === "string" ? encoder.encode(value) : value;
  const rest = key.length + text.length + 3;
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  const bytes = new Uint8Array(length);
  const head = `${length} ${key}=`;
  for (let i = 0; i < head.length; i++) bytes[i] = head.charCodeAt(i);
  bytes.set(text, head.length);
  bytes[length - 1] = 0x0a;
  return bytes;
}

interface Ustar {
  readonly name: Uint8Array;
  readonly flag: string;
  readonly link?: Uint8Array | undefined;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly device: number;
}

/** Writes one header block. */
function ustar(block: Uint8Array, { name, flag, link, mode, uid, gid, size, device }: Ustar): void {
  const text = (at: number, value: string) => encoder.encodeInto(value, block.subarray(at));
  const octal = (at: number, width: number, value: number) =>
    text(at, value.toString(8).padStart(width - 1, "0"));
  block.set(name, 0);
  octal(100, 8, mode);
  octal(108, 8, uid);
  octal(116, 8, gid);
  octal(124, 12, size);
  octal(136, 12, 0);
  text(148, "        ");
  text(156, flag);
  if (link) block.set(link, 157);
  text(257, "ustar");
  text(263, "00");
  // As Linux keeps a device number in 32 bits: new_decode_dev() of include/linux/kdev_t.h.
  octal(329, 8, (device >>> 8) & 0xfff);
  octal(337, 8, (device & 0xff) | ((device >>> 12) & 0xfff00));
  const sum = block.subarray(0, BLOCK).reduce((total, byte) => total + byte, 0);
  text(148, sum.toString(8).padStart(6, "0") + "\0 ");
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
