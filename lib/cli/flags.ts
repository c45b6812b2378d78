/**
 * Reads command line flags with `parseArgs` of `node:util`, but with our own error messages.
 *
 * @module
 */

import { parseArgs, type ParseArgsConfig } from "node:util";
import { BuildError, quote } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";

/** In place of a list of thirty flags, which nobody would read. */
export const SEE_HELP = "See --help for the flags";

/** The flags of a command, a row each. */
export type Flags = Readonly<Record<string, Flag>>;

export interface Flag {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** What stands for the value in `--help`. */
  readonly value?: string;
  readonly help: string;
}

/** The flags for `--help`: `-f, --file=FILE` and what it means. */
export function flagRows(flags: Flags): [flag: string, help: string][] {
  return Object.entries(flags).map(([name, { short, value, help }]) => [
    `  ${short ? `-${short}, ` : ""}--${name}${value ? `=${value}` : ""}`,
    help,
  ]);
}

/**
 * Reads a command line.
 *
 * @param explain returns a hint for a flag that is not among the options, if it knows it.
 * @param secrets flags whose values are never shown. If one of them is given, stray words are not shown either: they may
 * be parts of a key that a shell split.
 * @throws {BuildError} (usage) naming the first bad flag or word, and the flag that was probably meant.
 */
export function readFlags<T extends ParseArgsConfig & { args: string[] }>(
  config: T,
  explain: (flag: string) => string | undefined = () => undefined,
  secrets: readonly string[] = [],
): ReturnType<typeof parseArgs<T>> {
  const { args, options = {}, allowPositionals = false } = config;
  const flags = Object.keys(options);
  const suggest = (word: string) => {
    const meant = nearest(word.replace(/^-+/, ""), flags);
    return meant && `Did you mean --${meant}?`;
  };
  const problem = (message: string, hint: string) => new BuildError(message, { kind: "usage", hint });
  const { tokens } = parseArgs({ args, options, strict: false, tokens: true });
  const hasSecret = tokens.some((token) => token.kind === "option" && secrets.includes(token.name));
  const show = (text: string) => hasSecret ? "(not shown)" : quote(text);
  for (const token of tokens) {
    // All flags after it would be taken for words, and those of a job come after its own arguments.
    if (token.kind === "option-terminator" && !allowPositionals) {
      throw problem('Cannot use the argument "--"', "Leave it out: only flags are accepted");
    }
    if (token.kind === "positional" && !allowPositionals) {
      const hint = suggest(token.value.split("=")[0]!) ?? "Only flags are accepted: see --help";
      throw problem(`Cannot use the argument ${show(token.value)}`, hint);
    }
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    // As the user wrote it: parseArgs reads "-output" as several one-letter flags.
    const word = args[token.index]!.split("=")[0]!;
    if (!Object.hasOwn(options, name) || flags.includes(word.slice(1))) {
      throw problem(
        `Cannot use ${word.startsWith("--") ? quote(word) : show(word)}: there is no such flag`,
        explain(name) ?? suggest(word) ?? SEE_HELP,
      );
    }
    const takesValue = options[name]!.type === "string";
    if (!takesValue && value !== undefined) {
      throw problem(`Cannot use ${rawName}=${show(value)}: the flag takes no value`, `Write ${rawName}`);
    }
    // A flag in place of a value means that the value was forgotten, unless joined with "=".
    if (takesValue && (value === undefined || !inlineValue && /^-./.test(value))) {
      throw problem(
        `Cannot use ${rawName} without a value`,
        `Write ${rawName}${value && !hasSecret ? `=${value}` : "=VALUE"}`,
      );
    }
  }
  return parseArgs(config) as ReturnType<typeof parseArgs<T>>;
}
