/**
 * Makes a compressed qcow2 image of a raw one, on all processors, and yet the same each time: the clusters are
 * compressed one by one, and written in the order of the disk.
 *
 * @module
 */

import { BuildError } from "../../core/error.ts";
import { alignUp } from "../../core/units.ts";
import { interrupted } from "../../system/process.ts";
import { type Image, writeAt } from "../writer.ts";
import { dataClusters, type Piece } from "./clusters.ts";
import { CLUSTER, writeTables } from "./header.ts";
import { BATCH, type Batch, type Compressed, type Task } from "./worker.ts";
import type { Wrapped } from "./wrap.ts";

/** More would each take memory, and wait for the one that writes. */
const MOST_WORKERS = 4;

/** Writes the disk in `raw` to the empty file `image`. `onProgress` gets the done share, 0 to 1. */
export async function compressQcow2(
  raw: Piece,
  image: Image,
  onProgress: (share: number) => void,
): Promise<Wrapped> {
  const guests: number[] = [], hosts: number[] = [], lengths: number[] = [];
  let end = CLUSTER;
  const write = ({ at: offsets }: Batch, { bytes, lengths: of }: Compressed) => {
    // In one piece, up to a cluster that is not compressed: that has to be aligned.
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

/** The clusters that are not all zeros, some at a time. */
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
    { length: Math.min(navigator.hardwareConcurrency, MOST_WORKERS) },
    () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }),
  );
}

/** Workers that wait for something to compress. */
const idle: Worker[] = [];

/** Starts workers for the next image: they are ready when the raw one is. */
export function prepareToCompress(): void {
  if (idle.length === 0) idle.push(...startWorkers());
}

/** Has the batches compressed side by side, and calls `take` with the results in their order. */
async function inOrder(
  batches: AsyncGenerator<Batch, undefined>,
  take: (batch: Batch, result: Compressed) => void,
): Promise<void> {
  const workers = idle.length ? idle.splice(0) : startWorkers();
  let last: Promise<void> = Promise.resolve();
  // Goes back and forth: garbage would pile up faster than it is collected.
  const rooms: Uint8Array<ArrayBuffer>[] = [];
  const work = async (worker: Worker) => {
    let written: Promise<void> = Promise.resolve();
    for (;;) {
      const before = last, { promise, resolve, reject } = Promise.withResolvers<void>();
      last = promise;
      // Noticed at the end; until then it is no mistake that nobody waits for it.
      promise.catch(() => {});
      try {
        const { value: batch } = await batches.next();
        if (!batch) return void before.then(resolve, reject);
        const room = rooms.pop() ?? new Uint8Array(BATCH * CLUSTER);
        const result = await ask(worker, batch, room);
        // At most one result of each worker waits for those before it.
        await written;
        written = promise;
        const finish = () => {
          take(batch, result);
          rooms.push(result.bytes);
        };
        before.then(finish).then(resolve, reject);
      } catch (error) {
        reject(error);
        throw error;
      }
    }
  };
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(interrupted.reason);
  interrupted.addEventListener("abort", stop);
  try {
    await Promise.race([stopped.promise, Promise.all(workers.map(work))]);
    await last;
  } finally {
    interrupted.removeEventListener("abort", stop);
    workers.forEach((worker) => worker.terminate());
  }
}

/** Has a worker compress one batch. */
function ask(worker: Worker, batch: Batch, room: Uint8Array<ArrayBuffer>): Promise<Compressed> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Compressed | string>) => {
      if (typeof data !== "string") return resolve(data);
      reject(new BuildError(`Cannot compress the image: ${data}`));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    };
    worker.postMessage({ batch, room } satisfies Task, [room.buffer]);
  });
}
