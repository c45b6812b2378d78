/**
 * Fills a FAT filesystem that mkfs.vfat made, from front to back in large pieces.
 *
 * @module
 */

import { BuildError } from "../../core/error.ts";
import { alignUp, MiB } from "../../core/units.ts";
import { makeRecipe } from "../../efi/make-recipe.ts";
import { flush, type Image, newWriter, readAt, room, writeAt, type Writer } from "../../image/writer.ts";
import * as posix from "../../system/posix.ts";
import type { Nodes } from "../../tree/nodes.ts";
import {
  assertUnchanged,
  closeReader,
  newReader,
  openFile,
  type Reader,
  readInto,
} from "../../tree/reader.ts";
import type { Root } from "../../tree/root.ts";
import { type FatFile, FIRST_TIME, SLOT, writeDirectory } from "./directory.ts";
import { type FatEntry, type FatGeometry, nameOf } from "./geometry.ts";
import { BOOT_LENGTH, type FatLayout, FIRST_CLUSTER, INFO, readLayout } from "./layout.ts";
import { fatNames } from "./names.ts";
import { type Directory, type Placed, placeEntries } from "./place.ts";

/** What goes into a filesystem. */
interface FatContents {
  readonly geometry: FatGeometry;
  /** Sorted by path. */
  readonly entries: readonly FatEntry[];
  /** Seconds since 1970: the time of files that the build makes, and of those with a later time or one before 1980. */
  readonly time: number;
}

/** The state of one fill. */
interface Fill {
  readonly contents: FatContents;
  readonly layout: FatLayout;
  readonly reader: Reader;
  readonly data: Writer;
  /** Bytes of contents written so far. */
  done: number;
}

/** Bytes of the write buffer. */
const BUFFER = MiB;

/** Table entries that are written at once. Even with 12 bits each, they fill whole bytes. */
const TABLE_PIECE = 2 ** 17;

/**
 * Fills the filesystem, and yields the bytes of contents written so far after each piece. The boot sector is
 * removed until the end: without it, nothing mistakes a half-filled filesystem for a good one.
 *
 * @param size of the filesystem, in bytes.
 * @throws {BuildError} when mkfs.vfat deviated from the plan, when a file in the tree cannot be read or has changed
 * since the walk, and when the image cannot be written.
 */
export function* fillFat(
  image: Image,
  size: number,
  contents: FatContents,
  { root, nodes }: { readonly root: Root; readonly nodes: Nodes },
): Generator<number, void> {
  const boot = readAt(image, BOOT_LENGTH, 0);
  const layout = readLayout(new DataView(boot.buffer), contents.geometry, size);
  if (typeof layout === "string") {
    throw new BuildError(`Cannot fill the filesystem: mkfs.vfat did not make it as planned (${layout})`, {
      hint: "Use mkfs.vfat 4.2, for example from Debian 12 or 13",
    });
  }
  const label = readAt(image, SLOT, layout.root);
  writeAt(image, new Uint8Array(BOOT_LENGTH), 0);
  const places = placeEntries(contents.entries, contents.geometry);
  const reader = newReader(root, nodes);
  const fill: Fill = { contents, layout, reader, data: newWriter(image, BUFFER), done: 0 };
  try {
    fillDirectory(fill, places.root, label);
    for (const placed of places.all) {
      if (placed.directory) fillDirectory(fill, placed.directory);
      else yield* fillFile(fill, placed);
      yield fill.done;
    }
    flush(fill.data);
  } finally {
    closeReader(fill.reader);
  }
  for (const _ of writeTables(image, fill, places.ends)) yield fill.done;
  for (const at of layout.infos) {
    const info = readAt(image, BOOT_LENGTH, at);
    const view = new DataView(info.buffer);
    view.setUint32(INFO.free, layout.clusters - contents.geometry.used, true);
    view.setUint32(INFO.last, places.ends.at(-1)!, true);
    writeAt(image, info, at);
  }
  writeAt(image, boot, 0);
}

/** The position of a cluster, in bytes. */
function positionOf({ data, clusterLength }: FatLayout, cluster: number): number {
  return data + (cluster - FIRST_CLUSTER) * clusterLength;
}

