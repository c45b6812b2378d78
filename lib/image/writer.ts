/**
 * Writes into the image in large pieces: contiguous writes are buffered.
 *
 * @module
 */

import { cannot } from "../system/failure.ts";
import * as posix from "../system/posix.ts";

/** The place of a filesystem in an open image. */
export interface Image {
  readonly fd: posix.Fd;
  readonly path: string;
  /** Where the filesystem starts in the image, in bytes. */
  readonly offset: number;
}

/** A write buffer. */
export interface Writer {
  readonly image: Image;
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Where in the filesystem the buffer goes, in bytes. */
  start: number;
  /** Bytes of the buffer in use. */
  used: number;
  /** Bytes written so far, without the buffer. */
  written: number;
}

export function newWriter(image: Image, capacity: number): Writer {
  return { image, buffer: new Uint8Array(capacity), start: 0, used: 0, written: 0 };
}

/** Up to this many bytes are always granted in one piece: the largest block that is written as a whole. */
const SMALLEST_ROOM = 4096;

/**
 * Reserves up to `length` bytes of the buffer for `position` (bytes, in the filesystem). The caller must fill all of
 * it: it holds stale data. It is shorter if the buffer is nearly full, but never below {@link SMALLEST_ROOM}.
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

/** Writes out the buffer. */
export function flush(writer: Writer): void {
  writeAt(writer.image, writer.buffer.subarray(0, writer.used), writer.start);
  writer.written += writer.used;
  writer.used = 0;
  writer.start = -1;
}

/**
 * Has the image share blocks of an open file instead of writing them: `length` bytes at `offset`. They must be whole blocks
 * of the filesystem that both are on.
 *
 * @returns whether it can.
 */
export function share(
  writer: Writer,
  position: number,
  file: posix.Fd,
  offset: number,
  length: number,
): boolean {
  const { image } = writer;
  if (posix.shareBlocks(file, offset, length, image.fd, image.offset + position) < 0) return false;
  writer.written += length;
  return true;
}

/** @throws {BuildError} when the disk is full or the image cannot be written. */
export function writeAt({ fd, path, offset }: Image, bytes: Uint8Array<ArrayBuffer>, position: number): void {
  for (let done = 0; done < bytes.length;) {
    const count = posix.pwrite(fd, bytes.subarray(done), offset + position + done);
    if (count <= 0) throw cannot("write", path, count);
    done += count;
  }
}

/** Like {@link writeAt}, beside what this thread does meanwhile. Wait for it before you close the image or reuse the bytes. */
export async function writeAside(
  image: Image,
  bytes: Uint8Array<ArrayBuffer>,
  position: number,
): Promise<void> {
  const done = Math.max(0, await posix.pwriteAside(image.fd, bytes, image.offset + position));
  // Only here, it is known why something could not be written.
  writeAt(image, bytes.subarray(done), position + done);
}

/** @throws {BuildError} when the image is too short or cannot be read. */
export function readAt(
  { fd, path, offset }: Image,
  length: number,
  position: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const count = posix.pread(fd, bytes.subarray(done), offset + position + done);
    if (count <= 0) throw cannot("read", path, count);
    done += count;
  }
  return bytes;
}
