/**
 * All decisions: what an image will be, from what was asked and what the tree holds.
 *
 * The policy, with the reasons in the README and the sources:
 *
 * - Exactly one ESP, one XBOOTLDR and one root partition, in this order: the root comes last, so that it can
 *   grow. Types after the DPS; the root's architecture is that of the tree's programs.
 * - `/boot` of the tree becomes XBOOTLDR, `/boot/efi` or `/efi` the ESP. In the root, `/boot` and `/efi` are
 *   empty directories: systemd mounts nothing over a directory that is not.
 * - `/etc/fstab` names `/boot` and `/boot/efi` by PARTUUID and without `nofail` (which drops the ordering),
 *   and not `/`: such a line makes systemd-remount-fs fail in a container. Lines for other mount points stay.
 * - The kernel gets `root=PARTUUID=… rw`, so that it boots with and without an initrd, whatever the loader.
 * - `SIZE_MB` wins over `USED_MB` and `FREE_MB`; else the size is `EFI_MB + BOOT_MB + USED_MB + FREE_MB`,
 *   where a computed `USED_MB` includes the filesystem's metadata and the partition table.
 *
 * Nothing here reads, runs or writes anything: the tests run without any permission.
 *
 * @module
 */

import { normalize } from "node:path";
import { readSigner, type Signer } from "./authenticode.ts";
import { type BootLoaderName, chooseLoader } from "./bootloaders.ts";
import { type Contents, select } from "./contents.ts";
import { type ArchitectureName, GPT_ATTRIBUTES, type PartitionRole, partitionType } from "./dps.ts";
import { BuildError, quote } from "./error.ts";
import { type FilesystemName, FILESYSTEMS, type FilesystemWish } from "./filesystems.ts";
import type { FormatName } from "./formats.ts";
import { placePartitions, TABLE_SIZE } from "./gpt.ts";
import { growFiles } from "./grow.ts";
import { planGrubBios } from "./grub-bios.ts";
import { grubDefaults, grubFiles } from "./grub.ts";
import { deriveUuid } from "./identity.ts";
import { findLeftovers, type Leftovers } from "./leftovers.ts";
import { type BootContext, ESP_DIRECTORIES } from "./loader.ts";
import { children, lookup, nameText, typeOf } from "./nodes.ts";
import { describePortable, planPortable } from "./portable.ts";
import { type Measured, planRoot, tooLarge, tooSmall, type Volume } from "./root-plan.ts";
import { signFiles } from "./secure-boot.ts";
import type { SettingName, Settings } from "./settings.ts";
import type { Tree } from "./tree.ts";
import { planHashes, planVerity, type VerityPlan, verityUuids } from "./verity-plan.ts";
import { MiB } from "./units.ts";

/** A partition of a disk image. Offset and size are in bytes. */
export interface PartitionPlan extends Volume {
  readonly role: PartitionRole;
  /** Type GUID. */
  readonly type: string;
  /** The label in the partition table. */
  readonly label: string;
  /** The PARTUUID. */
  readonly uuid: string;
  readonly attributes: readonly number[];
  readonly offset: number;
  readonly size: number;
  readonly mountPoint: string;
}

export interface CommonPlan {
  readonly format: FormatName;
  /** Bytes of the raw image. */
  readonly size: number;
  /** Seconds since 1970: what everything that the build makes is dated. */
  readonly time: number;
  readonly seed: string;
  /** What was asked. */
  readonly settings: Settings;
  /** How the image is checked. */
  readonly verify: Settings["verify"];
  /** The dm-verity hashes that are made of the root filesystem. */
  readonly verity?: VerityPlan;
  /** What of the tree is in no filesystem of the image, because no image should have it. */
  readonly leftovers: Leftovers["found"];
  /** What a person should know. */
  readonly warnings: readonly string[];
}

/** What `disk-image` will make. */
export interface DiskPlan extends CommonPlan {
  /**
   * Set when the root is known only when it is made: this plan is then a preliminary one. Gives the final one,
   * from what was made.
   */
  readonly finish?: (measured: Measured) => DiskPlan;
  readonly architecture: ArchitectureName;
  /** The disk GUID. */
  readonly id: string;
  readonly partitions: readonly PartitionPlan[];
  /** Bytes of a logical sector of the disk. */
  readonly sectorSize: number;
  /** Absent: the image does not boot on a machine, only as a container. */
  readonly bootLoader?: { readonly name: BootLoaderName; readonly reason: string };
  /** The kernel command line. */
  readonly kernelOptions: string;
}

