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
import type { ArchitectureName, PartitionRole } from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, FINDINGS } from "../core/findings.ts";
import { deriveUuid } from "../core/identity.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import { type FormatName, isDisk } from "../image/formats.ts";
import type { Tree } from "../tree/inspect.ts";
import { lacksInitrd } from "../tree/kernels.ts";
import { planArchive } from "./archive.ts";
import {
  bootPartitions,
  checkBootFormat,
  isWanted,
  planBios,
  planBoot,
  planKernelOptions,
  usrFindings,
} from "./boot.ts";
import { checkNesting, checkSystem, findInit, findNestedTree, isSystem } from "./checks.ts";
import { planContents } from "./contents.ts";
import { findForeignRoot } from "./fstab.ts";
import { checkIncus } from "./incus.ts";
import { findLeftovers, type Leftovers } from "./leftovers.ts";
import { checkPacking, checkSize, planWhole } from "./packing.ts";
import { planMountPoints } from "./mount-points.ts";
import { type Mountable, planMounts } from "./mounts.ts";
import { describePortable, planPortable } from "./portable.ts";
import { placeOf, readValue } from "./repart/definitions.ts";
import { type Layout, TREE_DIRECTORY } from "./repart/files.ts";
import { layoutRequests } from "./repart/layout.ts";
import { expand } from "./repart/values.ts";
import { builtInLayout, isMounted, isWhole, type PartitionRequest, systemPath } from "./requests.ts";
import { planRootOptions } from "./root-options.ts";
import { type Measured, type Measurements, planRoot, type Volume } from "./root.ts";
import { planSelinux, selectLabelled, selinuxFiles, type SelinuxPlan } from "./selinux.ts";
import type { Settings } from "./settings.ts";
import { planSplit, type SplitPlan } from "./split.ts";
import { planHashing, planVerity, requireVerity, type VerityPlan, verityUuids } from "./verity.ts";
import { builtInVolumes, fullFindings, layoutVolumes, type VolumeContext } from "./volumes.ts";
import { planWslFiles } from "./wsl.ts";

/** A volume and its place in the image, in bytes. */
export interface PlacedVolume extends Volume {
  /** Unique in the image. */
  readonly name: string;
  /** The label in the partition table, if any. */
  readonly label: string;
  readonly offset: number;
  readonly size: number;
  /** The dm-verity hashes of the filesystem. */
  readonly verity?: VerityPlan;
}

