/**
 * Starts and stops other programs.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate } from "node:timers";
import { BuildError } from "../core/error.ts";
import { enlargeStdin } from "./posix.ts";
import { type Patience, watchProgress } from "./watchdog.ts";

/**
 * Time between SIGTERM and SIGKILL: a program that waits for a disk may not exit by itself. Less than the 10 seconds
 * after which container engines kill the builder itself.
 */
const GRACE_MS = 3000;

/** How long to keep reading the pipes of a stopped program: one of its children may hold them open. */
const DRAIN_MS = 200;

const abort = new AbortController();

/** Aborted by {@link interrupt}; our own long loops check it. */
export const interrupted: AbortSignal = abort.signal;

/** The signals that interrupt a build, with the exit code for each: 128 plus the signal number. */
export const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

export type SignalName = keyof typeof SIGNALS;

/** Stops all running programs. Any that are started later fail immediately. */
export function interrupt(signal: SignalName): void {
  abort.abort(new Interruption(signal));
}

/** The error of an interrupted build. */
export class Interruption extends BuildError {
  readonly exitCode: number;

  constructor(signal: SignalName) {
    super(`Interrupted by ${signal}`);
    this.exitCode = SIGNALS[signal];
  }
}

/** The signal that stops programs started in the current context. */
export function stopSignal(): AbortSignal {
  const own = scope.getStore();
  return own ? AbortSignal.any([interrupted, own]) : interrupted;
}

const scope = new AsyncLocalStorage<AbortSignal>();

/** Runs `fn`. When `signal` is aborted, the programs that `fn` started are stopped and fail with its reason. */
export function stoppedBy<T>(signal: AbortSignal, fn: () => Promise<T>): Promise<T> {
  return scope.run(signal, fn);
}

/** Set in the environment of every program that we start, so that the guard can find them. */
export const RUN_MARK = `RAPTOR_BUILDERS_RUN=${crypto.randomUUID()}`;

const [MARK_NAME = "", MARK_VALUE = ""] = RUN_MARK.split("=");

/** Deno's event loop polls for child processes, signals and timers every 61st round, or when it is idle. */
const ROUNDS = 64;

/**
 * Lets the event loop handle child processes, signals and timers. Takes about 0.1 ms, while a timer of 0 ms would
 * waste 1 to 2 ms. Call it every few milliseconds in a long loop.
 */
export async function yieldToEventLoop(): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) await new Promise((resolve) => setImmediate(resolve));
}

/** @throws {Interruption} when the build was interrupted. */
export function throwIfInterrupted(): void {
  abort.signal.throwIfAborted();
}

/** Input for a program: text, or pieces, each of which is written before the next one is requested. */
export type Stdin = string | Iterable<Uint8Array<ArrayBuffer>>;

/** A program's standard streams. */
interface Streams {
  /** Without it, stdin is empty. */
  readonly stdin: Stdin | undefined;
  readonly stdout: Sink;
  readonly stderr: Sink;
}

/**
 * Runs a program until it exits, or stops it when `stop` is aborted, or when it makes no progress for longer than
 * `patience` allows.
 *
 * @returns its exit status, or the error if it could not be started or was stuck.
 */
export async function runProcess(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  { stdin, stdout, stderr }: Streams,
  stop: AbortSignal,
  patience?: Patience,
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
  let stuck: Error | undefined;
  const unwatch = patience && watchProgress(child.pid, patience, (what) => {
    stuck = new BuildError(`${program} ${what}: it was ended, for it seems to be stuck`, {
      hint: "Try again; if it happens again, its version may have a fault with this tree",
    });
    onStop();
  });
  stop.addEventListener("abort", onStop, { once: true });
  if (stop.aborted) onStop();
  try {
    const [status] = await Promise.all([
      child.status,
      feed(child, stdin),
      drain(child.stdout, pipes.signal, stdout),
      drain(child.stderr, pipes.signal, stderr),
    ]);
    return stuck ?? status;
  } catch (error) {
    // Handling its output failed, so there is no point in letting it finish.
    kill(child, "SIGKILL");
    throw error;
  } finally {
    unwatch?.();
    stop.removeEventListener("abort", onStop);
    timers.forEach((timer) => clearTimeout(timer));
  }
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has already exited.
  }
}

/** Writes stdin. If the program exits without reading all of it, its exit code decides, not EPIPE. */
async function feed(child: Deno.ChildProcess, stdin: Stdin | undefined): Promise<void> {
  if (stdin === undefined) return;
  if (typeof stdin !== "string") enlargeStdin(child.pid);
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

/** Receives the output of a pipe. */
interface Sink {
  readonly write: (bytes: Uint8Array) => void;
  readonly close: () => void;
}

/** Passes the output of a pipe to a sink, until it ends or `signal` is aborted. */
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
