/**
 * Copies contents of files of the tree to their blocks.
 *
 * @module
 */

import { MiB } from "../../core/units.ts";
import { room, share, type Writer } from "../../image/writer.ts";
import * as posix from "../../system/posix.ts";
import { FILE_FLAGS } from "../../tree/flags.ts";
import { assertUnchanged, openFile, type Reader, readInto } from "../../tree/reader.ts";
import { BLOCK_SIZE, LEAST_SHARED } from "./layout.ts";

/** Larger buffers are slower: what was read falls out of the processor's cache before it is written. */
export const DATA_BUFFER = MiB;

/** Cells of the memory that copy-helper.ts shares with its worker. */
export const CELL = {
  /** Pieces that are done with. */
  done: 0,
  /** Bytes written, in blocks of the filesystem. */
  blocks: 1,
  /** 1: leave everything else. */
  stop: 2,
} as const;

/** Cells of a part of a file, as copy-helper.ts hands it to its worker. */
export const PART = 5;

/** What copies one file after another. */
export interface Copier {
  readonly reader: Reader;
  readonly data: Writer;
  /** What filesystems can, as far as is known. */
  readonly can: {
    /** That of the tree has flags. */
    flags: boolean;
    /** The image can share blocks with the tree. */
    share: boolean;
  };
}

export function newAbilities(): Copier["can"] {
  return { flags: true, share: true };
}

/**
 * Copies a file, or a part of it: its extents, triples of first logical block, first physical block and length. Yields between
 * the pieces of a large one.
 *
 * @returns those of its flags that did not come with its stat.
 * @throws {BuildError} when it cannot be read or has changed since the walk, and when the image cannot be written.
 */
export function* copyFile(
  copier: Copier,
  node: number,
  extents: ArrayLike<number>,
): Generator<void, number> {
  const { reader, data } = copier;
  const size = reader.nodes.size[node]!;
  const fd = openFile(reader, node);
  try {
    const flags = askFlags(copier, fd);
    for (let at = 0; at < extents.length; at += 3) {
      let offset = extents[at]! * BLOCK_SIZE, position = extents[at + 1]! * BLOCK_SIZE;
      const end = offset + extents[at + 2]! * BLOCK_SIZE;
      const shared = shareFile(copier, fd, size, offset, end, position);
      offset += shared;
      position += shared;
      while (offset < end) {
        const piece = room(data, position, end - offset);
        const length = Math.min(piece.length, size - offset);
        readInto(reader, node, fd, piece.subarray(0, length), offset);
        piece.fill(0, length);
        offset += piece.length;
        position += piece.length;
        if (offset < end) yield;
      }
    }
    assertUnchanged(reader, node, fd);
    return flags;
  } finally {
    posix.close(fd);
  }
}

/**
 * Shares the whole blocks of a file from `offset` to `end`, which need not be read then, until that turns out to be impossible.
 *
 * @returns how many bytes from `offset` on are done with.
 */
function shareFile(
  { can, data }: Copier,
  fd: posix.Fd,
  size: number,
  offset: number,
  end: number,
  position: number,
): number {
  if (!can.share || size < LEAST_SHARED) return 0;
  const length = Math.min(end, Math.floor(size / BLOCK_SIZE) * BLOCK_SIZE) - offset;
  if (length <= 0) return 0;
  can.share = share(data, position, fd, offset, length);
  return can.share ? length : 0;
}

/** Asks an open file for those flags that did not come with its stat, until its filesystem turns out to have none. */
function askFlags({ can }: Copier, fd: posix.Fd): number {
  if (!can.flags) return 0;
  const flags = posix.inodeFlags(fd);
  if (flags < 0) can.flags = false;
  return flags < 0 ? 0 : flags & FILE_FLAGS;
}
