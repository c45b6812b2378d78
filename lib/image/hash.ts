/**
 * Checksums of images. Several that are wanted at once are computed on several processors: SHA-256 takes longer for a disk
 * than the disk took to make.
 *
 * @module
 */

import { thrown } from "../core/error.ts";
import { interrupted, throwIfInterrupted } from "../system/process.ts";
import { digest, type FileRange } from "./digest.ts";
import type { Answer } from "./hash-worker.ts";
import { imageSize } from "./image.ts";

/** Below this many bytes, a checksum is done before a thread has started. */
const WORTHWHILE = 50e6;

interface Job extends PromiseWithResolvers<string> {
  readonly range: FileRange;
}

/** Checksums that nobody computes yet. */
const waiting: Job[] = [];
/** Whether this thread computes checksums, and how many others do. */
let isBusy = false, helpers = 0;

/**
 * The SHA-256 of `length` bytes at `offset` in an image, in hex. Default: the whole image. Ask for all that you want before you
 * wait for any, the longest first.
 */
export function hashImage(path: string, offset = 0, length = imageSize(path) - offset): Promise<string> {
  const job = { range: { path, offset, length }, ...Promise.withResolvers<string>() };
  if (!isBusy) {
    isBusy = true;
    compute(job, digest, () => isBusy = false);
  } else if (length >= WORTHWHILE && helpers < navigator.hardwareConcurrency - 1) {
    helpers++;
    const helper = startHelper();
    compute(job, helper.digest, () => {
      helpers--;
      helper.end();
    });
  } else waiting.push(job);
  return job.promise;
}

/** Computes one checksum after another, until nobody waits for any. */
async function compute(
  first: Job,
  digest: (range: FileRange) => Promise<string>,
  onEnd: () => void,
): Promise<void> {
  for (let job: Job | undefined = first; job; job = waiting.shift()) {
    await digest(job.range).then(job.resolve, job.reject);
  }
  onEnd();
}

/** Another thread, which computes one checksum at a time. */
function startHelper(): { readonly digest: (range: FileRange) => Promise<string>; readonly end: () => void } {
  const worker = new Worker(new URL("./hash-worker.ts", import.meta.url), { type: "module" });
  let answer: PromiseWithResolvers<string> | undefined;
  worker.onmessage = ({ data }: MessageEvent<Answer>) => {
    if (typeof data === "string") answer?.resolve(data);
    else answer?.reject(thrown(data));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    answer?.reject(new Error(event.message));
  };
  const stop = () => answer?.reject(interrupted.reason);
  interrupted.addEventListener("abort", stop);
  return {
    async digest(range) {
      throwIfInterrupted();
      answer = Promise.withResolvers();
      worker.postMessage(range);
      return await answer.promise;
    },
    end() {
      interrupted.removeEventListener("abort", stop);
      worker.terminate();
    },
  };
}
