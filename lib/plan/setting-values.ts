/**
 * Parsers for the values of settings. Each throws an error that says what is accepted.
 *
 * @module
 */

import { nearest, oneOf } from "../core/suggest.ts";

/** What is known of the texts that a parser takes: for completion, and as JSON Schema. */
export interface Schema {
  /** All of them, or the usual ones where a pattern says which others there are. */
  readonly words?: readonly string[];
  /** A regular expression with the flag `u`, as JSON Schema has it. */
  readonly pattern?: string;
  /** Whether a text may be several words, separated by commas. */
  readonly isList?: true;
}

/** A parser of texts, which throws an {@link Error} with what is accepted. */
export interface Parser<T> {
  (text: string): T;
  readonly schema?: Schema;
}

/** A parser with what is known of its texts. */
export function described<T>(schema: Schema, parse: (text: string) => T): Parser<T> {
  return Object.assign((text: string) => parse(text), { schema });
}

/** 2^30 MiB are 1 PiB: all sums of such sizes in bytes are exact, and no filesystem here is larger. */
const MAX_MB = 2 ** 30;

/** MiB, for which the settings say MB as Raptor does. */
export function mebibytes(minimum: number): Parser<number> {
  return described({ pattern: minimum ? "^0*[1-9][0-9]*$" : "^[0-9]+$" }, (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < minimum || number > MAX_MB) {
      throw new Error(`a whole number of MiB from ${minimum} to ${MAX_MB}`);
    }
    return number;
  });
}

/** One of these names or aliases. */
export function choice<T extends string>(
  names: readonly T[],
  aliases: ReadonlyMap<string, T> = new Map(),
): Parser<T> {
  return described({ words: [...names, ...aliases.keys()] }, (text) => {
    const name = aliases.get(text) ?? names.find((name) => name === text);
    if (name === undefined) throw new Error(oneOf(names, text));
    return name;
  });
}

/** Names separated by commas, or `all` or `none`. */
export function listOf<T extends string>(names: readonly T[]): Parser<readonly T[]> {
  const some = `(${names.join("|")})`;
  const words = ["all", "none", ...names];
  const schema: Schema = { words, pattern: `^(all|none|${some}(,${some})*)$`, isList: true };
  return described(schema, (text) => {
    if (text === "none") return [];
    if (text === "all") return names;
    const chosen = text.split(",");
    const wrong = chosen.find((word) => !names.some((name) => name === word));
    if (wrong !== undefined) {
      const meant = nearest(wrong, names);
      throw new Error(`none, all, or some of ${names.join(",")}${meant ? `; did you mean ${meant}?` : ""}`);
    }
    return names.filter((name) => chosen.includes(name));
  });
}

/**
 * Words separated by spaces, or a JSON array of texts for words with spaces.
 *
 * @param start the source of a regular expression for how each word starts
 * @param accepted what a word is
 */
export function words(start: string, accepted: string): Parser<readonly string[]> {
  const word = `${start}[^\\0\\n ]*`;
  const pattern = `^(\\[.*\\]|(?!\\[)${word}( ${word})*)$`;
  const one = new RegExp(`^${start}[^\\0]*$`, "u");
  return described({ pattern }, (text) => {
    const found = text.startsWith("[") ? parseJson(text) : text.split(" ");
    const isList = Array.isArray(found) && found.every((word) => typeof word === "string" && one.test(word));
    if (new RegExp(pattern, "u").test(text) && isList && found.length > 0) return found;
    throw new Error(`${accepted}, separated by spaces, or a JSON array of them`);
  });
}

/**
 * Words `NAME=VALUE`, each name once: of two values, only one would reach the image, and nobody would say which.
 *
 * @param name the source of a regular expression for a name
 */
export function assignments(name: string): Parser<readonly string[]> {
  const parse = words(`${name}=`, "NAME=VALUE");
  return described(parse.schema!, (text) => {
    const found = parse(text);
    const names = found.map((word) => word.split("=", 1)[0]!);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice !== undefined) throw new Error("each NAME once", { cause: `${twice} is in it twice` });
    return found;
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Text that matches; `accepted` says which. */
export function pattern(regexp: RegExp, accepted: string): Parser<string> {
  return described({ pattern: regexp.source }, (text) => {
    if (!regexp.test(text)) throw new Error(accepted);
    return text;
  });
}

/** The most characters of a container image's name, with its registry and without its tag. */
export const IMAGE_NAME_LENGTH = 255;

/** The most characters of a container image's tag. */
export const IMAGE_TAG_LENGTH = 128;

/**
 * The name of a container image with its tag, in lower case. Engines reject an archive with any other name, but only when
 * it is loaded.
 *
 * - https://github.com/distribution/reference/blob/main/reference.go
 */
export const imageName: Parser<string> = (() => {
  const part = "[a-z0-9]+(?:(?:\\.|__?|-+)[a-z0-9]+)*";
  // Only with a port, a registry differs from the first part of a path: in the name of a host is no underscore.
  const host = "[a-z0-9]+(?:(?:\\.|-+)[a-z0-9]+)*:[0-9]+/";
  return pattern(
    new RegExp(
      `^(?=.{1,${IMAGE_NAME_LENGTH}}:[^:]*$)(?:${host})?${part}(?:/${part})*` +
        `:[A-Za-z0-9_][A-Za-z0-9_.-]{0,${IMAGE_TAG_LENGTH - 1}}$`,
    ),
    "a name in lower case and a tag, such as localhost/web:1.0",
  );
})();

/** Kernel options on one line. They end up in boot entries and scripts, where a line break would start another. */
export const kernelOptions: Parser<string> = described(
  { pattern: "^(?!(.* )?root=)[\\x20-\\x7e]{1,2000}$" },
  (text) => {
    if (!/^[\x20-\x7e]{1,2000}$/.test(text)) throw new Error("one line of at most 2000 ASCII characters");
    if (/(^| )root=/.test(text)) throw new Error("options other than root=, which is that of the image");
    return text.trim();
  },
);
