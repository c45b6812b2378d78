/**
 * The flags of a command line, read with `parseArgs` of `node:util`; what is wrong with them is said in our own words.
 *
 * @module
 */

import { parseArgs, type ParseArgsConfig } from "node:util";
import { BuildError, quote } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";

/** Where the flags are shown: nobody reads a list of thirty in an error message. */
export const SEE_HELP = "--help shows what it takes";

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
 * @param explain what is known of a flag that is not among the options, as a hint.
 * @param secrets flags whose values are shown nowhere. Where one of them stands, a word that belongs to no flag is not shown
 * either: it may be the rest of a key that a shell took apart.
 * @throws {BuildError} (usage) naming the first flag or word that is wrong, with the flag that was probably meant.
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
    if (token.kind === "positional" && !allowPositionals) {
      const hint = suggest(token.value.split("=")[0]!) ?? `It takes flags only: ${SEE_HELP}`;
      throw problem(`Cannot use the word ${show(token.value)}`, hint);
    }
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    // As it was written: to parseArgs "-output" is a row of one-letter flags.
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
    // A flag in its place is one whose value was forgotten, unless it is tied to it.
    if (takesValue && (value === undefined || !inlineValue && /^-./.test(value))) {
      throw problem(
        `Cannot use ${rawName} without a value`,
        `Write ${rawName}${value && !hasSecret ? `=${value}` : "=VALUE"}`,
      );
    }
  }
  return parseArgs(config) as ReturnType<typeof parseArgs<T>>;
}
