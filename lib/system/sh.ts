/**
 * The one door to other programs: every program is started, logged and judged here.
 *
 * Command lines are written as [dax](https://github.com/dsherret/dax) templates: an interpolated value
 * is always one quoted word, an array several words, an empty array none. The process itself is started
 * with `Deno.Command`, because dax's npm build reports a program that was killed by a signal as a success.
 *
 * @module
 */

import { $, type CommandBuilder } from "dax";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { packageOf, searchPath } from "./packages.ts";
import { runProcess, type Sink, type Stdin, stopSignal } from "./process.ts";

export {
  interrupt,
  interrupted,
  type Interruption,
  type SignalName,
  SIGNALS,
  throwIfInterrupted,
} from "./process.ts";

/** What every program sees: messages that can be parsed, times that do not depend on the machine. */
const environment = () => ({ LC_ALL: "C.UTF-8", TZ: "UTC", PATH: searchPath() });

/** Variables with which somebody could change what mke2fs and sfdisk write: only we may set them. */
const INFLUENCE = /^(E2FSPROGS_|LIBBLKID_|LIBFDISK_|MKE2FS_|POSIXLY_CORRECT$|SOURCE_DATE_EPOCH$)/;

/** So many last lines of stderr enter the error message of a program that failed. */
const TAIL_LINES = 8;

type Value = string | number | readonly (string | number)[];

export interface ShOptions {
  /**
   * For the program's stdin, which is closed otherwise: text, which is logged so that the log can be replayed,
   * or a stream of bytes. Each piece is written before the next one is asked for.
   */
  readonly stdin?: Stdin;
  /** Added to the environment, e.g. `SOURCE_DATE_EPOCH`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Exit codes that are an answer and not a failure (`fsck` corrects, `cmp` differs). Default: only 0. */
  readonly accept?: readonly number[];
  /** Called with each piece of stdout as it comes, e.g. for the progress that `qemu-img -p` prints. */
  readonly onStdout?: (text: string) => void;
  /** Called with each piece of stdout as bytes, which are then not collected. */
  readonly onBytes?: (bytes: Uint8Array) => void;
  /** Called with each line of stderr. */
  readonly onStderr?: (line: string) => void;
  /** Lines on stderr that say nothing wrong and are not logged. */
  readonly expected?: RegExp;
  /** Logs neither the command nor its chatter, for questions such as `--version`. */
  readonly quiet?: boolean;
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
  const stop = stopSignal();
  stop.throwIfAborted();
  const outcome: Outcome = { stdout: "", tail: [] };
  const command = spawnTemplate(strings, values)
    .registerCommand("spawn", ({ args, env }) => {
      const inherited = Object.entries(env).filter(([name]) => !INFLUENCE.test(name));
      return spawn(args, { ...Object.fromEntries(inherited), ...options.env }, stop, options, outcome);
    })
    .env(environment())
    .noThrow()
    .printCommand(!options.quiet);
  command.setPrintCommandLogger((text) => {
    const { stdin } = options;
    const script = stdin === undefined
      ? ""
      : typeof stdin === "string"
      ? ` <<'END'\n${stdin.trimEnd()}\nEND`
      : " <tree.tar";
    log.detail(text.replace(/^spawn /, "") + script);
  });
  const { code } = await command;
  const program = strings[0]!.trim().split(/\s/)[0] || String([values[0]].flat()[0]);
  stop.throwIfAborted();
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
  stop: AbortSignal,
  options: ShOptions,
  outcome: Outcome,
): Promise<{ code: number }> {
  const streams = {
    stdin: options.stdin,
    stdout: collector(options, outcome),
    stderr: chatter(options, outcome),
  };
  const status = await runProcess(program, args, env, streams, stop);
  if (status instanceof Error) outcome.startError = status;
  else outcome.status = status;
  return { code: outcome.status?.code ?? 127 };
}

function collector(options: ShOptions, outcome: Outcome): Sink {
  const decoder = new TextDecoder();
  const take = (text: string) => {
    if (options.onStdout) options.onStdout(text);
    else outcome.stdout += text;
  };
  return {
    write: (bytes) =>
      options.onBytes ? options.onBytes(bytes) : take(decoder.decode(bytes, { stream: true })),
    close: () => take(decoder.decode()),
  };
}

/** Logs the program's stderr line by line as it comes and keeps the last lines for the error message. */
function chatter(options: ShOptions, outcome: Outcome): Sink {
  const decoder = new TextDecoder();
  let rest = "";
  const line = (text: string) => {
    options.onStderr?.(text);
    if (text.trim() === "" || options.expected?.test(text)) return;
    if (!options.quiet) log.detail(`  ${text.trimEnd()}`);
    outcome.tail.push(text.trim());
    if (outcome.tail.length > TAIL_LINES) outcome.tail.shift();
  };
  return {
    write(bytes) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split(/[\r\n]/);
      rest = lines.pop() ?? "";
      lines.forEach(line);
    },
    close: () => line(rest + decoder.decode()),
  };
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

/** What a program printed as JSON. @throws {BuildError} naming the program when it is none. */
export function parseJson(program: string, text: string): Record<string, unknown> {
  try {
    const value = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new BuildError(`${program} printed something else than JSON: ${quote(text.slice(0, 60))}`);
}
