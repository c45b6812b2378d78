/**
 * PE, the file format of UEFI programs: reading headers and appending sections.
 *
 * - https://learn.microsoft.com/windows/win32/debug/pe-format
 *
 * @module
 */

import { viewOf } from "../core/bytes.ts";
import { BuildError } from "../core/error.ts";
import { alignUp } from "../core/units.ts";
import { peOffsets, SECTION } from "../tree/pe.ts";

/** Positions are in bytes from the start of the file. */
export interface PeHeaders {
  /** The optional header: a magic number, then sizes and alignments. */
  readonly optional: number;
  /** The certificate table's entry in the data directory: its position (4 bytes) and length (4 bytes). */
  readonly certificates: number;
  /** The section table. */
  readonly sections: number;
  readonly count: number;
  readonly sectionAlignment: number;
  readonly fileAlignment: number;
  readonly headersSize: number;
  readonly imageSize: number;
}

/** Offsets in the optional header. */
export const OPTIONAL = { imageSize: 56, checksum: 64 } as const;

/** Reads the headers. @throws {BuildError} naming `path` when it is not a PE file, or a broken one. */
export function readPe(bytes: Uint8Array, path: string): PeHeaders {
  try {
    const view = viewOf(bytes);
    const { signature, optional, directories, certificates, sections, count } = peOffsets(view);
    if (view.getUint16(0, true) !== 0x5a4d || view.getUint32(signature, true) !== 0x4550 || directories < 5) {
      throw new RangeError();
    }
    const headers = {
      optional,
      certificates,
      sections,
      count,
      sectionAlignment: view.getUint32(optional + 32, true),
      fileAlignment: view.getUint32(optional + 36, true),
      headersSize: view.getUint32(optional + 60, true),
      imageSize: view.getUint32(optional + OPTIONAL.imageSize, true),
    };
    if (headers.sections + headers.count * SECTION.size > bytes.length) throw new RangeError();
    // What is written to the one would change the other.
    if (headers.sections < headers.certificates + 8) throw new RangeError();
    return headers;
  } catch (cause) {
    throw new BuildError(`Cannot read ${path}: it is not a UEFI program`, { cause });
  }
}

/** A section to append. */
export interface Section {
  /** At most eight characters. */
  readonly name: string;
  readonly contents: Uint8Array;
  /** Bytes in memory, if more than the contents. */
  readonly memory?: number;
}

/** Alignment of sections in the file: the minimum of the format, and what all linkers use. */
export const FILE_ALIGNMENT = 512;

/** The size of a program with sections appended. */
export function sizeWithSections(size: number, sections: readonly number[]): number {
  return [size, ...sections].reduce((sum, size) => sum + alignUp(size, FILE_ALIGNMENT), 0);
}

/** `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`. */
const READ_DATA = 0x40000040;

function isPowerOfTwo(number: number): boolean {
  return number > 0 && (number & (number - 1)) === 0;
}

/** A program with sections appended, as `objcopy --add-section` and ukify do it. */
export function appendSections(
  program: Uint8Array,
  sections: readonly Section[],
  path: string,
): Uint8Array<ArrayBuffer> {
  const headers = readPe(program, path);
  const end = headers.sections + (headers.count + sections.length) * SECTION.size;
  if (headers.fileAlignment !== FILE_ALIGNMENT || end > headers.headersSize) {
    throw new BuildError(`Cannot add sections to ${path}: there is no room for them in its headers`);
  }
  if (headers.headersSize > program.length || !isPowerOfTwo(headers.sectionAlignment)) {
    throw new BuildError(`Cannot add sections to ${path}: it is no program for UEFI`);
  }
  const bytes = new Uint8Array(
    sizeWithSections(program.length, sections.map(({ contents }) => contents.length)),
  );
  bytes.set(program);
  const view = viewOf(bytes);
  let row = headers.sections + headers.count * SECTION.size;
  let raw = alignUp(program.length, FILE_ALIGNMENT);
  let address = headers.imageSize;
  for (const { name, contents, memory = 0 } of sections) {
    bytes.fill(0, row, row + SECTION.size);
    bytes.set(new TextEncoder().encode(name).subarray(0, 8), row);
    const size = Math.max(contents.length, memory);
    view.setUint32(row + SECTION.virtualSize, size, true);
    view.setUint32(row + SECTION.address, address, true);
    view.setUint32(row + SECTION.rawSize, alignUp(contents.length, FILE_ALIGNMENT), true);
    view.setUint32(row + SECTION.raw, raw, true);
    view.setUint32(row + SECTION.flags, READ_DATA, true);
    bytes.set(contents, raw);
    raw += alignUp(contents.length, FILE_ALIGNMENT);
    address = alignUp(address + size, headers.sectionAlignment);
    row += SECTION.size;
  }
  if (address >= 2 ** 32) throw new BuildError(`Cannot add sections to ${path}: it becomes too large`);
  // The number of sections, two bytes into the header before the optional one, which has 20.
  view.setUint16(headers.optional - 18, headers.count + sections.length, true);
  view.setUint32(headers.optional + OPTIONAL.imageSize, address, true);
  view.setUint32(headers.optional + OPTIONAL.checksum, 0, true);
  // The program's own signature is not valid for the result.
  bytes.fill(0, headers.certificates, headers.certificates + 8);
  return bytes;
}
