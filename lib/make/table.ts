/**
 * Writes the partition table with sfdisk, and reads it back.
 *
 * @module
 */

import { join } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { node } from "../core/node.ts";
import { timeStep } from "../core/progress.ts";
import { compareNumerically, KiB, SECTOR } from "../core/units.ts";
import { GRAIN, parseTable, sfdiskScript, type Table, type TableEntry } from "../image/gpt.ts";
import { imageSize, openImageFile, readImage } from "../image/image.ts";
import { writeAt } from "../image/writer.ts";
import type { DiskPlan } from "../plan/plan.ts";
import { setSize } from "../system/failure.ts";
import * as commands from "./commands.ts";
import type { ImageInProgress } from "./types.ts";

/**
 * Writes the table into an empty file as large as the image, and checks it. sfdisk syncs its file, which would write a whole
 * image to disk first; and this need not wait for the filesystems. A device gets its table later, since the backup goes to its
 * very end.
 */
export async function draftTable(plan: DiskPlan, image: ImageInProgress): Promise<void> {
  if (image.isDevice) return;
  const { sectorSize, size } = plan;
  const draft = draftOf(image);
  await timeStep("table", async () => {
    await Deno.writeFile(draft, new Uint8Array(), { createNew: true });
    setSize(draft, size);
    {
      // sfdisk does not report a full disk.
      using file = openImageFile(draft);
      for (const [start, length] of tablePlaces(size)) writeAt(file, new Uint8Array(length), start);
    }
    await writeTable(draft, tableOf(plan), sectorSize);
    await verifyTable(draft, tableOf(plan), sectorSize);
  });
}

/** Puts the table into the image. This comes last: without a table, nothing mistakes half an image for a disk. */
export async function partition(plan: DiskPlan, image: ImageInProgress): Promise<void> {
  const { sectorSize, size, settings: { verify } } = plan;
  log.step("Writing and checking the partition table");
  if (image.isDevice) await writeTable(image.disk, tableOf(plan), sectorSize);
  else {
    const draft = draftOf(image);
    using target = openImageFile(image.disk);
    for (const [start, length] of tablePlaces(size)) {
      writeAt(target, readImage(draft, start, length), start);
    }
  }
  if (image.isDevice || verify === "full") await verifyTable(image.disk, tableOf(plan), sectorSize);
  else verifyHeaders(image.disk, sectorSize);
}

function tableOf({ id, partitions }: DiskPlan): Table {
  return { id, entries: partitions };
}

function draftOf({ scratch }: ImageInProgress): string {
  return join(scratch, "table.raw");
}

/** Writes the table into an image that has its full size: the backup goes to the very end. */
export async function writeTable(image: string, table: Table, sector: number = SECTOR): Promise<void> {
  await commands.sfdiskWrite(image, sfdiskScript(table, sector), sector);
}

/** Boot code for BIOS machines precedes the partition table in an MBR, and sfdisk leaves it alone. */
const BOOT_CODE = 440;

/** More than enough for the headers and 128 entries, with any sector size. */
const TABLE_ROOM = 64 * KiB;

/** Where the table and its backup are in an image of `size` bytes: start and length. */
function tablePlaces(size: number): readonly (readonly [number, number])[] {
  return [[BOOT_CODE, TABLE_ROOM - BOOT_CODE], [size - TABLE_ROOM, TABLE_ROOM]];
}

/** @throws {BuildError} when this version of sfdisk cannot write a table for this sector size. */
export function checkSectors(sector: number, version = "0"): void {
  if (sector === SECTOR || compareNumerically(version, "2.41") >= 0) return;
  throw new BuildError(
    `Cannot write a partition table for SECTOR_SIZE=${sector}: sfdisk ${version} is too old`,
    {
      kind: "usage",
      hint: "Use the container, or sfdisk 2.41 or later (Debian 13)",
    },
  );
}

/**
 * Reads back the table of a raw image, with identifiers in lower case.
 *
 * @throws {BuildError} when the file has no GPT.
 */
export async function readTable(image: string, sector: number = SECTOR): Promise<Table> {
  const table = parseTable((await commands.sfdiskJson(image, sector).json()).partitiontable);
  if (!table) throw new BuildError(`Cannot find a GPT in ${quote(image)}`);
  return table;
}

/**
 * Checks that the image has exactly this table, and that the backup is intact.
 *
 * @throws {BuildError} naming the first entry that differs.
 */
export async function verifyTable(image: string, table: Table, sector: number = SECTOR): Promise<void> {
  const [found] = await Promise.all([
    readTable(image, sector),
    commands.sfdiskVerify(image, sector),
  ]);
  verifyHeaders(image, sector);
  const wanted = [table.id, ...table.entries.map(key)];
  [found.id, ...found.entries.map(key)].concat(Array(wanted.length).fill("nothing")).forEach((text, i) => {
    if (i < Math.max(wanted.length, found.entries.length + 1) && text !== wanted[i]) {
      throw new BuildError(`sfdisk did not write the table as planned: ${text} instead of ${wanted[i]}`);
    }
  });
}

/** An entry as one line, for comparison. */
function key({ type, uuid, label, attributes, offset, size }: TableEntry): string {
  return `${label}: ${size} bytes at ${offset}, type ${type}, uuid ${uuid}, attributes ${attributes}`;
}

/**
 * Checks the checksums of both copies of the table (UEFI 2.10, section 5.3.2): sfdisk only warns about a damaged
 * backup.
 */
function verifyHeaders(image: string, sector: number): void {
  const last = imageSize(image) / sector - 1;
  const sums = [1, last].map((lba) => {
    const header = readImage(image, lba * sector, sector);
    const view = new DataView(header.buffer);
    const sum = view.getUint32(16, true);
    view.setUint32(16, 0, true);
    // A damaged header may contain any values.
    const length = Math.min(view.getUint32(80, true) * view.getUint32(84, true), GRAIN);
    const entries = readImage(image, Number(view.getBigUint64(72, true)) * sector, length);
    const sound = new TextDecoder().decode(header.subarray(0, 8)) === "EFI PART" &&
      node.zlib.crc32(header.subarray(0, view.getUint32(12, true))) === sum &&
      Number(view.getBigUint64(24, true)) === lba &&
      node.zlib.crc32(entries) === view.getUint32(88, true);
    if (!sound) throw new BuildError(`sfdisk wrote a damaged table in sector ${lba}`);
    return node.zlib.crc32(entries);
  });
  if (sums[0] !== sums[1]) throw new BuildError("sfdisk wrote a backup that differs from the table");
}
