/**
 * All decisions: what the image will be, from the settings and the contents of the tree.
 *
 * The policy, with the reasons in the docs and the sources:
 *
 * - Exactly one ESP, one XBOOTLDR and one root partition, in this order: the root is last, so that it can
 *   grow. Types are those of the DPS; the root's is for the architecture of the tree's programs.
 * - `/boot` of the tree becomes XBOOTLDR, `/boot/efi` or `/efi` the ESP. In the root, `/boot` and `/efi` are
 *   empty directories: systemd does not automount on others.
 * - `/etc/fstab` names `/boot` and `/boot/efi` by UUID and without `nofail` (which drops the ordering),
 *   but not `/`: such a line makes systemd-remount-fs fail in a container. Lines for other mount points stay.
 * - A kernel with an initrd gets `root=UUID=… rw`, which every initrd knows; one without `root=PARTUUID=… rw`.
 * - `SIZE_MB` wins over `USED_MB` and `FREE_MB`; else the size is `EFI_MB + BOOT_MB + USED_MB + FREE_MB`,
 *   where a computed `USED_MB` includes the filesystem's metadata and the partition table.
 *
 * Nothing here reads, runs or writes anything: its tests need no permissions.
 *
 * @module
 */

import type { BootLoaderName } from "../boot/bootloaders.ts";
import {
  type ArchitectureName,
  GPT_ATTRIBUTES,
  type PartitionRole,
  partitionType,
  typeName,
} from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, FINDINGS } from "../core/findings.ts";
import { deriveUuid } from "../core/identity.ts";
import { MiB } from "../core/units.ts";
import { select } from "../filesystem/contents.ts";
import type { Contents } from "../filesystem/entries.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import type { FilesystemRequest } from "../filesystem/types.ts";
import { type FormatName, isDisk } from "../image/formats.ts";
import { placePartitions, TABLE_SIZE } from "../image/gpt.ts";
import type { Tree } from "../tree/inspect.ts";
import { planArchive } from "./archive.ts";
import { isWanted, planBios, planBoot, planKernelOptions } from "./boot.ts";
import { checkNesting, checkSystem, findNestedTree, isSystem } from "./checks.ts";
import { planContents } from "./contents.ts";
import { findLeftovers, type Leftovers } from "./leftovers.ts";
import { checkPacking } from "./packing.ts";
import { planMountPoints } from "./mount-points.ts";
import { describePortable, planPortable } from "./portable.ts";
import { planRootOptions } from "./root-options.ts";
import { type Measured, planRoot, tooLarge, tooSmall, type Volume } from "./root.ts";
import type { SettingName, Settings } from "./settings.ts";
import { planHashes, planVerity, type VerityPlan, verityUuids } from "./verity.ts";

/** A volume and its place in the image, in bytes. */
export interface PlacedVolume extends Volume {
  /** The label in the partition table, if any. */
  readonly label: string;
  readonly offset: number;
  readonly size: number;
}

/** A partition of a disk image. */
export interface PartitionPlan extends PlacedVolume {
  readonly role: PartitionRole;
  /** Type GUID. */
  readonly type: string;
  /** As systemd names the type: `root-x86-64`. */
  readonly typeName: string;
  /** The PARTUUID. */
  readonly uuid: string;
  readonly attributes: readonly number[];
  readonly mountPoint: string;
}

/**
 * What both kinds of images share. Plans are data: they can be printed, compared and stored. With a read-only root,
 * the first plan is preliminary, since the size of its filesystem is unknown: planning again with the measured size
 * gives the final one.
 */
interface CommonPlan {
  readonly format: FormatName;
  /** Bytes of the raw image. */
  readonly size: number;
  /** Seconds since 1970: the date of everything that the build creates. */
  readonly time: number;
  readonly seed: string;
  /** The settings it was made for. */
  readonly settings: Settings;
  /** The dm-verity hashes of the root filesystem. */
  readonly verity?: VerityPlan;
  /** What is left out of all filesystems, because no image should have it. */
  readonly leftovers: Leftovers["found"];
  /** Findings about the tree and the settings. */
  readonly findings: readonly Finding[];
}

/** What `disk-image` will make. */
export interface DiskPlan extends CommonPlan {
  readonly builder: "disk-image";
  readonly architecture: ArchitectureName;
  /** The disk GUID. */
  readonly id: string;
  readonly partitions: readonly PartitionPlan[];
  /** Bytes of a logical sector of the disk. */
  readonly sectorSize: number;
  /** Absent: the image boots only as a container. */
  readonly bootLoader?: { readonly name: BootLoaderName; readonly reason: string };
  /** The kernel command line. */
  readonly kernelOptions: string;
}

