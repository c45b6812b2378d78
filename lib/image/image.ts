/**
 * Reads an image, be it a file or a block device. Through libc: Deno opens no device without `--allow-all`.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { MiB } from "../core/units.ts";
import * as posix from "../system/posix.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import type { Target } from "./target.ts";
import type { Image } from "./writer.ts";

/** Runs `fn` on an open image. @throws {BuildError} when it cannot be opened. */
function withImage<T>(path: string, fn: (fd: posix.Fd) => T): T {
  const fd = posix.open(posix.cString(path), posix.OPEN.read);
  if (fd < 0) throw cannotRead(path, fd);
  try {
    return fn(fd);
  } finally {
    posix.close(fd);
  }
}

function cannotRead(path: string, errno: number): BuildError {
  return new BuildError(`Cannot read ${quote(path)}: ${posix.errorText(errno)}`);
}

/** Opens an image to read and write. `using` closes it. @throws {BuildError} when it cannot be opened. */
export function openImageFile(path: string): Image & Disposable {
  const fd = posix.open(posix.cString(path), posix.OPEN.readWrite);
  if (fd < 0) throw new BuildError(`Cannot open ${quote(path)}: ${posix.errorText(fd)}`);
  return { fd, path, offset: 0, [Symbol.dispose]: () => posix.close(fd) };
}

/** Bytes of a file or block device. */
export function imageSize(path: string): number {
  return withImage(path, (fd) => posix.seek(fd, 0, "end"));
}

/** Reads `length` bytes at `offset`; what lies behind the end reads as zeros. */
export function readImage(path: string, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  withImage(path, (fd) => {
    for (let done = 0; done < length;) {
      const got = posix.pread(fd, bytes.subarray(done), offset + done);
      if (got < 0) throw cannotRead(path, got);
      if (got === 0) break;
      done += got;
    }
  });
  return bytes;
}

/** Reads `length` bytes at `offset` in pieces of up to a MiB, which are good until the next one. */
export async function* readPieces(
  path: string,
  offset: number,
  length: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const fd = posix.open(posix.cString(path), posix.OPEN.read);
  if (fd < 0) throw cannotRead(path, fd);
  try {
    const buffer = new Uint8Array(MiB);
    for (let done = 0; done < length;) {
      const piece = buffer.subarray(0, Math.min(MiB, length - done));
      const got = posix.pread(fd, piece, offset + done);
      if (got < 0) throw cannotRead(path, got);
      if (got === 0) break;
      yield piece.subarray(0, got);
      done += got;
      await yieldToEventLoop();
      throwIfInterrupted();
    }
  } finally {
    posix.close(fd);
  }
}

/** Reads `length` bytes at `at` of what stands at a target. */
export function readTarget({ path, offset }: Target, at: number, length: number): Uint8Array<ArrayBuffer> {
  return readImage(path, offset + at, length);
}

/** Copies what stands at a target into a file of its own, which stays sparse. */
export async function copyTarget({ path, offset, size }: Target, to: string): Promise<void> {
  using copy = await Deno.open(to, { write: true, createNew: true });
  await copy.truncate(size);
  let at = 0;
  for await (const piece of readPieces(path, offset, size)) {
    if (piece.some((byte) => byte !== 0)) {
      await copy.seek(at, Deno.SeekMode.Start);
      for (let done = 0; done < piece.length;) done += await copy.write(piece.subarray(done));
    }
    at += piece.length;
  }
}
