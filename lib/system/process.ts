/**
 * Other programs as processes: which run, and how they are stopped.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate } from "node:timers";
import { BuildError } from "../core/error.ts";

/**
 * So long a program may take to end after SIGTERM before it gets SIGKILL: one that waits for a disk may not. Less than
 * the 10 seconds after which container engines kill the builder itself.
 */
const GRACE_MS = 3000;

/** How long the pipes of a program that was stopped are read on, in case that a child of its keeps them open. */
const DRAIN_MS = 200;

const abort = new AbortController();

/** Aborted by {@link interrupt}, for our own long loops. */
export const interrupted: AbortSignal = abort.signal;

/** What interrupts a build from outside, with the exit code that says so: 128 and the signal's number. */
export const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

export type SignalName = keyof typeof SIGNALS;

/** Stops all programs that run; those started later fail at once. */
export function interrupt(signal: SignalName): void {
  abort.abort(new Interruption(signal));
}

/** Why a build ended that was interrupted. */
export class Interruption extends BuildError {
  readonly exitCode: number;

  constructor(signal: SignalName) {
    super(`Interrupted by ${signal}`);
    this.exitCode = SIGNALS[signal];
  }
}

/** What stops the programs that are started here and now. */
export function stopSignal(): AbortSignal {
  const own = scope.getStore();
  return own ? AbortSignal.any([interrupted, own]) : interrupted;
}

const scope = new AsyncLocalStorage<AbortSignal>();

/** Runs `fn`; when `signal` is aborted, the programs that it started are stopped and fail with its reason. */
export function stoppedBy<T>(signal: AbortSignal, fn: () => Promise<T>): Promise<T> {
  return scope.run(signal, fn);
}

/** In the environment of every program that this process starts, by which they are found when it is gone. */
export const RUN_MARK = `RAPTOR_BUILDERS_RUN=${crypto.randomUUID()}`;

const [MARK_NAME = "", MARK_VALUE = ""] = RUN_MARK.split("=");

/** Deno's event loop looks at programs, signals and timers at each 61st round, or when it has nothing to do. */
const ROUNDS = 64;

/**
 * Gives programs, signals and timers a turn within a long loop: some 0.1 ms, where a timer of 0 ms would have the
 * loop do nothing for 1 to 2 ms. Call it every few milliseconds.
 */
export async function yieldToEventLoop(): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) await new Promise((resolve) => setImmediate(resolve));
}

/** Throws when the build was interrupted. */
export function throwIfInterrupted(): void {
  abort.signal.throwIfAborted();
}

/** What a program reads: text, or pieces of which each is written before the next one is asked for. */
export type Stdin = string | Iterable<Uint8Array<ArrayBuffer>>;

/** What goes into a program and what is done with what comes out. */
interface Streams {
  /** For its stdin, which is closed otherwise. */
  readonly stdin: Stdin | undefined;
  readonly stdout: Sink;
  readonly stderr: Sink;
}

/**
 * Runs a program to its end, or until `stop` is aborted: then it is stopped.
 *
 * @returns how it ended, or the error for one that could not be started.
 */
export async function runProcess(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  { stdin, stdout, stderr }: Streams,
  stop: AbortSignal,
): Promise<Deno.CommandStatus | Error> {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args: [...args],
      env: { ...env, [MARK_NAME]: MARK_VALUE },
      clearEnv: true,
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    return error as Error;
  }
  const pipes = new AbortController();
  const timers: ReturnType<typeof setTimeout>[] = [];
  const onStop = () => {
    kill(child, "SIGTERM");
    timers.push(setTimeout(() => kill(child, "SIGKILL"), GRACE_MS));
    child.status.then(() => timers.push(setTimeout(() => pipes.abort(), DRAIN_MS)));
  };
  stop.addEventListener("abort", onStop, { once: true });
  if (stop.aborted) onStop();
  try {
    const [status] = await Promise.all([
      child.status,
      feed(child, stdin),
      drain(child.stdout, pipes.signal, stdout),
      drain(child.stderr, pipes.signal, stderr),
    ]);
    return status;
  } catch (error) {
    // What was to be done with its output failed: nobody waits for it any more.
    kill(child, "SIGKILL");
    throw error;
  } finally {
    stop.removeEventListener("abort", onStop);
    timers.forEach((timer) => clearTimeout(timer));
  }
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It ended by itself in the meantime.
  }
}

/** Writes stdin; a program that ends without reading all of it is judged by its exit code, not by EPIPE. */
async function feed(child: Deno.ChildProcess, stdin: Stdin | undefined): Promise<void> {
  if (stdin === undefined) return;
  try {
    const writer = child.stdin.getWriter();
    for (const piece of typeof stdin === "string" ? [new TextEncoder().encode(stdin)] : stdin) {
      await writer.write(piece);
    }
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** What is done with the pieces of a pipe, and at its end. */
interface Sink {
  readonly write: (bytes: Uint8Array) => void;
  readonly close: () => void;
}

/** Hands each piece of a pipe to `sink`, until the pipe ends or `signal` is aborted. */
async function drain(
  pipe: ReadableStream<Uint8Array>,
  signal: AbortSignal,
  { write, close }: Sink,
): Promise<void> {
  try {
    await pipe.pipeTo(new WritableStream({ write, close }), { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
