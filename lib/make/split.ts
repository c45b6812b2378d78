/**
 * Writes the parts of a disk as files of their own. They are made in a directory of their own beside where they go, and
 * moved there once the whole build has succeeded: what serves them never sees half a file, nor half a set.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { encodeText } from "../core/bytes.ts";
import { BuildError, quote } from "../core/error.ts";
import { listPaths } from "../core/findings.ts";
import * as log from "../core/log.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { makeRecipe } from "../efi/make-recipe.ts";
import { hashImage } from "../image/hash.ts";
import { OUTPUT_MODE, writeBeside } from "../image/output.ts";
import type { DiskPlan, PartitionPlan, Plan } from "../plan/plan.ts";
import type { SplitPlan } from "../plan/split.ts";
import { reasonOf } from "../system/failure.ts";
import { inspectFile, isTooLong, MAX_NAME, placeOf } from "../system/files.ts";
import { openScratch } from "../system/scratch.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { SIDE_FILES } from "./manifest.ts";
import { writePacked } from "./pack.ts";
import type { ImageInProgress, SplitInProgress } from "./types.ts";

/** The name of the list of checksums, as systemd-sysupdate looks for it. */
export const SUMS = "SHA256SUMS";

/** The plan, and where the files go, which says nothing about the image. */
type Split = SplitPlan & { readonly directory: string };

/** Split artefacts that are being made. Disposing of them removes what is not published. */
export interface OpenSplit extends SplitInProgress, AsyncDisposable {
  /** Replaces those of an earlier build of the same version, and lists all in SHA256SUMS. */
  readonly publish: () => Promise<void>;
}

/**
 * Prepares the split artefacts of a plan, if it has any, without changing what is there.
 *
 * @param output the image, which may have a similar name.
 * @throws {BuildError} (usage) when the directory is not writable, has files of such names that no build has listed, or cannot
 * have files of such names.
 */
export async function openSplit(plan: Plan, output: string): Promise<OpenSplit | undefined> {
  if (plan.builder !== "disk-image" || !plan.split) return undefined;
  const { settings } = plan;
  const directory = resolve(settings.splitDirectory!);
  const split: Split = { ...plan.split, directory };
  const others = await placesOf([output, ...SIDE_FILES.flatMap((name) => settings[name] ?? [])]);
  const long = fileNames(plan).find(isTooLong);
  if (long !== undefined) {
    throw refuse(
      split,
      `no file can have the name ${quote(long)}: it has more than ${MAX_NAME} bytes`,
      "Name the output differently, or set OUTPUT_NAME to a shorter name",
    );
  }
  const sums = await readSums(split);
  const own = await ownFiles(split);
  // Those that are listed are removed, even if this build makes none of such a name.
  const names = [...fileNames(plan), SUMS, ...own.filter((name) => sums.has(name))];
  for (const name of names) {
    const places = await placesOf([join(directory, name)]);
    if (!places.some((place) => others.includes(place))) continue;
    throw refuse(split, `${quote(name)} is also written for another setting`, "Name another directory");
  }
  const foreign = own.filter((name) => !sums.has(name) && !others.includes(join(directory, name)));
  if (foreign.length) {
    throw refuse(
      split,
      `${SUMS} does not list ${listPaths(foreign)}`,
      "Remove it, set IMAGE_VERSION to another version, or name another directory",
    );
  }
  const scratch = await openScratch(directory).catch((cause) => {
    throw refuse(split, "files cannot be made in it", "Name a directory that exists and is writable", cause);
  });
  const made = new Map<string, string>();
  return {
    staging: scratch.path,
    sums: made,
    publish: () => publish(split, scratch.path, made),
    [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose](),
  };
}

/** Paths as they are named, and where links lead. */
async function placesOf(paths: readonly string[]): Promise<string[]> {
  const led = await Promise.all(paths.map(placeOf));
  return [...paths.map((path) => resolve(path)), ...led.map(({ directory, name }) => join(directory, name))];
}

function refuse(
  { directory }: Pick<Split, "directory">,
  reason: string,
  hint: string,
  cause?: unknown,
): BuildError {
  return new BuildError(`Cannot use SPLIT_DIR=${quote(directory)}: ${reason}`, {
    kind: "usage",
    hint,
    cause,
  });
}

