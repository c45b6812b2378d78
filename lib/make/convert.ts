/**
 * Converts the finished disk to the output format.
 *
 * @module
 */

import { join } from "node:path";
import { BuildError } from "../core/error.ts";
import * as log from "../core/log.ts";
import { timeStep, withProgress } from "../core/progress.ts";
import { formatBytes } from "../core/units.ts";
import {
  type Identify,
  identifyVdi,
  identifyVhdx,
  identifyVmdk,
  type Identity,
} from "../image/format-identity.ts";
import { driverOf, type FormatName, formatOf } from "../image/formats.ts";
import { openImageFile } from "../image/image.ts";
import { compressQcow2 } from "../image/qcow2/compress.ts";
import { copyPieces, wrapQcow2 } from "../image/qcow2/wrap.ts";
import { vhdFooter } from "../image/vhd.ts";
import { writeAt } from "../image/writer.ts";
import type { Plan } from "../plan/plan.ts";
import * as commands from "./commands.ts";
import type { ImageInProgress } from "./types.ts";

/** The functions that replace random numbers from qemu-img, by its driver; the other formats have none. */
const IDENTIFY: Readonly<Record<string, Identify>> = {
  "vdi": identifyVdi,
  "vhdx": identifyVhdx,
  "vmdk": identifyVmdk,
};

/**
 * Makes the image in its format. With `VERIFY=full`, it is compared with the disk byte by byte.
 *
 * Afterwards, `image.raw` is the raw disk if the plan needs it.
 */
export async function convert(plan: Plan, image: ImageInProgress): Promise<void> {
  const { format, size, seed, time, settings: { verify, manifest } } = plan;
  const output = image.made;
  const full = verify === "full";
  switch (formatOf(format).strategy) {
    case "direct":
    case "archive":
      return;
    case "footer": {
      using file = openImageFile(output);
      writeAt(file, vhdFooter(size, seed, time), size);
      return await verifyFormat(output, format, size);
    }
    case "wrapped": {
      const inside = image.wrapped!;
      using file = openImageFile(output), rest = openImageFile(image.disk);
      const pieces = [
        { image: rest, host: 0, guest: 0, size },
        { image: file, host: inside.offset, guest: inside.start!, size: inside.size },
      ];
      if (full || manifest !== undefined) {
        image.raw = join(image.scratch, "whole.raw");
        await copyPieces(pieces, image.raw, size);
      }
      await withProgress(format, size, () => wrapQcow2(file, size, pieces));
      await timeStep("qemu-img", () => verifyFormat(output, format, size));
      break;
    }
    case "converted": {
      log.step(`Converting to ${format}`);
      const identity = { seed, name: formatOf(format).archive?.member ?? image.name };
      await withProgress(
        format,
        size,
        (update) => convertRaw(image.disk, output, format, (share) => update(share * size), identity),
      );
    }
  }
  if (full) await commands.qemuImgCompare(image.raw, output, driverOf(format));
}

/**
 * Converts the raw image `from` to the format, into the existing file `to`: a bind-mounted file cannot be
 * replaced. `onProgress` gets the fraction done, 0 to 1. With an `identity`, the result is reproducible.
 *
 * @throws {BuildError} when it cannot be written, or is not as requested.
 */
export async function convertRaw(
  from: string,
  to: string,
  format: FormatName,
  onProgress: (share: number) => void,
  identity?: Identity,
): Promise<void> {
  const { strategy, options, own } = formatOf(format);
  const driver = driverOf(format);
  if (strategy !== "converted") throw new TypeError(`Format ${format} is not converted`);
  if (own) {
    const { size } = await Deno.stat(from);
    await Deno.writeFile(to, new Uint8Array());
    using raw = openImageFile(from), image = openImageFile(to);
    await compressQcow2({ image: raw, host: 0, guest: 0, size }, image, onProgress);
  } else {
    const decoder = new TextDecoder();
    await commands.qemuImgConvert(from, to, driver, options).stdout((bytes) => {
      const percent = /\(([\d.]+)\/100%\)\s*$/.exec(decoder.decode(bytes))?.[1];
      if (percent) onProgress(Number(percent) / 100);
    });
    if (identity) await IDENTIFY[driver]?.(to, identity);
  }
  await verifyFormat(to, format, (await Deno.stat(from)).size);
}

/** Checks with qemu-img that an image is intact and its disk has `size` bytes. @throws {BuildError} when not. */
async function verifyFormat(image: string, format: FormatName, size: number): Promise<void> {
  const { check, own } = formatOf(format);
  const driver = driverOf(format);
  const [info] = await Promise.all([
    commands.qemuImgInfo(image, driver).json(),
    ...check ? [commands.qemuImgCheck(image, driver)] : [],
  ]);
  const found = Number(info["virtual-size"]);
  if (found === size) return;
  const who = own ? "We wrote" : "qemu-img wrote";
  throw new BuildError(`${who} a ${format} image of ${formatBytes(found)} from ${formatBytes(size)}`);
}
