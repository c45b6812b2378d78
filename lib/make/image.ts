/**
 * The image during the build: where its parts go, and what happens to it if the build fails.
 *
 * An unfinished output must never look finished. Raptor ignores a builder's exit status, and considers any output that
 * is newer than its input a good one. So a failed build leaves an empty file dated 1970.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { timeStep, withProgress } from "../core/progress.ts";
import { formatBytes, STAT_BLOCK } from "../core/units.ts";
import { formatOf, isInPlace, packingOf } from "../image/formats.ts";
import { BLOCK_SIZE, LEAST_SHARED } from "../filesystem/ext4/layout.ts";
import { hashImage } from "../image/hash.ts";
import { imageSize, openImageFile } from "../image/image.ts";
import {
  abandonOutput,
  allocateOutput,
  checkOutput,
  discardOutput,
  finishOutput,
  lockOutput,
  type Output,
} from "../image/output.ts";
import { prepareToCompress } from "../image/workers.ts";
import { CLUSTER } from "../image/qcow2/header.ts";
import type { Target } from "../image/target.ts";
import type { PlacedVolume, Plan } from "../plan/plan.ts";
import { reasonOf, setSize } from "../system/failure.ts";
import * as posix from "../system/posix.ts";
import { throwIfInterrupted } from "../system/process.ts";
import type { ProgramName } from "../system/programs.ts";
import {
  freeSpace,
  fullDirectory,
  openScratch,
  requireFileSize,
  requireSpace,
  type Scratch,
  scratchParent,
} from "../system/scratch.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { typeOf } from "../tree/nodes.ts";
import { closeReader, newReader, openFile } from "../tree/reader.ts";
import { programsOf } from "./filesystems.ts";
import { checkSideFiles, clearSideFiles } from "./manifest.ts";
import { checkNeeds, checkPrograms } from "./programs.ts";
import { type OpenSplit, openSplit } from "./split.ts";
import { checkSectors } from "./table.ts";
import { packPrograms } from "./pack.ts";
import type { ImageInProgress } from "./types.ts";
import { checkVerityNames, removeVerity, verityDirectory } from "./verity.ts";

/**
 * Opens an output for the image of a plan.
 *
 * Everything that can be checked is checked first: programs, output, space. Then the output is emptied and dated 1970,
 * and once more if the image is disposed of before {@link BuildImage.commit}.
 *
 * @throws {BuildError} naming what is missing or wrong.
 */
export async function openImage(output: string, plan: Plan, tree: OpenTree): Promise<BuildImage> {
  const start = performance.now();
  const versions = await timeStep("tools", () => checkPrograms(programsFor(plan)));
  plan.partitions.forEach(({ filesystem: { type, needs } }) => checkNeeds(type, needs, versions));
  if (plan.builder === "disk-image") checkSectors(plan.sectorSize, versions.get("sfdisk"));
  const path = resolve(output);
  checkSideFiles(plan.settings);
  if (plan.builder === "part-image" && plan.partitions[0].verity) checkVerityNames(nameOf(plan, path));
  const checked = await checkFor(path, plan);
  // What another build is making is not ours to remove.
  const lock = lockOutput(checked);
  try {
    checkSpace(plan, checked, tree);
    await using opened = new AsyncDisposableStack();
    const scratch = opened.use(
      await openScratch(scratchParent(), checked.isDevice ? undefined : checked),
    );
    const split = opened.use(await openSplit(plan, path));
    const image = new BuildImage({
      output: checked,
      plan,
      scratch,
      ...split && { split },
      versions,
      start,
      lock,
      tree,
    });
    throwIfInterrupted();
    await image.clear();
    await discardOutput(checked);
    opened.move();
    return image;
  } catch (error) {
    if (checked.isNew) await Deno.remove(path).catch(() => {});
    lock[Symbol.dispose]();
    throw error;
  }
}

/** The final file name of an image that is made at `path`. */
function nameOf({ settings }: Pick<Plan, "settings">, path: string): string {
  return settings.outputName ?? basename(path);
}

/** The programs that a build runs. */
function programsFor({ builder, partitions, format, settings }: Plan): ProgramName[] {
  const types = partitions.map(({ filesystem }) => filesystem.type);
  const makesGrub = partitions.some(({ selection }) =>
    selection.added.some(({ made }) => made?.recipe.type === "grub")
  );
  return [
    ...new Set<ProgramName>([
      ...builder === "disk-image" ? ["sfdisk"] as const : [],
      ...programsOf(types, settings.verify === "full"),
      ...makesGrub ? ["grub-mkimage"] as const : [],
      ...partitions.some(({ verity }) => verity) ? ["veritysetup"] as const : [],
      ...partitions.some(({ verity }) => verity?.signer) ? ["openssl"] as const : [],
      ...["footer", "wrapped", "converted"].includes(formatOf(format).strategy) ? ["qemu-img"] as const : [],
      ...packPrograms(format, settings),
    ]),
  ];
}

