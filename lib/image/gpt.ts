/**
 * GUID partition tables: the arithmetic of the layout, and writing and reading a table with sfdisk.
 *
 * - UEFI 2.10, chapter 5
 * - sfdisk's script format: https://man7.org/linux/man-pages/man8/sfdisk.8.html
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { BuildError, quote } from "../core/error.ts";
import { writeAt } from "./writer.ts";
import { imageSize, openImageFile, readImage } from "./image.ts";
import { parseJson, sh, shWith } from "../system/sh.ts";
import { alignUp, KiB, MiB, SECTOR } from "../core/units.ts";

/** Partitions start and end on multiples of this: erase blocks and RAID stripes divide it. */
export const GRAIN = MiB;

/** The first grain holds the protective MBR and the table, the last one the table's backup. */
export const TABLE_SIZE = 2 * GRAIN;

/** GPT stores a label as 36 UTF-16 code units; sfdisk cuts a longer one without a word. */
export const MAX_LABEL = 36;

export interface TableEntry {
  /** Type GUID. */
  readonly type: string;
  /** The PARTUUID. */
  readonly uuid: string;
  readonly label: string;
  /** Attribute bits, e.g. 59 for growfs. */
  readonly attributes: readonly number[];
  /** In bytes. */
  readonly offset: number;
  readonly size: number;
}

export interface Table {
  /** The disk GUID. */
  readonly id: string;
  readonly entries: readonly TableEntry[];
}

/** Places partitions of these sizes (bytes) one after the other and returns their offsets. */
export function placePartitions(sizes: readonly number[]): number[] {
  let next = GRAIN;
  return sizes.map((size) => {
    const offset = next;
    next = alignUp(offset + size, GRAIN);
    return offset;
  });
}

/** The table as an sfdisk script. Start *and* size are given: without a start, sfdisk shrinks silently. */
export function sfdiskScript({ id, entries }: Table, sector: number = SECTOR): string {
  const lines = entries.map((entry) => {
    if (!/^[A-Za-z0-9._-]*$/.test(entry.label) || entry.label.length > MAX_LABEL) {
      throw new TypeError(`Label ${JSON.stringify(entry.label)} was not checked by the plan`);
    }
    const fields = [
      `start=${entry.offset / sector}`,
      `size=${entry.size / sector}`,
      `type=${entry.type}`,
      `uuid=${entry.uuid}`,
      `name="${entry.label}"`,
    ];
    if (entry.attributes.length) fields.push(`attrs="GUID:${entry.attributes.join(",")}"`);
    return fields.join(", ");
  });
  return ["label: gpt", `label-id: ${id}`, "unit: sectors", "", ...lines, ""].join("\n");
}

/** Writes the table into the image, which already has its full size: the backup goes to its very end. */
export async function writeTable(image: string, table: Table, sector: number = SECTOR): Promise<void> {
  // Without --no-tell-kernel it waits a quarter of a second before it tells a kernel that has no such disk.
  await shWith({
    stdin: sfdiskScript(table, sector),
    // They have been made already.
    expected: /^Partition #\d+ contains a \w+ signature/,
  })`sfdisk --quiet ${sectorOption(sector)} --no-tell-kernel --wipe=never --wipe-partitions=never ${image}`;
}

/** Boot code for BIOS machines stands before the partition table of an MBR, and sfdisk leaves it alone. */
const BOOT_CODE = 440;

/** More than 128 entries and the headers take, whatever the size of the sectors. */
const TABLE_ROOM = 64 * KiB;

/**
 * Writes the table into an image of `size` bytes that is full of data. sfdisk waits until all that its file holds is
 * on the disk below: it gets an empty one, `scratch`, where there is nothing to wait for, and the table is copied.
 */
export async function insertTable(
  image: string,
  table: Table,
  { size, sector, scratch }: { readonly size: number; readonly sector: number; readonly scratch: string },
): Promise<void> {
  await Deno.writeFile(scratch, new Uint8Array(), { createNew: true });
  await Deno.truncate(scratch, size);
  const places = [[BOOT_CODE, TABLE_ROOM - BOOT_CODE], [size - TABLE_ROOM, TABLE_ROOM]] as const;
  {
    // Where there is no space for it, sfdisk does not say so.
    using file = openImageFile(scratch);
    for (const [start, length] of places) writeAt(file, new Uint8Array(length), start);
  }
  await writeTable(scratch, table, sector);
  using target = openImageFile(image);
  for (const [start, length] of places) writeAt(target, readImage(scratch, start, length), start);
}

