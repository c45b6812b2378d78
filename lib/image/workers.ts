/**
 * Compresses parts of an image on several processors. The result is the same on any number of them: parts are compressed
 * independently, and taken in order.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { interrupted } from "../system/process.ts";
import { RESULT } from "./chunks.ts";
import type { Compressed, Job, Task } from "./worker.ts";

/** More would only take memory and wait for the writer. */
const MAX_WORKERS = 4;

/** As many workers, and threads of other programs, compress at once. */
export function workerCount(): number {
  return Math.min(navigator.hardwareConcurrency, MAX_WORKERS);
}

function startWorkers(): Worker[] {
  return Array.from(
    { length: workerCount() },
    () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }),
  );
}

/** Workers without work. */
const idle: Worker[] = [];

/** Starts the workers for the next image early, so that they are ready when the raw image is. */
export function prepareToCompress(): void {
  if (idle.length === 0) idle.push(...startWorkers());
}

/** Jobs per worker: one being compressed, and one to go on with while results are written. */
const PER_WORKER = 2;

/** Does jobs in parallel, and calls `take` with the results in order. @throws {BuildError} when one fails. */
export async function compressInOrder<J extends Job>(
  jobs: AsyncIterable<J>,
  take: (job: J, result: Compressed) => void,
): Promise<void> {
  const workers = (idle.length ? idle.splice(0) : startWorkers()).map(askable);
  // Buffers are reused: otherwise, garbage piles up faster than it is collected.
  const rooms: Uint8Array<ArrayBuffer>[] = [];
  let count = 0;
  const ask = (job: J) =>
    workers[count++ % workers.length]!.ask({ job, room: rooms.pop() ?? new Uint8Array(RESULT) });
  try {
    await inOrder(jobs, PER_WORKER * workers.length, ask, (job, result) => {
      take(job, result);
      rooms.push(result.bytes);
    });
  } finally {
    workers.forEach(({ worker }) => worker.terminate());
  }
}

/** Asks for up to `limit` results at a time, and calls `take` with them in the order of the jobs. */
export async function inOrder<J, R>(
  jobs: AsyncIterable<J>,
  limit: number,
  ask: (job: J) => Promise<R>,
  take: (job: J, result: R) => void,
): Promise<void> {
  const pending: { job: J; result: Promise<R> }[] = [];
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(interrupted.reason);
  interrupted.addEventListener("abort", stop);
  const takeOldest = async () => {
    const { job, result } = pending.shift()!;
    take(job, await Promise.race([result, stopped.promise]));
  };
  try {
    for await (const job of jobs) {
      if (pending.length === limit) await takeOldest();
      const result = ask(job);
      // Any error is thrown when its turn comes; until then it must not count as unhandled.
      result.catch(() => {});
      pending.push({ job, result });
    }
    while (pending.length > 0) await takeOldest();
  } finally {
    interrupted.removeEventListener("abort", stop);
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
