/**
 * Sizes and alignment. Every size in this project is in bytes unless its name says otherwise
 * (`freeMb` is what a person wrote: `MB` in the settings means MiB, as in Raptor's documentation).
 *
 * @module
 */

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

/** Rounds `bytes` up to a multiple of `unit` (both in bytes). Exact up to 2^53. */
export function alignUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** Rounds `bytes` down to a multiple of `unit` (both in bytes). Exact up to 2^53. */
export function alignDown(bytes: number, unit: number): number {
  return Math.floor(bytes / unit) * unit;
}

/** Writes a size for people: `612 MiB`, `1.5 GiB`, `20 KiB`, `512 B`. */
export function formatBytes(bytes: number): string {
  const units: readonly (readonly [number, string])[] = [[GiB, "GiB"], [MiB, "MiB"], [KiB, "KiB"]];
  for (const [size, name] of units) {
    // Values such as 1536 MiB are exact in the smaller unit and read better there.
    if (bytes >= size && (bytes % size === 0 || bytes >= 10 * size || size === KiB)) {
      return `${Number((bytes / size).toFixed(1))} ${name}`;
    }
  }
  return bytes >= MiB ? `${Number((bytes / MiB).toFixed(1))} MiB` : `${bytes} B`;
}
