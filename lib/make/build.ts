/**
 * Carries a plan out: the only sequences of effects.
 *
 * The output is never left looking finished when it is not. Raptor drops a builder's exit status and takes
 * any output that is newer than its input for a good one, so a failed build leaves an empty file of 1970.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { describeDisk, describePart, type Description } from "../plan/describe.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import { type FormatName, isConverted, needsQemu } from "../image/formats.ts";
import { checkSectors, insertTable, verifyTable, writeTable } from "../image/gpt.ts";
import { imageSize } from "../image/image.ts";
import * as log from "../core/log.ts";
import { clearSideFiles, hashImage, writeSideFiles } from "./manifest.ts";
import { checkOutput, discardOutput, finishOutput, type Output } from "../image/output.ts";
import type { CommonPlan, DiskPlan, PartPlan } from "../plan/plan.ts";
import { interrupted, stoppedBy, throwIfInterrupted } from "../system/process.ts";
import { startProgress, timeStep } from "../core/progress.ts";
import type { Measured, Volume } from "../plan/root.ts";
import { explainFullDisk, openScratch, scratchParent } from "../system/scratch.ts";
import { checkSpace, closeSite, openSite, type Site } from "./staging.ts";
import { checkTools } from "../system/tools.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { formatBytes, STAT_BLOCK } from "../core/units.ts";
import { makeVerity, removeVerity, SIGNATURE_TOOLS, VERITY_TOOLS, writeVerity } from "./verity.ts";

/** Builds a disk image into the file `output`. @throws {BuildError} and leaves `output` empty then. */
export async function buildDisk(plan: DiskPlan, tree: OpenTree, output: string): Promise<void> {
  const volumesOf = ({ partitions }: DiskPlan) => partitions;
  const versions = await timeStep("tools", () => checkTools(["sfdisk", ...toolsOf(plan, plan.partitions)]));
  checkSectors(plan.sectorSize, versions.get("sfdisk"));
  const clear = () => clearSideFiles(plan.settings);
  const kind = { volumesOf, describe: describeDisk, versions, clear };
  await intoOutput(plan, kind, tree, output, async ({ id, partitions, sectorSize, size }, site) => {
    await makeAll(partitions, tree, site);
    // Last: what is killed before has no partition table, and cannot be taken for a disk.
    log.step("Writing and checking the partition table");
    const table = { id, entries: partitions };
    await timeStep("table", async () => {
      // The backup goes to the very end, and a device may be larger than the image.
      if (site.isDevice) await writeTable(site.disk, table, sectorSize);
      else {
        const scratch = join(site.scratch, "table.raw");
        await insertTable(site.disk, table, { size, sector: sectorSize, scratch });
      }
      await verifyTable(site.disk, table, sectorSize);
    });
  });
}

/** Builds the image of one filesystem into the file `output`, like {@link buildDisk}. */
export async function buildPart(plan: PartPlan, tree: OpenTree, output: string): Promise<void> {
  const volumesOf = (part: PartPlan) => [{ ...part, label: part.filesystem.label || "root", offset: 0 }];
  const versions = await timeStep("tools", () => checkTools(toolsOf(plan, [plan])));
  const directory = plan.verity?.directory ?? dirname(resolve(output));
  const clear = async () => {
    await clearSideFiles(plan.settings);
    if (plan.verity) await removeVerity(directory, nameOf(plan, output));
  };
  const kind = { volumesOf, describe: describePart, versions, clear };
  await intoOutput(plan, kind, tree, output, async (final, site) => {
    await makeAll(volumesOf(final), tree, site);
    if (final.hashes) await writeVerity(final.hashes, directory, nameOf(plan, output));
  });
}

/** The file name that the image will have. */
function nameOf({ settings }: CommonPlan, output: string): string {
  return settings.outputName ?? basename(output);
}

