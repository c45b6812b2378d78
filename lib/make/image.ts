/**
 * The image while it is built: where its parts go, and what is left of it when the build fails.
 *
 * The output is never left looking finished when it is not. Raptor drops a builder's exit status and takes any output
 * that is newer than its input for a good one, so that a failed build leaves an empty file of 1970.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { timeStep, withProgress } from "../core/progress.ts";
import { formatBytes, STAT_BLOCK } from "../core/units.ts";
import { formatOf } from "../image/formats.ts";
import { imageSize } from "../image/image.ts";
import {
  abandonOutput,
  allocateOutput,
  checkOutput,
  discardOutput,
  finishOutput,
  lockOutput,
  type Output,
} from "../image/output.ts";
import { prepareToCompress } from "../image/qcow2/compress.ts";
import { CLUSTER } from "../image/qcow2/header.ts";
import type { Target } from "../image/target.ts";
import type { PlacedVolume, Plan } from "../plan/plan.ts";
import { throwIfInterrupted } from "../system/process.ts";
import type { ProgramName } from "../system/programs.ts";
import {
  freeSpace,
  fullDirectory,
  openScratch,
  requireSpace,
  type Scratch,
  scratchParent,
} from "../system/scratch.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { programsOf } from "./filesystems.ts";
import { checkSideFiles, clearSideFiles, hashImage } from "./manifest.ts";
import { checkNeeds, checkPrograms } from "./programs.ts";
import { checkSectors } from "./table.ts";
import { removeVerity, verityDirectory } from "./verity.ts";

/**
 * Opens an output for the image of a plan.
 *
 * Everything that can be checked is checked first: programs, output, space. Then the output is empty and dated 1970, and it
 * is again when the image is disposed of before {@link BuildImage.commit}.
 *
 * @throws {BuildError} naming what is missing or in the way.
 */
