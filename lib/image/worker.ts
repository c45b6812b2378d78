/**
 * The worker that compresses parts of an image for workers.ts.
 *
 * @module
 */

import { constants, crc32, deflateRawSync, zstdCompressSync } from "node:zlib";
import { KiB, MiB } from "../core/units.ts";
import type { Chunk } from "./parts.ts";
import { CLUSTER } from "./qcow2/header.ts";

/** Bytes per request. */
export const CHUNK = 4 * MiB;

/** Room for the result of a request: a chunk that does not get smaller becomes a little larger. */
export const RESULT = CHUNK + 64 * KiB;

/** What a worker is asked for. */
export type Job =
  /** Clusters of a qcow2 image, one by one: their offsets in a file of `size` bytes. */
  | {
    readonly method: "clusters";
    readonly path: string;
    readonly at: readonly number[];
    readonly size: number;
  }
  /** A part of a stream, of up to {@link CHUNK} bytes. */
  | Chunk & { readonly method: StreamMethod };

/** Streams that consist of parts which are compressed independently. */
export type StreamMethod = "zst" | "gz";

/** A job, and a buffer for its result. */
export interface Task {
  readonly job: Job;
  readonly room: Uint8Array<ArrayBuffer>;
}

/** The answer: all results one after another, at the start of the buffer. */
export interface Compressed {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of each; 0 for a cluster that does not get smaller and is stored uncompressed. */
  readonly lengths: readonly number[];
  /** Of what was compressed, for gzip. */
  readonly crc: number;
}

/**
 * Level 1 takes two thirds of the time of qemu-img's level 3, for 3 % more bytes. If zstd knows the size, it uses
 * smaller tables, which is even faster.
 */
const CLUSTER_OPTIONS = {
  params: { [constants.ZSTD_c_compressionLevel]: 1 },
  pledgedSrcSize: CLUSTER,
  // To get the result in one piece.
  chunkSize: CLUSTER + 1024,
};

const CHUNK_OPTIONS = {
  params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
  chunkSize: RESULT,
};

const buffer = new Uint8Array(CHUNK);

/** The part of `DedicatedWorkerGlobalScope` that is used here. */
interface Scope {
  onmessage: (event: MessageEvent<Task>) => void;
  readonly postMessage: (answer: Compressed | string, transfer?: Transferable[]) => void;
}

// The main program imports this module, too.
if ("WorkerGlobalScope" in globalThis) {
  const scope = self as unknown as Scope;
  scope.onmessage = ({ data: { job, room } }) => {
    try {
      const answer = job.method === "clusters" ? compressClusters(job, room) : compressChunk(job, room);
      scope.postMessage(answer, [answer.bytes.buffer]);
    } catch (error) {
      scope.postMessage((error as Error).message);
    }
  };
}

function compressClusters(
  { path, at, size }: Extract<Job, { method: "clusters" }>,
  bytes: Uint8Array<ArrayBuffer>,
): Compressed {
  using file = Deno.openSync(path);
  const cluster = buffer.subarray(0, CLUSTER);
  const lengths: number[] = [];
  let used = 0;
  for (const offset of at) {
    const length = Math.min(CLUSTER, size - offset);
    cluster.fill(0, length);
    readInto(file, path, cluster.subarray(0, length), offset);
    const compressed = zstdCompressSync(cluster, CLUSTER_OPTIONS);
    const smaller = compressed.length < CLUSTER;
    bytes.set(smaller ? compressed : cluster, used);
    used += smaller ? compressed.length : CLUSTER;
    lengths.push(smaller ? compressed.length : 0);
  }
  return { bytes, lengths, crc: 0 };
}

/**
 * How a chunk is compressed, so that the results of several can be put one behind the other.
 *
 * - zstd: a frame, with the program's usual level and checksum.
 * - gzip: blocks that end at a byte, the last of which is empty and not marked as the last of all (RFC 1951, section 3.2).
 */
const METHODS: Readonly<Record<StreamMethod, (chunk: Uint8Array) => Uint8Array>> = {
  zst(chunk) {
    const options = { ...CHUNK_OPTIONS, pledgedSrcSize: chunk.length };
    return zstdCompressSync(chunk, options);
  },
  gz: (chunk) => deflateRawSync(chunk, { level: 6, finishFlush: constants.Z_FULL_FLUSH, chunkSize: RESULT }),
};

/** Compresses a part of a stream. */
export function compressChunk(
  { method, ...job }: Extract<Job, { method: StreamMethod }>,
  bytes: Uint8Array<ArrayBuffer>,
): Compressed {
  const chunk = fillChunk(job, buffer);
  const compressed = METHODS[method](chunk);
  bytes.set(compressed);
  return { bytes, lengths: [compressed.length], crc: method === "gz" ? crc32(chunk) : 0 };
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
function readInto(file: Deno.FsFile, path: string, target: Uint8Array, offset: number): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < target.length;) {
    const count = file.readSync(target.subarray(done));
    if (count === null) throw new Error(`${path} is truncated at ${offset + done} bytes`);
    done += count;
  }
}
