/**
 * Makes a compressed qcow2 image of a raw one, on all processors, and yet the same each time: the clusters are
 * compressed one by one, and written in the order of the disk.
 *
 * @module
 */

import { BuildError } from "./error.ts";
import { type Image, writeAt } from "./ext4-write.ts";
import { interrupted } from "./process.ts";
import { CLUSTER, writeTables } from "./qcow2.ts";
import { dataClusters, type Piece } from "./qcow2-clusters.ts";
import type { Sealed } from "./qcow2-seal.ts";
import { BATCH, type Batch, type Compressed } from "./qcow2-worker.ts";
import { alignUp } from "./units.ts";

/** More would each take memory, and wait for the one that writes. */
const MOST_WORKERS = 4;

/** Writes the disk in `raw` to the empty file `image`. `onProgress` gets the done share, 0 to 1. */
export async function compressQcow2(
  raw: Piece,
  image: Image,
  onProgress: (share: number) => void,
): Promise<Sealed> {
  const offsets = await Array.fromAsync(dataClusters(raw));
  const batches = Array.from(
    { length: Math.ceil(offsets.length / BATCH) },
    (_, i) => offsets.slice(i * BATCH, (i + 1) * BATCH),
  );
  const hosts: number[] = [], lengths: number[] = [];
  let end = CLUSTER;
  const write = ({ bytes, lengths: of }: Compressed) => {
    // In one piece, up to a cluster that is not compressed: that has to be aligned.
    let from = 0, at = 0;
    const flush = () => {
      writeAt(image, bytes.subarray(from, at), end - (at - from));
      from = at;
    };
    for (const length of of) {
      if (length === 0) {
        flush();
        end = alignUp(end, CLUSTER);
      }
      hosts.push(end);
      lengths.push(length);
      at += length || CLUSTER;
      end += length || CLUSTER;
    }
    flush();
    onProgress(hosts.length / offsets.length);
  };
  await inOrder(batches.map((at) => ({ path: raw.image.path, at, size: raw.size })), write);
  writeTables(image, raw.size, end, { guests: offsets.map((at) => at / CLUSTER), hosts, lengths });
  onProgress(1);
  return { clusters: Math.ceil(raw.size / CLUSTER), allocated: offsets.length };
}

/** Has the batches compressed side by side, and takes the results in their order. */
async function inOrder(batches: readonly Batch[], take: (result: Compressed) => void): Promise<void> {
  const workers = Array.from(
    { length: Math.min(navigator.hardwareConcurrency, MOST_WORKERS, batches.length) },
    () => new Worker(new URL("./qcow2-worker.ts", import.meta.url), { type: "module" }),
  );
  const results = batches.map(() => Promise.withResolvers<Compressed>());
  // One that is rejected is noticed when its turn comes.
  results.forEach(({ promise }) => promise.catch(() => {}));
  const fail = (error: unknown) => results.forEach(({ reject }) => reject(error));
  const stop = () => fail(interrupted.reason);
  interrupted.addEventListener("abort", stop);
  let next = 0;
  const give = (worker: Worker) => {
    const mine = next++;
    if (mine >= batches.length) return;
    worker.onmessage = ({ data }: MessageEvent<Compressed | string>) => {
      give(worker);
      if (typeof data !== "string") return results[mine]!.resolve(data);
      fail(new BuildError(`Cannot compress the image: ${data}`));
    };
    worker.postMessage(batches[mine]);
  };
  try {
    for (const worker of workers) {
      worker.onerror = (event) => {
        event.preventDefault();
        fail(new Error(event.message));
      };
      give(worker);
    }
    for (const { promise } of results) take(await promise);
  } finally {
    interrupted.removeEventListener("abort", stop);
    workers.forEach((worker) => worker.terminate());
  }
}
