/**
 * Where an image is made: in the output itself, in a scratch file that is converted afterwards, or with its largest
 * filesystem in the output and the rest around it.
 *
 * @module
 */

import type { Target } from "../image/target.ts";
import { dirname, join } from "node:path";
import type { FilesystemPlan } from "../filesystem/filesystems.ts";
import type { Identity } from "../image/format-identity.ts";
import {
  compareConverted,
  convert,
  type FormatName,
  isConverted,
  isInPlace,
  prepareToConvert,
  verifyFormat,
} from "../image/formats.ts";
import { openImageFile } from "../image/image.ts";
import * as log from "../core/log.ts";
import { openImage, type Output } from "../image/output.ts";
import { timeStep, withProgress } from "../core/progress.ts";
import { CLUSTER } from "../image/qcow2/header.ts";
import { copyPieces, sealQcow2 } from "../image/qcow2/wrap.ts";
import { freeSpace, requireSpace, scratchParent } from "../system/scratch.ts";
import { formatBytes, STAT_BLOCK } from "../core/units.ts";

/** Where the parts of a build go. */
export interface Site {
  /** The file or device in which everything is at its own place on the disk, but perhaps one filesystem. */
  readonly disk: string;
  /** Where a filesystem is made. */
  readonly place: (part: Part) => Target;
  readonly scratch: string;
  /** The disk is a block device. */
  readonly isDevice: boolean;
}

/** A part of the disk, in bytes. */
type Part = Pick<Target, "offset" | "size">;

/** What image is made, and of how large a disk in bytes. */
interface Disk {
  readonly format: FormatName;
  readonly size: number;
}

/** Checks that what will certainly be written has room. The output's old content makes room, too. */
export function checkSpace(
  volumes: readonly { readonly filesystem: Pick<FilesystemPlan, "bytes" | "measured"> }[],
  output: Output,
  format: FormatName,
): void {
  // How much one takes that is compressed is not certain at all.
  const bytes = volumes.reduce(
    (sum, { filesystem }) => sum + (filesystem.measured ? 0 : filesystem.bytes),
    0,
  );
  const scratch = isConverted(format)
    ? bytes
    // All but the largest filesystem.
    : isInPlace(format)
    ? bytes - Math.max(...volumes.map(({ filesystem }) => filesystem.bytes))
    : 0;
  requireSpace(
    scratchParent(),
    scratch,
    `make an image in the format ${format}`,
    "Set TMPDIR to a directory with more space",
  );
  if (output.isDevice) return;
  const old = (Deno.statSync(output.path).blocks ?? 0) * STAT_BLOCK;
  const directory = dirname(output.path);
  if (!isConverted(format)) {
    requireSpace(directory, bytes - old, "write the image", "Make room, or name another file with --output");
  } else if (freeSpace(directory) + old < bytes) {
    // Formats compress, or leave out zeros.
    log.warn(
      `The image may not fit: ${formatBytes(bytes)} of contents, ${
        formatBytes(freeSpace(directory) + old)
      } left`,
    );
  }
}

/** Makes a site for a disk with these parts; it reads as zeros. */
export async function openSite(
  output: Output,
  { format, size }: Disk,
  parts: readonly Part[],
  scratch: string,
): Promise<Site> {
  const { path, isDevice } = output;
  const isScratch = isConverted(format) || isInPlace(format);
  const disk = isScratch ? join(scratch, "disk.raw") : path;
  if (isScratch) {
    await Deno.writeFile(disk, new Uint8Array(), { createNew: true });
    await Deno.truncate(disk, size);
  } else await withProgress("zeros", isDevice ? size : 0, (update) => openImage(output, update));
  prepareToConvert(format);
  const inOutput = isInPlace(format) ? largest(parts) : undefined;
  if (inOutput) await Deno.truncate(path, CLUSTER + inOutput.size);
  return {
    disk,
    scratch,
    isDevice,
    place: ({ offset, size }) =>
      offset === inOutput?.offset
        ? { path, offset: CLUSTER, start: offset, size }
        : { path: disk, offset, start: offset, size },
  };
}

function largest(parts: readonly Part[]): Part {
  return parts.reduce((one, other) => other.size > one.size ? other : one);
}

/**
 * Makes the finished image of the site in the output. With `verify: "full"` it is compared with what it was made
 * from, byte for byte.
 *
 * @param keepRaw whether the raw image is needed afterwards.
 * @returns where the raw image is, if it is needed.
 */
export async function closeSite(
  { disk, place, scratch }: Site,
  { path }: Output,
  plan: Disk & Identity & { readonly verify: "quick" | "full" },
  parts: readonly Part[],
  keepRaw: boolean,
): Promise<string> {
  const { format, size, verify } = plan;
  let raw = disk;
  if (isInPlace(format)) {
    using image = openImageFile(path), rest = openImageFile(disk);
    const { offset: host, start: guest = 0, size: length } = place(largest(parts));
    const pieces = [{ image: rest, host: 0, guest: 0, size }, { image, host, guest, size: length }];
    raw = join(scratch, "whole.raw");
    if (keepRaw || verify === "full") await copyPieces(pieces, raw, size);
    await withProgress(format, size, () => sealQcow2(image, size, pieces));
    await timeStep("qemu-img", () => verifyFormat(path, format, size));
  } else if (isConverted(format)) {
    const report = (update: (done: number) => void) => (share: number) => update(share * size);
    await withProgress(format, size, (update) => convert(disk, path, format, report(update), plan));
  }
  if (verify === "full" && raw !== path) await compareConverted(raw, path, format);
  return raw;
}
