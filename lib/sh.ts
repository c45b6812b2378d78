/**
 * The one door to other programs: every program is started, logged and judged here.
 *
 * Command lines are written as [dax](https://github.com/dsherret/dax) templates: an interpolated value
 * is always one quoted word, an array several words, an empty array none. The process itself is started
 * with `Deno.Command`, because dax's npm build reports a program that was killed by a signal as a success.
 *
 * @module
 */

import { $, type CommandBuilder, KillController } from "dax";
import { BuildError, quote } from "./error.ts";
import * as log from "./log.ts";
import { packageOf, searchPath } from "./packages.ts";

/** What every program sees: messages that can be parsed, times that do not depend on the machine. */
const environment = () => ({ LC_ALL: "C.UTF-8", TZ: "UTC", PATH: searchPath() });

/** So many last lines of stderr enter the error message of a program that failed. */
const TAIL_LINES = 8;

type Value = string | number | readonly (string | number)[];

export interface ShOptions {
  /** Text for the program's stdin, which is closed otherwise. Logged, so that the log can be replayed. */
  readonly stdin?: string;
  /** Added to the environment, e.g. `SOURCE_DATE_EPOCH`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Exit codes that are an answer and not a failure (`fsck` corrects, `cmp` differs). Default: only 0. */
  readonly accept?: readonly number[];
  /** Called with each piece of stdout as it comes, e.g. for the progress that `qemu-img -p` prints. */
  readonly onStdout?: (text: string) => void;
  /** Called with each piece of stdout as bytes, which are then not collected. */
  readonly onBytes?: (bytes: Uint8Array) => void;
  /** Lines on stderr that say nothing wrong and are not logged. */
  readonly expected?: RegExp;
  /** Logs neither the command nor its chatter, for questions such as `--version`. */
  readonly quiet?: boolean;
}

const interruption = new KillController();
const abort = new AbortController();

/** Aborted by {@link interrupt}, for our own long loops. */
export const interrupted: AbortSignal = abort.signal;

/**
 * Passes SIGINT or SIGTERM on to all programs that run; those started later fail at once.
 *
 * It signals direct children only: no command line here may start a shell around a program.
 */
export function interrupt(signal: "SIGINT" | "SIGTERM"): void {
  abort.abort(new BuildError(`Interrupted by ${signal}`));
  interruption.kill(signal);
}

/** Throws when the build was interrupted. */
export function throwIfInterrupted(): void {
  abort.signal.throwIfAborted();
}

/**
 * Runs one program and returns what it wrote to stdout.
 *
 * @throws {BuildError} when the program is missing, exits with another code than 0, or is killed. The
 * message names the program, the exit code or signal and its last lines on stderr.
 */
export function sh(strings: TemplateStringsArray, ...values: Value[]): Promise<string> {
  return run({}, strings, values);
}

/** Like {@link sh}, with options: ``shWith({ stdin: script })`sfdisk ${image}` ``. */
export function shWith(
  options: ShOptions,
): (strings: TemplateStringsArray, ...values: Value[]) => Promise<string> {
  return (strings, ...values) => run(options, strings, values);
}

/** How one program ended. */
interface Outcome {
  status?: Deno.CommandStatus;
  startError?: unknown;
  stdout: string;
  tail: string[];
}

async function run(
  options: ShOptions,
  strings: TemplateStringsArray,
  values: readonly Value[],
): Promise<string> {
  throwIfInterrupted();
  const outcome: Outcome = { stdout: "", tail: [] };
  const command = spawnTemplate(strings, values)
    .registerCommand("spawn", ({ args, env, signal }) => spawn(args, env, signal, options, outcome))
    .env({ ...environment(), ...options.env })
    .signal(interruption.signal)
    .noThrow()
    .printCommand(!options.quiet);
  command.setPrintCommandLogger((text) => {
    const script = options.stdin === undefined ? "" : ` <<'END'\n${options.stdin.trimEnd()}\nEND`;
    log.detail(text.replace(/^spawn /, "") + script);
  });
  const { code } = await command;
  const program = strings[0]!.trim().split(/\s/)[0] || String([values[0]].flat()[0]);
  throwIfInterrupted();
  if (outcome.startError !== undefined) throw cannotStart(program, outcome.startError);
  const { status, tail } = outcome;
  if (!status) throw new Error(`dax did not start ${quote(program)} (code ${code})`);
  if (status.signal) {
    throw new BuildError(`${program} was killed by ${status.signal}${said(tail)}`, {
      hint: status.signal === "SIGKILL" ? "The system may have run out of memory" : undefined,
    });
  }
  if (status.code !== 0 && !options.accept?.includes(status.code)) {
    throw new BuildError(`${program} failed with exit code ${status.code}${said(tail)}`);
  }
  return outcome.stdout;
}

