/**
 * Makes a compressed qcow2 image from a raw one on several processors. The result is still reproducible: clusters
 * are compressed independently, and written in disk order.
 *
 * @module
 */

import { BuildError } from "../../core/error.ts";
import { alignUp } from "../../core/units.ts";
import { interrupted } from "../../system/process.ts";
import { type Image, writeAt } from "../writer.ts";
import { dataClusters, type Piece } from "./clusters.ts";
import { CLUSTER, writeTables } from "./header.ts";
import type { Batch, Compressed, Task } from "./worker.ts";
import type { Wrapped } from "./wrap.ts";

/** Clusters per request: 4 MiB. */
const BATCH = 64;

/** More would only take memory and wait for the writer. */
const MAX_WORKERS = 4;

/** Writes the disk in `raw` to the empty file `image`. `onProgress` gets the fraction done, 0 to 1. */
export async function compressQcow2(
  raw: Piece,
  image: Image,
  onProgress: (share: number) => void,
): Promise<Wrapped> {
  const guests: number[] = [], hosts: number[] = [], lengths: number[] = [];
  let end = CLUSTER;
  const write = ({ at: offsets }: Batch, { bytes, lengths: of }: Compressed) => {
    // Writes as much as possible at once. Only uncompressed clusters must be aligned.
    let from = 0, at = 0;
    const flush = () => {
      writeAt(image, bytes.subarray(from, at), end - (at - from));
      from = at;
    };
    of.forEach((length, i) => {
      if (length === 0) {
        flush();
        end = alignUp(end, CLUSTER);
      }
      guests.push(offsets[i]! / CLUSTER);
      hosts.push(end);
      lengths.push(length);
      at += length || CLUSTER;
      end += length || CLUSTER;
    });
    flush();
    onProgress(offsets.at(-1)! / raw.size);
  };
  await inOrder(batchesOf(raw), write);
  writeTables(image, raw.size, end, { guests, hosts, lengths });
  onProgress(1);
  return { clusters: Math.ceil(raw.size / CLUSTER), allocated: guests.length };
}

/** The clusters that are not all zeros, in batches. */
async function* batchesOf(raw: Piece): AsyncGenerator<Batch, undefined> {
  const batch = (at: readonly number[]) => ({ path: raw.image.path, at, size: raw.size });
  let at: number[] = [];
  for await (const offset of dataClusters(raw)) {
    if (at.push(offset) < BATCH) continue;
    yield batch(at);
    at = [];
  }
  if (at.length > 0) yield batch(at);
}

function startWorkers(): Worker[] {
  return Array.from(
    { length: Math.min(navigator.hardwareConcurrency, MAX_WORKERS) },
    () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }),
  );
}

/** Workers without work. */
const idle: Worker[] = [];

/** Starts the workers for the next image early, so that they are ready when the raw image is. */
export function prepareToCompress(): void {
  if (idle.length === 0) idle.push(...startWorkers());
}

/** Batches per worker: one being compressed, and one to go on with while results are written. */
const PER_WORKER = 2;

/** Compresses batches in parallel, and calls `take` with the results in order. */
async function inOrder(
  batches: AsyncGenerator<Batch, undefined>,
  take: (batch: Batch, result: Compressed) => void,
): Promise<void> {
  const workers = (idle.length ? idle.splice(0) : startWorkers()).map(askable);
  const pending: { batch: Batch; result: Promise<Compressed> }[] = [];
  // Buffers are reused: otherwise, garbage piles up faster than it is collected.
  const rooms: Uint8Array<ArrayBuffer>[] = [];
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(interrupted.reason);
  interrupted.addEventListener("abort", stop);
  const takeOldest = async () => {
    const { batch, result } = pending.shift()!;
    const compressed = await Promise.race([result, stopped.promise]);
    take(batch, compressed);
    rooms.push(compressed.bytes);
  };
  try {
    let count = 0;
    for await (const batch of batches) {
      if (pending.length === PER_WORKER * workers.length) await takeOldest();
      const room = rooms.pop() ?? new Uint8Array(BATCH * CLUSTER);
      const result = workers[count++ % workers.length]!.ask({ batch, room });
      // Any error is thrown when its turn comes; until then it must not count as unhandled.
      result.catch(() => {});
      pending.push({ batch, result });
    }
    while (pending.length > 0) await takeOldest();
  } finally {
    interrupted.removeEventListener("abort", stop);
    workers.forEach(({ worker }) => worker.terminate());
  }
}

interface Askable {
  readonly worker: Worker;
  readonly ask: (task: Task) => Promise<Compressed>;
}

/** Wraps a worker in an async function. Answers come in the order of the requests. */
function askable(worker: Worker): Askable {
  const asked: PromiseWithResolvers<Compressed>[] = [];
  worker.onmessage = ({ data }: MessageEvent<Compressed | string>) => {
    const { resolve, reject } = asked.shift()!;
    if (typeof data === "string") reject(new BuildError(`Cannot compress the image: ${data}`));
    else resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    asked.splice(0).forEach(({ reject }) => reject(new Error(event.message)));
  };
  return {
    worker,
    ask(task) {
      const answer = Promise.withResolvers<Compressed>();
      asked.push(answer);
      worker.postMessage(task, [task.room.buffer]);
      return answer.promise;
    },
  };
}
