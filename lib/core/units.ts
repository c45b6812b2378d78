/**
 * Sizes and alignment. Every size in this project is in bytes unless its name says otherwise
 * (`freeMb` is what the user wrote: `MB` in the settings means MiB, as in Raptor's documentation).
 *
 * @module
 */

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

/** The usual size of a disk's logical sectors, in bytes. */
export const SECTOR = 512;

/** `st_blocks` counts blocks of this many bytes, whatever the filesystem's block size. */
export const STAT_BLOCK = 512;

/** Compares versions such as `2.38` and `2.41.1` number by number. @returns less than, equal to or greater than 0. */
export function compareNumerically(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  for (let i = 0; i < Math.max(left!.length, right!.length); i++) {
    const order = (left![i] ?? 0) - (right![i] ?? 0);
    if (order) return order;
  }
  return 0;
}

/** Rounds `bytes` up to a multiple of `unit` (bytes). Exact up to 2^53. */
export function alignUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** Formats a size for people, in the largest unit that makes it at least 1: `612 MiB`, `1.5 GiB`, `20 KiB`, `512 B`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  // Without the margin, 1023.96 KiB would be shown as 1024 KiB.
  while (bytes >= 1023.95 && unit < units.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return `${Number(bytes.toFixed(1))} ${units[unit]}`;
}