/** What `part-image` will make. */
export interface PartPlan extends CommonPlan {
  readonly builder: "part-image";
  /** The only one: it is the whole image. */
  readonly partitions: readonly [PlacedVolume];
  /** The files beside the image. */
  readonly hashes?: Measured["verity"];
  /** Notes on `portablectl attach`, one line each. */
  readonly portable: readonly string[];
}

export type Plan = DiskPlan | PartPlan;

/**
 * Decides on a disk image.
 *
 * @param measured facts about a read-only root that was made with this function's first plan.
 * @throws {BuildError} when the settings and the tree do not fit together.
 */
export function planDisk(settings: Settings, tree: Tree, measured?: Measured): DiskPlan {
  checkPacking(settings, "disk-image");
  const architecture = tree.architecture ?? tree.kernels[0]?.architecture;
  if (!architecture) {
    const nested = findNestedTree(tree);
    throw new BuildError(`Cannot find the architecture of ${quote(tree.path)}: no program in it is known`, {
      hint: nested === undefined
        ? "A disk image needs a tree with /sbin/init or another of the usual programs"
        : `The system is in the directory ${quote(nested)} of it: ${FINDINGS["nested-tree"].hint}`,
    });
  }
  const seed = settings.seed ?? defaultSeed("disk-image", tree, architecture);
  const time = settings.sourceDateEpoch ?? tree.newest;
  const uuid = (name: string) => deriveUuid(seed, name);
  const row = rootFilesystem(settings);
  const { readOnly } = row;
  const verity = planVerity(settings, seed);
  const verified = measured?.verity && verityUuids(measured.verity.rootHash);
  const uuids: Partial<Record<PartitionRole, string>> = { root: uuid("root/partition"), ...verified };
  const requested = (role: string) => ({ uuid: uuid(`${role}/filesystem`), seed: `${seed}/${role}` });
  const found = planRootOptions(tree.fstab, {
    filesystem: settings.filesystem,
    readOnly,
    uuid: row.uuid(requested("root")),
    partitionUuid: uuids.root!,
  });
  const verityOptions = [
    "root=/dev/mapper/root",
    "ro",
    `roothash=${measured?.verity?.rootHash ?? "UNKNOWN"}`,
  ];
  const optionsWith = (root: readonly string[]) =>
    planKernelOptions(settings, tree, verity ? verityOptions : root);
  const { kernelOptions, loader, boot, files, findings } = planBoot(settings, tree, {
    options: optionsWith(found.options),
    bareOptions: optionsWith(found.bare),
    bootUuid: uuid("xbootldr/filesystem"),
  });
  const bios = settings.firmware === "uefi" ? [] : [planBios(settings, tree)];
  const leftovers = findLeftovers(tree, settings.keep);
  const mountPoints = planMountPoints(tree.nodes);

  const request = (role: string, label: string): FilesystemRequest => ({
    label,
    ...requested(role),
    hashSeed: uuid(`${role}/hash-seed`),
    time,
    sector: settings.sectorSize,
  });
  const volume = (
    name: SettingName,
    filesystem: FilesystemName,
    requested: FilesystemRequest,
    contents: Contents,
  ): Volume => {
    const selection = select(tree.nodes, contents);
    const size = settings[name] as number * MiB;
    const plan = FILESYSTEMS[filesystem].plan(selection, { ...requested, size });
    if (plan) return { contents, selection, filesystem: plan };
    if (size > FILESYSTEMS[filesystem].largest) throw tooLarge(name, settings, filesystem);
    throw tooSmall(name, settings, FILESYSTEMS[filesystem].smallest(selection, requested) / MiB);
  };

  const devices = {
    xbootldr: `UUID=${FILESYSTEMS[boot].uuid(requested("xbootldr"))}`,
    esp: `UUID=${FILESYSTEMS.vfat.uuid(requested("esp"))}`,
  };
  const contents = planContents(tree, {
    ...settings,
    kernelOptions,
    readOnly,
    leftovers: { ...leftovers, add: [...leftovers.add, ...mountPoints.add] },
    boot,
    files,
    devices,
  });
  const esp = volume("efiMb", "vfat", request("esp", "ESP"), contents.esp);
  const xbootldr = volume("bootMb", boot, request("xbootldr", "BOOT"), contents.xbootldr);
  const hashes = planHashes(verity, measured);
  const others = [...bios, esp, xbootldr, ...hashes.map(({ volume }) => volume)];
  const otherBytes = TABLE_SIZE + others.reduce((sum, { filesystem }) => sum + filesystem.size, 0);
  const root = planRoot(settings, tree.nodes, contents.root, request("root", ""), otherBytes, measured);

  const volumes: [PartitionRole, string, Volume][] = [
    ...bios.map((volume): [PartitionRole, string, Volume] => ["bios", "", volume]),
    ["esp", "/boot/efi", esp],
    ["xbootldr", "/boot", xbootldr],
    ...hashes.map(({ role, volume }): [PartitionRole, string, Volume] => [role, "", volume]),
    ["root", "/", root],
  ];
  const offsets = placePartitions(volumes.map(([, , { filesystem }]) => filesystem.size));
  return {
    builder: "disk-image",
    format: settings.outputFormat,
    architecture,
    id: uuid("disk"),
    sectorSize: settings.sectorSize,
    size: otherBytes + root.filesystem.size,
    partitions: volumes.map(([role, mountPoint, volume], i) => ({
      ...volume,
      role,
      type: partitionType(role, architecture),
      typeName: typeName(role, architecture),
      label: role,
      uuid: uuids[role] ?? uuid(`${role}/partition`),
      attributes: planAttributes(role, readOnly),
      offset: offsets[i]!,
      size: volume.filesystem.size,
      mountPoint,
    })),
    ...loader && { bootLoader: { name: loader.name, reason: loader.reason } },
    ...verity && { verity },
    kernelOptions,
    seed,
    time,
    settings,
    leftovers: leftovers.found,
    findings: [
      ...tree.findings,
      ...checkSystem(tree, isWanted(settings) ? { kernelOptions } : {}),
      ...findings,
      ...found.findings,
      ...mountPoints.findings,
      ...contents.findings,
      ...leftovers.findings,
      ...volumes.flatMap(([, , { filesystem }]) => filesystem.findings),
    ],
  };
}

