/**
 * Compresses clusters on a processor of its own: see compress.ts.
 *
 * @module
 */

import { constants, zstdCompressSync } from "node:zlib";
import { CLUSTER } from "./header.ts";

/** Clusters that a worker gets at once: 4 MiB. */
export const BATCH = 64;

/** What a worker is asked for: the clusters at these offsets of a file. */
export interface Batch {
  readonly path: string;
  readonly at: readonly number[];
  /** Bytes of the file. */
  readonly size: number;
}

/** A batch, and room for the result. */
export interface Task {
  readonly batch: Batch;
  readonly room: Uint8Array<ArrayBuffer>;
}

/** What it answers: all clusters one behind the other, at the beginning of the room. */
export interface Compressed {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of each; 0 for one that would not become smaller and is as it was. */
  readonly lengths: readonly number[];
}

/**
 * Level 1 takes two thirds of the time of level 3, which qemu-img uses, for 3 % more bytes. Told the size, zstd takes
 * smaller tables, which is faster still.
 */
const OPTIONS = {
  params: { [constants.ZSTD_c_compressionLevel]: 1 },
  pledgedSrcSize: CLUSTER,
  // The result in one piece.
  chunkSize: CLUSTER + 1024,
};

const cluster = new Uint8Array(CLUSTER);

/** What of the scope of a worker is used here. */
interface Scope {
  onmessage: (event: MessageEvent<Task>) => void;
  readonly postMessage: (answer: Compressed | string, transfer?: Transferable[]) => void;
}

// The module is also imported, for its types: then there is nobody to answer to.
if ("WorkerGlobalScope" in globalThis) {
  const scope = self as unknown as Scope;
  scope.onmessage = ({ data }) => {
    try {
      const answer = compress(data);
      scope.postMessage(answer, [answer.bytes.buffer]);
    } catch (error) {
      scope.postMessage((error as Error).message);
    }
  };
}

function compress({ batch: { path, at, size }, room: bytes }: Task): Compressed {
  using file = Deno.openSync(path);
  const lengths: number[] = [];
  let used = 0;
  for (const offset of at) {
    file.seekSync(offset, Deno.SeekMode.Start);
    const length = Math.min(CLUSTER, size - offset);
    cluster.fill(0, length);
    for (let done = 0; done < length;) {
      const count = file.readSync(cluster.subarray(done, length));
      if (count === null) throw new Error(`${path} ends at ${offset + done}`);
      done += count;
    }
    const compressed = zstdCompressSync(cluster, OPTIONS);
    const smaller = compressed.length < CLUSTER;
    bytes.set(smaller ? compressed : cluster, used);
    used += smaller ? compressed.length : CLUSTER;
    lengths.push(smaller ? compressed.length : 0);
  }
  return { bytes, lengths };
}
