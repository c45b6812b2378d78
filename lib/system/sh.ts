/**
 * Runs other programs: every program is started, logged and checked here.
 *
 * Commands work as in [dax](https://github.com/dsherret/dax): an interpolated value is one quoted word, an array several
 * words, an empty array none.
 *
 * ```ts
 * await $`mke2fs -q ${image}`;
 * await $`sfdisk ${image}`.stdinText(script);
 * const found = await $`sfdisk --json ${image}`.quiet().json();
 * ```
 *
 * dax parses the command line. The process is started with `Deno.Command`, because dax's npm build treats a program that
 * was killed by a signal as successful (docs/dax-signals.md). Once that is fixed, this file becomes an import.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { LineSplitter } from "../core/lines.ts";
import * as log from "../core/log.ts";
import { runProcess, type Stdin, stopSignal } from "./process.ts";
import { chatterOf, childEnvironment, packageHint, patienceWith } from "./programs.ts";
import { memoryHint } from "./scratch.ts";

/** How many lines of stderr to quote in the error message of a failed program. */
const TAIL_LINES = 8;

type Word = string | number;

interface Options {
  readonly stdin?: Stdin;
  readonly env: Readonly<Record<string, string>>;
  readonly accepted: readonly number[];
  readonly quiet: boolean;
  readonly onStdout?: (bytes: Uint8Array) => void;
}

/** How a program ended. */
interface Outcome {
  readonly code: number;
  readonly stdout: string;
  /** Its output on stdout and stderr. */
  readonly combined: string;
}

/**
 * A command that has not been started yet: `await` starts it. Methods that configure it return a new command.
 *
 * Awaiting it throws a {@link BuildError} when the program is missing, exits with a non-zero code, or is killed. The
 * message has its name, the exit code or signal, the last lines of stderr, and on a new line the command.
 */
export class Command implements PromiseLike<void> {
  constructor(
    private readonly strings: readonly string[],
    private readonly words: readonly (Word | readonly Word[])[],
    private readonly options: Options = { env: {}, accepted: [0], quiet: false },
  ) {}

  private with(options: Partial<Options>): Command {
    return new Command(this.strings, this.words, { ...this.options, ...options });
  }

  /** Text for stdin, which is otherwise empty. It is logged, so that the command can be run again by hand. */
  stdinText(text: string): Command {
    return this.with({ stdin: text });
  }

  /** Bytes for stdin. Each chunk is written before the next one is requested. */
  stdin(chunks: Iterable<Uint8Array<ArrayBuffer>>): Command {
    return this.with({ stdin: chunks });
  }

  /** Adds variables to the environment, which is otherwise nearly empty. */
  env(variables: Readonly<Record<string, string>>): Command {
    return this.with({ env: { ...this.options.env, ...variables } });
  }

  /** Treats these exit codes as answers, not failures: `fsck` corrected something, `cmp` found a difference. */
  noThrow(...codes: readonly number[]): Command {
    return this.with({ accepted: [0, ...codes] });
  }

  /** Logs neither the command nor its stderr: for queries such as `--version`. */
  quiet(): Command {
    return this.with({ quiet: true });
  }

  /** Passes stdout on as it arrives, and collects none of it. */
  stdout(onChunk: (bytes: Uint8Array) => void): Command {
    return this.with({ onStdout: onChunk });
  }

  /** Runs the program and returns its stdout, or both stdout and stderr. */
  async text(kind: "stdout" | "combined" = "stdout"): Promise<string> {
    return (await this.run())[kind];
  }

  /** Runs the program and returns its exit code. */
  async code(): Promise<number> {
    return (await this.run()).code;
  }

