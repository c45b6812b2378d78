/**
 * The headers of PE, the file format of UEFI programs: what tells a tree's programs apart.
 *
 * - https://learn.microsoft.com/windows/win32/debug/pe-format
 *
 * @module
 */

import { viewOf } from "../core/bytes.ts";

/** Reads up to `length` bytes of a file at `offset`. */
export type ReadAt = (offset: number, length: number) => Uint8Array<ArrayBuffer>;

/** Offsets in a row of the section table, which starts with a name of 8 bytes. Relocations are unused in images. */
export const SECTION = { size: 40, virtualSize: 8, address: 12, rawSize: 16, raw: 20, flags: 36 } as const;

/** Where a program's headers are, in bytes from the start of the file. */
interface PeOffsets {
  /** The signature "PE", before the COFF header. */
  readonly signature: number;
  /** The optional header: a magic number, then sizes and alignments. */
  readonly optional: number;
  /** Rows of the data directory. */
  readonly directories: number;
  /** The certificate table's row in the data directory: its position (4 bytes) and length (4 bytes). */
  readonly certificates: number;
  /** The section table. */
  readonly sections: number;
  readonly count: number;
}

/** Finds a program's headers. @throws {RangeError} when they are not within the bytes. */
export function peOffsets(view: DataView): PeOffsets {
  const signature = view.getUint32(0x3c, true);
  const optional = signature + 24;
  // PE32+ has wider addresses than PE32, which shifts the data directory.
  const directory = optional + (view.getUint16(optional, true) === 0x20b ? 112 : 96);
  return {
    signature,
    optional,
    directories: view.getUint32(directory - 4, true),
    certificates: directory + 4 * 8,
    sections: optional + view.getUint16(signature + 20, true),
    count: view.getUint16(signature + 6, true),
  };
}

/** A section: its name, its position in the file, and the size of its contents there, in bytes. */
export interface PeSection {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** The sections of a program, from the first KiB of the file; `undefined` when the table is not within these bytes. */
export function readSections(head: Uint8Array): PeSection[] | undefined {
  const view = viewOf(head);
  try {
    const { sections, count } = peOffsets(view);
    return Array.from({ length: count }, (_, i) => {
      const row = sections + i * SECTION.size;
      const virtualSize = view.getUint32(row + SECTION.virtualSize, true);
      return {
        name: textOf(head.subarray(row, row + 8)),
        offset: view.getUint32(row + SECTION.raw, true),
        size: Math.min(virtualSize, view.getUint32(row + SECTION.rawSize, true)),
      };
    });
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The text in a section or a field, which ends at the first NUL. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\0.*$/s, "").trim();
}