/** What dax would take for a second command or a redirection, which nobody here would log or judge. */
const SHELL_SYNTAX = /[;&|<>()`]/;

/** The template with `spawn` before its first word, so that dax hands the command line to {@link spawn}. */
function spawnTemplate(strings: TemplateStringsArray, values: readonly Value[]): CommandBuilder {
  // A line break within a long template is a space; to dax it would end the command.
  const words = strings.map((text) => text.replace(/\s*\n\s*/g, " "));
  const syntax = words.find((text) => SHELL_SYNTAX.test(text));
  if (syntax !== undefined) throw new Error(`A command line is one program: ${quote(syntax)}`);
  const prefixed = [`spawn ${words[0]!.trimStart()}`, ...words.slice(1)];
  return $(Object.assign(prefixed, { raw: prefixed }), ...values as (string | number | string[])[]);
}

async function spawn(
  [program = "", ...args]: string[],
  env: Record<string, string>,
  signals: KillController["signal"],
  options: ShOptions,
  outcome: Outcome,
): Promise<{ code: number }> {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args,
      env,
      clearEnv: true,
      stdin: options.stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    outcome.startError = error;
    return { code: 127 };
  }
  const kill: Parameters<typeof signals.addListener>[0] = (signal) => {
    try {
      child.kill(signal as Deno.Signal);
    } catch {
      // It ended by itself in the meantime.
    }
  };
  signals.addListener(kill);
  try {
    const [status] = await Promise.all([
      child.status,
      feed(child, options.stdin),
      collect(child.stdout, options, outcome),
      chatter(child.stderr, options, outcome),
    ]);
    outcome.status = status;
    return { code: status.code };
  } finally {
    signals.removeListener(kill);
  }
}

/** Writes stdin; a program that ends without reading all of it is judged by its exit code, not by EPIPE. */
async function feed(child: Deno.ChildProcess, stdin: string | undefined): Promise<void> {
  if (stdin === undefined) return;
  try {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(stdin));
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

async function collect(
  stdout: ReadableStream<Uint8Array>,
  options: ShOptions,
  outcome: Outcome,
): Promise<void> {
  if (options.onBytes) {
    for await (const bytes of stdout) options.onBytes(bytes);
    return;
  }
  const decoder = new TextDecoder();
  const take = (text: string) => {
    if (options.onStdout) options.onStdout(text);
    else outcome.stdout += text;
  };
  for await (const bytes of stdout) take(decoder.decode(bytes, { stream: true }));
  take(decoder.decode());
}

/** Logs the program's stderr line by line as it comes and keeps the last lines for the error message. */
async function chatter(
  stderr: ReadableStream<Uint8Array>,
  options: ShOptions,
  outcome: Outcome,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  const line = (text: string) => {
    if (text.trim() === "" || options.expected?.test(text)) return;
    if (!options.quiet) log.detail(`  ${text.trimEnd()}`);
    outcome.tail.push(text.trim());
    if (outcome.tail.length > TAIL_LINES) outcome.tail.shift();
  };
  for await (const bytes of stderr) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/[\r\n]/);
    rest = lines.pop() ?? "";
    lines.forEach(line);
  }
  line(rest + decoder.decode());
}

function said(tail: readonly string[]): string {
  return tail.length ? `: ${tail.join(" / ")}` : "";
}

function cannotStart(program: string, cause: unknown): BuildError {
  if (cause instanceof Deno.errors.NotFound) {
    return new BuildError(`Cannot run ${quote(program)}: no such program`, {
      hint: packageOf(program),
      cause,
    });
  }
  const message = cause instanceof Error ? cause.message : String(cause);
  return new BuildError(`Cannot run ${quote(program)}: ${message}`, { cause });
}
