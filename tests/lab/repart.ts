/**
 * The real systemd-repart: that of Debian 13, run from a tree by its own dynamic loader.
 *
 * @module
 */

import { parseTable, type TableEntry } from "../../lib/image/gpt.ts";
import type { Layout } from "../../lib/plan/repart/files.ts";
import { $ } from "../../lib/system/sh.ts";
import { newerSystemdTree } from "./guests.ts";
import { quiet, tempDir } from "./helpers.ts";
import { debianTree } from "./trees.ts";

/** What the Debian has that other tests boot, too, so that there is only one such tree. */
export const REPART_PACKAGES = ["grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed", "systemd-repart"];

/** A Debian 13 with systemd-repart. */
export function repartTree(): Promise<string> {
  return debianTree({ suite: "trixie", include: REPART_PACKAGES });
}

/** The command of systemd-repart. */
async function repartCommand(): Promise<string[]> {
  const tree = await repartTree();
  const libraries = `${tree}/usr/lib/x86_64-linux-gnu`;
  // libcryptsetup, which the tree does not have.
  const more = `${await newerSystemdTree()}/usr/lib/x86_64-linux-gnu`;
  return [
    `${tree}/usr/lib64/ld-linux-x86-64.so.2`,
    ...["--library-path", `${libraries}:${libraries}/systemd:${more}`, `${tree}/usr/bin/systemd-repart`],
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
  { size, tree, args = [] }: {
    readonly size: number;
    readonly tree: string;
    readonly args?: readonly string[];
  },
): Promise<readonly TableEntry[]> {
  return tempDir(async (dir) => {
    await writeLayout(layout, `${dir}/definitions`);
    const image = `${dir}/disk.raw`;
    await $`${await repartCommand()} --empty=create --size=${size}M --definitions=${dir}/definitions --offline=yes
      --dry-run=no --copy-source=${tree} --root=${tree} --seed=${"0".repeat(32)} ${args} ${image}`.quiet();
    return parseTable(JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable)!.entries;
  });
}

/** What systemd-repart says that it would do with an image. */
export async function repartDryRun(image: string, definitions: string): Promise<string> {
  return await $`${await repartCommand()} --dry-run=yes --offline=yes --definitions=${definitions} ${image}`
    .quiet().text("combined");
}
