/**
 * Compresses a stream on several processors. Chunks are compressed independently, so that the result does not depend on how
 * many there are, and zeros are compressed only once.
 *
 * - zstd: a frame per chunk; every program reads one behind the other (RFC 8878, section 3).
 * - gzip: a single member, as pigz writes it. Some programs read only the first one of several, and would take a part of an
 *   image for all of it (RFC 1952).
 * - xz: a block per chunk, in a single stream: https://tukaani.org/xz/xz-file-format.txt
 *
 * @module
 */

import { viewOf } from "../core/bytes.ts";
import { BuildError } from "../core/error.ts";
import { node } from "../core/node.ts";
import { alignUp, MiB } from "../core/units.ts";
import { setSize } from "../system/failure.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import { CHUNK, compressChunk, fillChunk } from "./chunks.ts";
import type { Compressor } from "./formats.ts";
import { type Chunk, chunksOf, type Part, streamSize } from "./parts.ts";
import { compressInOrder, inOrder, workerCount } from "./workers.ts";
import { type Image, writeAt } from "./writer.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A compressed chunk. */
interface Result {
  readonly bytes: Bytes;
  /** CRC-32 of its contents, for gzip. */
  readonly crc: number;
}

/** Joins compressed chunks to a file: what to write before all of them, for each, and after all of them. */
interface Join {
  readonly head: Bytes;
  readonly add: (result: Result, size: number) => Bytes;
  readonly tail: (size: number) => Bytes;
}

/** A chunk, and how many chunks of zeros precede it. */
type ChunkJob = Chunk & { readonly zeros: number };

/** What the compression of a stream needs besides. */
interface CompressOptions {
  /** Called with the bytes of the stream that are done. */
  readonly onProgress: (done: number) => void;
  /** Compresses a block with the program xz, to a whole file. */
  readonly runXz: (block: Bytes) => Promise<Bytes>;
}

/** Writes the stream, with holes, to the empty file `image`. @throws {BuildError} when it cannot be read or written. */
export async function copyStream(
  parts: readonly Part[],
  image: Image,
  onProgress: (done: number) => void,
): Promise<void> {
  const buffer = new Uint8Array(CHUNK);
  let at = 0;
  for (const chunk of chunksOf(parts, CHUNK)) {
    const bytes = fillChunk(chunk, buffer);
    for (const piece of chunk.pieces) {
      const length = "bytes" in piece ? piece.bytes.length : piece.length;
      writeAt(image, bytes.subarray(piece.at, piece.at + length), at + piece.at);
    }
    onProgress(at += chunk.size);
    await yieldToEventLoop();
    throwIfInterrupted();
  }
  setSize(image.path, at);
}

/** Writes the stream, compressed, to the empty file `image`. @throws {BuildError} when it cannot be read or written. */
export async function compressStream(
  method: Compressor,
  parts: readonly Part[],
  image: Image,
  { onProgress, runXz }: CompressOptions,
): Promise<void> {
  const chunk = method === "xz" ? XZ_BLOCK : CHUNK;
  const { head, add, tail } = JOINS[method]();
  let end = 0, done = 0, left = 0;
  let zeros: Result | undefined;
  const append = (bytes: Bytes) => {
    writeAt(image, bytes, end);
    end += bytes.length;
  };
  async function* jobs(): AsyncGenerator<ChunkJob, void> {
    let count = 0;
    for (const { size, pieces } of chunksOf(parts, chunk)) {
      if (pieces.length === 0 && size === chunk) left++;
      else {
        const before = left;
        left = 0;
        yield { size, pieces, zeros: before };
      }
      if (++count % CHUNKS_PER_TURN > 0) continue;
      await yieldToEventLoop();
      throwIfInterrupted();
    }
  }
  const take = ({ size, zeros: before }: Pick<ChunkJob, "size" | "zeros">, result?: Result) => {
    for (let i = 0; i < before; i++) append(add(zeros!, chunk));
    if (result) append(add(result, size));
    onProgress(done += before * chunk + size);
  };
  append(head);
  if (method === "xz") {
    const run = async (job: Chunk) => ({
      bytes: await runXz(fillChunk(job, new Uint8Array(job.size))),
      crc: 0,
    });
    zeros = await run({ size: chunk, pieces: [] });
    await inOrder(jobs(), workerCount(), run, take);
  } else {
    const { bytes, crc } = compressChunk(method, new Uint8Array(chunk));
    zeros = { bytes: new Uint8Array(bytes), crc };
    const tasks = async function* () {
      for await (const job of jobs()) yield { ...job, method };
    };
    await compressInOrder(tasks(), (job, { bytes, lengths: [length], crc }) => {
      take(job, { bytes: bytes.subarray(0, length), crc });
    });
  }
  take({ size: 0, zeros: left });
  append(tail(streamSize(parts)));
}

