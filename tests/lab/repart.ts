/**
 * The real systemd-repart, as Debian 13 and the next release have it: run from unpacked packages, with the dynamic loader
 * that is among them.
 *
 * @module
 */

import { parseTable, type TableEntry } from "../../lib/image/gpt.ts";
import type { Layout } from "../../lib/plan/repart/files.ts";
import { $ } from "../../lib/system/sh.ts";
import { newerSystemdTree } from "./guests.ts";
import { quiet, tempDir } from "./helpers.ts";
import { debianTree, unpack } from "./trees.ts";

/** What the Debian has that other tests boot, too, so that there is only one such tree. */
export const REPART_PACKAGES = ["grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed", "systemd-repart"];

/** A Debian 13 with systemd-repart. */
export function repartTree(): Promise<string> {
  return debianTree({ suite: "trixie", include: REPART_PACKAGES });
}

/** The command that runs systemd-repart of Debian 13 (257) or of the next release. */
export async function repartCommand(suite: "trixie" | "forky" = "trixie"): Promise<string[]> {
  const trees = suite === "trixie"
    // The second for libcryptsetup, which the first does not have.
    ? [await repartTree(), await newerSystemdTree()]
    : [await unpack(suite, "amd64", ["systemd-repart", "libcryptsetup12"])];
  const libraries = trees.map((tree) => `${tree}/usr/lib/x86_64-linux-gnu`);
  return [
    `${trees[0]}/usr/lib64/ld-linux-x86-64.so.2`,
    ...["--library-path", [...libraries, `${libraries[0]}/systemd`].join(":")],
    `${trees[0]}/usr/bin/systemd-repart`,
  ];
}

/** Writes a layout's files into a directory. */
export async function writeLayout({ files }: Layout, directory: string): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = `${directory}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(path, text);
  }
}

/** The partitions that systemd-repart makes of a layout on a disk of `size` MiB, with the files of a tree. */
export function repartPartitions(
  layout: Layout,
  { size, tree, command }: {
    readonly size: number;
    readonly tree: string;
    readonly command: readonly string[];
  },
): Promise<readonly TableEntry[]> {
  return tempDir(async (dir) => {
    await writeLayout(layout, `${dir}/definitions`);
    const image = `${dir}/disk.raw`;
    await $`${command} --empty=create --size=${size}M --definitions=${dir}/definitions --offline=yes
      --dry-run=no --copy-source=${tree} --root=${tree} --seed=${"0".repeat(32)} ${image}`.quiet();
    return parseTable(JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable)!.entries;
  });
}

/** What systemd-repart says that it would do with an image. */
export async function repartDryRun(image: string, definitions: string): Promise<string> {
  return await $`${await repartCommand()} --dry-run=yes --offline=yes --definitions=${definitions} ${image}`
    .quiet().text("combined");
}