/** Decides on the image of a single filesystem, like {@link planDisk}. */
export function planPart(settings: Settings, tree: Tree, measured?: Measured): PartPlan {
  checkPacking(settings, "part-image");
  const seed = settings.seed ?? defaultSeed("part-image", tree, tree.architecture);
  const time = settings.sourceDateEpoch ?? tree.newest;
  const from = settings.directory;
  const leftovers = findLeftovers(tree, settings.keep);
  const holdsSystem = from === "/" && FILESYSTEMS[settings.filesystem].holdsSystem && isSystem(tree);
  const mountPoints = holdsSystem && settings.portable === undefined
    ? planMountPoints(tree.nodes)
    : { add: [], findings: [] };
  const portable = settings.portable === undefined ? [] : planPortable(settings.portable, settings, tree);
  // Replacements of leftovers are at paths of a whole system.
  const add = from === "/" ? [...leftovers.add, ...mountPoints.add, ...portable] : [];
  const contents = { from, omit: [], without: leftovers.without, add };
  const volume = isDisk(settings.outputFormat)
    ? planRoot(
      settings,
      tree.nodes,
      contents,
      {
        label: "",
        uuid: deriveUuid(seed, "root/filesystem"),
        hashSeed: deriveUuid(seed, "root/hash-seed"),
        seed: `${seed}/root`,
        time,
      },
      0,
      measured,
    )
    : planArchive(tree.nodes, contents, time);
  const verity = planVerity(settings, seed);
  const { size, label } = volume.filesystem;
  return {
    builder: "part-image",
    partitions: [{ ...volume, label: label || "root", offset: 0, size }],
    ...verity && { verity },
    ...measured?.verity && { hashes: measured.verity },
    portable: describePortable(settings, tree),
    format: settings.outputFormat,
    size,
    seed,
    time,
    settings,
    leftovers: leftovers.found,
    findings: [
      ...tree.findings,
      ...from === "/" ? checkNesting(tree) : [],
      ...holdsSystem ? checkSystem(tree) : [],
      ...mountPoints.findings,
      ...leftovers.findings,
      ...volume.filesystem.findings,
    ],
  };
}

/** What the root filesystem of a disk can be. */
function rootFilesystem(
  { filesystem }: Settings,
): Pick<(typeof FILESYSTEMS)[FilesystemName], "readOnly" | "uuid"> {
  const row = FILESYSTEMS[filesystem];
  if (row.holdsSystem) return row;
  throw new BuildError(`Cannot use FILESYSTEM=${filesystem} for the root of a disk`, {
    kind: "usage",
    hint: "It keeps no owners, modes and links, which an operating system needs",
  });
}

function planAttributes(role: PartitionRole, readOnly: boolean): number[] {
  if (role === "root" && !readOnly) return [GPT_ATTRIBUTES.growfs];
  return role.startsWith("root") ? [GPT_ATTRIBUTES.readOnly] : [];
}

/** What identifies the image: the same tree and layout give the same IDs, another release gives others. */
function defaultSeed(builder: string, { osRelease }: Tree, architecture: string | undefined): string {
  const fields = ["ID", "VERSION_ID", "BUILD_ID", "IMAGE_ID", "IMAGE_VERSION"];
  return JSON.stringify([builder, architecture ?? "", ...fields.map((name) => osRelease[name] ?? "")]);
}
