/**
 * Compresses one part of a stream, so that the results of several can be put one behind the other.
 *
 * @module
 */

import { node } from "../core/node.ts";
import { KiB, MiB } from "../core/units.ts";
import type { Chunk } from "./parts.ts";

/** Bytes per chunk of zstd and gzip, and per request to a worker. */
export const CHUNK = 4 * MiB;

/** Room for the result of a request: a chunk that does not get smaller becomes a little larger. */
export const RESULT = CHUNK + 64 * KiB;

/** Streams of parts that a worker compresses. */
export type StreamMethod = "zst" | "gz";

/**
 * - zstd: a frame, with the program's usual level and checksum.
 * - gzip: blocks that end at a byte, the last of which is empty and not marked as the last of all (RFC 1951, section 3.2). Level
 *   9 is the only one whose result is the same on every processor: for all others, zlib-ng hashes strings with instructions
 *   that not all have.
 */
const METHODS: Readonly<Record<StreamMethod, (chunk: Uint8Array) => Uint8Array>> = {
  zst(chunk) {
    const { constants, zstdCompressSync } = node.zlib;
    const options = {
      params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
      pledgedSrcSize: chunk.length,
      // To get the result in one piece.
      chunkSize: RESULT,
    };
    return zstdCompressSync(chunk, options);
  },
  gz(chunk) {
    const { constants, deflateRawSync } = node.zlib;
    return deflateRawSync(chunk, { level: 9, finishFlush: constants.Z_FULL_FLUSH, chunkSize: RESULT });
  },
};

/** Compresses a chunk. @returns the result, and for gzip the CRC-32 of the contents. */
export function compressChunk(method: StreamMethod, chunk: Uint8Array): { bytes: Uint8Array; crc: number } {
  return { bytes: METHODS[method](chunk), crc: method === "gz" ? node.zlib.crc32(chunk) : 0 };
}

/** Reads a chunk to the start of a buffer, and returns it. */
export function fillChunk({ size, pieces }: Chunk, into: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const chunk = into.subarray(0, size).fill(0);
  for (const piece of pieces) {
    if ("bytes" in piece) chunk.set(piece.bytes, piece.at);
    else {
      using file = Deno.openSync(piece.path);
      readInto(file, piece.path, chunk.subarray(piece.at, piece.at + piece.length), piece.offset);
    }
  }
  return chunk;
}

/** Fills `target` with what is at `offset` in a file. */
export function readInto(file: Deno.FsFile, path: string, target: Uint8Array, offset: number): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < target.length;) {
    const count = file.readSync(target.subarray(done));
    if (count === null) throw new Error(`${path} is truncated at ${offset + done} bytes`);
    done += count;
  }
}
