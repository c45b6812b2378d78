/**
 * A selection as a stream in pax format: for archives, and for programs that make read-only filesystems, which read it
 * on stdin, so that nothing has to be copied or mounted first.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03
 * - xattrs as `SCHILY.xattr.NAME`, with the value as bytes
 * - holes as zeros, or left out: https://www.gnu.org/software/tar/manual/html_node/PAX-1.html
 *
 * @module
 */

import { FILE_TYPES, isDirectoryMode, TYPE_MASK } from "../core/mode.ts";
import { alignUp, KiB } from "../core/units.ts";
import { makeRecipe } from "../efi/make-recipe.ts";
import * as posix from "../system/posix.ts";
import { assertUnchanged, closeReader, newReader, openFile, type Reader, readInto } from "../tree/reader.ts";
import { inodeRow } from "../tree/nodes.ts";
import type { Root } from "../tree/root.ts";
import {
  addedOf,
  contentsOf,
  linkedRows,
  modeOf,
  nameOf,
  type Selection,
  sizeOf,
  targetOf,
} from "./contents.ts";
import { lookingAhead, selectionOrder } from "./look-ahead.ts";
import {
  append,
  HARD_LINK,
  header,
  newOutput,
  type Output,
  pad,
  type PaxOptions,
  TAR_BLOCK,
} from "./pax-header.ts";

/** The type flag of a header, by file type. Sockets have none: the caller leaves them out. */
const TYPE_FLAGS: Readonly<Record<number, string>> = {
  [FILE_TYPES.file]: "0",
  [FILE_TYPES.symlink]: "2",
  [FILE_TYPES.char]: "3",
  [FILE_TYPES.block]: "4",
  [FILE_TYPES.directory]: "5",
  [FILE_TYPES.fifo]: "6",
};

const encoder = new TextEncoder();

/**
 * Bytes per chunk of the stream, apart from the last one. No power of two, so that few chunks of an archive start at a multiple
 * of their size: for those, the kernel caches the file in pages as large, which the host of a virtual machine often has to find
 * first.
 */
const CHUNK = 772 * KiB;

/** Files up to this size are read in one piece, behind what the buffer has, and may reach into the next chunk. */
const SMALL_FILE = 64 * KiB;

type Pieces = Generator<Uint8Array<ArrayBuffer>, void>;

/**
 * The stream in chunks. Each chunk is valid until the one after the next is requested: it can be written while the next one is
 * put together.
 *
 * @throws {BuildError} when a file cannot be read, or has changed since the walk.
 */
export function* paxStream(
  selection: Selection,
  root: Root,
  options: PaxOptions,
  onProgress: (done: number) => void = () => {},
): Pieces {
  const { nodes } = selection;
  const reader = newReader(root, nodes, true);
  const output = newOutput(CHUNK + 2 * SMALL_FILE);
  const paths = newPaths(selection, options);
  const linked = linkedRows(selection);
  const firstNames = new Map<number, Uint8Array<ArrayBuffer>>();
  let done = 0;
  try {
    const order = options.reader === "tar" ? archiveOrder(selection) : selectionOrder(selection);
    for (const entry of lookingAhead(selection, order, reader)) {
      if (entry === 0 && !options.root) continue;
      const type = modeOf(selection, entry) & TYPE_MASK;
      const name = archivePath(paths, entry);
      const source = selection.source[entry]!;
      const row = source < 0 ? undefined : inodeRow(nodes, source);
      const first = row === undefined ? undefined : firstNames.get(row);
      if (!first && row !== undefined && linked.has(row)) firstNames.set(row, name.slice());
      if (TYPE_FLAGS[type] === undefined) continue;
      if (first) {
        header(output, selection, entry, options, { name, flag: HARD_LINK, link: first });
        if (output.used >= CHUNK) yield* flush(output);
        continue;
      }
      const { text: written, made } = addedOf(selection, entry) ?? {};
      const text = made ? makeRecipe(root, nodes, made.recipe) : written;
      const node = contentsOf(selection, entry);
      const link = type === FILE_TYPES.symlink ? targetOf(selection, entry) : undefined;
      const size = type === FILE_TYPES.file ? sizeOf(selection, entry) : 0;
      const data = type === FILE_TYPES.file && !text ? nodes.data.get(node!) : undefined;
      const ranges = data && options.sparse ? wholeBlocks(data, size) : undefined;
      const map = ranges && sparseMap(ranges, size);
      const stored = map && map.length + lengthOf(ranges);
      const flag = TYPE_FLAGS[type]!;
      header(output, selection, entry, options, { name, flag, link, size, stored });
      if (output.used >= CHUNK) yield* flush(output);
      if (text && !link) yield* put(output, text);
      else if (map) {
        yield* put(output, map);
        yield* contentsOfFile(output, reader, node!, { ranges, size: lengthOf(ranges), packed: true });
      } else if (size > 0 && !data && size <= SMALL_FILE) {
        smallFile(output, reader, node!, size);
      } else if (size > 0) {
        const whole = data ?? Float64Array.of(0, size);
        yield* contentsOfFile(output, reader, node!, { ranges: whole, size, packed: false });
      }
      onProgress(done += size);
    }
    // Two empty blocks end the archive.
    yield* put(output, new Uint8Array(2 * TAR_BLOCK));
    if (output.used > 0) yield output.bytes.subarray(0, output.used);
  } finally {
    closeReader(reader);
  }
}

