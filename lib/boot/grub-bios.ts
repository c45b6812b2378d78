/**
 * Decides on GRUB for BIOS: a program for the BIOS boot partition and 440 bytes for the first sector.
 *
 * The modules come from the tree, so that they are as old as its `/usr/lib/grub` and are replaced by its own
 * grub-install; `grub-mkimage`, which only puts them together, comes from where the build runs.
 *
 * - BIOS boot partition: https://www.gnu.org/software/grub/manual/grub/grub.html#BIOS-installation
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { MiB, SECTOR } from "../core/units.ts";
import type { FilesystemPlan } from "../filesystem/types.ts";

import type { Tree } from "../tree/inspect.ts";
import { firstFile } from "../tree/query.ts";
import { firmwareOf } from "./loader.ts";

/** Of the partition; the program takes about a quarter of it. */
const SIZE = MiB;

/** Where the tree has the modules. */
export const GRUB_BIOS_DIRECTORY = "/usr/lib/grub/i386-pc";

/** What our menu needs, and what the menus that grub-mkconfig makes load: they are nowhere else on the disk. */
export const GRUB_BIOS_MODULES = [
  ...[
    "biosdisk",
    "part_gpt",
    "part_msdos",
    "fat",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "minicmd",
    "boot",
  ],
  ...[
    "echo",
    "test",
    "true",
    "sleep",
    "search",
    "search_fs_file",
    "search_fs_uuid",
    "search_label",
    "ls",
    "cat",
  ],
  ...["gzio", "loadenv", "regexp", "all_video", "gfxterm", "font", "reboot", "halt"],
];

/**
 * GRUB for BIOS from the modules of the tree, whose menu is `/grub/grub.cfg` on the partition `boot` (from 1).
 *
 * @throws {BuildError} (usage) when the machine has no BIOS or the tree no such modules.
 */
export function planGrubBios(
  tree: Tree,
  { firmware, sectorSize }: { readonly firmware: string; readonly sectorSize: number },
  boot: number,
): FilesystemPlan {
  const architecture = firmwareOf(tree)?.architecture;
  const missing = architecture !== "x86-64" && architecture !== "x86"
    ? `${architecture ?? "these"} machines have no BIOS`
    : sectorSize !== SECTOR
    ? `BIOS boots from no disk with sectors of ${sectorSize} bytes`
    : firstFile(tree.nodes, [`${GRUB_BIOS_DIRECTORY}/kernel.img`])
    ? undefined
    : `no ${GRUB_BIOS_DIRECTORY}/kernel.img (in Debian: package grub-pc-bin)`;
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
    writer: { bootPartition: boot },
  };
}
