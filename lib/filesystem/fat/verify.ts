/**
 * Looks at a finished FAT filesystem once more: a program may have written to the wrong place.
 *
 * @module
 */

import { readTarget } from "../../image/image.ts";
import type { Target } from "../../image/target.ts";
import type { FatGeometry } from "./geometry.ts";
import { BOOT_LENGTH, INFO, INFO_LEAD, readLayout } from "./layout.ts";

/**
 * What is wrong with the boot sector, the beginning of the tables, or the number of free clusters where it is noted;
 * `undefined` when nothing is.
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