/** Writes a directory; the root keeps the volume `label` that mkfs.vfat wrote. */
function fillDirectory(fill: Fill, directory: Directory, label = new Uint8Array(SLOT)): void {
  const { layout, contents: { time } } = fill;
  const { first, parent, entries } = directory;
  const names = fatNames(entries.map(({ entry: { path } }) => nameOf(path)));
  const own = (first: number): FatFile => ({ type: "directory", size: 0, first, time });
  const bytes = new Uint8Array(alignUp(directory.length, parent ? layout.clusterLength : SLOT));
  const above = parent ? { self: own(first), parent: own(parent.first) } : { label };
  writeDirectory(bytes, above, entries.map((placed, i) => [names[i]!, fileOf(fill, placed)]));
  const position = parent ? positionOf(layout, first) : layout.root;
  for (let done = 0; done < bytes.length;) {
    const piece = room(fill.data, position + done, bytes.length - done);
    piece.set(bytes.subarray(done, done + piece.length));
    done += piece.length;
  }
}

/** The entry of a file. Its time is kept, unless FAT cannot store it or it is later than the build's. */
function fileOf({ contents: { time }, reader: { nodes } }: Fill, { entry, first }: Placed): FatFile {
  const { type, size, node } = entry;
  const mtime = node === undefined ? time : nodes.mtimeSeconds[node]!;
  return { type, size, first, time: mtime >= FIRST_TIME && mtime <= time ? mtime : time };
}

/** Writes the contents of a file, padded with zeros to the end of its last cluster. */
function* fillFile(fill: Fill, { entry, first }: Placed): Generator<number, void> {
  const { layout, reader, data } = fill;
  const { node, size } = entry;
  const made = node === undefined ? madeBytes(reader, entry) : undefined;
  const fd = made ? -1 : openFile(reader, node!);
  try {
    const position = positionOf(layout, first), end = alignUp(size, layout.clusterLength);
    for (let offset = 0; offset < end;) {
      const piece = room(data, position + offset, end - offset);
      const length = Math.min(piece.length, Math.max(0, size - offset));
      if (made) piece.set(made.subarray(offset, offset + length));
      else readInto(reader, node!, fd, piece.subarray(0, length), offset);
      piece.fill(0, length);
      offset += piece.length;
      fill.done += length;
      if (offset < end) yield fill.done;
    }
    if (!made) assertUnchanged(reader, node!, fd);
  } finally {
    if (!made) posix.close(fd);
  }
}

/** The contents of a file that is not in the tree. */
function madeBytes({ root, nodes }: Reader, { path, size, text, recipe }: FatEntry): Uint8Array<ArrayBuffer> {
  const bytes = recipe ? makeRecipe(root, nodes, recipe) : text!;
  if (bytes.length !== size) throw new Error(`${path} has ${bytes.length} bytes instead of ${size}`);
  return bytes;
}

/** Writes both tables up to the last cluster in use. Their first two entries are kept. */
function* writeTables(
  image: Image,
  { layout, contents: { geometry: { bits } } }: Fill,
  ends: readonly number[],
): Generator<void, void> {
  const LAST = bits === 32 ? 0x0fffffff : 2 ** bits - 1;
  const behind = (ends.at(-1) ?? FIRST_CLUSTER - 1) + 1;
  const bytesOf = (clusters: number) => Math.ceil(clusters * bits / 8);
  const reserved = readAt(image, bytesOf(FIRST_CLUSTER), layout.tables);
  let run = 0;
  for (let from = 0; from < behind; from += TABLE_PIECE) {
    const to = Math.min(behind, from + TABLE_PIECE);
    const bytes = new Uint8Array(bytesOf(to - from));
    const view = new DataView(bytes.buffer);
    for (let cluster = Math.max(from, FIRST_CLUSTER); cluster < to; cluster++) {
      const isLast = cluster === ends[run];
      if (isLast) run++;
      writeLink(view, bits, cluster - from, isLast ? LAST : cluster + 1);
    }
    if (from === 0) bytes.set(reserved);
    writeAt(image, bytes, layout.tables + bytesOf(from));
    writeAt(image, bytes, layout.tables + layout.tableLength + bytesOf(from));
    yield;
  }
}

/** Sets a table entry that is still zero. */
function writeLink(view: DataView, bits: FatGeometry["bits"], index: number, value: number): void {
  if (bits === 32) view.setUint32(index * 4, value, true);
  else if (bits === 16) view.setUint16(index * 2, value, true);
  else {
    // Two entries share three bytes; the first one has the lower half of the middle byte.
    const at = index + (index >> 1), isSecond = (index & 1) === 1;
    const shifted = isSecond ? value << 4 : value;
    view.setUint8(at, view.getUint8(at) | shifted & 0xff);
    view.setUint8(at + 1, shifted >> 8);
  }
}