/** A preliminary plan does not know its size yet. */
function checkFor(path: string, plan: Plan): Promise<Output> {
  return checkOutput(path, {
    size: certainSize(plan),
    format: plan.format,
    compress: plan.settings.compress,
  });
}

/** The size of the disk in bytes, as far as it is certain. */
function certainSize({ partitions, size }: Pick<Plan, "partitions" | "size">): number {
  return partitions.some(({ filesystem }) => filesystem.estimate) ? 0 : size;
}

/** Checks that there is space for what will certainly be written. The output's old contents count as free space. */
function checkSpace(
  plan: Pick<Plan, "partitions" | "format" | "size" | "settings">,
  output: Output,
  tree: OpenTree,
): void {
  const { partitions, format, settings: { compress } } = plan;
  const { strategy } = formatOf(format);
  const packing = packingOf(format, compress);
  const total = partitions.reduce((sum, volume) => sum + certainBytes(volume), 0);
  if (strategy !== "direct" || !output.isDevice) {
    requireFileSize(strategy === "archive" ? total : certainSize(plan));
  }
  // The largest filesystem is made in the output.
  const wrapped = total - certainBytes(largest(partitions));
  const scratch = packing ? total : { direct: 0, footer: 0, archive: 0, wrapped, converted: total }[strategy];
  const what = compress === "none" ? `make a ${format} image` : `compress a ${format} image`;
  requireSpace(scratchParent(), scratch, what, "Set TMPDIR to a directory with more space");
  if (output.isDevice) return;
  const old = (Deno.statSync(output.path).blocks ?? 0) * STAT_BLOCK;
  const directory = dirname(output.path);
  if (packing || freeSpace(directory) + old >= total) return;
  if (strategy !== "converted" && !sharesBlocks(partitions, output, tree)) {
    requireSpace(
      directory,
      total - old,
      "write the image",
      "Free some space, or name another file with --output",
    );
  } else {
    // Most formats compress, or leave out zeros.
    const left = formatBytes(freeSpace(directory) + old);
    log.warn(`The image may not fit: ${formatBytes(total)} of contents, ${left} left`);
  }
}

/** Whether an image can share blocks with the tree, and so may fit where its contents do not: tried in a file beside it. */
function sharesBlocks(
  partitions: readonly PlacedVolume[],
  { path: output }: Output,
  { root, nodes }: OpenTree,
): boolean {
  if (!partitions.some(({ filesystem }) => filesystem.type === "ext4")) return false;
  let node = 0;
  while (node < nodes.count && (typeOf(nodes, node) !== "file" || nodes.size[node]! < LEAST_SHARED)) node++;
  // A file that is mounted into a container is not on the filesystem of its directory.
  if (node === nodes.count || Deno.statSync(output).dev !== Deno.statSync(dirname(output)).dev) return false;
  const reader = newReader(root, nodes);
  const file = openFile(reader, node);
  try {
    const path = Deno.makeTempFileSync({ dir: dirname(output) });
    try {
      using probe = openImageFile(path);
      return posix.shareBlocks(file, 0, BLOCK_SIZE, probe.fd, 0) === 0;
    } finally {
      Deno.removeSync(path);
    }
  } catch {
    // Not even an empty file can be made there. What is in the way is said when the image is written.
    return false;
  } finally {
    posix.close(file);
    closeReader(reader);
  }
}

/** The minimum size of a filesystem in bytes. The size of compressed contents is not known before they are made. */
function certainBytes({ size, filesystem: { type, estimate, made, bytes } }: PlacedVolume): number {
  return made === undefined ? estimate && type !== "tar" && type !== "oci" ? 0 : bytes : size;
}

interface Opened {
  readonly output: Output;
  readonly plan: Plan;
  readonly scratch: Scratch;
  readonly split?: OpenSplit;
  readonly versions: ReadonlyMap<string, string>;
  /** The start of the build (`performance.now()`). */
  readonly start: number;
  readonly lock: Disposable;
  readonly tree: OpenTree;
}

/** An image that is being built. */
export class BuildImage implements ImageInProgress, AsyncDisposable {
  output: Output;
  /** Versions of the programs. */
  readonly versions: ReadonlyMap<string, string>;
  /** The file or device in which everything is at its position on the disk, except for {@link BuildImage.wrapped}. */
  disk: string;
  /** For a format that is written around the largest filesystem: where that is in the output. */
  wrapped: Target | undefined;
  /** The raw disk: the output itself, unless it was converted. */
  raw: string;
  /** The image in its format: the output itself, unless it is packed. */
  readonly made: string;
  private isFinished = false;

