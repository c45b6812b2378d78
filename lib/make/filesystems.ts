/**
 * Makes filesystems. Standard programs format them; our own code fills ext4 and FAT, and a pax stream the others.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { BuildError } from "../core/error.ts";
import * as log from "../core/log.ts";
import { startProgress } from "../core/progress.ts";
import { startCopyHelper } from "../filesystem/ext4/copy-helper.ts";
import { fillExt4 } from "../filesystem/ext4/make.ts";
import type { Ext4Plan } from "../filesystem/ext4/plan.ts";
import { ext4Fault } from "../filesystem/ext4/verify.ts";
import { fillVfat } from "../filesystem/fat/make.ts";
import { fatFault } from "../filesystem/fat/verify.ts";
import { swapHeader } from "../filesystem/swap.ts";
import type { FilesystemType, SwapPlan, Writers } from "../filesystem/types.ts";
import { copyInto } from "../image/copy.ts";
import { copyTarget, openImageFile, readTarget } from "../image/image.ts";
import type { Target } from "../image/target.ts";
import { writeAt } from "../image/writer.ts";
import type { PlacedVolume, Plan } from "../plan/plan.ts";
import { interrupted, stoppedBy, throwIfInterrupted } from "../system/process.ts";
import type { ProgramName } from "../system/programs.ts";
import type { OpenTree } from "../tree/inspect.ts";
import type { Root } from "../tree/root.ts";
import * as commands from "./commands.ts";
import { makeGrubBios, verifyGrubBios } from "./grub-bios.ts";
import { withGrub } from "./grub-efi.ts";
import { EROFS, makeErofs, makeSquashfs, SQUASHFS, verifyStreamed } from "./squashfs-erofs.ts";
import { compareOci, makeOci } from "./oci.ts";
import { compareTar, makeTar, verifyTar } from "./tar.ts";
import type { ImageInProgress, MakeContext } from "./types.ts";

/** How to make and check a filesystem. */
interface Maker<Writer> {
  /** The programs that make it. */
  readonly programs: readonly ProgramName[];
  /** The program that checks one. */
  readonly checker?: ProgramName;
  /** Makes it, in a part of the image that reads as zeros. @throws {BuildError} */
  readonly make: (target: Target, writer: Writer, context: MakeContext) => Promise<void>;
  /** Checks the result quickly. @throws {BuildError} */
  readonly verify?: (target: Target, writer: Writer) => void;
  /** Runs the checker, possibly on a copy in `scratch`. @throws {BuildError} */
  readonly check?: (target: Target, scratch: string) => Promise<void>;
  /** Compares it with the tree. @throws {BuildError} */
  readonly compare?: (target: Target, writer: Writer, root: Root) => Promise<void>;
}

/** Anything that is only copied. */
const COPIED: Maker<null> = {
  programs: [],
  make: () => Promise.reject(new Error("it has not been made")),
};

/** One row per type: the other half of `FILESYSTEMS`. */
export const MAKERS: { readonly [T in FilesystemType]: Maker<Writers[T]> } = {
  "ext4": {
    programs: ["mke2fs"],
    checker: "e2fsck",
    make: (target, plan, { root, ...options }) => makeExt4(target, plan, root, options),
    verify: (target, plan) => refuse("ext4", ext4Fault(target, plan)),
    check: async ({ path, offset }, scratch) => {
      // The path may contain a question mark.
      const link = join(scratch, `ext4-${offset}`);
      await Deno.symlink(resolve(path), link);
      await commands.e2fsck(link, offset);
    },
  },
  "vfat": {
    programs: ["mkfs.vfat"],
    checker: "fsck.vfat",
    make: async (target, plan, context) => {
      await commands.mkfsVfat(target, plan);
      await fillVfat(target, await withGrub(plan, context), context, context);
    },
    verify: (target, { geometry }) => refuse("FAT", fatFault(target, geometry)),
    check: async (target, scratch) => {
      const copy = join(scratch, `vfat-${target.offset}`);
      await copyTarget(target, copy);
      await commands.fsckVfat(copy);
      await Deno.remove(copy);
    },
  },
  "squashfs": {
    programs: ["mksquashfs"],
    checker: "unsquashfs",
    make: makeSquashfs,
    verify: (target, plan) => verifyStreamed(target, plan, SQUASHFS),
    check: async ({ path, offset }) => await commands.unsquashfs(path, offset),
  },
  "erofs": {
    programs: ["mkfs.erofs"],
    checker: "fsck.erofs",
    make: makeErofs,
    verify: (target, plan) => verifyStreamed(target, plan, EROFS),
    check: async ({ path, offset }) => await commands.fsckErofs(path, offset),
  },
  "tar": {
    programs: [],
    checker: "tar",
    make: makeTar,
    verify: verifyTar,
    compare: compareTar,
  },
  "oci": {
    programs: [],
    checker: "tar",
    make: makeOci,
    verify: verifyTar,
    compare: compareOci,
  },
  "grub": {
    programs: ["grub-mkimage"],
    make: makeGrubBios,
    verify: (target) => verifyGrubBios(target),
  },
  "verity": COPIED,
  "signature": COPIED,
  "swap": {
    programs: [],
    make: makeSwap,
    verify: (target, plan) => {
      const header = swapHeader(plan);
      const found = readTarget(target, 0, header.length);
      if (header.some((byte, i) => byte !== found[i])) throw new BuildError("The header of swap is damaged");
    },
  },
  "empty": { programs: [], make: () => Promise.resolve() },
};

