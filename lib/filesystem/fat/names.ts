/**
 * Names in a FAT directory: every entry has a short name (8.3), and most have a long one, too.
 *
 * - Microsoft's FAT specification (fatgen103), "FAT Long Directory Entries"
 * - the bits for lower case: Linux, `CASE_LOWER_BASE` and `CASE_LOWER_EXT` in fs/fat/fat.h
 *
 * @module
 */

/** UTF-16 code units of a long name per slot. */
const UNITS = 13;

/** Maximum length of a name, in UTF-16 code units. */
export const MAX_NAME = 255;

/**
 * The characters that we use in short names. Anything but ASCII would depend on a code page, which the filesystem does
 * not record. So no name starts with 0xE5 either, which marks deleted entries.
 */
const SHORT_NAME_CHARACTERS = "0-9!#$%&'()@^_`{}~-";
const CHARACTER = new RegExp(`[A-Za-z${SHORT_NAME_CHARACTERS}]`);
const PLAIN = new RegExp(`^(${CHARACTER.source}{1,8})(?:\\.(${CHARACTER.source}{1,3}))?$`);
/** Up to this many characters, all without upper-case or all without lower-case letters. */
const upTo = (count: number) =>
  `(?:[a-z${SHORT_NAME_CHARACTERS}]{1,${count}}|[A-Z${SHORT_NAME_CHARACTERS}]{1,${count}})`;
/** A name that needs no long name. */
const SHORT = new RegExp(`^${upTo(8)}(?:\\.${upTo(3)})?$`);

/** Bits of an entry: base or extension is in lower case. */
const LOWER_BASE = 0x08, LOWER_EXTENSION = 0x10;

/** A name as a directory stores it. */
export interface FatName {
  /** Base and extension, each padded with spaces: 11 ASCII characters. */
  readonly short: string;
  /** The bits for lower case. */
  readonly bits: number;
  /** Absent if the short name and the bits are enough. */
  readonly long?: string;
}

/** How many slots of a directory a name needs, including that of the entry itself. */
export function slotsOf(name: string): number {
  return SHORT.test(name) ? 1 : 1 + Math.ceil(name.length / UNITS);
}

/**
 * How the names of one directory are stored. No two may differ only in case. Generated short names are numbered in the
 * order of the names, and never equal the name of another file.
 */
export function fatNames(names: readonly string[]): FatName[] {
  const plain = names.map(plainName);
  const taken = new Set(plain.map((name) => name?.short));
  const counts = new Map<string, number>();
  return names.map((long, i) => plain[i] ?? { short: aliasOf(long, taken, counts), bits: 0, long });
}

/** A name that is a valid short name as it is, or `undefined`. */
function plainName(name: string): FatName | undefined {
  const [, base, extension = ""] = PLAIN.exec(name) ?? [];
  if (base === undefined) return undefined;
  const short = pad(base.toUpperCase(), extension.toUpperCase());
  const bits = (isLowerCase(base) ? LOWER_BASE : 0) | (isLowerCase(extension) ? LOWER_EXTENSION : 0);
  return SHORT.test(name) ? { short, bits } : { short, bits: 0, long: name };
}

function pad(base: string, extension: string): string {
  return base.padEnd(8) + extension.padEnd(3);
}

function isLowerCase(text: string): boolean {
  return /^[^A-Z]*[a-z][^A-Z]*$/.test(text);
}

/**
 * Generates a short name: the allowed characters of the long one, and a number. `counts` has the next number for each
 * prefix, so that thousands of names with the same prefix do not get slow.
 */
function aliasOf(name: string, taken: Set<string | undefined>, counts: Map<string, number>): string {
  // Leading dots and spaces would leave no base.
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

/** Converts part of a long name to the characters of short names, without dots. */
function allowed(text: string): string {
  return Array.from(
    text.replaceAll(".", ""),
    (character) => CHARACTER.test(character) ? character.toUpperCase() : "_",
  ).join("");
}

const encoder = new TextEncoder();

/** The short name as bytes. */
export function shortBytes({ short }: FatName): Uint8Array<ArrayBuffer> {
  return encoder.encode(short);
}

/** Byte offsets of a long name's code units in a slot. */
const PLACES = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const LAST = 0x40, LONG_NAME = 0x0f;

/** Writes the slots of a long name, which precede the entry, last piece first. Returns where they end. */
export function writeLongName(view: DataView, at: number, short: Uint8Array, long: string): number {
  const checksum = short.reduce((sum, byte) => ((sum & 1) << 7 | sum >> 1) + byte & 0xff, 0);
  const slots = Math.ceil(long.length / UNITS);
  for (let slot = slots; slot > 0; slot--, at += 32) {
    view.setUint8(at, slot | (slot === slots ? LAST : 0));
    view.setUint8(at + 11, LONG_NAME);
    view.setUint8(at + 13, checksum);
    PLACES.forEach((place, i) => {
      const unit = (slot - 1) * UNITS + i;
      // A name that does not fill the slot ends with a NUL, followed by 0xFFFF.
      const value = unit < long.length ? long.charCodeAt(unit) : unit === long.length ? 0 : 0xffff;
      view.setUint16(at + place, value, true);
    });
  }
  return at;
}