/** What `part-image` will make. */
export interface PartPlan extends CommonPlan, Volume {
  /** As in {@link DiskPlan}. */
  readonly finish?: (measured: Measured) => PartPlan;
  /** What goes beside the image. */
  readonly hashes?: Measured["verity"];
  /** What to know for `portablectl attach`, a line each. */
  readonly portable: readonly string[];
}

/**
 * Decides on a disk image.
 *
 * @param measured what is known of a read-only root that was made with this function's first plan.
 * @throws {BuildError} when the settings and the tree do not fit together.
 */
export function planDisk(settings: Settings, tree: Tree, measured?: Measured): DiskPlan {
  const architecture = tree.architecture ?? tree.kernels[0]?.architecture;
  if (!architecture) {
    throw new BuildError(`Cannot find the architecture of ${quote(tree.path)}: no program in it is known`, {
      hint: "A disk image needs a tree with /sbin/init or another of the usual programs",
    });
  }
  const seed = settings.seed ?? defaultSeed("disk-image", tree, architecture);
  const time = settings.sourceDateEpoch ?? tree.newest;
  const uuid = (name: string) => deriveUuid(seed, name);
  const { readOnly } = rootFilesystem(settings);
  const verity = planVerity(settings, seed);
  const verified = measured?.verity && verityUuids(measured.verity.rootHash);
  const uuids: Partial<Record<PartitionRole, string>> = { root: uuid("root/partition"), ...verified };
  const rootOptions = verity
    ? ["root=/dev/mapper/root", "ro", `roothash=${measured?.verity?.rootHash ?? "UNKNOWN"}`]
    : [`root=PARTUUID=${uuids.root}`, readOnly ? "ro" : "rw"];
  const kernelOptions = planKernelOptions(settings, tree, rootOptions);
  const { loader, boot, files, warnings } = planBoot(settings, tree, {
    options: kernelOptions,
    bootUuid: uuid("xbootldr/filesystem"),
  });
  const bios = settings.firmware === "uefi" ? [] : [planBios(settings, tree)];
  const { without, add, found, warnings: missed } = findLeftovers(tree, settings.keep);

  const wish = (role: string, label: string): FilesystemWish => ({
    label,
    uuid: uuid(`${role}/filesystem`),
    hashSeed: uuid(`${role}/hash-seed`),
    seed: `${seed}/${role}`,
    time,
    sector: settings.sectorSize,
  });
  const volume = (
    name: SettingName,
    filesystem: FilesystemName,
    wished: FilesystemWish,
    contents: Contents,
  ): Volume => {
    const selection = select(tree.nodes, contents);
    const size = settings[name] as number * MiB;
    const plan = FILESYSTEMS[filesystem].plan(selection, { ...wished, size });
    if (plan) return { contents, selection, filesystem: plan };
    if (size > FILESYSTEMS[filesystem].largest) throw tooLarge(name, settings, filesystem);
    throw tooSmall(name, settings, FILESYSTEMS[filesystem].smallest(selection, wished) / MiB);
  };

  const esp = volume("efiMb", "vfat", wish("esp", "ESP"), {
    ...espSource(tree),
    omit: [],
    without,
    add: files?.esp ?? [],
  });
  const entries = files && listOf(tree, "/boot/loader/entries");
  if (entries) warnings.push("Leaving out the boot entries of /boot/loader/entries: they name another disk");
  const hasEfi = hasOwnEfi(tree);
  const xbootldr = volume("bootMb", boot, wish("xbootldr", "BOOT"), {
    ...isDirectory(tree, "/boot") && { from: "/boot" },
    omit: [hasEfi ? "/efi" : "/efi/", ...entries ? ["/loader/entries/"] : []],
    without,
    // The mount point of the ESP. FAT takes an EFI directory for the same.
    add: [
      ...hasEfi ? [] : [{ path: "/efi", type: "directory" } as const],
      ...files?.xbootldr ?? [],
    ],
  });
  const contents: Contents = {
    from: "/",
    omit: ["/boot/", "/efi/"],
    without,
    add: [
      ...add,
      { path: "/boot", type: "directory" },
      { path: "/efi", type: "directory" },
      { path: "/etc/fstab", type: "file", text: planFstab(tree, boot, uuid) },
      // What kernel-install puts into the entries of later kernels, which a read-only root never gets.
      ...readOnly || tree.kernelOptions === undefined && settings.kernelCmdline === undefined
        ? []
        : [{ path: "/etc/kernel/cmdline", type: "file", text: `${kernelOptions}\n` } as const],
      ...readOnly ? [] : [...grubDefaults(tree, kernelOptions), ...growFiles(tree)],
    ],
  };
  const hashes = planHashes(verity, measured);
  const others = [...bios, esp, xbootldr, ...hashes.map(({ volume }) => volume)];
  const around = TABLE_SIZE + others.reduce((sum, { filesystem }) => sum + filesystem.size, 0);
  const root = planRoot(settings, tree.nodes, contents, wish("root", ""), around, measured);

  const volumes: [PartitionRole, string, Volume][] = [
    ...bios.map((volume): [PartitionRole, string, Volume] => ["bios", "", volume]),
    ["esp", "/boot/efi", esp],
    ["xbootldr", "/boot", xbootldr],
    ...hashes.map(({ role, volume }): [PartitionRole, string, Volume] => [role, "", volume]),
    ["root", "/", root],
  ];
  const offsets = placePartitions(volumes.map(([, , { filesystem }]) => filesystem.size));
  return {
    format: settings.outputFormat,
    architecture,
    id: uuid("disk"),
    sectorSize: settings.sectorSize,
    size: around + root.filesystem.size,
    partitions: volumes.map(([role, mountPoint, volume], i) => ({
      ...volume,
      role,
      type: partitionType(role, architecture),
      label: role,
      uuid: uuids[role] ?? uuid(`${role}/partition`),
      attributes: planAttributes(role, readOnly),
      offset: offsets[i]!,
      size: volume.filesystem.size,
      mountPoint,
    })),
    ...loader && { bootLoader: { name: loader.name, reason: loader.reason } },
    ...verity && { verity },
    ...root.filesystem.measured && { finish: (made: Measured) => planDisk(settings, tree, made) },
    kernelOptions,
    seed,
    time,
    settings,
    verify: settings.verify,
    leftovers: found,
    warnings: [...tree.notices, ...warnings, ...missed],
  };
}