/**
 * The order for GNU tar: each directory is followed by all that is in it. Once tar has left a directory, it sets its time
 * and mode, and does not expect any more entries. Files come before directories, so that few directories are opened twice.
 */
function* archiveOrder(selection: Selection): Generator<number, void> {
  const { firstChild, childCount } = selection;
  const pending = [0];
  while (pending.length > 0) {
    const directory = pending.pop()!;
    yield directory;
    const first = firstChild[directory]!, end = first + childCount[directory]!;
    for (let entry = first; entry < end; entry++) {
      if (!isDirectoryMode(modeOf(selection, entry))) yield entry;
    }
    for (let entry = end - 1; entry >= first; entry--) {
      if (isDirectoryMode(modeOf(selection, entry))) pending.push(entry);
    }
  }
}

/** Appends bytes, padded to whole blocks. */
function* put(output: Output, bytes: Uint8Array<ArrayBuffer>): Pieces {
  for (let from = 0; from < bytes.length; from += SMALL_FILE) {
    const piece = bytes.subarray(from, from + SMALL_FILE);
    const at = append(output, piece.length);
    output.bytes.set(piece, at);
    if (output.used >= CHUNK) yield* flush(output);
  }
  pad(output);
}

/** Appends a small file of `size` bytes, padded to whole blocks. Most files are small. */
function smallFile(output: Output, reader: Reader, node: number, size: number): void {
  const fd = openFile(reader, node);
  try {
    const at = append(output, size);
    readInto(reader, node, fd, output.bytes.subarray(at, output.used), 0);
    pad(output);
    assertUnchanged(reader, node, fd);
  } finally {
    posix.close(fd);
  }
}

/** Yields all whole chunks, and goes on with the rest in the other buffer. */
function* flush(output: Output): Pieces {
  while (output.used >= CHUNK) {
    const { bytes, other, used } = output;
    yield bytes.subarray(0, CHUNK);
    // Only now, nobody needs the chunk before this one any more.
    output.bytes = other.length < bytes.length ? new Uint8Array(bytes.length) : other;
    output.bytes.set(bytes.subarray(CHUNK, used));
    output.used -= CHUNK;
    output.other = bytes;
  }
}

/** The data of a file. */
interface FileData {
  /** Pairs of start and end, in bytes. */
  readonly ranges: Float64Array<ArrayBuffer>;
  /** Bytes of the file, or with `packed` of the ranges. */
  readonly size: number;
  /** Whether what is between the ranges is left out; otherwise it is zeros. */
  readonly packed: boolean;
}

/** Appends the data of a file, padded to whole blocks. */
function* contentsOfFile(
  output: Output,
  reader: Reader,
  node: number,
  { ranges, size, packed }: FileData,
): Pieces {
  const fd = openFile(reader, node);
  try {
    let position = 0;
    for (let i = 0; i < ranges.length; i += 2) {
      const start = ranges[i]!, end = ranges[i + 1]!;
      if (!packed) yield* zeros(output, start - position);
      for (let at = start; at < end;) {
        const length = Math.min(end - at, CHUNK - output.used);
        const to = append(output, length);
        readInto(reader, node, fd, output.bytes.subarray(to, output.used), at);
        at += length;
        if (output.used >= CHUNK) yield* flush(output);
      }
      position = packed ? position + end - start : end;
    }
    yield* zeros(output, alignUp(size, TAR_BLOCK) - position);
    assertUnchanged(reader, node, fd);
  } finally {
    posix.close(fd);
  }
}

