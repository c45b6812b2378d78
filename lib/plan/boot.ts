/**
 * Decides how a disk boots: the kernel command line, the boot loaders with their files, what is missing.
 *
 * @module
 */

import { chooseLoader, type ChosenLoader, loaderAdvice } from "../boot/bootloaders.ts";
import { planGrubBios } from "../boot/grub-bios.ts";
import { grubFiles } from "../boot/grub.ts";
import { type BootContext, optionsFor } from "../boot/loader.ts";
import { foreignOptions, keptOptions } from "../boot/options.ts";
import { signFiles } from "../boot/secure-boot.ts";
import { brokenLoader } from "../boot/tree-esp.ts";
import { partitionType } from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { SECTOR } from "../core/units.ts";
import { readSigner, type Signer } from "../efi/authenticode.ts";
import type { Tree } from "../tree/inspect.ts";
import { type Kernel, lacksInitrd } from "../tree/kernels.ts";
import { findInit, hasOsRelease } from "./checks.ts";
import { kernelFindings } from "./kernels.ts";
import { placeOf } from "./repart/definitions.ts";
import { wrong } from "./repart/ini.ts";
import { isFromTree, isMounted, type PartitionRequest } from "./requests.ts";
import type { Volume } from "./root.ts";
import type { Settings } from "./settings.ts";
import { NOTHING } from "./verity.ts";

/** COMMAND_LINE_SIZE without its NUL, on x86 (arch/x86/include/asm/setup.h) and arm64. */
const COMMAND_LINE_LIMIT = 2047;

/** The kernel command line: `root`, then the options of the tree and of the setting. */
export function planKernelOptions({ kernelCmdline }: Settings, tree: Tree, root: readonly string[]): string {
  return [...root, ...keptOptions(tree), ...kernelCmdline ? [kernelCmdline] : []].join(" ");
}

/** @throws {BuildError} (usage) for a command line that kernels would truncate. */
function requireShort(options: string): void {
  const { length } = new TextEncoder().encode(options);
  if (length <= COMMAND_LINE_LIMIT) return;
  throw new BuildError(
    `Cannot use a kernel command line of ${length} bytes: kernels cut it off after ${COMMAND_LINE_LIMIT}`,
    {
      kind: "usage",
      hint: "Shorten /etc/kernel/cmdline of the tree, or KERNEL_CMDLINE",
    },
  );
}

/**
 * The boot loaders for UEFI and BIOS: their files, the filesystem of `/boot`, and the default kernel's command line.
 *
 * @throws {BuildError} (usage) for a key with which nothing is signed, among others.
 */
export function planBoot(settings: Settings, whole: Tree, context: BootContext) {
  const { firmware } = settings;
  const bios = firmware === "uefi" ? undefined : treeFor(whole, ({ unified }) => !unified);
  const tree = firmware === "bios" ? bios! : treeFor(whole, ({ biosOnly }) => !biosOnly);
  const chosen = chooseLoader(firmware === "bios" ? { ...settings, bootloader: "none" } : settings, tree);
  const loader = Array.isArray(chosen) ? undefined : chosen;
  const missing = Array.isArray(chosen) ? chosen : [];
  const findings = [
    ...whole.kernelFindings,
    ...foreignOptions(whole),
    ...bootFindings(settings, { whole, tree, bios }, context, missing),
    ...loader && loader.espInTree === undefined ? replacedLoader(tree) : [],
    ...loader?.findings ?? [],
  ];
  const signer = signerOf(settings);
  // If the tree lacks a boot loader, a finding says so already.
  if (signer && !loader && missing.length === 0) throw nothingToSign(firmware);
  const found = loader?.files(context);
  const menu = bios ? grubFiles(bios, context) : [];
  const kernelOptions = optionsFor(tree.kernels[0] ?? bios?.kernels[0] ?? { initrds: [] }, context);
  [kernelOptions, ...whole.kernels.map((kernel) => optionsFor(kernel, context))].forEach(requireShort);
  if (!found && menu.length === 0) return { kernelOptions, boot: "vfat" as const, findings };
  const all = { ...found, esp: found?.esp ?? [], xbootldr: [...menu, ...found?.xbootldr ?? []] };
  return {
    kernelOptions,
    loader,
    // GRUB for BIOS reads both.
    boot: loader?.boot ?? "ext4" as const,
    files: loader && signer ? signFiles(all, loader, tree, signer) : all,
    findings,
  };
}

/** The finding about a boot loader of the tree that is replaced. */
function replacedLoader(tree: Tree): Finding[] {
  const broken = brokenLoader(tree);
  return broken ? [finding("loader-replaced", `Replacing the boot loader of the tree's ESP: ${broken}`)] : [];
}