/** What is there with names that this version has. */
async function ownFiles({ directory, prefix }: Split): Promise<string[]> {
  try {
    const entries = await Array.fromAsync(Deno.readDir(directory));
    return entries.map(({ name }) => name).filter((name) => name.startsWith(`${prefix}.`)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** The checksums that are listed already, of other versions as well. @throws {BuildError} when it is no such list. */
async function readSums(split: Split): Promise<Map<string, string>> {
  const path = join(split.directory, SUMS);
  const type = inspectFile(path)?.type;
  if (type === undefined) return new Map();
  // A FIFO would be waited for.
  if (type !== FILE_TYPES.file) throw refuse(split, `${SUMS} in it is no regular file`, "Remove it");
  const text = await Deno.readTextFile(path).catch((cause) => {
    throw refuse(
      split,
      `${SUMS} in it cannot be read: ${reasonOf(cause)}`,
      "Remove it, or run as root",
      cause,
    );
  });
  const lines = text.split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => {
    const [, sum, name] = /^([0-9a-f]{64}) [ *]([^/]+)$/.exec(line) ?? [];
    if (sum && name) return [name, sum] as const;
    throw refuse(split, `${SUMS} in it has a line that is no checksum: ${quote(line)}`, "Remove it");
  }));
}

async function writeSums(
  { directory }: Split,
  staging: string,
  sums: Map<string, string>,
): Promise<void> {
  const lines = [...sums].sort(([a], [b]) => a < b ? -1 : 1).map(([name, sum]) => `${sum}  ${name}\n`);
  await writeBeside(join(staging, SUMS), lines.join(""));
  await Deno.rename(join(staging, SUMS), join(directory, SUMS));
}

async function publish(
  split: Split,
  staging: string,
  made: ReadonlyMap<string, string>,
): Promise<void> {
  const { directory } = split;
  const sums = await readSums(split);
  for (const name of await ownFiles(split)) {
    if (!sums.delete(name)) continue;
    await writeSums(split, staging, sums);
    await Deno.remove(join(directory, name));
  }
  for (const [name, sum] of made) {
    await Deno.rename(join(staging, name), join(directory, name));
    sums.set(name, sum);
  }
  await writeSums(split, staging, sums);
}

/**
 * The name of each partition's file: `SplitName=` of a layout, or the type. Partitions of a verified root also have their UUID
 * in the name, which is half of the root hash: systemd finds them by it (`@u` in a pattern of systemd-sysupdate).
 *
 * @throws {BuildError} (usage) when a layout names two alike.
 */
function namesOf(
  { split, partitions, settings: { compress, layout, splitDirectory = "" } }: DiskPlan,
): Map<PartitionPlan, string> {
  const isVerified = partitions.some(({ verity }) => verity);
  const names = new Map<PartitionPlan, string>();
  for (const partition of partitions) {
    const { role, typeName, uuid, splitName, filesystem } = partition;
    // An empty slot is what an update is written to.
    if (filesystem.type === "empty" || layout !== undefined && splitName === undefined) continue;
    const own = splitName ?? (isVerified && role?.startsWith("root") ? `${typeName}.${uuid}` : typeName);
    // A layout may come from the tree.
    if (!/^[\x21-\x2e\x30-\x7e]+$/.test(own)) {
      throw refuse(
        { directory: splitDirectory },
        `SplitName=${quote(own)} of the layout is no part of a file name`,
        "Use ASCII characters without spaces and slashes",
      );
    }
    const name = `${split!.prefix}.${own}.raw${compress === "none" ? "" : `.${compress}`}`;
    if ([...names.values()].includes(name)) {
      throw refuse(
        { directory: splitDirectory },
        `two partitions of the layout are ${quote(name)}`,
        "Give one of them a SplitName=",
      );
    }
    names.set(partition, name);
  }
  return names;
}

/** The names of all files that {@link split} makes. */
function fileNames(plan: DiskPlan): string[] {
  const { prefix, boot } = plan.split!;
  return [...namesOf(plan).values(), ...boot.map(({ suffix }) => `${prefix}.${suffix}`)];
}

/** Makes the split artefacts, if the plan has any. They appear only when the image is committed. */
export async function split(
  plan: DiskPlan,
  { root, nodes }: Pick<OpenTree, "root" | "nodes">,
  image: ImageInProgress,
): Promise<void> {
  if (!plan.split || !image.split) return;
  const { prefix, boot } = plan.split;
  const { staging, sums } = image.split;
  log.step(`Writing the parts of the disk to ${plan.settings.splitDirectory}`);
  if (plan.settings.compress === "zst") {
    log.warn("systemd-sysupdate up to version 257 does not unpack .zst: set COMPRESS to xz or gz for it");
  }
  const names = namesOf(plan);
  for (const [partition, name] of names) {
    const { path, offset, size } = image.place(partition);
    const to = await create(staging, name);
    await writePacked(plan.settings.compress, [{ path, offset, length: size }], to, partition.label);
  }
  for (const artefact of boot) {
    const to = await create(staging, `${prefix}.${artefact.suffix}`);
    const bytes = "text" in artefact ? encodeText(artefact.text) : makeRecipe(root, nodes, artefact.recipe);
    await Deno.writeFile(to, bytes);
  }
  const made = fileNames(plan);
  const found = await Promise.all(made.map((name) => hashImage(join(staging, name))));
  made.forEach((name, i) => sums.set(name, found[i]!));
}

/** Makes an empty file, readable only by its owner: it holds what only root may read in the tree. */
async function create(directory: string, name: string): Promise<string> {
  const path = join(directory, name);
  await Deno.writeFile(path, new Uint8Array(), { createNew: true, mode: OUTPUT_MODE });
  return path;
}