/** Widens ranges to whole blocks, since GNU tar pads each of them, and bsdtar none; only the last may end within one. */
function wholeBlocks(ranges: Float64Array<ArrayBuffer>, size: number): Float64Array<ArrayBuffer> {
  const whole: number[] = [];
  for (let i = 0; i < ranges.length; i += 2) {
    const start = ranges[i]! - ranges[i]! % TAR_BLOCK;
    const end = Math.min(alignUp(ranges[i + 1]!, TAR_BLOCK), size);
    if (whole.length && start <= whole.at(-1)!) whole[whole.length - 1] = end;
    else whole.push(start, end);
  }
  return Float64Array.from(whole);
}

function lengthOf(ranges: Float64Array<ArrayBuffer>): number {
  return ranges.reduce((sum, at, i) => sum + (i % 2 ? at : -at), 0);
}

/** The map of a file with holes: the number of ranges, then offset and length of each, the last one at its end. */
function sparseMap(ranges: Float64Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  const numbers: number[] = [];
  for (let i = 0; i < ranges.length; i += 2) numbers.push(ranges[i]!, ranges[i + 1]! - ranges[i]!);
  // A hole at the end is only known by an empty range after it.
  if (ranges.length === 0 || ranges.at(-1)! < size) numbers.push(size, 0);
  return padded(encoder.encode([numbers.length / 2, ...numbers].map((number) => `${number}\n`).join("")));
}

/** Bytes followed by zeros, up to a whole block. */
export function padded(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(alignUp(bytes.length, TAR_BLOCK));
  whole.set(bytes);
  return whole;
}

function* zeros(output: Output, count: number): Pieces {
  while (count > 0) {
    const length = Math.min(count, CHUNK - output.used);
    const at = append(output, length);
    output.bytes.fill(0, at, output.used);
    count -= length;
    if (output.used >= CHUNK) yield* flush(output);
  }
}

const HERE = encoder.encode("./"), SLASH = 0x2f, BACKSLASH = 0x5c;

/** Where paths are put together: the directory of the last one, and its name after it. */
interface Paths {
  readonly selection: Selection;
  readonly top: Uint8Array<ArrayBuffer>;
  readonly forTar: boolean;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The directory that `bytes` begins with, and its length with a slash at its end. */
  directory: number;
  length: number;
}

/** Longer than any path that a plan lets through. */
const PATH_BUFFER = 8 * KiB;

function newPaths(selection: Selection, { directory, reader }: PaxOptions): Paths {
  const top = encoder.encode(directory), bytes = new Uint8Array(PATH_BUFFER);
  return { selection, top, forTar: reader === "tar", bytes, directory: 0, length: 0 };
}

/**
 * The path below `top`, without leading slash. A root at the top of the archive is `./`, and directories end with a
 * slash. bsdtar, which also unpacks on Windows, would remove a leading backslash: for it, `./` comes first.
 *
 * It is valid until the next one is requested.
 */
function archivePath(paths: Paths, entry: number): Uint8Array<ArrayBuffer> {
  const { selection, top, bytes } = paths;
  if (entry === 0) return top.length ? top : HERE;
  const directory = selection.parent[entry]!;
  if (directory === 0 || directory !== paths.directory) enterDirectory(paths, entry);
  const name = nameOf(selection, entry);
  bytes.set(name, paths.length);
  let end = paths.length + name.length;
  if (isDirectoryMode(modeOf(selection, entry))) bytes[end++] = SLASH;
  return bytes.subarray(0, end);
}

function enterDirectory(paths: Paths, entry: number): void {
  const { selection, top, forTar, bytes } = paths;
  const names: Uint8Array[] = [nameOf(selection, entry)];
  paths.directory = selection.parent[entry]!;
  for (let at = paths.directory; at !== 0; at = selection.parent[at]!) names.unshift(nameOf(selection, at));
  const above = forTar && top.length === 0 && names[0]![0] === BACKSLASH ? HERE : top;
  bytes.set(above);
  paths.length = above.length;
  for (const name of names.slice(0, -1)) {
    bytes.set(name, paths.length);
    paths.length += name.length + 1;
    bytes[paths.length - 1] = SLASH;
  }
}
