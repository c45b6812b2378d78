/**
 * Checks a finished FAT filesystem again: a program may have written to the wrong place.
 *
 * @module
 */

import { readTarget } from "../../image/image.ts";
import type { Target } from "../../image/target.ts";
import type { FatGeometry } from "./geometry.ts";
import { BOOT_LENGTH, INFO, INFO_LEAD, readLayout } from "./layout.ts";

/**
 * Checks the boot sector, the start of both tables and, in FAT32, the number of free clusters. Returns what is wrong,
 * or `undefined`.
 */
export function fatFault(target: Target, geometry: FatGeometry): string | undefined {
  const part = (at: number) => readTarget(target, at, BOOT_LENGTH);
  const layout = readLayout(new DataView(part(0).buffer), geometry, target.size);
  if (typeof layout === "string") return layout;
  const second = part(layout.tables + layout.tableLength);
  if (!part(layout.tables).every((byte, i) => byte === second[i])) return "its two tables differ";
  for (const at of layout.infos) {
    const info = new DataView(part(at).buffer);
    if (info.getUint32(INFO.lead, true) !== INFO_LEAD) return "it has no FSInfo";
    const [free, wanted] = [info.getUint32(INFO.free, true), layout.clusters - geometry.used];
    if (free !== wanted) return `${free} clusters are free instead of ${wanted}`;
  }
}