/** Handle signals after this many chunks, which take a few milliseconds if they are zeros. */
const CHUNKS_PER_TURN = 256;

const NOTHING: Bytes = new Uint8Array();

const JOINS: Readonly<Record<Compressor, () => Join>> = {
  zst: () => ({ head: NOTHING, add: ({ bytes }) => bytes, tail: () => NOTHING }),
  gz: joinGzip,
  xz: joinXz,
};

function joinGzip(): Join {
  const whole = shiftBy(CHUNK);
  let sum = 0;
  return {
    // No name, no time, made on Unix.
    head: Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3),
    add({ bytes, crc }, size) {
      sum = multiply(size === CHUNK ? whole : shiftBy(size), sum) ^ crc;
      return bytes;
    },
    // An empty block that is marked as the last one, the checksum, and the size modulo 2^32.
    tail(size) {
      const view = new DataView(new ArrayBuffer(10));
      view.setUint16(0, 0x0300);
      view.setUint32(2, sum, true);
      view.setUint32(6, size % 2 ** 32, true);
      return new Uint8Array(view.buffer);
    },
  };
}

/** CRC-32 and the polynomials 1 and x^8: the highest bit is the coefficient of x^0. */
const POLYNOMIAL = 0xedb88320, ONE = 1 << 31, BYTE = 1 << 23;

/** The product of two polynomials modulo the CRC-32 polynomial. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= b;
    b = b & 1 ? b >>> 1 ^ POLYNOMIAL : b >>> 1;
  }
  return product;
}

/** What a checksum is multiplied by when `bytes` bytes follow: x^(8 × bytes). */
function shiftBy(bytes: number): number {
  let result = ONE, power = BYTE;
  for (; bytes > 0; bytes = Math.floor(bytes / 2)) {
    if (bytes % 2 === 1) result = multiply(result, power);
    power = multiply(power, power);
  }
  return result;
}

/** Bytes of the stream per block: twice the dictionary of xz's usual level. */
const XZ_BLOCK = 16 * MiB;

/** Bytes of a stream's header, and of its footer. */
const XZ_HEADER = 12;

/** Takes apart what xz makes of each chunk, and joins its blocks to one stream with one index. */
function joinXz(): Join {
  const records: number[] = [];
  let count = 0;
  let flags: Bytes | undefined;
  return {
    head: NOTHING,
    add({ bytes }) {
      const footer = viewOf(bytes.subarray(bytes.length - XZ_HEADER));
      const index = bytes.length - XZ_HEADER - (footer.getUint32(4, true) + 1) * 4;
      const list = bytes.subarray(index, bytes.length - XZ_HEADER);
      // An indicator, and the number of blocks.
      if (list[0] !== 0 || list[1] !== 1) throw new BuildError("xz did not write a single block");
      const end = skipNumber(list, skipNumber(list, 2));
      for (const byte of list.subarray(2, end)) records.push(byte);
      count++;
      if (flags) return bytes.subarray(XZ_HEADER, index);
      flags = bytes.slice(0, XZ_HEADER);
      return bytes.subarray(0, index);
    },
    tail() {
      const head = [0, ...numberBytes(count)];
      const size = alignUp(head.length + records.length, 4) + 4;
      const view = new DataView(new ArrayBuffer(size + XZ_HEADER));
      const bytes = new Uint8Array(view.buffer);
      bytes.set(head);
      bytes.set(records, head.length);
      view.setUint32(size - 4, node.zlib.crc32(bytes.subarray(0, size - 4)), true);
      view.setUint32(size + 4, size / 4 - 1, true);
      // The same flags as in the header, behind its magic number.
      bytes.set(flags!.subarray(6, 8), size + 8);
      view.setUint32(size, node.zlib.crc32(bytes.subarray(size + 4, size + 10)), true);
      view.setUint16(size + 10, 0x595a);
      return bytes;
    },
  };
}

/** Where a number of variable length that starts at `at` ends. */
function skipNumber(bytes: Uint8Array, at: number): number {
  while (bytes[at]! & 0x80) at++;
  return at + 1;
}

/** Seven bits per byte, the lowest first; all but the last have the highest bit set. */
function numberBytes(value: number): number[] {
  return value < 0x80 ? [value] : [value % 0x80 | 0x80, ...numberBytes(Math.floor(value / 0x80))];
}