/** sfdisk takes an image for a disk of 512-byte sectors; before version 2.41 it cannot be told otherwise. */
function sectorOption(sector: number): string[] {
  return sector === SECTOR ? [] : ["--sector-size", String(sector)];
}

/** @throws {BuildError} when this version of sfdisk cannot write a table for such sectors. */
export function checkSectors(sector: number, version = "0"): void {
  if (sector === SECTOR || version.localeCompare("2.41", "en", { numeric: true }) >= 0) return;
  throw new BuildError(
    `Cannot write a partition table for SECTOR_SIZE=${sector}: sfdisk ${version} is too old`,
    {
      kind: "usage",
      hint: "Use the container, or sfdisk 2.41 or later (Debian 13)",
    },
  );
}

/**
 * Reads the table of a raw image back, with identifiers in lower case.
 *
 * @throws {BuildError} when the file has no GPT.
 */
export async function readTable(image: string, sector: number = SECTOR): Promise<Table> {
  const json = parseJson(
    "sfdisk",
    await shWith({ quiet: true })`sfdisk ${sectorOption(sector)} --json ${image}`,
  );
  const table = parseTable(json.partitiontable);
  if (!table) throw new BuildError(`Cannot find a GPT in ${quote(image)}`);
  return table;
}

/** What `sfdisk --json` calls the partition table; `undefined` when it is no GPT, or something else entirely. */
export function parseTable(value: unknown): Table | undefined {
  const { label, id, sectorsize, partitions = [] } = record(value);
  const sector = sectorsize ?? SECTOR;
  if (label !== "gpt" || typeof id !== "string" || typeof sector !== "number") return undefined;
  if (!Array.isArray(partitions)) return undefined;
  const entries: TableEntry[] = [];
  for (const partition of partitions) {
    const { start, size, type, uuid, name = "", attrs = "" } = record(partition);
    if (typeof start !== "number" || typeof size !== "number" || typeof type !== "string") return undefined;
    if (typeof uuid !== "string" || typeof name !== "string" || typeof attrs !== "string") return undefined;
    entries.push({
      type: type.toLowerCase(),
      uuid: uuid.toLowerCase(),
      label: name,
      attributes: [...attrs.matchAll(/\d+/g)].map(([bit]) => Number(bit)),
      offset: start * sector,
      size: size * sector,
    });
  }
  return { id: id.toLowerCase(), entries };
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

/**
 * Checks that the image holds exactly this table and that its backup is sound.
 *
 * @throws {BuildError} naming the first entry that differs.
 */
export async function verifyTable(image: string, table: Table, sector: number = SECTOR): Promise<void> {
  const [found] = await Promise.all([
    readTable(image, sector),
    sh`sfdisk ${sectorOption(sector)} --verify --quiet ${image}`,
  ]);
  verifyHeaders(image, sector);
  const wanted = [table.id, ...table.entries.map(key)];
  [found.id, ...found.entries.map(key)].concat(Array(wanted.length).fill("nothing")).forEach((text, i) => {
    if (i < Math.max(wanted.length, found.entries.length + 1) && text !== wanted[i]) {
      throw new BuildError(`sfdisk wrote another table than planned: ${text} instead of ${wanted[i]}`);
    }
  });
}

/** An entry as one comparable line. */
function key({ type, uuid, label, attributes, offset, size }: TableEntry): string {
  return `${label}: ${size} bytes at ${offset}, type ${type}, uuid ${uuid}, attributes ${attributes}`;
}

/**
 * Checks both copies of the table by their checksums (UEFI 2.10, section 5.3.2): for sfdisk, a backup that is
 * damaged is worth a warning, but no failure.
 */
function verifyHeaders(image: string, sector: number): void {
  const last = imageSize(image) / sector - 1;
  const sums = [1, last].map((lba) => {
    const header = readImage(image, lba * sector, sector);
    const view = new DataView(header.buffer);
    const sum = view.getUint32(16, true);
    view.setUint32(16, 0, true);
    // What is damaged may say anything.
    const length = Math.min(view.getUint32(80, true) * view.getUint32(84, true), GRAIN);
    const entries = readImage(image, Number(view.getBigUint64(72, true)) * sector, length);
    const sound = new TextDecoder().decode(header.subarray(0, 8)) === "EFI PART" &&
      crc32(header.subarray(0, view.getUint32(12, true))) === sum &&
      Number(view.getBigUint64(24, true)) === lba &&
      crc32(entries) === view.getUint32(88, true);
    if (!sound) throw new BuildError(`sfdisk wrote a table that is damaged in sector ${lba}`);
    return crc32(entries);
  });
  if (sums[0] !== sums[1]) throw new BuildError("sfdisk wrote a backup that differs from the table");
}
