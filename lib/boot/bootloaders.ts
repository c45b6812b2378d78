/**
 * The boot loaders, one row each: whether the tree has what it needs, and which files go where.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { SECTOR } from "../core/units.ts";
import type { Tree } from "../tree/inspect.ts";
import { rowFor } from "../tree/os-release.ts";
import { findGrub } from "./grub.ts";
import type { FoundLoader } from "./loader.ts";
import { findSystemdBoot } from "./systemd-boot.ts";
import { brokenLoader, findExisting } from "./tree-esp.ts";
import { findUki } from "./uki.ts";

interface BootLoader {
  readonly summary: string;
  /** What would be installed, or what is missing for it, as a string. */
  readonly find: (tree: Tree) => FoundLoader | string;
}

/** In the order in which `auto` prefers them. */
export const BOOTLOADERS = {
  "existing": {
    summary:
      "what is on the ESP that the tree brings (`/boot/efi`, `/efi` or `/boot`), if it would boot the image",
    find: findExisting,
  },
  "systemd-boot": {
    summary: "systemd-boot of the tree, behind shim where both are signed",
    find: findSystemdBoot,
  },
  "grub": {
    summary: "GRUB of the tree, behind shim where both are signed; `/boot` is ext4 then",
    find: findGrub,
  },
  "uki": {
    summary: "a UKI of each kernel: a single one is the loader, several are in systemd-boot's menu",
    find: findUki,
  },
} as const satisfies Record<string, BootLoader>;

export type BootLoaderName = keyof typeof BOOTLOADERS;

/** The values of the setting `BOOTLOADER`. */
export const BOOT_LOADER_CHOICES = ["auto", ...Object.keys(BOOTLOADERS) as BootLoaderName[], "none"] as const;

export type BootLoaderChoice = (typeof BOOT_LOADER_CHOICES)[number];

/** A loader with the name of its row. */
export type ChosenLoader = FoundLoader & { readonly name: BootLoaderName };

/**
 * The loader to install. `auto` takes one that is already on the tree's ESP, else the first that is signed for
 * Secure Boot, else the first.
 *
 * @returns the list of what is missing when there is none, for a warning.
 * @throws {BuildError} (usage) when the requested loader cannot be installed, or when firmware would start a loader from
 * the tree that does not boot the image, and there is none to replace it.
 */
export function chooseLoader(
  { bootloader: choice, sectorSize }: { readonly bootloader: BootLoaderChoice; readonly sectorSize: number },
  tree: Tree,
): ChosenLoader | string[] {
  if (choice === "none") return [];
  const missing: string[] = [];
  const found: ChosenLoader[] = [];
  for (const name of choice === "auto" ? Object.keys(BOOTLOADERS) as BootLoaderName[] : [choice]) {
    const answer = rejectUnreadableSectors(BOOTLOADERS[name].find(tree), sectorSize);
    if (typeof answer !== "string") found.push({ ...answer, name });
    else if (name === choice) {
      throw new BuildError(`Cannot install BOOTLOADER=${choice}: ${answer}`, {
        kind: "usage",
        hint: "Add it to the tree, or set BOOTLOADER to auto or none",
      });
    } else missing.push(answer);
  }
  const broken = choice === "auto" && found.length === 0 ? brokenLoader(tree) : undefined;
  if (broken) {
    throw new BuildError(`Cannot install a boot loader: ${broken}`, {
      kind: "usage",
      hint: `${loaderAdvice(tree)}; or remove the file, or set BOOTLOADER to none`,
    });
  }
  return found.find(({ espInTree }) => espInTree !== undefined) ?? found.find(({ signed }) => signed) ??
    found[0] ?? missing;
}

/** Packages that provide a boot loader, see {@link rowFor}. */
const PACKAGES: readonly { readonly ids: readonly string[]; readonly packages: string }[] = [
  { ids: ["ubuntu"], packages: "systemd-boot-efi, or grub-efi-amd64-signed with shim-signed" },
  { ids: ["debian"], packages: "systemd-boot, or grub-efi-amd64 (grub-efi-arm64 …)" },
  {
    ids: ["fedora", "rhel", "centos"],
    packages: "systemd-boot-unsigned, or grub2-efi-x64 (grub2-efi-aa64) with shim-x64",
  },
  { ids: ["suse", "opensuse"], packages: "systemd-boot, or grub2-x86_64-efi (grub2-arm64-efi) with shim" },
  { ids: ["arch", "archlinux"], packages: "systemd, which brings systemd-boot, or grub" },
  { ids: ["alpine", "postmarketos"], packages: "systemd-boot, or grub-efi" },
  { ids: ["gentoo"], packages: "sys-apps/systemd-utils[boot], or sys-boot/grub" },
  { ids: ["void"], packages: "systemd-boot, or grub-x86_64-efi (grub-arm64-efi)" },
  { ids: ["mageia"], packages: "grub2-efi" },
];

/** What to install in a tree to give it a boot loader. */
export function loaderAdvice({ osRelease }: Tree): string {
  const row = rowFor(osRelease, PACKAGES);
  return row
    ? `Add a boot loader to the tree: ${row.packages}`
    : "Add a boot loader to the tree, for example /usr/lib/systemd/boot/efi/systemd-boot*.efi of systemd";
}

function rejectUnreadableSectors(answer: FoundLoader | string, sectorSize: number): FoundLoader | string {
  return typeof answer !== "string" && answer.needsSmallSectors && sectorSize !== SECTOR
    ? `no systemd-boot that finds the boot entries on a disk with sectors of ${sectorSize} bytes (GRUB, UKIs and systemd-boot 262 do)`
    : answer;
}