export async function openImage(output: string, plan: Plan, tree: OpenTree): Promise<BuildImage> {
  const start = performance.now();
  const versions = await timeStep("tools", () => checkPrograms(programsFor(plan)));
  plan.partitions.forEach(({ filesystem: { type, needs } }) => checkNeeds(type, needs, versions));
  if (plan.builder === "disk-image") checkSectors(plan.sectorSize, versions.get("sfdisk"));
  const path = resolve(output);
  checkSideFiles(plan.settings);
  const checked = await checkFor(path, plan);
  // What another build is making is not ours to remove.
  const lock = lockOutput(checked);
  try {
    checkSpace(plan, checked);
    const scratch = await openScratch(scratchParent(), checked.isDevice ? undefined : checked);
    const image = new BuildImage({
      output: checked,
      plan,
      scratch,
      versions,
      start,
      lock,
      began: tree.began,
    });
    try {
      throwIfInterrupted();
      await image.clear();
      await discardOutput(checked);
      return image;
    } catch (error) {
      await scratch[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    if (checked.isNew) await Deno.remove(path).catch(() => {});
    lock[Symbol.dispose]();
    throw error;
  }
}

/** The programs that a build runs. */
function programsFor({ builder, partitions, format, verity, settings }: Plan): ProgramName[] {
  const types = partitions.map(({ filesystem }) => filesystem.type);
  const makesGrub = partitions.some(({ selection }) =>
    selection.added.some(({ made }) => made?.recipe.type === "grub")
  );
  return [
    ...new Set<ProgramName>([
      ...builder === "disk-image" ? ["sfdisk"] as const : [],
      ...programsOf(types, settings.verify === "full"),
      ...makesGrub ? ["grub-mkimage"] as const : [],
      ...verity ? ["veritysetup"] as const : [],
      ...verity?.signer ? ["openssl"] as const : [],
      ...formatOf(format).strategy === "direct" ? [] : ["qemu-img"] as const,
    ]),
  ];
}

/** A preliminary plan does not know its size yet. */
function checkFor(path: string, plan: Plan): Promise<Output> {
  const isPreliminary = plan.partitions.some(({ filesystem }) => filesystem.estimate);
  return checkOutput(path, { size: isPreliminary ? 0 : plan.size, format: plan.format });
}

/** Checks that what will certainly be written has room. The output's old content makes room, too. */
function checkSpace({ partitions, format }: Pick<Plan, "partitions" | "format">, output: Output): void {
  const { strategy } = formatOf(format);
  const total = partitions.reduce((sum, volume) => sum + certainBytes(volume), 0);
  // The largest filesystem is made in the output.
  const wrapped = total - certainBytes(largest(partitions));
  const scratch = { direct: 0, wrapped, converted: total }[strategy];
  requireSpace(
    scratchParent(),
    scratch,
    `make an image in the format ${format}`,
    "Set TMPDIR to a directory with more space",
  );
  if (output.isDevice) return;
  const old = (Deno.statSync(output.path).blocks ?? 0) * STAT_BLOCK;
  const directory = dirname(output.path);
  if (strategy !== "converted") {
    requireSpace(directory, total - old, "write the image", "Make room, or name another file with --output");
  } else if (freeSpace(directory) + old < total) {
    // Formats compress, or leave out zeros.
    const left = formatBytes(freeSpace(directory) + old);
    log.warn(`The image may not fit: ${formatBytes(total)} of contents, ${left} left`);
  }
}

/** Bytes that a filesystem takes at least. How much becomes of compressed contents is known when they are made. */
function certainBytes({ size, filesystem: { estimate, made, bytes } }: PlacedVolume): number {
  return made === undefined ? estimate ? 0 : bytes : size;
}

interface Opened {
  readonly output: Output;
  readonly plan: Plan;
  readonly scratch: Scratch;
  readonly versions: ReadonlyMap<string, string>;
  /** When the build began, as `performance.now()` says it. */
  readonly start: number;
  readonly lock: Disposable;
  /** When reading the tree began. */
  readonly began: Date;
}

/** An image that is being built. */
export class BuildImage implements AsyncDisposable {
  output: Output;
  /** Versions of the programs. */
  readonly versions: ReadonlyMap<string, string>;
  /** The file or device in which everything is at its own place on the disk, but perhaps one filesystem. */
  disk: string;
  /** Where the one filesystem is that is made in the output, for a format that is written around it. */
  wrapped: Target | undefined;
  /** The raw disk: itself, unless it was converted. */
  raw: string;
  private isFinished = false;

  constructor(private readonly opened: Opened) {
    this.output = opened.output;
    this.versions = opened.versions;
    this.disk = this.raw = opened.output.path;
  }

  /** A directory for whatever is gone with the build. */
  get scratch(): string {
    return this.opened.scratch.path;
  }

  get isDevice(): boolean {
    return this.output.isDevice;
  }

  /** The file name that the image will have. */
  get name(): string {
    return this.opened.plan.settings.outputName ?? basename(this.output.path);
  }

  /** Makes room for the image, which reads as zeros then. */
  async stage(plan: Plan): Promise<void> {
    const { format, size, partitions } = plan;
    const { strategy } = formatOf(format);
    this.output = {
      ...await checkFor(this.output.path, plan),
      ...this.opened.output.isNew && { isNew: true },
    };
    if (plan !== this.opened.plan) checkSpace(plan, this.output);
    if (strategy === "direct") {
      const total = this.isDevice ? size : 0;
      return await withProgress("zeros", total, (update) => allocateOutput(this.output, update));
    }
    this.disk = this.raw = join(this.scratch, "disk.raw");
    await Deno.writeFile(this.disk, new Uint8Array(), { createNew: true });
    await Deno.truncate(this.disk, size);
    if (strategy === "converted") {
      if (formatOf(format).own) prepareToCompress();
      return;
    }
    const { offset: start, size: length } = largest(partitions);
    this.wrapped = { path: this.output.path, offset: CLUSTER, start, size: length };
    await Deno.truncate(this.output.path, CLUSTER + length);
  }

  /** Where a filesystem is made. */
  place({ offset, size }: Pick<PlacedVolume, "offset" | "size">): Target {
    return offset === this.wrapped?.start ? this.wrapped : { path: this.disk, offset, start: offset, size };
  }

  /** Does away with what belongs to the image and lies beside it. */
  async clear(): Promise<void> {
    const { plan } = this.opened;
    await clearSideFiles(plan.settings);
    if (plan.builder === "part-image" && plan.verity) {
      await removeVerity(verityDirectory(plan, this), this.name);
    }
  }

  /** Dates the image: from here on it is a finished one. */
  async commit(): Promise<void> {
    throwIfInterrupted();
    await finishOutput(this.output, this.opened.began);
    this.isFinished = true;
    await this.summarize();
  }

  /** The last line of a build. A checksum takes as long as the build itself, so that only programs get it. */
  private async summarize(): Promise<void> {
    const { output: { path, isDevice }, opened: { plan: { format }, start } } = this;
    const size = imageSize(path);
    const onDisk = isDevice ? size : ((await Deno.stat(path)).blocks ?? 0) * STAT_BLOCK;
    const sha256 = log.isJson() ? await hashImage(path) : undefined;
    const seconds = (performance.now() - start) / 1000;
    log.step(
      `Done: ${path}, ${format}, ${formatBytes(size)}, ${formatBytes(onDisk)} on disk, ${
        seconds.toFixed(1)
      } s`,
      { event: "done", output: path, format, size, onDisk, seconds: Number(seconds.toFixed(3)), sha256 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.isFinished) await this.discard();
    } finally {
      await this.opened.scratch[Symbol.asyncDispose]();
      this.opened.lock[Symbol.dispose]();
    }
  }

  private async discard(): Promise<void> {
    // Not every program says that it failed because the disk is full.
    const full = fullDirectory([dirname(this.output.path), scratchParent()]);
    if (full !== undefined) log.fail(`There is no space left in ${quote(full)}`);
    try {
      await abandonOutput(this.output);
      await this.clear();
    } catch (error) {
      log.fail(`Cannot empty the output, which is not finished: ${(error as Error).message}`);
    }
  }
}

function largest(volumes: readonly PlacedVolume[]): PlacedVolume {
  return volumes.reduce((one, other) => other.size > one.size ? other : one);
}