  /** Runs the program and parses its stdout. @throws {BuildError} when it is not a JSON object. */
  async json(): Promise<Record<string, unknown>> {
    const text = await this.text();
    try {
      const value = JSON.parse(text);
      if (typeof value === "object" && value !== null) return value;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    throw new BuildError(`${this.program} did not print JSON: ${quote(text.slice(0, 60))}`);
  }

  then<T = void, E = never>(
    onFulfilled?: ((value: void) => T | PromiseLike<T>) | null,
    onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null,
  ): Promise<T | E> {
    return this.run().then(() => {}).then(onFulfilled, onRejected);
  }

  private get program(): string {
    return this.strings[0]!.trim().split(/\s/)[0] || String([this.words[0]].flat()[0]);
  }

  private async run(): Promise<Outcome> {
    const { program, options } = this;
    const stop = stopSignal();
    stop.throwIfAborted();
    const output = new Output(program, options);
    let ended: Deno.CommandStatus | Error | undefined;
    const dax = await loadDax();
    const command = parse(dax, this.strings, this.words)
      .registerCommand("spawn", async ({ args: [program = "", ...args] }) => {
        const variables = { ...childEnvironment(), ...options.env };
        const streams = { ...output.sinks, stdin: options.stdin };
        ended = await runProcess(program, args, variables, streams, stop, patienceWith(program));
        return { code: ended instanceof Error ? 127 : ended.code };
      })
      .noThrow()
      .printCommand();
    let line = "";
    command.setPrintCommandLogger((text) => {
      line = text.replace(/^spawn /, "") + hereDocument(options.stdin);
      if (!options.quiet) log.trace(line);
    });
    await command;
    stop.throwIfAborted();
    if (ended === undefined) throw new Error(`dax did not start ${quote(program)}`);
    if (ended instanceof BuildError) throw ended;
    if (ended instanceof Error) throw cannotStart(program, ended);
    if (ended.signal) {
      throw new BuildError(`${program} was killed by ${ended.signal}${output.stderrTail}\n${line}`, {
        hint: ended.signal === "SIGKILL" ? memoryHint() : undefined,
      });
    }
    if (!options.accepted.includes(ended.code)) {
      throw new BuildError(`${program} failed with exit code ${ended.code}${output.stderrTail}\n${line}`);
    }
    return { code: ended.code, stdout: output.stdout, combined: output.combined };
  }
}

/** A command line of one program: see {@link Command}. */
export function $(strings: TemplateStringsArray, ...words: readonly (Word | readonly Word[])[]): Command {
  return new Command(strings, words);
}

/** Operators that would make dax start a second program or open a file, without logging or checks. */
const SHELL_SYNTAX = /[;&|<>()`]/;

type Dax = typeof import("dax");

/**
 * Loads dax with the first program: what runs none would wait as long for it as for all else.
 *
 * It is imported as the file that its name stands for, since Deno would compile what is imported later by a name of npm in each
 * run, and write the result to its cache in vain. The name is for a Deno that may not read that file, and tells all of them to
 * fetch the package.
 */
async function loadDax(): Promise<Dax> {
  try {
    return await import(import.meta.resolve("dax"));
  } catch {
    return await import("dax");
  }
}

/** Prepends `spawn` to the template, so that dax passes the words to our own command. */
function parse(dax: Dax, strings: readonly string[], words: readonly (Word | readonly Word[])[]) {
  // In dax, a line break ends the command.
  const texts = strings.map((text) => text.replace(/\s*\n\s*/g, " "));
  const syntax = texts.find((text) => SHELL_SYNTAX.test(text));
  if (syntax !== undefined) throw new Error(`A command line is one program: ${quote(syntax)}`);
  const prefixed = [`spawn ${texts[0]!.trimStart()}`, ...texts.slice(1)];
  return dax.$(Object.assign(prefixed, { raw: prefixed }), ...words as (string | number | string[])[]);
}

function hereDocument(stdin: Stdin | undefined): string {
  if (stdin === undefined) return "";
  return typeof stdin === "string" ? ` <<'END'\n${stdin.trimEnd()}\nEND` : " <tree.tar";
}

/** Collects the output of a program, and logs its stderr line by line as it arrives. */
class Output {
  stdout = "";
  combined = "";
  private readonly tail: string[] = [];
  private readonly chatter: RegExp | undefined;

  constructor(program: string, private readonly options: Options) {
    this.chatter = chatterOf(program);
  }

  /** The last lines of stderr for an error message. */
  get stderrTail(): string {
    return this.tail.length ? `: ${this.tail.join(" / ")}` : "";
  }

  readonly sinks = { stdout: this.stdoutSink(), stderr: this.stderrSink() };

  private stdoutSink() {
    const decoder = new TextDecoder();
    const take = (text: string) => {
      this.stdout += text;
      this.combined += text;
    };
    return {
      write: (bytes: Uint8Array) => {
        if (this.options.onStdout) this.options.onStdout(bytes);
        else take(decoder.decode(bytes, { stream: true }));
      },
      close: () => take(decoder.decode()),
    };
  }

  private stderrSink() {
    const lines = new LineSplitter(/[\r\n]/, (line) => this.takeLine(line));
    return { write: (bytes: Uint8Array) => lines.write(bytes), close: () => lines.close() };
  }

  private takeLine(line: string): void {
    this.combined += `${line}\n`;
    if (line.trim() === "" || this.chatter?.test(line)) return;
    if (!this.options.quiet) log.trace(`  ${line.trimEnd()}`);
    this.tail.push(line.trim());
    if (this.tail.length > TAIL_LINES) this.tail.shift();
  }
}

function cannotStart(program: string, cause: Error): BuildError {
  const missing = cause instanceof Deno.errors.NotFound;
  return new BuildError(`Cannot run ${quote(program)}: ${missing ? "no such program" : cause.message}`, {
    hint: missing ? packageHint(program) : undefined,
    cause,
  });
}
