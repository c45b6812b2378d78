/**
 * The names in a FAT directory: every entry has a short one of 8 and 3 characters, and most have a long one, too.
 *
 * - Microsoft's FAT specification (fatgen103), "FAT Long Directory Entries"
 * - the bits for small letters: Linux, `CASE_LOWER_BASE` and `CASE_LOWER_EXT` in fs/fat/fat.h
 *
 * @module
 */

/** UTF-16 units of a long name that one slot has room for. */
const UNITS = 13;

/** The longest name, in UTF-16 units. */
export const MAX_NAME = 255;

/**
 * What a short name is made of here. Others than ASCII would depend on a code page that no filesystem names;
 * so none begins with 0xE5 either, which marks what was deleted.
 */
const SHORT_NAME_CHARACTERS = "0-9!#$%&'()@^_`{}~-";
const MARK = new RegExp(`[A-Za-z${SHORT_NAME_CHARACTERS}]`);
const PLAIN = new RegExp(`^(${MARK.source}{1,8})(?:\\.(${MARK.source}{1,3}))?$`);
/** So many marks, with small letters or capital ones. */
const upTo = (count: number) =>
  `(?:[a-z${SHORT_NAME_CHARACTERS}]{1,${count}}|[A-Z${SHORT_NAME_CHARACTERS}]{1,${count}})`;
/** A name that needs no long one. */
const SHORT = new RegExp(`^${upTo(8)}(?:\\.${upTo(3)})?$`);

/** Bits of an entry: its base or its extension has small letters and no capital ones. */
const SMALL_BASE = 0x08, SMALL_EXTENSION = 0x10;

/** A name as a directory has it. */
export interface FatName {
  /** Base and extension, each padded with spaces: 11 characters of ASCII. */
  readonly short: string;
  /** The bits for small letters. */
  readonly bits: number;
  /** Absent when the short name and the bits say all. */
  readonly long?: string;
}

/** How many slots of a directory the name takes, that of the entry itself included. */
export function slotsOf(name: string): number {
  return SHORT.test(name) ? 1 : 1 + Math.ceil(name.length / UNITS);
}

/**
 * How the names of one directory are stored. No two may be the same but for case. Short names that are made up
 * are numbered in the order of the names, and none is the name of another file.
 */
export function fatNames(names: readonly string[]): FatName[] {
  const plain = names.map(plainName);
  const taken = new Set(plain.map((name) => name?.short));
  const counts = new Map<string, number>();
  return names.map((long, i) => plain[i] ?? { short: aliasOf(long, taken, counts), bits: 0, long });
}

/** A name of 8 and 3 characters; `undefined` when it is none. */
function plainName(name: string): FatName | undefined {
  const [, base, extension = ""] = PLAIN.exec(name) ?? [];
  if (base === undefined) return undefined;
  const short = pad(base.toUpperCase(), extension.toUpperCase());
  const bits = (isSmall(base) ? SMALL_BASE : 0) | (isSmall(extension) ? SMALL_EXTENSION : 0);
  return SHORT.test(name) ? { short, bits } : { short, bits: 0, long: name };
}

function pad(base: string, extension: string): string {
  return base.padEnd(8) + extension.padEnd(3);
}

function isSmall(text: string): boolean {
  return /^[^A-Z]*[a-z][^A-Z]*$/.test(text);
}

/**
 * Makes up a short name: what of the long one is allowed, and a number. `counts` has the next number for each
 * beginning, so that thousands of names with the same one take no longer than others.
 */
function aliasOf(name: string, taken: Set<string | undefined>, counts: Map<string, number>): string {
  // Dots and spaces at the front would leave no base.
  const text = name.replaceAll(" ", "").replace(/^\.+/, "");
  const dot = text.lastIndexOf(".");
  const base = allowed(dot < 0 ? text : text.slice(0, dot));
  const extension = dot < 0 ? "" : allowed(text.slice(dot + 1)).slice(0, 3);
  for (let digits = 1;; digits++) {
    const start = base.slice(0, 7 - digits);
    const key = `${start}~${digits}.${extension}`;
    let number = counts.get(key) ?? 10 ** (digits - 1);
    for (; number < 10 ** digits; number++) {
      const short = pad(`${start}~${number}`, extension);
      if (taken.has(short)) continue;
      counts.set(key, number + 1);
      taken.add(short);
      return short;
    }
    counts.set(key, number);
  }
}

/** Part of a long name in the characters of a short one, without its dots. */
function allowed(text: string): string {
  return Array.from(text.replaceAll(".", ""), (mark) => MARK.test(mark) ? mark.toUpperCase() : "_").join("");
}

const encoder = new TextEncoder();

/** The short name as bytes. */
export function shortBytes({ short }: FatName): Uint8Array<ArrayBuffer> {
  return encoder.encode(short);
}

/** Where the units of a long name are in a slot, in bytes. */
const PLACES = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const LAST = 0x40, LONG_NAME = 0x0f;

/** Writes the slots of a long name, its end first, as they stand before the entry. Returns where they end. */
export function writeLongName(view: DataView, at: number, short: Uint8Array, long: string): number {
  const checksum = short.reduce((sum, byte) => ((sum & 1) << 7 | sum >> 1) + byte & 0xff, 0);
  const slots = Math.ceil(long.length / UNITS);
  for (let slot = slots; slot > 0; slot--, at += 32) {
    view.setUint8(at, slot | (slot === slots ? LAST : 0));
    view.setUint8(at + 11, LONG_NAME);
    view.setUint8(at + 13, checksum);
    PLACES.forEach((place, i) => {
      const unit = (slot - 1) * UNITS + i;
      // The end is marked, unless it fills the slot, and what comes behind it is set.
      const value = unit < long.length ? long.charCodeAt(unit) : unit === long.length ? 0 : 0xffff;
      view.setUint16(at + place, value, true);
    });
  }
  return at;
}
