/**
 * Carries a plan out: the only sequences of effects.
 *
 * The output is never left looking finished when it is not. Raptor drops a builder's exit status and takes
 * any output that is newer than its input for a good one, so a failed build leaves an empty file of 1970.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { BuildError } from "./error.ts";
import { type FilesystemName, FILESYSTEMS } from "./filesystems.ts";
import { convert, type FormatName, isConverted } from "./formats.ts";
import { verifyTable, writeTable } from "./gpt.ts";
import * as log from "./log.ts";
import { discardOutput, finishOutput, prepareOutput } from "./output.ts";
import { isInstalled, packageOf } from "./packages.ts";
import type { DiskPlan, PartPlan, Volume } from "./plan.ts";
import { startProgress } from "./progress.ts";
import { openScratch } from "./scratch.ts";
import { interrupted, throwIfInterrupted } from "./sh.ts";
import type { OpenTree } from "./tree.ts";
import { formatBytes } from "./units.ts";

/** Builds a disk image into the file `output`. @throws {BuildError} and leaves `output` empty then. */
export async function buildDisk(plan: DiskPlan, tree: OpenTree, output: string): Promise<void> {
  requireTools(["sfdisk", ...toolsOf(plan.partitions, plan.format)]);
  await intoOutput(plan, output, async (image, scratch) => {
    log.step("Writing the partition table");
    const table = { id: plan.id, entries: plan.partitions };
    await writeTable(image, table);
    log.step(`Making and filling ${plan.partitions.map(({ label }) => label).join(", ")}`);
    await makeAll(plan.partitions, tree, image, scratch);
    log.step("Checking the partition table");
    await verifyTable(image, table);
  });
}

/** Builds the image of one filesystem into the file `output`, like {@link buildDisk}. */
export async function buildPart(plan: PartPlan, tree: OpenTree, output: string): Promise<void> {
  requireTools(toolsOf([plan], plan.format));
  await intoOutput(plan, output, async (image, scratch) => {
    const { type, label } = plan.filesystem;
    log.step(`Making and filling the ${type} filesystem ${label}`);
    await makeAll([{ ...plan, label, offset: 0 }], tree, image, scratch);
  });
}

/** A volume and where it goes. */
type Placed = Volume & { readonly label: string; readonly offset: number; readonly size: number };

/**
 * Makes the filesystems side by side: the programs that fill the small ones run while our own code fills the
 * large one. When one fails, the others are stopped before the error goes on.
 */
async function makeAll(
  volumes: readonly Placed[],
  { root }: OpenTree,
  image: string,
  scratch: string,
): Promise<void> {
  const failure = new AbortController();
  const signal = AbortSignal.any([interrupted, failure.signal]);
  const results = await Promise.allSettled(volumes.map(async ({ label, offset, size, filesystem }) => {
    const own = join(scratch, label);
    await Deno.mkdir(own);
    const progress = startProgress(label, filesystem.bytes);
    try {
      const context = { root, scratch: own, onProgress: progress.update, signal };
      await filesystem.make({ path: image, offset, size }, context);
    } catch (error) {
      failure.abort(error);
      throw error;
    } finally {
      progress.end();
    }
  }));
  // The first to fail says why; the others may only say that they were stopped.
  if (failure.signal.aborted) throw failure.signal.reason;
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/**
 * Runs `make` on an image that reads as zeros, and sees to it that `output` holds the finished image in the
 * wanted format, or nothing.
 */
async function intoOutput(
  { format, size }: { readonly format: FormatName; readonly size: number },
  output: string,
  make: (image: string, scratch: string) => Promise<void>,
): Promise<void> {
  const start = performance.now();
  await prepareOutput(output);
  await discardOutput(output);
  try {
    await using scratch = await openScratch();
    const image = isConverted(format) ? join(scratch.path, "image.raw") : output;
    if (image !== output) await Deno.writeFile(image, new Uint8Array(), { createNew: true });
    await Deno.truncate(image, size);
    await make(image, scratch.path);
    if (image !== output) await convertInto(image, output, format, size);
    throwIfInterrupted();
    await finishOutput(output);
  } catch (error) {
    await discardOutput(output);
    throw error;
  }
  await summarize(output, format, (performance.now() - start) / 1000);
}

/** The last line of a build. A checksum takes as long as the build itself, so only programs get it. */
async function summarize(output: string, format: FormatName, seconds: number): Promise<void> {
  const { size, blocks } = await Deno.stat(output);
  const onDisk = (blocks ?? 0) * 512;
  const sha256 = log.isJson() ? await hashFile(output) : undefined;
  log.step(
    `Done: ${output}, ${format}, ${formatBytes(size)}, ${formatBytes(onDisk)} on disk, ${
      seconds.toFixed(1)
    } s`,
    { event: "done", output, format, size, onDisk, seconds: Number(seconds.toFixed(3)), sha256 },
  );
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  return hash.digest("hex");
}

async function convertInto(image: string, output: string, format: FormatName, size: number): Promise<void> {
  log.step(`Converting to ${format}`);
  const progress = startProgress(format, size);
  try {
    await convert(image, output, format, (share) => progress.update(share * size));
  } finally {
    progress.end();
  }
}

/** The programs that a build of these volumes runs. */
function toolsOf(volumes: readonly Volume[], format: FormatName): string[] {
  const filesystems = volumes.map(({ filesystem }) => FILESYSTEMS[filesystem.type as FilesystemName]);
  const tools = filesystems.flatMap(({ tools }): readonly string[] => tools);
  return [...new Set([...tools, ...isConverted(format) ? ["qemu-img"] : []])];
}

/** Checks that all programs are there before the first effect. @throws {BuildError} naming the package. */
function requireTools(programs: readonly string[]): void {
  for (const program of programs) {
    if (isInstalled(program)) continue;
    throw new BuildError(`Cannot find the program ${program}`, { hint: packageOf(program) });
  }
}
