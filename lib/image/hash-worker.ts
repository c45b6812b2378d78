/**
 * The worker that computes checksums for hash.ts.
 *
 * @module
 */

import { type Reported, reported } from "../core/error.ts";
import { digest, type FileRange } from "./digest.ts";

/** The SHA-256 of a range, or what went wrong. */
export type Answer = string | Reported;

/** The part of `DedicatedWorkerGlobalScope` that is used here. */
interface Scope {
  onmessage: (event: MessageEvent<FileRange>) => void;
  readonly postMessage: (answer: Answer) => void;
}

const scope = self as unknown as Scope;
scope.onmessage = async ({ data: range }) => scope.postMessage(await digest(range).catch(reported));