/** Whether the image must boot on a machine. */
export function isWanted({ firmware, bootloader }: Pick<Settings, "firmware" | "bootloader">): boolean {
  return firmware !== "uefi" || bootloader !== "none";
}

/** The tree with only those kernels that the firmware can start. */
function treeFor(tree: Tree, starts: (kernel: Kernel) => boolean): Tree {
  return { ...tree, kernels: tree.kernels.filter(starts) };
}

/** The tree as it is, and with the kernels for each firmware. */
interface Trees {
  readonly whole: Tree;
  readonly tree: Tree;
  readonly bios: Tree | undefined;
}

/** Findings about a tree that lacks something to boot; `missing` is what the boot loaders need. */
function bootFindings(
  settings: Settings,
  { whole, tree, bios }: Trees,
  { options, bareOptions = "", usrFormat }: BootContext,
  missing: readonly string[],
): Finding[] {
  const { bootloader, filesystem, firmware, sectorSize } = settings;
  if (bootloader === "none" && !bios) return [];
  const isHybrid = firmware === "hybrid";
  const isLeft = (kernel: Kernel) =>
    !tree.kernels.includes(kernel) || isHybrid && kernel.unified !== undefined;
  const left = whole.kernels.filter(isLeft).map(({ image, unified }) =>
    finding(
      "kernel-firmware",
      unified
        ? `Leaving out ${quote(image)}${isHybrid ? " for BIOS" : ""}: it is a UKI, which BIOS cannot start`
        : `Leaving out ${quote(image)}${
          isHybrid ? " for UEFI" : ""
        }: it has no EFI stub, so only BIOS starts it`,
      { path: image },
    )
  );
  if (bootloader === "none") return left;
  const hasOther = missing.length > 0 && sectorSize !== SECTOR &&
    !Array.isArray(chooseLoader({ bootloader, sectorSize: SECTOR }, tree));
  const lacks = [
    ...tree.kernels.length
      ? []
      : [whole.kernels.length ? `no kernel for ${firmware === "bios" ? "BIOS" : "UEFI"}` : NO_KERNEL],
    ...missing.length
      ? [`no boot loader for UEFI${hasOther ? ` that finds its menu on sectors of ${sectorSize} bytes` : ""}`]
      : [],
  ];
  const known = { filesystem, usrFormat, options: `${options} ${bareOptions}` };
  const noBios = isHybrid && whole.kernels.length > 0 && bios?.kernels.length === 0;
  if (lacks.length === 0 && noBios) {
    return [
      ...left,
      finding("no-boot", "The image will boot only through UEFI: the tree has no kernel for BIOS", {
        hint: "Install a kernel that is no UKI, or set FIRMWARE=uefi",
      }),
    ];
  }
  if (lacks.length === 0) {
    return [...left, ...tree.kernels.flatMap((kernel) => kernelFindings(kernel, tree, known))];
  }
  const boots = bios?.kernels.length
    ? "boot only through BIOS"
    : findInit(whole.nodes) && hasOsRelease(whole.nodes)
    ? "boot only as a container"
    : "not boot";
  const advice = hasOther
    ? "Add one that does (GRUB, systemd-boot 262, or systemd-boot's stub for a UKI), or set SECTOR_SIZE to 512"
    : loaderAdvice(tree);
  const hint = missing.length
    ? { hint: `${advice}. If a container is all you want, set BOOTLOADER=none` }
    : {};
  return [
    ...left,
    finding("no-boot", `The image will ${boots}: the tree has ${lacks.join(" and ")}`, hint),
  ];
}

const NO_KERNEL = "no kernel in /boot, on the ESP or in /usr/lib/modules";

/** The signer of boot files, if any. */
function signerOf({ secureBootKey: key, secureBootCert: certificate }: Settings): Signer | undefined {
  if (key === undefined && certificate === undefined) return undefined;
  if (key !== undefined && certificate !== undefined) return readSigner(key, certificate);
  throw new BuildError("Cannot sign with only one of SECURE_BOOT_KEY and SECURE_BOOT_CERT", {
    kind: "usage",
    hint: "Set both, or neither",
  });
}

/** The error for a key with which nothing is signed: its owner takes the image for one that Secure Boot protects. */
function nothingToSign(firmware: Settings["firmware"]): BuildError {
  const way = firmware === "bios"
    ? "set FIRMWARE to uefi or hybrid"
    : "let the image have a boot loader: set BOOTLOADER to auto, and define an ESP without CopyFiles= in a layout";
  return new BuildError("Cannot sign with SECURE_BOOT_KEY: no boot loader for UEFI is installed", {
    kind: "usage",
    hint: `Leave SECURE_BOOT_KEY and SECURE_BOOT_CERT out, or ${way}`,
  });
}

