/**
 * A stream as a list of its parts, and the same stream in chunks of one size: archives consist of headers and of files that
 * are read where they are.
 *
 * @module
 */

import { dataExtents } from "./extents.ts";
import { openImageFile } from "./image.ts";

/** A part of a stream: bytes, or all of a file with the holes in it. Sizes and offsets are in bytes. */
export type Part =
  | { readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly path: string; readonly offset: number; readonly length: number };

/** A part of a chunk that may be something else than zeros, `at` bytes behind its beginning. */
export type Piece = Part & { readonly at: number };

/** A part of a stream of some size; everything but its pieces is zeros. */
export interface Chunk {
  readonly size: number;
  readonly pieces: readonly Piece[];
}

/** Bytes of a stream. */
export function streamSize(parts: readonly Part[]): number {
  return parts.reduce((sum, part) => sum + ("bytes" in part ? part.bytes.length : part.length), 0);
}

/** The stream in chunks of `size` bytes; only the last one may be smaller. */
export function* chunksOf(parts: readonly Part[], size: number): Generator<Chunk, void> {
  const total = streamSize(parts);
  let start = 0;
  let pieces: Piece[] = [];
  for (const [at, part] of placedData(parts)) {
    const length = "bytes" in part ? part.bytes.length : part.length;
    for (let done = 0; done < length;) {
      for (; at + done >= start + size; start += size) {
        yield { size, pieces };
        pieces = [];
      }
      const own = Math.min(length - done, start + size - at - done);
      pieces.push({ ...cut(part, done, own), at: at + done - start });
      done += own;
    }
  }
  for (; start < total; start += size) {
    yield { size: Math.min(size, total - start), pieces };
    pieces = [];
  }
}

/** All that may be something else than zeros, with its position in the stream. */
function* placedData(parts: readonly Part[]): Generator<[at: number, part: Part], void> {
  let at = 0;
  for (const part of parts) {
    if ("bytes" in part) {
      yield [at, part];
      at += part.bytes.length;
      continue;
    }
    const { path, offset, length } = part;
    using file = openImageFile(path);
    for (const { start, end } of dataExtents(file, { start: offset, end: offset + length })) {
      yield [at + start - offset, { path, offset: start, length: end - start }];
    }
    at += length;
  }
}

function cut(part: Part, from: number, length: number): Part {
  return "bytes" in part
    ? { bytes: part.bytes.slice(from, from + length) }
    : { path: part.path, offset: part.offset + from, length };
}
