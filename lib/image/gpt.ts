/**
 * GUID partition tables: the arithmetic of the layout, and sfdisk's input and output.
 *
 * - UEFI 2.10, chapter 5
 * - sfdisk's script format: https://man7.org/linux/man-pages/man8/sfdisk.8.html
 *
 * @module
 */

import { alignUp, MiB, SECTOR } from "../core/units.ts";

/** Partitions start and end at multiples of this, which suits erase blocks and RAID stripes. */
export const GRAIN = MiB;

/** The first grain holds the protective MBR and the table, the last one the backup of the table. */
export const TABLE_SIZE = 2 * GRAIN;

/** GPT stores a label in 36 UTF-16 code units; sfdisk silently truncates a longer one. */
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

/** Places partitions of these sizes (bytes) one after another and returns their offsets. */
export function placePartitions(sizes: readonly number[]): number[] {
  let next = GRAIN;
  return sizes.map((size) => {
    const offset = next;
    next = alignUp(offset + size, GRAIN);
    return offset;
  });
}

/** The table as an sfdisk script. It has start *and* size: without a start, sfdisk shrinks partitions silently. */
export function sfdiskScript({ id, entries }: Table, sector: number = SECTOR): string {
  const lines = entries.map((entry) => {
    if (!/^[\x20\x21\x23-\x5b\x5d-\x7e]*$/.test(entry.label) || entry.label.length > MAX_LABEL) {
      throw new TypeError(`Label ${JSON.stringify(entry.label)} was not checked by the plan`);
    }
    const fields = [
      `start=${entry.offset / sector}`,
      `size=${entry.size / sector}`,
      `type=${entry.type}`,
      `uuid=${entry.uuid}`,
      `name="${entry.label}"`,
    ];
    if (entry.attributes.length) fields.push(`attrs="${attributeWords(entry.attributes)}"`);
    return fields.join(", ");
  });
  return ["label: gpt", `label-id: ${id}`, "unit: sectors", "", ...lines, ""].join("\n");
}

/** sfdisk's names of the attribute bits that UEFI defines. */
const NAMED_BITS = ["RequiredPartition", "NoBlockIOProtocol", "LegacyBIOSBootable"];

/** Attributes as sfdisk has them: `LegacyBIOSBootable GUID:59,60`. */
function attributeWords(bits: readonly number[]): string {
  const others = bits.filter((bit) => bit >= NAMED_BITS.length);
  return [
    ...bits.flatMap((bit) => NAMED_BITS[bit] ?? []),
    ...others.length ? [`GUID:${others.join(",")}`] : [],
  ].join(" ");
}

/** Parses the `partitiontable` of `sfdisk --json`; `undefined` if it is not a GPT or not a table at all. */
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
      attributes: attrs.split(/[ ,]/).filter(Boolean).map((word) => {
        const named = NAMED_BITS.indexOf(word);
        return named < 0 ? Number(word.replace("GUID:", "")) : named;
      }),
      offset: start * sector,
      size: size * sector,
    });
  }
  return { id: id.toLowerCase(), entries };
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}
