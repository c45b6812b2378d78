/**
 * Plans the root filesystem: its size, and the facts about it that are not known before it is made.
 *
 * - `SIZE_MB` wins over `USED_MB` and `FREE_MB`; a computed `USED_MB` includes the filesystem's metadata.
 * - The size of a read-only filesystem is not known in advance. So it is made first, and then the plan is made again
 *   with what was {@link Measured}: its file, its size, and with `VERITY` its root hash.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { alignUp, formatBytes, MiB } from "../core/units.ts";
import { compressionArgs } from "../filesystem/compression.ts";
import type { Selection } from "../filesystem/contents.ts";
import type { Contents } from "../filesystem/entries.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import { READ_ONLY_BLOCK } from "../filesystem/squashfs-erofs.ts";
import type { FilesystemPlan, FilesystemRequest } from "../filesystem/types.ts";
import { type SettingName, SETTINGS, type Settings } from "./settings.ts";

/** One filesystem: its contents and its plan. */
export interface Volume {
  readonly contents: Contents;
  /** The contents, resolved to entries. */
  readonly selection: Selection;
  readonly filesystem: FilesystemPlan;
}

/** A finished file, and its size in bytes. */
export interface Made {
  readonly path: string;
  readonly size: number;
}

/** What is known about a read-only filesystem once it is made. */
export interface Measured extends Made {
  readonly verity?: {
    /** In hexadecimal digits. */
    readonly rootHash: string;
    readonly hashes: Made;
    /** The signature as in its partition: JSON. */
    readonly signature?: Made;
    /** The signature alone, PKCS #7 in DER. */
    readonly pkcs7?: Made;
  };
}

/** By the names of partitions. */
export type Measurements = Readonly<Record<string, Measured>>;

/** The settings that affect the root filesystem. */
type RootSettings = Pick<
  Settings,
  "filesystem" | "compression" | "label" | "sizeMb" | "usedMb" | "freeMb" | "efiMb" | "bootMb"
>;

/**
 * Plans the root filesystem of an image with `otherPartitionsBytes` for everything else, including the tables.
 *
 * @throws {BuildError} naming a setting that is impossible, and a value that works.
 */
export function planRoot(
  settings: RootSettings,
  contents: Contents,
  selection: Selection,
  requested: FilesystemRequest,
  otherPartitionsBytes: number,
  measured?: Measured,
): Volume {
  const name = settings.filesystem;
  const filesystem = FILESYSTEMS[name];
  const { compression } = settings;
  const request = { ...requested, label: planLabel(settings), ...compression && { compression } };
  if (!filesystem.readOnly && compression && compression.name !== "none") {
    // This reports that nothing is accepted.
    compressionArgs(name, filesystem.compressors, compression);
  }
  const { sizeMb, usedMb, freeMb } = settings;
  const planned = (size: { size: number } | { free: number } | Record<string, never>) => {
    const plan = filesystem.plan(selection, { ...request, ...size });
    if (plan) return { contents, selection, filesystem: plan };
  };
  const refuse = (setting: SettingName) => fail(tooLarge(setting, settings, name));

  if (filesystem.readOnly) {
    if (usedMb !== undefined) {
      throw new BuildError(`Cannot use USED_MB=${usedMb} with FILESYSTEM=${name}`, {
        kind: "usage",
        hint: "Its size follows from its contents: leave USED_MB out, or set SIZE_MB",
      });
    }
    const volume = planned(
      sizeMb === undefined ? {} : { size: Math.max(0, sizeMb * MiB - otherPartitionsBytes) },
    )!;
    if (!measured) return volume;
    // A partition ends where the next one can start.
    const grain = otherPartitionsBytes === 0 ? READ_ONLY_BLOCK : MiB;
    const size = sizeMb === undefined ? alignUp(measured.size, grain) : volume.filesystem.size;
    if (size < measured.size) {
      throw tooSmall("sizeMb", settings, (otherPartitionsBytes + measured.size) / MiB);
    }
    return { ...volume, filesystem: placeMade(volume.filesystem, measured, size) };
  }
  if (sizeMb !== undefined) {
    const smallest = Math.ceil((otherPartitionsBytes + filesystem.smallest(selection, request)) / MiB);
    if (smallest === Infinity) refuse("sizeMb");
    if (sizeMb < smallest) throw tooSmall("sizeMb", settings, smallest);
    return planned({ size: sizeMb * MiB - otherPartitionsBytes }) ?? refuse("sizeMb");
  }
  const computed = planned({ free: freeMb * MiB }) ?? refuse("freeMb");
  if (usedMb === undefined) return computed;
  // A smaller USED_MB would reduce the free space that FREE_MB promises.
  const beside = otherPartitionsBytes === 0 ? 0 : settings.efiMb + settings.bootMb;
  const smallest = Math.ceil((otherPartitionsBytes + computed.filesystem.size) / MiB) - beside - freeMb;
  if (usedMb < smallest) throw tooSmall("usedMb", settings, smallest);
  return planned({ size: (beside + usedMb + freeMb) * MiB - otherPartitionsBytes }) ?? refuse("usedMb");
}

/** The plan for a finished filesystem, which is only copied. */
export function placeMade(plan: FilesystemPlan, made: Made, size: number): FilesystemPlan {
  const { estimate: _, ...rest } = plan;
  return { ...rest, size, bytes: made.size, made: made.path };
}

function planLabel({ filesystem, label }: RootSettings): string {
  const accepts = FILESYSTEMS[filesystem] as {
    label?: { default: string; pattern: RegExp; accepted: string };
  };
  if (label === undefined) return accepts.label?.default ?? "";
  if (accepts.label?.pattern.test(label)) return label;
  throw new BuildError(`Cannot use LABEL=${quote(label)} with FILESYSTEM=${filesystem}`, {
    kind: "usage",
    hint: accepts.label ? `Accepted: ${accepts.label.accepted}` : `${filesystem} has no label`,
  });
}

function fail(error: BuildError): never {
  throw error;
}

export function tooLarge(
  name: SettingName,
  settings: Partial<Settings>,
  filesystem: FilesystemName,
): BuildError {
  const { env } = SETTINGS[name];
  return new BuildError(`Cannot make such a large filesystem (${filesystem}): ${env}=${settings[name]}`, {
    kind: "usage",
    hint: `The maximum is ${formatBytes(FILESYSTEMS[filesystem].largest)}`,
  });
}

/** @param smallest in MiB; may be a fraction. */
export function tooSmall(name: SettingName, settings: Partial<Settings>, smallest: number): BuildError {
  const { env } = SETTINGS[name];
  const least = Math.ceil(smallest);
  return new BuildError(`Cannot fit the files of the tree into ${env}=${settings[name]}`, {
    kind: "usage",
    hint: "default" in SETTINGS[name]
      ? `Set ${env} to ${least} or more`
      : `Set ${env} to ${least} or more, or leave it out`,
  });
}
