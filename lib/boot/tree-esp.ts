/**
 * The ESP that a tree brings: what `bootctl install` or `grub-install` left in it, or somebody put there by hand.
 *
 * @module
 */

import type { Tree } from "../tree/inspect.ts";
import { fileAt, namesIn } from "../tree/query.ts";
import { grubFiles, grubStub } from "./grub.ts";
import { ESP_DIRECTORIES, file, firmwareOf, type FoundLoader } from "./loader.ts";
import { bootEntries } from "./systemd-boot.ts";

/** The ESP of the tree as it is, with a loader where firmware looks for one. */
export function findExisting(tree: Tree): FoundLoader | string {
  const path = firmwareOf(tree)?.path;
  if (!path) return "no boot loader for an architecture without UEFI";
  for (const directory of ESP_DIRECTORIES) {
    const [found] = findAnyCase(tree, directory, path.split("/"));
    if (!found) continue;
    const stubs = grubStubs(tree, directory);
    return {
      reason: `the tree has ${found}`,
      signed: false,
      espInTree: directory,
      verifiesKernels: true,
      boot: stubs.length ? "ext4" : "vfat",
      readsXbootldr: stubs.length === 0,
      files: (context) =>
        stubs.length
          ? { esp: stubs.map((path) => file(path, grubStub(context))), xbootldr: grubFiles(tree, context) }
          : { esp: [], xbootldr: bootEntries(tree, context) },
    };
  }
  return `no ${ESP_DIRECTORIES[0]}/${path}`;
}

/** The files of GRUB that name the filesystem with its menu: in the image that is another than when they were made. */
function grubStubs(tree: Tree, directory: string): string[] {
  return findAnyCase(tree, directory, ["EFI", undefined, "grub.cfg"])
    .map((path) => path.slice(directory.length));
}

/** Files of which the names are these in any case, as FAT sees them; `undefined` stands for any name. */
function findAnyCase({ nodes }: Tree, directory: string, names: readonly (string | undefined)[]): string[] {
  let paths = [directory];
  for (const wanted of names) {
    paths = paths.flatMap((path) =>
      namesIn(nodes, path)
        .filter((name) => wanted === undefined || name.toLowerCase() === wanted.toLowerCase())
        .map((name) => `${path}/${name}`)
    );
  }
  return paths.filter((path) => fileAt(nodes, path) !== undefined);
}
