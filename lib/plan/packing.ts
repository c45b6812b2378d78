/**
 * Checks what can be done with the image of a format as a whole.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { compressibleFormats, formatOf } from "../image/formats.ts";
import type { Settings } from "./settings.ts";

/** @throws {BuildError} (usage) for a format that cannot be compressed, or has no block map. */
export function checkPacking({ outputFormat, compress, bmap }: Settings): void {
  const { compressible, strategy } = formatOf(outputFormat);
  const names = compressibleFormats().join(" or ");
  if (compress !== "none" && !compressible) {
    throw new BuildError(`Cannot use COMPRESS=${compress} with OUTPUT_FORMAT=${outputFormat}`, {
      kind: "usage",
      hint:
        `Leave COMPRESS out, or set OUTPUT_FORMAT to ${names}: the others are compressed, or are used as they are`,
    });
  }
  if (bmap !== undefined && !(compressible && strategy === "direct")) {
    throw new BuildError(`Cannot write BMAP for OUTPUT_FORMAT=${outputFormat}`, {
      kind: "usage",
      hint: "Leave BMAP out, or set OUTPUT_FORMAT to raw: bmaptool only writes raw images",
    });
  }
}
