/**
 * Parsers for the values in definitions. Each throws an {@link Error} that says what is accepted; if its cause is a text,
 * that says what is wrong with the value.
 *
 * @module
 */

import { posix } from "node:path";
import type { ArchitectureName } from "../../core/dps.ts";
import { latin1 } from "../../core/bytes.ts";
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

/** How a value is split into words. */
interface Splitting {
  /** What is between two words. Default: any number of spaces. */
  readonly separator?: ":";
  /** Whether quotes keep text together; else they are text. Default: yes. */
  readonly quotes?: boolean;
  /** Whether a backslash begins an escape of C, as in `\x20`; else it stands for the next character. Default: no. */
  readonly escapes?: boolean;
}

const SPACES = " \t\n\r";

/**
 * Splits into words, as `extract_first_word()` in systemd's src/basic/extract-word.c does it. Which keys have
 * quotes and escapes is in src/repart/repart.c.
 */
export function words(text: string, { separator, quotes = true, escapes = false }: Splitting = {}): string[] {
  // One character for each byte, since escapes are bytes: two of them may be one character.
  const bytes = latin1(new TextEncoder().encode(text));
  const found: string[] = [];
  const none = separator === undefined ? undefined : "";
  let word: string | undefined = none;
  let quoted: string | undefined;
  for (let i = 0; i < bytes.length; i++) {
    const mark = bytes[i]!;
    if (mark === "\\") {
      const [length, meant] = escapes ? unescape(bytes.slice(i + 1)) : [1, bytes[i + 1]];
      if (meant === undefined) throw new Error("words in which \\\\ stands for a backslash");
      word = (word ?? "") + meant;
      i += length;
    } else if (quoted) {
      if (mark === quoted) quoted = undefined;
      else word += mark;
    } else if (quotes && (mark === '"' || mark === "'")) {
      quoted = mark;
      word ??= "";
    } else if ((separator ?? SPACES).includes(mark)) {
      if (word !== undefined) found.push(word);
      word = none;
    } else word = (word ?? "") + mark;
  }
  if (quoted) throw new Error("words with as many opening as closing quotes");
  if (word !== undefined) found.push(word);
  return found.map(fromBytes);
}

/** Text from characters that are bytes. */
function fromBytes(bytes: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
      .decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
  } catch {
    throw new Error("UTF-8");
  }
}

/** What one character after a backslash stands for. */
const ESCAPES: Readonly<Record<string, string>> = {
  "a": "\x07",
  "b": "\b",
  "f": "\f",
  "n": "\n",
  "r": "\r",
  "t": "\t",
  "v": "\v",
  "\\": "\\",
  '"': '"',
  "'": "'",
  "s": " ",
};

/** What follows a backslash: its length, and the bytes it stands for, as in systemd's src/basic/escape.c. */
function unescape(text: string): [length: number, bytes: string] {
  const single = ESCAPES[text.slice(0, 1)];
  if (single !== undefined) return [1, single];
  const [all, byte, octal, short, long] =
    /^(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/.exec(text) ?? [];
  const code = octal === undefined ? parseInt(byte ?? short ?? long ?? "0", 16) : parseInt(octal, 8);
  const isByte = byte !== undefined || octal !== undefined;
  // Half a surrogate pair is no character.
  const isPossible = isByte ? code <= 0xff : code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  if (all === undefined || code === 0 || !isPossible) {
    throw new Error(
      "the escapes \\a \\b \\f \\n \\r \\t \\v \\\\ \\\" \\' \\s \\xHH \\OOO \\uHHHH \\UHHHHHHHH",
      {
        cause: "it has another escape",
      },
    );
  }
  if (isByte) return [all.length, String.fromCharCode(code)];
  return [all.length, String.fromCharCode(...new TextEncoder().encode(String.fromCodePoint(code)))];
}
