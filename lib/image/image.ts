/**
 * Reads an image: a file or a block device. Uses libc: Deno does not open devices without `--allow-all`.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { MiB } from "../core/units.ts";
import { cannot, setSize } from "../system/failure.ts";
import * as posix from "../system/posix.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import { dataExtents } from "./extents.ts";
import type { Target } from "./target.ts";
import type { Image } from "./writer.ts";

/** Runs `fn` on an open image. @throws {BuildError} when it cannot be opened. */
function withImage<T>(path: string, fn: (fd: posix.Fd) => T): T {
  const fd = posix.open(posix.cString(path), posix.OPEN.read);
  if (fd < 0) throw cannot("read", path, fd);
  try {
    return fn(fd);
  } finally {
    posix.close(fd);
  }
}

/** Opens an image for reading and writing; `using` closes it. @throws {BuildError} when it cannot be opened. */
export function openImageFile(path: string): Image & Disposable {
  const fd = posix.open(posix.cString(path), posix.OPEN.readWrite);
  if (fd < 0) throw cannot("open", path, fd);
  return { fd, path, offset: 0, [Symbol.dispose]: () => posix.close(fd) };
}

/** The size of a file or block device, in bytes. */
export function imageSize(path: string): number {
  return withImage(path, (fd) => posix.seek(fd, 0, "end"));
}

/** Reads `length` bytes at `offset`. Anything past the end reads as zeros. */
export function readImage(path: string, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  withImage(path, (fd) => {
    for (let done = 0; done < length;) {
      const got = posix.pread(fd, bytes.subarray(done), offset + done);
      if (got < 0) throw cannot("read", path, got);
      if (got === 0) break;
      done += got;
    }
  });
  return bytes;
}

const PIECE = MiB;
const ZEROS = new Uint8Array(PIECE);

/**
 * Reads `length` bytes at `offset`, or up to the end, in pieces of up to 1 MiB. Each piece is valid until the next one is
 * requested. Holes are not read: most of a new image is holes.
 */
export async function* readPieces(
  path: string,
  offset: number,
  length: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const fd = posix.open(posix.cString(path), posix.OPEN.read);
  if (fd < 0) throw cannot("read", path, fd);
  try {
    const size = posix.seek(fd, 0, "end");
    if (size < 0) throw cannot("read", path, size);
    const end = Math.min(offset + length, size);
    const buffer = new Uint8Array(PIECE);
    let at = offset;
    for (const data of [...dataExtents({ fd, path }, { start: offset, end }), { start: end, end }]) {
      while (at < data.end) {
        const isHole = at < data.start;
        const piece = isHole ? ZEROS.subarray(0, data.start - at) : buffer.subarray(0, data.end - at);
        const got = isHole ? piece.length : posix.pread(fd, piece, at);
        if (got < 0) throw cannot("read", path, got);
        if (got === 0) return;
        yield piece.subarray(0, got);
        at += got;
        await yieldToEventLoop();
        throwIfInterrupted();
      }
    }
  } finally {
    posix.close(fd);
  }
}

/** Reads `length` bytes at position `at` of a target. */
export function readTarget({ path, offset }: Target, at: number, length: number): Uint8Array<ArrayBuffer> {
  return readImage(path, offset + at, length);
}

/** Copies a target to a new sparse file. */
export async function copyTarget({ path, offset, size }: Target, to: string): Promise<void> {
  using copy = await Deno.open(to, { write: true, createNew: true });
  setSize(to, size);
  let at = 0;
  for await (const piece of readPieces(path, offset, size)) {
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.length)) !== 0) {
      await copy.seek(at, Deno.SeekMode.Start);
      for (let done = 0; done < piece.length;) done += await copy.write(piece.subarray(done));
    }
    at += piece.length;
  }
}