// deno-lint-ignore require-await
async function makeSwap({ path, offset }: Target, plan: SwapPlan): Promise<void> {
  using image = openImageFile(path);
  writeAt(image, swapHeader(plan), offset);
}

function refuse(type: string, fault: string | undefined): void {
  if (fault) throw new BuildError(`The ${type} filesystem is damaged: ${fault}`);
}

/** The row of a type, for plans of that type. */
export function makerOf(type: FilesystemType): Maker<unknown> {
  return MAKERS[type] as Maker<unknown>;
}

/** Formats and fills an ext4. @throws {BuildError} as {@link fillExt4}, or when mke2fs fails. */
export async function makeExt4(
  target: Target,
  plan: Ext4Plan,
  root: Root,
  options: Partial<Pick<MakeContext, "onProgress" | "signal">> = {},
): Promise<void> {
  await using helper = startCopyHelper(plan.bytes);
  await commands.mke2fs(target, plan);
  await fillExt4(target, plan, root, { ...options, helper });
}

/** The programs that make these filesystems; with `full`, also those that check them. */
export function programsOf(types: readonly FilesystemType[], full: boolean): ProgramName[] {
  return types.flatMap((type) => {
    const { programs, checker } = makerOf(type);
    return full && checker ? [...programs, checker] : programs;
  });
}

/**
 * Makes the filesystems of an image in parallel: programs make the small ones while our own code fills the large one, and
 * `beside` does what else need not wait for them. If one fails, the others are stopped before the error is thrown.
 */
export async function makeFilesystems(
  plan: Plan,
  tree: OpenTree,
  image: ImageInProgress,
  beside: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  await image.stage(plan);
  const place = {
    place: (volume: PlacedVolume) => image.place(volume),
    scratch: image.scratch,
    // Programs want exclusive access to a device.
    oneByOne: image.isDevice,
  };
  await makeVolumes(plan.partitions, tree, place, beside);
}

/** Where to make volumes. */
export interface Place {
  readonly place: (volume: PlacedVolume) => Target;
  readonly scratch: string;
  readonly oneByOne: boolean;
}

/** Makes volumes, and does something beside that. */
export async function makeVolumes(
  volumes: readonly PlacedVolume[],
  { root, nodes }: Pick<OpenTree, "root" | "nodes">,
  { place, scratch, oneByOne }: Place,
  beside: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  // What was made where it stays is done.
  const pending = volumes.filter((volume) => volume.filesystem.made !== place(volume).path);
  const names = pending.flatMap(({ name, filesystem: { type, made } }) => made ? [] : [`${name} (${type})`]);
  if (names.length) log.step(`Making and filling ${names.join(", ")}`);
  const failure = new AbortController();
  const signal = AbortSignal.any([interrupted, failure.signal]);
  const run = async (job: () => Promise<void>) => {
    try {
      await stoppedBy(signal, job);
    } catch (error) {
      failure.abort(error);
      throw error;
    }
  };
  const make = async (volume: PlacedVolume) => {
    const { name, filesystem: { type, writer, made, bytes } } = volume;
    const own = join(scratch, name);
    await Deno.mkdir(own);
    const progress = startProgress(name, bytes);
    try {
      const context = { root, nodes, scratch: own, onProgress: progress.update, signal };
      const target = place(volume);
      await run(() =>
        made === undefined
          ? makerOf(type).make(target, writer, context)
          : copyInto(made, target, progress.update)
      );
      progress.end();
    } catch (error) {
      progress.fail();
      throw error;
    }
  };
  if (oneByOne) {
    for (const volume of pending) await make(volume);
    return await run(beside);
  }
  const results = await Promise.allSettled([...pending.map(make), run(beside)]);
  // The first failure is the cause; the others may just have been stopped.
  if (failure.signal.aborted) throw failure.signal.reason;
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** Checks the finished filesystems again: a program may have written to the wrong place. */
export async function verify(plan: Plan, { root }: OpenTree, image: ImageInProgress): Promise<void> {
  const full = plan.settings.verify === "full";
  if (full) log.step("Checking the filesystems");
  for (const volume of plan.partitions) {
    throwIfInterrupted();
    const { verify, check, compare } = makerOf(volume.filesystem.type);
    const target = image.place(volume);
    verify?.(target, volume.filesystem.writer);
    if (!full) continue;
    await check?.(target, image.scratch);
    await compare?.(target, volume.filesystem.writer, root);
  }
}
