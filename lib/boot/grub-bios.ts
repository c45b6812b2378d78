/**
 * Decides on GRUB for BIOS: a program for the BIOS boot partition and 440 bytes for the first sector.
 *
 * The modules come from the tree, so they match its `/usr/lib/grub`, and its own grub-install can replace
 * them; `grub-mkimage`, which only links them, comes from the build machine.
 *
 * - BIOS boot partition: https://www.gnu.org/software/grub/manual/grub/grub.html#BIOS-installation
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { MiB, SECTOR } from "../core/units.ts";
import type { FilesystemPlan } from "../filesystem/types.ts";

import type { Tree } from "../tree/inspect.ts";
import { fileAt } from "../tree/query.ts";
import { grubDirectory, MENU_MODULES, moduleDirectory } from "./grub.ts";
import { firmwareOf } from "./loader.ts";

/** Size of the partition; the program takes about a quarter of it. */
const SIZE = MiB;

/** The dependencies of the modules. */
export const GRUB_DEPENDENCIES = "moddep.lst";

const REQUIRED = ["kernel.img", "boot.img", GRUB_DEPENDENCIES];

/** The modules of GRUB for BIOS. */
export const GRUB_BIOS_MODULES = ["biosdisk", ...MENU_MODULES];

/**
 * GRUB for BIOS, from the tree's modules, with its menu on partition number `boot` (counted from 1).
 *
 * @throws {BuildError} (usage) when the architecture has no BIOS, or the tree has no such modules.
 */
export function planGrubBios(
  tree: Tree,
  { firmware, sectorSize }: { readonly firmware: string; readonly sectorSize: number },
  boot: number,
): FilesystemPlan {
  const architecture = firmwareOf(tree)?.architecture;
  const directory = moduleDirectory(tree, "i386-pc") ?? "/usr/lib/grub/i386-pc";
  const missing = architecture !== "x86-64" && architecture !== "x86"
    ? `${architecture ?? "these"} machines have no BIOS`
    : sectorSize !== SECTOR
    ? `BIOS boots from no disk with sectors of ${sectorSize} bytes`
    : REQUIRED.map((name) => `${directory}/${name}`)
      .filter((path) => fileAt(tree.nodes, path) === undefined)
      .map((path) => `no ${path} (in Debian: package grub-pc-bin)`)[0];
  if (missing) {
    throw new BuildError(`Cannot install FIRMWARE=${firmware}: ${missing}`, {
      kind: "usage",
      hint: "Add GRUB for BIOS to the tree of an x86 machine, or set FIRMWARE=uefi",
    });
  }
  return {
    type: "grub",
    size: SIZE,
    label: "bios",
    uuid: "",
    entries: 0,
    bytes: 0,
    findings: [],
    writer: { bootPartition: boot, menu: grubDirectory(tree), directory },
  };
}

/**
 * Checks the list of dependencies, with lines `MODULE: MODULE...`. grub-mkimage opens whatever it names as
 * `DIRECTORY/NAME.mod`, so a name with slashes would lead it out of the directory.
 *
 * https://git.savannah.gnu.org/cgit/grub.git/tree/util/resolve.c
 *
 * @param path of the list in the tree.
 * @throws {BuildError} naming the text that cannot be a module name.
 */
export function checkDependencies(text: string, path: string): void {
  for (const name of text.split(/[\s:]+/).filter(Boolean)) {
    if (/^\w[\w-]*$/.test(name)) continue;
    throw new BuildError(
      `Cannot install GRUB: ${quote(name.slice(0, 80))} in ${path} of the tree cannot be a module`,
      { hint: "Reinstall GRUB in the tree (in Debian: packages grub-pc-bin, grub-efi-amd64-bin)" },
    );
  }
}
