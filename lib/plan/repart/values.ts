/**
 * Parsers for the values in definitions. Each throws an {@link Error} that says what is accepted; if its cause is a text,
 * that says what is wrong with the value.
 *
 * @module
 */

import { posix } from "node:path";
import type { ArchitectureName } from "../../core/dps.ts";
import { quote } from "../../core/error.ts";
import { parseUuid } from "../../core/identity.ts";
import { alignUp, KiB } from "../../core/units.ts";
import type { OsRelease } from "../../tree/os-release.ts";

/** What specifiers and names stand for. */
export interface Machine {
  readonly architecture: ArchitectureName;
  readonly osRelease: OsRelease;
  /** The version of the tree's kernel; absent: it has none. */
  readonly kernel?: string | undefined;
}

/** Sizes in definitions are multiples of this. */
export const SIZE_UNIT = 4 * KiB;

/** No disk is larger, and all sums stay exact. */
const MAX_SIZE = 2 ** 50;

const UNITS = ["", "K", "M", "G", "T", "P"];

/**
 * Bytes, as in `64M` or `1.5G`, rounded to a multiple of {@link SIZE_UNIT}. systemd-repart rounds minima down and maxima
 * up, so that both may be the same.
 */
export function size(round: "up" | "down"): (text: string) => number {
  return (text) => {
    const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([KMGTP]?|B)$/.exec(text) ?? [];
    const bytes = digits === undefined
      ? Infinity
      : Math.floor(Number(digits) * KiB ** Math.max(0, UNITS.indexOf(unit!)));
    if (bytes > MAX_SIZE) throw new Error("a number of bytes up to 1P, also with K, M, G or T, such as 512M");
    return round === "up" ? alignUp(bytes, SIZE_UNIT) : Math.floor(bytes / SIZE_UNIT) * SIZE_UNIT;
  };
}

/** A number from 0 to 1000000. */
export function weight(text: string): number {
  if (!/^\d{1,7}$/.test(text) || Number(text) > 1_000_000) throw new Error("a number from 0 to 1000000");
  return Number(text);
}

/** A whole number of 32 bits. */
export function integer(text: string): number {
  if (!/^-?\d{1,10}$/.test(text) || Number(text) !== (Number(text) | 0)) {
    throw new Error("a whole number from -2147483648 to 2147483647");
  }
  return Number(text);
}

const YES = ["1", "yes", "y", "true", "t", "on"], NO = ["0", "no", "n", "false", "f", "off"];

/** `yes` or `no`, in any of systemd's spellings. */
export function boolean(text: string): boolean {
  const word = text.toLowerCase();
  if (!YES.includes(word) && !NO.includes(word)) throw new Error("yes or no");
  return YES.includes(word);
}

/** The bits of a number of 64 bits: decimal, or hexadecimal or binary with `0x` or `0b`. */
export function bits(text: string): number[] {
  const accepted = "a number of 64 bits: decimal, or hexadecimal or binary with 0x or 0b";
  if (!/^(0x[0-9a-f]+|0b[01]+|\d+)$/i.test(text)) throw new Error(accepted);
  const value = BigInt(text);
  if (value >> 64n) throw new Error(accepted);
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => (value >> BigInt(bit)) & 1n);
}

/** A UUID in lower case. */
export function uuid(text: string): string {
  const nil = "00000000-0000-0000-0000-000000000000";
  if (text === "null") return nil;
  const uuid = parseUuid(text);
  if (uuid === undefined) throw new Error("a UUID, or null");
  return uuid;
}

/** What the specifiers mean that do not depend on the machine that builds. */
const SPECIFIERS: Readonly<Record<string, (machine: Machine) => string>> = {
  "a": ({ architecture }) => architecture,
  "A": ({ osRelease }) => osRelease["IMAGE_VERSION"] ?? "",
  "B": ({ osRelease }) => osRelease["BUILD_ID"] ?? "",
  "M": ({ osRelease }) => osRelease["IMAGE_ID"] ?? "",
  "o": ({ osRelease }) => osRelease["ID"] ?? "linux",
  "w": ({ osRelease }) => osRelease["VERSION_ID"] ?? "",
  "W": ({ osRelease }) => osRelease["VARIANT_ID"] ?? "",
  "v": ({ kernel }) => {
    if (kernel === undefined) throw new Error("%v only with a kernel", { cause: "the tree has no kernel" });
    return kernel;
  },
  "%": () => "%",
};

/** Specifiers of the machine on which systemd-repart runs, and what they would be. */
const OF_BUILD_MACHINE: Readonly<Record<string, string>> = {
  "b": "its boot ID",
  "H": "its host name",
  "l": "its host name",
  "m": "its machine ID",
  "q": "its host name",
  "T": "its directory for temporary files",
  "V": "its directory for temporary files",
};

/** Replaces specifiers such as `%A`; `more` are further ones. */
export function expand(
  text: string,
  machine: Machine,
  more: Readonly<Record<string, string>> = {},
): string {
  return text.replace(/%(.?)/gs, (specifier, name: string) => {
    if (Object.hasOwn(more, name)) return more[name]!;
    if (Object.hasOwn(SPECIFIERS, name)) return SPECIFIERS[name]!(machine);
    const known = [...Object.keys(SPECIFIERS), ...Object.keys(more)].map((name) => `%${name}`).join(" ");
    throw new Error(`the specifiers ${known}`, {
      cause: Object.hasOwn(OF_BUILD_MACHINE, name)
        ? `${specifier} would be that of the machine that builds: ${OF_BUILD_MACHINE[name]}`
        : `${quote(specifier)} is no specifier`,
    });
  });
}

/** An absolute path without `..`; slashes that say nothing are left out, but one at the end is kept where it says something. */
export function path(text: string, keepSlash = false): string {
  if (!text.startsWith("/") || text.includes("\0") || text.split("/").includes("..")) {
    throw new Error("an absolute path without ..");
  }
  const plain = posix.normalize(text).replace(/(?<=.)\/+$/, "");
  return keepSlash && text.endsWith("/") && plain !== "/" ? `${plain}/` : plain;
}

/** Splits at spaces, or at another separator. Quotes keep text together, and a backslash the next character. */
export function words(text: string, separator = /\s/): string[] {
  const found: string[] = [];
  const isSpace = separator.test(" ");
  let word: string | undefined = isSpace ? undefined : "";
  let quoted: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const mark = text[i]!;
    if (mark === "\\" && i + 1 < text.length) word = (word ?? "") + text[++i];
    else if (quoted) {
      if (mark === quoted) quoted = undefined;
      else word += mark;
    } else if (mark === '"' || mark === "'") {
      quoted = mark;
      word ??= "";
    } else if (separator.test(mark)) {
      if (word !== undefined) found.push(word);
      word = isSpace ? undefined : "";
    } else word = (word ?? "") + mark;
  }
  if (quoted) throw new Error("words with as many opening as closing quotes");
  if (word !== undefined) found.push(word);
  return found;
}