/** The BIOS boot partition: GRUB, which finds its menu on partition number `menu`, from 1. */
export function planBios(settings: Settings, tree: Tree, menu: number): Volume {
  return { ...NOTHING, filesystem: planGrubBios(tree, settings, menu) };
}

/** How the partitions of a disk boot it. */
interface BootPartitions {
  /** What the boot loader's files go to, with the menu and the kernels: XBOOTLDR, or without one the ESP. */
  readonly menu?: PartitionRequest;
  /** Its filesystem, if that is not the boot loader's choice. */
  readonly menuFormat?: "vfat" | "ext4";
  /** The settings as the partitions allow them. */
  readonly settings: Partial<Pick<Settings, "bootloader" | "sectorSize">>;
}

/**
 * What the partitions mean for booting: without an ESP, or where definitions say what is on it, no boot loader is
 * installed.
 *
 * @throws {BuildError} (usage) for settings that need other partitions.
 */
export function bootPartitions(
  requests: readonly PartitionRequest[],
  { bootloader, firmware }: Pick<Settings, "bootloader" | "firmware">,
): BootPartitions {
  const find = (role: string) => requests.find((each) => each.role === role && isMounted(each));
  const [esp, xbootldr] = [find("esp"), find("xbootldr")];
  const refuse = (what: string, hint: string) =>
    new BuildError(`Cannot install ${what}`, { kind: "usage", hint });
  if (firmware !== "uefi") {
    if (!requests.some(({ content }) => content.type === "grub")) {
      throw refuse(
        `FIRMWARE=${firmware}: the layout has no partition for GRUB`,
        `Define one: Type=${partitionType("bios", "x86-64")}, SizeMinBytes=1M, SizeMaxBytes=1M`,
      );
    }
    if (!xbootldr || !isFromTree(xbootldr)) {
      throw refuse(
        `FIRMWARE=${firmware}: the layout has no XBOOTLDR partition for its menu`,
        "Define one with Type=xbootldr and without CopyFiles=",
      );
    }
  }
  const isOurs = esp !== undefined && isFromTree(esp) && (xbootldr === undefined || isFromTree(xbootldr));
  if (isOurs && !requests.some((each) => isMounted(each) && each.mountPoint === "/")) {
    throw refuse(
      "a boot loader: the layout has no root partition that it could start",
      "Define one with Type=root, or give the ESP its files with CopyFiles=",
    );
  }
  if (!isOurs && bootloader !== "auto" && bootloader !== "none") {
    throw refuse(
      `BOOTLOADER=${bootloader}: ${
        esp ? "CopyFiles= of the layout says what is on the ESP or XBOOTLDR" : "the layout has no ESP"
      }`,
      "Define a partition with Type=esp and without CopyFiles=",
    );
  }
  const menu = xbootldr ?? esp;
  const format = menu?.content.type === "filesystem" ? menu.content.format : undefined;
  return {
    ...menu && { menu },
    ...(format === "vfat" || format === "ext4") && { menuFormat: format },
    settings: {
      ...!isOurs && { bootloader: "none" },
      // Every systemd-boot finds what is on its own partition.
      ...!xbootldr && { sectorSize: SECTOR },
    },
  };
}

/** A kernel without an initrd mounts the root and nothing else: if `/usr` is a partition, it finds no init. */
export function usrFindings(requests: readonly PartitionRequest[], { kernels }: Tree): Finding[] {
  if (!requests.some((each) => isMounted(each) && each.mountPoint === "/usr")) return [];
  return kernels.filter(lacksInitrd).map(({ image }) =>
    finding("initrd-missing", `The kernel ${quote(image)} has no initrd, which would mount /usr`, {
      path: image,
    })
  );
}

/** @throws {BuildError} (usage) when the boot loader cannot read the filesystem that a definition gives XBOOTLDR. */
export function checkBootFormat(
  { menu, menuFormat }: BootPartitions,
  loader: ChosenLoader | undefined,
): void {
  if (menuFormat !== "ext4" || loader?.boot !== "vfat" || !menu?.definition) return;
  throw wrong(
    placeOf(menu.definition, "Format"),
    `${loader.name} reads no XBOOTLDR with ext4`,
    "Set Format= to vfat, or BOOTLOADER to grub",
  );
}