/** Makes a filesystem whose size is known only then, in a file of its own. */
async function measure(
  volume: Placed,
  { verity }: CommonPlan,
  tree: OpenTree,
  parent: string,
): Promise<Measured> {
  const scratch = join(parent, "measured");
  await Deno.mkdir(scratch);
  const path = join(scratch, "filesystem");
  await Deno.writeFile(path, new Uint8Array(), { createNew: true });
  await makeAll([{ ...volume, offset: 0 }], tree, {
    ...{ disk: path, scratch, isDevice: false },
    place: ({ size }) => ({ path, offset: 0, size }),
  });
  const { size } = await Deno.stat(path);
  log.detail(`${volume.label} takes ${formatBytes(size)}`);
  if (!verity) return { path, size };
  log.step("Making the dm-verity hashes");
  const made = await makeVerity(path, verity, scratch);
  log.detail(`root hash: ${made.rootHash}`, { rootHash: made.rootHash });
  return { path, size, verity: made };
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
  { place, scratch, isDevice }: Site,
): Promise<void> {
  log.step(
    `Making and filling ${
      volumes.map(({ label, filesystem }) => `${label} (${filesystem.type})`).join(", ")
    }`,
  );
  const failure = new AbortController();
  const signal = AbortSignal.any([interrupted, failure.signal]);
  const make = async (volume: Placed) => {
    const { label, filesystem } = volume;
    const own = join(scratch, label);
    await Deno.mkdir(own);
    const progress = startProgress(label, filesystem.bytes);
    try {
      const context = { root, scratch: own, onProgress: progress.update, signal };
      await stoppedBy(signal, () => filesystem.make(place(volume), context));
    } catch (error) {
      failure.abort(error);
      throw error;
    } finally {
      progress.end();
    }
  };
  if (isDevice) {
    // Programs want a device for themselves.
    for (const volume of volumes) await make(volume);
    return;
  }
  const results = await Promise.allSettled(volumes.map(make));
  // The first to fail says why; the others may only say that they were stopped.
  if (failure.signal.aborted) throw failure.signal.reason;
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** What is common to the plans, whichever image they are of. */
type AnyPlan<Plan> = CommonPlan & { readonly finish?: (measured: Measured) => Plan };

/** What differs between the kinds of images. */
interface Kind<Plan> {
  readonly volumesOf: (plan: Plan) => readonly Placed[];
  readonly describe: (plan: Plan) => Description;
  /** Of the programs. */
  readonly versions: ReadonlyMap<string, string>;
  /** Does away with what belongs to the output and lies beside it. */
  readonly clear: () => Promise<void>;
}

/**
 * Runs `make` on an image that reads as zeros, and sees to it that `output` holds the finished image in the
 * wanted format, or nothing.
 */
async function intoOutput<Plan extends AnyPlan<Plan>>(
  preliminary: Plan,
  { volumesOf, describe, versions, clear }: Kind<Plan>,
  tree: OpenTree,
  path: string,
  make: (plan: Plan, site: Site) => Promise<void>,
): Promise<void> {
  const start = performance.now();
  const { format } = preliminary;
  // A relative path could begin with a dash, which programs would take for an option.
  const check = ({ finish, size }: Plan) =>
    checkOutput(resolve(path), { size: finish ? 0 : size, format, tree: tree.path });
  let output = await check(preliminary);
  checkSpace(volumesOf(preliminary), output, format);
  await using scratch = await openScratch(scratchParent(), output.isDevice ? undefined : output.path);
  throwIfInterrupted();
  await clear();
  await discardOutput(output);
  try {
    const unmeasured = volumesOf(preliminary).find(({ filesystem }) => filesystem.measured);
    const plan = unmeasured && preliminary.finish
      ? preliminary.finish(await measure(unmeasured, preliminary, tree, scratch.path))
      : preliminary;
    const volumes = volumesOf(plan);
    if (plan !== preliminary) output = await check(plan);
    const site = await openSite(output, plan, volumes, scratch.path);
    await make(plan, site);
    await timeStep("verify", () => verifyAll(volumes, site, plan.verify));
    if (isConverted(format)) log.step(`Converting to ${format}`);
    const keepRaw = plan.settings.manifest !== undefined;
    const identity = { ...plan, name: nameOf(plan, output.path) };
    const raw = await closeSite(site, output, identity, volumes, keepRaw);
    await writeSideFiles({
      settings: plan.settings,
      description: describe(plan),
      tree,
      output: output.path,
      name: nameOf(plan, output.path),
      raw,
      versions,
    });
    throwIfInterrupted();
    await finishOutput(output);
  } catch (cause) {
    const error = explainFullDisk(cause, [dirname(output.path), scratchParent()]);
    try {
      await discardOutput(output);
      await clear();
    } catch (second) {
      log.fail(`Cannot empty the output, which is not finished: ${(second as Error).message}`);
    }
    throw error;
  }
  await summarize(output, format, (performance.now() - start) / 1000);
}

/** Looks at the finished filesystems once more: a program may have written to the wrong place. */
async function verifyAll(
  volumes: readonly Placed[],
  { place, scratch }: Site,
  verify: "quick" | "full",
): Promise<void> {
  if (verify === "full") log.step("Checking the filesystems");
  for (const volume of volumes) {
    throwIfInterrupted();
    await volume.filesystem.verify?.(place(volume), { scratch, full: verify === "full" });
  }
}

/** The last line of a build. A checksum takes as long as the build itself, so only programs get it. */
async function summarize({ path, isDevice }: Output, format: FormatName, seconds: number): Promise<void> {
  const size = imageSize(path);
  const onDisk = isDevice ? size : ((await Deno.stat(path)).blocks ?? 0) * STAT_BLOCK;
  const sha256 = log.isJson() ? await hashImage(path) : undefined;
  log.step(
    `Done: ${path}, ${format}, ${formatBytes(size)}, ${formatBytes(onDisk)} on disk, ${seconds.toFixed(1)} s`,
    { event: "done", output: path, format, size, onDisk, seconds: Number(seconds.toFixed(3)), sha256 },
  );
}

/** The programs that a build of these volumes runs. */
function toolsOf({ format, verify, verity }: CommonPlan, volumes: readonly Volume[]): string[] {
  const tools = volumes.flatMap(({ filesystem: { type } }): readonly string[] => {
    if (type === "grub") return ["grub-mkimage"];
    // The hashes of dm-verity have a partition, too, but are no filesystem.
    if (!Object.hasOwn(FILESYSTEMS, type)) return [];
    const row = FILESYSTEMS[type as FilesystemName];
    return verify === "full" ? [...row.tools, row.checker] : row.tools;
  });
  const signature = verity?.signer ? SIGNATURE_TOOLS : [];
  const converter = needsQemu(format) ? ["qemu-img"] : [];
  return [...new Set([...tools, ...verity ? VERITY_TOOLS : [], ...signature, ...converter])];
}