/** A partition of a disk image. */
export interface PartitionPlan extends PlacedVolume {
  /** Absent: it has another type than those of the DPS. */
  readonly role?: PartitionRole;
  /** Type GUID. */
  readonly type: string;
  /** As systemd names the type: `root-x86-64`. */
  readonly typeName: string;
  /** The PARTUUID. */
  readonly uuid: string;
  readonly attributes: readonly number[];
  readonly mountPoint: string;
  /** What a layout calls the file of its own with `SPLIT_DIR`; absent in a layout: it gets none. */
  readonly splitName?: string;
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
  /** Where the SELinux labels come from. */
  readonly selinux: SelinuxPlan;
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
  /** The parts of the disk as files of their own. */
  readonly split?: SplitPlan;
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
 * @param measured facts about read-only filesystems that were made with this function's first plan.
 * @throws {BuildError} when the settings and the tree do not fit together.
 */
export function planDisk(settings: Settings, tree: Tree, measured: Measurements = {}): DiskPlan {
  checkPacking(settings, "disk-image");
  checkIncus(settings, "disk-image");
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
  const { layout } = settings;
  if (layout === undefined) checkRootFilesystem(settings);
  const machine = { architecture, osRelease: tree.osRelease, kernel: tree.kernels[0]?.version };
  const requests = layout === undefined
    ? builtInLayout(settings, architecture)
    : layoutRequests(layout === "tree" ? treeLayout(tree) : layout, settings, machine);
  const verity = planAllVerity(requests, settings, seed);
  const partitionUuid = (request: PartitionRequest): string => {
    const { name, content, isVerified } = request;
    if (request.uuid !== undefined) return request.uuid;
    const of = isVerified ? name : content.type === "hash" ? content.of : "";
    const { rootHash } = measured[of]?.verity ?? {};
    if (rootHash === undefined) return uuid(`${name}/partition`);
    return verityUuids(rootHash)[isVerified ? "data" : "hashes"];
  };
  const identityOf = ({ name }: PartitionRequest) => ({
    uuid: uuid(`${name}/filesystem`),
    seed: `${seed}/${name}`,
    hashSeed: uuid(`${name}/hash-seed`),
    time,
    sector: settings.sectorSize,
  });
  const boots = bootPartitions(requests, settings);
  const mountedAt = (place: string) =>
    requests.find((request) => isMounted(request) && request.mountPoint === place);
  const [root, usr] = [mountedAt("/"), mountedAt("/usr")];
  const rootFormat = root?.content.type === "filesystem" ? root.content.format! : settings.filesystem;
  const usrFormat = usr?.content.type === "filesystem" ? usr.content.format : undefined;
  const { readOnly, uuid: rootUuid } = FILESYSTEMS[rootFormat];
  const found = root
    ? planRootOptions(tree.fstab, {
      filesystem: rootFormat,
      readOnly,
      uuid: rootUuid(identityOf(root)),
      partitionUuid: partitionUuid(root),
    })
    : { options: [], bare: [], findings: [], bareFindings: [] };
  const verified = verifiedOptions({ root, usr, usrFormat }, measured);
  const optionsWith = (own: readonly string[]) =>
    planKernelOptions(settings, tree, [...verified.root ?? own, ...verified.usr ?? []]);
  const { kernelOptions, loader, boot, files, findings } = planBoot(
    { ...settings, ...boots.settings, filesystem: rootFormat },
    tree,
    {
      options: optionsWith(found.options),
      bareOptions: optionsWith(found.bare),
      ...usrFormat && { usrFormat },
      bootUuid: boots.menu
        ? FILESYSTEMS[boots.menuFormat ?? "ext4"].uuid(identityOf(boots.menu))
        : uuid("xbootldr/filesystem"),
    },
  );
  checkBootFormat(boots, loader);
  const formatOf = ({ content }: PartitionRequest) =>
    content.type === "filesystem" ? content.format ?? boot : "vfat";
  const leftovers = findLeftovers(tree, settings.keep);
  const holdsSystem = root !== undefined && isWhole(root);
  const mountPoints = holdsSystem ? planMountPoints(tree.nodes) : { add: [], findings: [] };
  const selinux = planSelinux({ ...settings, filesystem: rootFormat }, tree, {
    isSystem: holdsSystem,
    kernelOptions,
  });
  const mountables = requests.flatMap((request): Mountable[] => {
    const format = request.content.type === "swap" ? "swap" : formatOf(request);
    if (format !== "swap" && request.content.type !== "filesystem") return [];
    const own = format === "swap" ? identityOf(request).uuid : FILESYSTEMS[format].uuid(identityOf(request));
    return [{ request, source: own ? `UUID=${own}` : `PARTUUID=${partitionUuid(request)}`, format }];
  });
  const contents = planContents(tree, {
    ...settings,
    requests,
    kernelOptions,
    readOnly,
    leftovers: { ...leftovers, add: [...leftovers.add, ...mountPoints.add] },
    selinux,
    boot: boots.menuFormat ?? boot,
    files,
    mounts: planMounts(mountables, tree),
  });
  const context: VolumeContext = {
    settings,
    tree,
    architecture,
    requests,
    contents: contents.contents,
    formatOf,
    select: (request, contents) =>
      selectLabelled(tree, contents, formatOf(request), selinux, systemPath(request) || "/"),
    identityOf,
    verity,
    measured,
    grub: () => planBios(settings, tree, requests.findIndex((request) => request === boots.menu) + 1),
  };
  const volumes = planWhole(
    settings,
    readOnly,
    (settings) =>
      layout === undefined
        ? builtInVolumes({ ...context, settings })
        : layoutVolumes({ ...context, settings }),
  );
  const { size, placed } = volumes;
  if (!placed.some(({ volume }) => volume.filesystem.estimate)) checkSize(settings, size);
  const split = planSplit(settings, tree, files?.esp ?? [], kernelOptions);
  const mustBoot = isWanted({ ...settings, ...boots.settings });
  return {
    builder: "disk-image",
    format: settings.outputFormat,
    architecture,
    id: uuid("disk"),
    sectorSize: settings.sectorSize,
    size,
    partitions: placed.map(({ volume, offset }, i) => {
      const { name, role, type, typeName, label, attributes, mountPoint, splitName, definition } =
        requests[i]!;
      const own = partitionUuid(requests[i]!);
      const hashing = verity.get(name);
      return {
        ...volume,
        name,
        ...role && { role },
        type,
        typeName,
        label,
        uuid: own,
        attributes,
        offset,
        size: volume.filesystem.size,
        mountPoint,
        ...hashing && { verity: hashing },
        // Only now is it known what its specifiers stand for.
        ...definition && splitName !== undefined && splitName !== "-" && {
          splitName: readValue(
            placeOf(definition, "SplitName"),
            "SplitName",
            splitName,
            () => expand(splitName, machine, { t: typeName, T: type, U: own, n: String(i + 1) }),
          ),
        },
      };
    }),
    ...loader && { bootLoader: { name: loader.name, reason: loader.reason } },
    ...split && { split },
    kernelOptions,
    selinux,
    seed,
    time,
    settings,
    leftovers: leftovers.found,
    findings: [
      ...tree.findings,
      ...holdsSystem ? checkSystem(tree, mustBoot ? { kernelOptions } : {}) : [],
      ...findings,
      ...loader ? usrFindings(requests, tree) : [],
      ...layout === undefined ? [] : fullFindings(requests, volumes),
      ...found.findings,
      ...mustBoot && tree.kernels.some(lacksInitrd) ? found.bareFindings : [],
      ...mountPoints.findings,
      ...contents.findings,
      ...leftovers.findings,
      ...selinux.findings,
      ...placed.flatMap(({ volume }) => volume.filesystem.findings)
        // In a layout, FREE_MB is what all partitions share.
        .filter(({ name }) => layout === undefined || name !== "no-free-space"),
    ],
  };
}

/** The definitions of the tree itself. @throws {BuildError} (usage) when it has none. */
function treeLayout({ repart }: Tree): Layout {
  if (Object.keys(repart).length > 0) return { directory: TREE_DIRECTORY, files: repart };
  throw new BuildError(`Cannot use LAYOUT=tree: the tree has no definitions in ${TREE_DIRECTORY}`, {
    kind: "usage",
    hint: "Name a directory with definitions, or leave LAYOUT out",
  });
}

/** How each verified filesystem is hashed, by the name of its partition. */
function planAllVerity(
  requests: readonly PartitionRequest[],
  settings: Settings,
  seed: string,
): ReadonlyMap<string, VerityPlan> {
  const planned = new Map(
    requests.filter(({ isVerified }) => isVerified).map(({ name, definition }): [string, VerityPlan] => {
      if (!definition) return [name, planVerity(settings, seed)!];
      const isSigned = requests.some(({ content }) => content.type === "signature" && content.of === name);
      return [name, planHashing(settings, seed, { isSigned, prefix: `${name}/` })];
    }),
  );
  requireVerity(settings, [...planned.values()]);
  return planned;
}

/** The kernel options for what dm-verity verifies: systemd's generators open it in the initrd. */
function verifiedOptions(
  { root, usr, usrFormat }: {
    readonly root: PartitionRequest | undefined;
    readonly usr: PartitionRequest | undefined;
    readonly usrFormat: FilesystemName | undefined;
  },
  measured: Measurements,
): { readonly root?: readonly string[]; readonly usr?: readonly string[] } {
  const hashOf = ({ name }: PartitionRequest) => measured[name]?.verity?.rootHash ?? "UNKNOWN";
  return {
    ...root?.isVerified && { root: ["root=/dev/mapper/root", "ro", `roothash=${hashOf(root)}`] },
    ...usr?.isVerified && {
      usr: [
        "mount.usr=/dev/mapper/usr",
        `mount.usrfstype=${usrFormat}`,
        "mount.usrflags=ro",
        `usrhash=${hashOf(usr)}`,
      ],
    },
  };
}

/** The name of what is in an image without partitions. */
const PART = "root";

/** Decides on the image of a single filesystem, like {@link planDisk}. */
export function planPart(settings: Settings, tree: Tree, measurements: Measurements = {}): PartPlan {
  checkPacking(settings, "part-image");
  checkIncus(settings, "part-image");
  const measured = measurements[PART];
  const seed = settings.seed ?? defaultSeed("part-image", tree, tree.architecture);
  const time = settings.sourceDateEpoch ?? tree.newest;
  const from = settings.directory;
  const leftovers = findLeftovers(tree, settings.keep);
  const holdsSystem = from === "/" && FILESYSTEMS[settings.filesystem].holdsSystem && isSystem(tree);
  const mountPoints = holdsSystem && settings.portable === undefined
    ? planMountPoints(tree.nodes)
    : { add: [], findings: [] };
  const portable = settings.portable === undefined ? [] : planPortable(settings.portable, settings, tree);
  const selinux = planSelinux(settings, tree, { isSystem: holdsSystem, kernelOptions: tree.kernelOptions });
  const relabel = selinuxFiles(selinux);
  const wsl = settings.outputFormat === "wsl" && from === "/"
    ? planWslFiles(tree)
    : { add: [], omit: [], findings: [] };
  // Replacements of leftovers are at paths of a whole system.
  const add = from === "/"
    ? [...leftovers.add, ...mountPoints.add, ...portable, ...relabel.add, ...wsl.add]
    : [];
  const omit = from === "/" ? [...relabel.omit, ...wsl.omit] : [];
  const contents = { from, omit, without: leftovers.without, add };
  const selection = selectLabelled(tree, contents, settings.filesystem, selinux, from);
  const isArchive = !isDisk(settings.outputFormat);
  const volume = isArchive ? planArchive({ settings, tree, time }, contents, selection) : planRoot(
    settings,
    contents,
    selection,
    {
      label: "",
      uuid: deriveUuid(seed, "root/filesystem"),
      hashSeed: deriveUuid(seed, "root/hash-seed"),
      seed: `${seed}/root`,
      time,
    },
    0,
    measured,
  );
  const verity = planVerity(settings, seed);
  requireVerity(settings, verity ? [verity] : []);
  // A portable service does not boot, and who unpacks an archive chooses the filesystem.
  const isBooted = holdsSystem && !isArchive && settings.portable === undefined &&
    findInit(tree.nodes) !== undefined;
  const { size, label, estimate } = volume.filesystem;
  if (!estimate) checkSize(settings, size);
  return {
    builder: "part-image",
    partitions: [{
      ...volume,
      name: PART,
      label: label || "root",
      offset: 0,
      size,
      ...verity && { verity },
    }],
    ...measured?.verity && { hashes: measured.verity },
    portable: describePortable(settings, tree),
    selinux,
    format: settings.outputFormat,
    size,
    seed,
    time,
    settings,
    leftovers: leftovers.found,
    findings: [
      ...tree.findings,
      ...from === "/" ? checkNesting(tree) : [],
      ...holdsSystem ? checkSystem(tree, { isArchive }) : [],
      ...isBooted ? findForeignRoot(tree.fstab, volume.filesystem) : [],
      ...mountPoints.findings,
      ...leftovers.findings,
      ...selinux.findings,
      ...wsl.findings,
      ...volume.filesystem.findings,
    ],
  };
}

/** @throws {BuildError} (usage) for a filesystem that the root of a disk cannot have. */
function checkRootFilesystem({ filesystem }: Settings): void {
  if (FILESYSTEMS[filesystem].holdsSystem) return;
  throw new BuildError(`Cannot use FILESYSTEM=${filesystem} for the root of a disk`, {
    kind: "usage",
    hint: "It keeps no owners, modes and links, which an operating system needs",
  });
}

/** What identifies the image: the same tree and layout give the same IDs, another release gives others. */
function defaultSeed(builder: string, { osRelease }: Tree, architecture: string | undefined): string {
  const fields = ["ID", "VERSION_ID", "BUILD_ID", "IMAGE_ID", "IMAGE_VERSION"];
  return JSON.stringify([builder, architecture ?? "", ...fields.map((name) => osRelease[name] ?? "")]);
}