  constructor(private readonly opened: Opened) {
    this.output = opened.output;
    this.versions = opened.versions;
    this.made = packingOf(opened.plan.format, opened.plan.settings.compress)
      ? join(this.scratch, "image")
      : opened.output.path;
    this.disk = this.raw = this.made;
  }

  /** A directory for temporary files. */
  get scratch(): string {
    return this.opened.scratch.path;
  }

  get split(): OpenSplit | undefined {
    return this.opened.split;
  }

  get isDevice(): boolean {
    return this.output.isDevice;
  }

  /** The image's final file name. */
  get name(): string {
    return nameOf(this.opened.plan, this.output.path);
  }

  /** Allocates the image, which then reads as zeros. */
  async stage(plan: Plan): Promise<void> {
    const { format, size, partitions } = plan;
    const { strategy } = formatOf(format);
    this.output = {
      ...await checkFor(this.output.path, plan),
      ...this.opened.output.isNew && { isNew: true },
    };
    if (plan !== this.opened.plan) checkSpace(plan, this.output, this.opened.tree);
    const method = packingOf(format, plan.settings.compress);
    if (method) {
      await Deno.writeFile(this.made, new Uint8Array(), { createNew: true });
      if (method === "zst" || method === "gz") prepareToCompress();
    }
    if (isInPlace(format)) {
      if (method) return setSize(this.made, size);
      const total = this.isDevice ? size : 0;
      return await withProgress("zeros", total, (update) => allocateOutput(this.output, update));
    }
    // An archive is written from front to back.
    if (strategy === "archive") return;
    this.disk = this.raw = join(this.scratch, "disk.raw");
    await Deno.writeFile(this.disk, new Uint8Array(), { createNew: true });
    setSize(this.disk, size);
    if (strategy === "converted") {
      if (formatOf(format).own) prepareToCompress();
      return;
    }
    const { offset: start, size: length } = largest(partitions);
    this.wrapped = { path: this.made, offset: CLUSTER, start, size: length };
    setSize(this.made, CLUSTER + length);
  }

  /** Where to make a filesystem. */
  place({ offset, size }: Pick<PlacedVolume, "offset" | "size">): Target {
    return offset === this.wrapped?.start ? this.wrapped : { path: this.disk, offset, start: offset, size };
  }

  private hash: Promise<string> | undefined;

  sha256(): Promise<string> {
    return this.hash ??= hashImage(this.output.path);
  }

  /** Removes or empties the files that belong to the image. */
  async clear(): Promise<void> {
    const { plan } = this.opened;
    await clearSideFiles(plan.settings);
    if (plan.builder === "part-image" && plan.partitions[0].verity) {
      await removeVerity(verityDirectory(plan, this), this.name);
    }
  }

  /** Dates the image, which marks it as finished. */
  async commit(): Promise<void> {
    throwIfInterrupted();
    await this.split?.publish();
    await finishOutput(this.output, this.opened.tree.began);
    this.isFinished = true;
    await this.summarize();
  }

  /** Logs the last line of a build. A checksum takes as long as the build itself, so only programs get one. */
  private async summarize(): Promise<void> {
    const { output: { path, isDevice }, opened: { plan: { format, settings: { compress } }, start } } = this;
    const size = imageSize(path);
    const onDisk = isDevice ? size : ((await Deno.stat(path)).blocks ?? 0) * STAT_BLOCK;
    const sha256 = log.isJson() ? await this.sha256() : undefined;
    const seconds = (performance.now() - start) / 1000;
    log.step(
      `Done: ${path}, ${compress === "none" ? format : `${format}.${compress}`}, ${formatBytes(size)}, ${
        formatBytes(onDisk)
      } on disk, ${seconds.toFixed(1)} s`,
      {
        event: "done",
        output: path,
        format,
        ...compress !== "none" && { compress },
        size,
        onDisk,
        seconds: Number(seconds.toFixed(3)),
        sha256,
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.isFinished) await this.discard();
    } finally {
      await this.split?.[Symbol.asyncDispose]();
      await this.opened.scratch[Symbol.asyncDispose]();
      this.opened.lock[Symbol.dispose]();
    }
  }

  private async discard(): Promise<void> {
    // Not every program reports that the disk is full.
    const full = fullDirectory([
      dirname(this.output.path),
      scratchParent(),
      ...this.split ? [this.split.staging] : [],
    ]);
    if (full !== undefined) log.fail(`No space left in ${quote(full)}`);
    try {
      await abandonOutput(this.output);
      await this.clear();
    } catch (error) {
      log.fail(`Cannot empty the unfinished output: ${reasonOf(error)}`);
    }
  }
}

function largest(volumes: readonly PlacedVolume[]): PlacedVolume {
  return volumes.reduce((one, other) => other.size > one.size ? other : one);
}
