/**
 * Puts the image into the file that is sent somewhere: compressed as a whole, or in an archive with what its readers want
 * to know of it.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { node } from "../core/node.ts";
import { withProgress } from "../core/progress.ts";
import { compressStream, copyStream } from "../image/compress.ts";
import { type Compress, type Compressor, type FormatName, formatOf, packingOf } from "../image/formats.ts";
import { hashImage } from "../image/hash.ts";
import { openImageFile } from "../image/image.ts";
import { type Part, streamSize } from "../image/parts.ts";
import type { Plan } from "../plan/plan.ts";
import type { Settings } from "../plan/settings.ts";
import type { ProgramName } from "../system/programs.ts";
import type { OpenTree } from "../tree/inspect.ts";
import * as commands from "./commands.ts";
import { archiveParts, wholeFile } from "./archive-parts.ts";
import type { ImageInProgress } from "./types.ts";

/** The programs that pack an image, and with `VERIFY=full` those that read it again. */
export function packPrograms(format: FormatName, { compress, verify }: Settings): ProgramName[] {
  const method = packingOf(format, compress);
  if (method === undefined) return [];
  const programs: ProgramName[] = formatOf(format).archive && verify === "full" ? ["tar"] : [];
  if (method === "xz" || method !== "none" && verify === "full") programs.push(commands.PROGRAM_OF[method]);
  return programs;
}

/**
 * Packs the image into the output, if the plan says so. With `VERIFY=full`, the programs of the format unpack it again, and
 * what they get is compared with the image.
 *
 * @throws {BuildError} when it cannot be written, or is not what it should be.
 */
export async function pack(plan: Plan, tree: OpenTree, image: ImageInProgress): Promise<void> {
  const { format, settings: { compress, verify } } = plan;
  const method = packingOf(format, compress);
  if (method === undefined) return;
  const { archive } = formatOf(format);
  log.step(archive ? `Packing as ${format}` : `Compressing as .${method}`);
  const parts = archive && plan.builder === "disk-image"
    ? await archiveParts(plan, tree, image)
    : [wholeFile(image.made)];
  await writePacked(method, parts, image.output.path, archive ? format : method);
  if (verify === "full") await verifyPacked(plan, method, image);
}

/** Writes a stream, compressed or not, to a file, which is emptied first. */
export async function writePacked(
  method: Compress,
  parts: readonly Part[],
  path: string,
  label: string = method,
): Promise<void> {
  await Deno.truncate(path);
  using file = openImageFile(path);
  await withProgress(label, streamSize(parts), async (onProgress) => {
    if (method === "none") await copyStream(parts, file, onProgress);
    else await compressStream(method, parts, file, { onProgress, runXz });
  });
}

/** Compresses a block with xz. */
export async function runXz(block: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  await commands.xzCompress([block]).stdout((bytes) => chunks.push(bytes.slice()));
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** @throws {BuildError} when what comes out of it is not what went in. */
async function verifyPacked(plan: Plan, method: Compress, { made, output }: ImageInProgress): Promise<void> {
  const { archive } = formatOf(plan.format);
  const unpacked = node.crypto.createHash("sha256");
  const command = archive
    ? commands.tarMember(output.path, archive.member, method)
    : commands.decompress(output.path, method as Compressor);
  await command.stdout((bytes) => unpacked.update(bytes));
  if (unpacked.digest("hex") === await hashImage(made)) return;
  throw new BuildError(`Cannot get the image out of ${quote(output.path)} again: it is damaged`);
}
