/**
 * Checks what can be done with the image of a format as a whole.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { alignUp, MiB, SECTOR } from "../core/units.ts";
import { type BuilderName, compressibleFormats, formatOf } from "../image/formats.ts";
import type { Settings } from "./settings.ts";
import type { DiskVolumes } from "./volumes.ts";

/** @throws {BuildError} (usage) for a format that cannot be compressed, has no block map, or other sectors. */
export function checkPacking(
  { outputFormat, compress, bmap, sectorSize }: Settings,
  builder: BuilderName,
): void {
  const { compressible, strategy, smallSectors } = formatOf(outputFormat);
  const names = compressibleFormats(builder).join(" or ");
  if (compress !== "none" && !compressible) {
    throw new BuildError(`Cannot use COMPRESS=${compress} with OUTPUT_FORMAT=${outputFormat}`, {
      kind: "usage",
      hint:
        `Leave COMPRESS out, or set OUTPUT_FORMAT to ${names}: the others are compressed, or are used as they are`,
    });
  }
  if (smallSectors && builder === "disk-image" && sectorSize !== SECTOR) {
    throw new BuildError(`Cannot use SECTOR_SIZE=${sectorSize} with OUTPUT_FORMAT=${outputFormat}`, {
      kind: "usage",
      hint: `Set OUTPUT_FORMAT to raw or qcow2: the disks of ${outputFormat} have sectors of ${SECTOR} bytes`,
    });
  }
  if (bmap !== undefined && !(compressible && strategy === "direct")) {
    throw new BuildError(`Cannot write BMAP for OUTPUT_FORMAT=${outputFormat}`, {
      kind: "usage",
      hint: "Leave BMAP out, or set OUTPUT_FORMAT to raw: bmaptool only writes raw images",
    });
  }
}

/** @throws {BuildError} (usage) for an image of more bytes than its format can have. */
export function checkSize({ outputFormat }: Settings, size: number): void {
  const { largest = Infinity } = formatOf(outputFormat);
  if (size <= largest) return;
  throw new BuildError(
    `Cannot make an image of ${size / MiB} MiB with OUTPUT_FORMAT=${outputFormat}: the largest has ${
      largest / MiB
    }`,
    { kind: "usage", hint: "Make it smaller, or set OUTPUT_FORMAT to raw or qcow2" },
  );
}

/**
 * Plans a disk whose size some formats want to be a multiple of something. What can be written to gets the additional space;
 * behind a root of a fixed size, and in a layout, it stays free.
 *
 * @throws {BuildError} (usage) when SIZE_MB is no such multiple.
 */
export function planWhole(
  settings: Settings,
  readOnly: boolean,
  plan: (settings: Settings) => DiskVolumes,
): DiskVolumes {
  const { outputFormat, sizeMb, layout } = settings;
  const { multiple = 1 } = formatOf(outputFormat);
  const least = plan(settings);
  const size = alignUp(least.size, multiple);
  if (size === least.size) return least;
  if (sizeMb === undefined) {
    return readOnly || layout !== undefined ? { ...least, size } : plan({ ...settings, sizeMb: size / MiB });
  }
  throw new BuildError(`Cannot use SIZE_MB=${sizeMb} with OUTPUT_FORMAT=${outputFormat}`, {
    kind: "usage",
    hint: `Set SIZE_MB to a multiple of ${multiple / MiB}, such as ${size / MiB}, or leave it out`,
  });
}
