/**
 * A selection as a stream in pax format: programs that make read-only filesystems read it on stdin, so that nothing
 * has to be copied or mounted first.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03
 * - xattrs as `SCHILY.xattr.NAME`, with the value as bytes; holes as zeros
 *
 * @module
 */

import { FILE_TYPES, isDirectoryMode, TYPE_MASK } from "../core/mode.ts";
import { alignUp, MiB } from "../core/units.ts";
import { makeRecipe } from "../efi/make-recipe.ts";
import * as posix from "../system/posix.ts";
import { assertUnchanged, closeReader, newReader, openFile, type Reader, readInto } from "../tree/reader.ts";
import type { Root } from "../tree/root.ts";
import { addedOf, contentsOf, modeOf, nameOf, type Selection, sizeOf, targetOf } from "./contents.ts";
import { HARD_LINK, header, type PaxOptions, TAR_BLOCK } from "./pax-header.ts";

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

/** The buffer for chunks of the stream. */
interface Output {
  readonly buffer: Uint8Array<ArrayBuffer>;
  used: number;
}

type Pieces = Generator<Uint8Array<ArrayBuffer>, void>;

/**
 * The stream in chunks. Each chunk is valid until the next one is requested.
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
  const reader = newReader(root, nodes);
  const output: Output = { buffer: new Uint8Array(MiB), used: 0 };
  const firstNames = new Map<number, Uint8Array<ArrayBuffer>>();
  let done = 0;
  try {
    for (let entry = options.root ? 0 : 1; entry < selection.count; entry++) {
      const type = modeOf(selection, entry) & TYPE_MASK;
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
      const link = type === FILE_TYPES.symlink ? targetOf(selection, entry) : undefined;
      const size = type === FILE_TYPES.file ? sizeOf(selection, entry) : 0;
      yield* put(output, header(selection, entry, options, { name, flag: TYPE_FLAGS[type]!, link, size }));
      if (text && !link) {
        yield* put(output, text);
        yield* put(output, new Uint8Array(alignUp(text.length, TAR_BLOCK) - text.length));
      } else if (size > 0) {
        yield* contentsOfFile(output, reader, node!, nodes.data.get(node!) ?? Float64Array.of(0, size), size);
      }
      onProgress(done += size);
    }
    // Two empty blocks end the archive.
    yield* put(output, new Uint8Array(2 * TAR_BLOCK));
    if (output.used > 0) yield output.buffer.subarray(0, output.used);
  } finally {
    closeReader(reader);
  }
}

/** Appends bytes, and yields the buffer when it is full. */
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

/** Appends a file of `size` bytes, padded to whole blocks, with zeros between the `ranges` of its data. */
function* contentsOfFile(
  output: Output,
  reader: Reader,
  node: number,
  ranges: Float64Array<ArrayBuffer>,
  size: number,
): Pieces {
  const fd = openFile(reader, node);
  try {
    let position = 0;
    for (let i = 0; i < ranges.length; i += 2) {
      const start = ranges[i]!, end = ranges[i + 1]!;
      yield* zeros(output, start - position);
      for (let at = start; at < end;) {
        const length = Math.min(end - at, output.buffer.length - output.used);
        readInto(reader, node, fd, output.buffer.subarray(output.used, output.used + length), at);
        output.used += length;
        at += length;
        if (output.used === output.buffer.length) yield* flush(output);
      }
      position = end;
    }
    yield* zeros(output, alignUp(size, TAR_BLOCK) - position);
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

/** The path without leading slash. The root is `.`, and directories end with a slash. */
function archivePath(selection: Selection, entry: number): Uint8Array<ArrayBuffer> {
  if (entry === 0) return encoder.encode("./");
  const names: Uint8Array[] = [];
  for (let at = entry; at !== 0; at = selection.parent[at]!) names.push(nameOf(selection, at));
  const directory = isDirectoryMode(modeOf(selection, entry));
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