/** Decides on the image of a single filesystem, like {@link planDisk}. */
export function planPart(settings: Settings, tree: Tree, measured?: Measured): PartPlan {
  const seed = settings.seed ?? defaultSeed("part-image", tree, tree.architecture);
  const time = settings.sourceDateEpoch ?? tree.newest;
  const from = settings.directory;
  const leftovers = findLeftovers(tree, settings.keep);
  const mountPoints = settings.portable === undefined ? [] : planPortable(settings.portable, settings, tree);
  // What replaces leftovers stands where a whole system has it.
  const add = from === "/" ? [...leftovers.add, ...mountPoints] : [];
  const contents = { from, omit: [], without: leftovers.without, add };
  const volume = planRoot(
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
  );
  const verity = planVerity(settings, seed);
  return {
    ...volume,
    ...verity && { verity },
    ...measured?.verity && { hashes: measured.verity },
    portable: describePortable(settings, tree),
    ...volume.filesystem.measured && { finish: (made: Measured) => planPart(settings, tree, made) },
    format: settings.outputFormat,
    size: volume.filesystem.size,
    seed,
    time,
    settings,
    verify: settings.verify,
    leftovers: leftovers.found,
    warnings: leftovers.warnings,
  };
}

/** What the root filesystem of a disk can be. */
function rootFilesystem({ filesystem }: Settings): { readonly readOnly: boolean } {
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

/** What describes the image; the same tree and layout get the same identities, another release others. */
function defaultSeed(builder: string, { osRelease }: Tree, architecture: string | undefined): string {
  const fields = ["ID", "VERSION_ID", "BUILD_ID", "IMAGE_ID", "IMAGE_VERSION"];
  return JSON.stringify([builder, architecture ?? "", ...fields.map((name) => osRelease[name] ?? "")]);
}

function isDirectory(tree: Tree, path: string): boolean {
  const node = lookup(tree.nodes, path);
  return node !== undefined && typeOf(tree.nodes, node) === "directory";
}

/** How many entries a directory of the tree has; 0 also when there is none. */
function listOf(tree: Tree, path: string): number {
  const node = lookup(tree.nodes, path);
  return node === undefined ? 0 : tree.nodes.childCount[node]!;
}

/** Whether `/boot` has a directory that FAT takes for `efi`, as a boot partition with unified kernels has. */
function hasOwnEfi(tree: Tree): boolean {
  const boot = lookup(tree.nodes, "/boot");
  if (boot === undefined || typeOf(tree.nodes, boot) !== "directory") return false;
  return [...children(tree.nodes, boot)].some((node) => {
    const name = nameText(tree.nodes, node) ?? "";
    return name !== "efi" && name.toLowerCase() === "efi" && typeOf(tree.nodes, node) === "directory";
  });
}

/** Where the content of the ESP comes from. */
function espSource(tree: Tree): { from?: string } {
  const full = ESP_DIRECTORIES.filter((path) => listOf(tree, path) > 0);
  // One may be a link to the other.
  const places = new Set(full.map((path) => lookup(tree.nodes, path)));
  if (places.size > 1) {
    throw new BuildError(`Cannot tell which is the ESP: ${full.join(" and ")} of the tree both hold files`, {
      hint: "Leave one of them empty",
    });
  }
  return full[0] ? { from: full[0] } : {};
}

/** Who signs what boots; nobody unless asked for. */
function signerOf({ secureBootKey: key, secureBootCert: certificate }: Settings): Signer | undefined {
  if (key === undefined && certificate === undefined) return undefined;
  if (key !== undefined && certificate !== undefined) return readSigner(key, certificate);
  throw new BuildError("Cannot sign with only one of SECURE_BOOT_KEY and SECURE_BOOT_CERT", {
    kind: "usage",
    hint: "Set both, or neither",
  });
}

/** Number of XBOOTLDR in the table of an image with a BIOS boot partition, which comes first. */
const BIOS_XBOOTLDR = 3;

function planBios(settings: Settings, tree: Tree): Volume {
  const contents: Contents = { omit: [], add: [] };
  const filesystem = planGrubBios(tree, settings, BIOS_XBOOTLDR);
  return { contents, selection: select(tree.nodes, contents), filesystem };
}

/** The boot loaders for UEFI and BIOS: their files, and the filesystem of `/boot`. */
function planBoot(settings: Settings, tree: Tree, context: BootContext) {
  const { firmware } = settings;
  const chosen = chooseLoader(firmware === "bios" ? { ...settings, bootloader: "none" } : settings, tree);
  const loader = Array.isArray(chosen) ? undefined : chosen;
  const warnings = bootWarnings(settings, tree, Array.isArray(chosen) ? chosen : []);
  const signer = signerOf(settings);
  const found = loader?.files(context);
  const menu = firmware === "uefi" ? [] : grubFiles(tree, context);
  if (!found && menu.length === 0) return { boot: "vfat" as const, warnings };
  const all = { esp: found?.esp ?? [], xbootldr: [...menu, ...found?.xbootldr ?? []] };
  return {
    loader,
    // GRUB for BIOS reads either.
    boot: loader?.boot ?? "ext4" as const,
    files: loader && signer ? signFiles(all, loader, tree, signer) : all,
    warnings,
  };
}

/** What to say of a tree that lacks something for booting; `missing` is what boot loaders miss. */
function bootWarnings({ bootloader }: Settings, tree: Tree, missing: readonly string[]): string[] {
  const lacks = tree.kernels.length ? missing : ["no kernel in /boot or /usr/lib/modules", ...missing];
  if (bootloader === "none" || lacks.length === 0) return [];
  return [
    `The image boots in a container, but on no machine; the tree has ${lacks.join(", ")}`,
    "If that is wanted, set BOOTLOADER=none",
  ];
}

/** Options of the tree that say where its root is and how it is mounted: ours say it. */
const ROOT_OPTION = /^(root=|rootfstype=|rootflags=|ro$|rw$)/;

function planKernelOptions({ kernelCmdline }: Settings, tree: Tree, root: readonly string[]): string {
  const own = (tree.kernelOptions ?? "").split(" ").filter((option) => option && !ROOT_OPTION.test(option));
  return [...root, ...own, ...kernelCmdline ? [kernelCmdline] : []].join(" ");
}

/** Mount points that the image's own partitions have. */
const OWN_MOUNT_POINTS = ["/", "/boot", "/boot/efi", "/efi"];

/** A mount point of an fstab as mount takes it: with octal escapes, and a path that can be written in many ways. */
function mountPointOf(field: string): string {
  const path = field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
  return normalize(path).replace(/(?<=.)\/+$/, "");
}

/** The tree's fstab without lines for the partitions of the image, and with ours. */
function planFstab(tree: Tree, boot: "vfat" | "ext4", uuid: (name: string) => string): string {
  const kept = tree.fstab.split("\n").filter((line) => {
    const [device = "", mountPoint = ""] = line.replace(/^[ \t]+/, "").split(/[ \t]+/);
    if (device.startsWith("#")) return !line.includes("UNCONFIGURED FSTAB");
    return !OWN_MOUNT_POINTS.includes(mountPointOf(mountPoint));
  });
  const lines = [
    `PARTUUID=${uuid("xbootldr/partition")} /boot ${
      boot === "vfat" ? "vfat umask=0077" : "ext4 defaults"
    } 0 2`,
    `PARTUUID=${uuid("esp/partition")} /boot/efi vfat umask=0077 0 2`,
  ];
  const before = kept.join("\n").trim();
  return `${before}${before && "\n"}${lines.join("\n")}\n`;
}
