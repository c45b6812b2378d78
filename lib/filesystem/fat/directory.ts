/**
 * Writes the directories of a FAT filesystem.
 *
 * - Microsoft's FAT specification (fatgen103), "FAT Directory Structure"
 *
 * @module
 */

import { type FatName, shortBytes, writeLongName } from "./names.ts";

/** Bytes of a slot, which holds an entry or a piece of a long name. */
export const SLOT = 32;

/** The first and last second that an entry can store (1980 to 2107), in seconds since 1970. */
export const FIRST_TIME = 315532800, LAST_TIME = 4354819198;

/** Clamps a time (seconds since 1970) to the range of FAT. */
export function fatTime(time: number): number {
  return Math.min(Math.max(time, FIRST_TIME), LAST_TIME);
}

const DIRECTORY = 0x10, ARCHIVE = 0x20;

/** What an entry stores about a file or directory. */
export interface FatFile {
  readonly type: "directory" | "file";
  /** In bytes; 0 for a directory. */
  readonly size: number;
  /** The first cluster; 0 for an empty file, and for `..` if the parent is the root. */
  readonly first: number;
  /** Seconds since 1970, from {@link FIRST_TIME} to {@link LAST_TIME}. */
  readonly time: number;
}

/** The names of a directory and of its parent. */
const SELF: FatName = { short: ".".padEnd(11), bits: 0 };
const PARENT: FatName = { short: "..".padEnd(11), bits: 0 };

/**
 * Fills the zeroed slots of a directory.
 *
 * @param above what comes first: the directory itself and its parent, or in the root directory the volume label.
 */
export function writeDirectory(
  bytes: Uint8Array<ArrayBuffer>,
  above: { readonly self: FatFile; readonly parent: FatFile } | { readonly label: Uint8Array },
  entries: Iterable<readonly [FatName, FatFile]>,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = SLOT;
  if ("label" in above) bytes.set(above.label);
  else {
    writeEntry(view, 0, SELF, above.self);
    writeEntry(view, SLOT, PARENT, above.parent);
    at += SLOT;
  }
  for (const [name, file] of entries) {
    if (name.long !== undefined) at = writeLongName(view, at, shortBytes(name), name.long);
    writeEntry(view, at, name, file);
    at += SLOT;
  }
}

function writeEntry(view: DataView, at: number, name: FatName, { type, size, first, time }: FatFile): void {
  shortBytes(name).forEach((byte, i) => view.setUint8(at + i, byte));
  view.setUint8(at + 11, type === "directory" ? DIRECTORY : ARCHIVE);
  view.setUint8(at + 12, name.bits);
  const [date, clock] = dosTime(time);
  // Created, last read (date only), last written. The hundredths at offset 13 stay 0.
  view.setUint16(at + 14, clock, true);
  view.setUint16(at + 16, date, true);
  view.setUint16(at + 18, date, true);
  view.setUint16(at + 22, clock, true);
  view.setUint16(at + 24, date, true);
  view.setUint16(at + 20, first >>> 16, true);
  view.setUint16(at + 26, first & 0xffff, true);
  view.setUint32(at + 28, size, true);
}

/** Date and time of day in UTC, with a resolution of two seconds. */
function dosTime(seconds: number): [date: number, clock: number] {
  const time = new Date(seconds * 1000);
  const date = time.getUTCFullYear() - 1980 << 9 | time.getUTCMonth() + 1 << 5 | time.getUTCDate();
  const clock = time.getUTCHours() << 11 | time.getUTCMinutes() << 5 | time.getUTCSeconds() >> 1;
  return [date, clock];
}
