/**
 * The boot loaders: one row each says whether the tree has what it takes, and which files it puts where.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { SECTOR } from "../core/units.ts";
import type { Tree } from "../tree/inspect.ts";
import { findGrub } from "./grub.ts";
import type { FoundLoader } from "./loader.ts";
import { findSystemdBoot } from "./systemd-boot.ts";
import { findExisting } from "./tree-esp.ts";
import { findUki } from "./uki.ts";

interface BootLoader {
  readonly summary: string;
  /** What would be installed, or, as a string, what is missing for it. */
  readonly find: (tree: Tree) => FoundLoader | string;
}

/** In the order in which `auto` prefers them. */
export const BOOTLOADERS = {
  "existing": {
    summary: "what is on the ESP that the tree brings (`/boot/efi` or `/efi`)",
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
 * The loader to install. `auto` takes one that the tree brings on its ESP, else the first that is signed for
 * Secure Boot, else the first.
 *
 * @returns as a list what is missing when there is none, for a warning.
 * @throws {BuildError} (usage) when the one that was asked for cannot be installed.
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
  return found.find(({ espInTree }) => espInTree !== undefined) ?? found.find(({ signed }) => signed) ??
    found[0] ?? missing;
}

/** systemd-boot 257 and earlier read the partition table in units of 512 bytes, and then find no XBOOTLDR. */
function rejectUnreadableSectors(answer: FoundLoader | string, sectorSize: number): FoundLoader | string {
  return typeof answer !== "string" && answer.readsXbootldr && sectorSize !== SECTOR
    ? `no systemd-boot that finds the boot entries on a disk with sectors of ${sectorSize} bytes (GRUB and UKIs work)`
    : answer;
}
