/**
 * Writes into the image in large pieces: what comes one behind the other is collected first.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import * as posix from "../system/posix.ts";

/** The place of a filesystem in an open image. */
export interface Image {
  readonly fd: posix.Fd;
  readonly path: string;
  /** Bytes before the filesystem. */
  readonly offset: number;
}

/** Bytes that are not written yet. */
export interface Writer {
  readonly image: Image;
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Where in the filesystem the buffer goes, in bytes. */
  start: number;
  /** How much of the buffer is used. */
  used: number;
  /** Bytes that were written before. */
  written: number;
}

export function newWriter(image: Image, capacity: number): Writer {
  return { image, buffer: new Uint8Array(capacity), start: 0, used: 0, written: 0 };
}

/** Bytes that a caller gets in one piece: no block that is written as a whole is larger. */
const SMALLEST_ROOM = 4096;

/**
 * Room for up to `length` bytes at `position` (bytes, in the filesystem), which the caller fills at once: it
 * holds old bytes. It is shorter when the buffer is nearly full, but not shorter than {@link SMALLEST_ROOM}.
 */
export function room(writer: Writer, position: number, length: number): Uint8Array<ArrayBuffer> {
  const { buffer } = writer;
  if (
    position !== writer.start + writer.used || buffer.length - writer.used < Math.min(length, SMALLEST_ROOM)
  ) {
    flush(writer);
    writer.start = position;
  }
  const from = writer.used;
  writer.used = Math.min(buffer.length, from + length);
  return buffer.subarray(from, writer.used);
}

/** Writes what was collected. */
export function flush(writer: Writer): void {
  writeAt(writer.image, writer.buffer.subarray(0, writer.used), writer.start);
  writer.written += writer.used;
  writer.used = 0;
  writer.start = -1;
}

/** @throws {BuildError} when the disk is full or the image cannot be written. */
export function writeAt({ fd, path, offset }: Image, bytes: Uint8Array<ArrayBuffer>, position: number): void {
  for (let done = 0; done < bytes.length;) {
    const count = posix.pwrite(fd, bytes.subarray(done), offset + position + done);
    if (count <= 0) throw new BuildError(`Cannot write ${quote(path)}: ${posix.errorText(count)}`);
    done += count;
  }
}

/** @throws {BuildError} when the image ends too early or cannot be read. */
export function readAt(
  { fd, path, offset }: Image,
  length: number,
  position: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const count = posix.pread(fd, bytes.subarray(done), offset + position + done);
    if (count <= 0) throw new BuildError(`Cannot read ${quote(path)}: ${posix.errorText(count)}`);
    done += count;
  }
  return bytes;
}
