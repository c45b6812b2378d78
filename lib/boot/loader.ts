/**
 * What all boot loaders share: where they are in a tree, their input and their result.
 *
 * @module
 */

import { type ArchitectureName, ARCHITECTURES, efiBootPath } from "../core/dps.ts";
import { quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { FilesystemName } from "../filesystem/filesystems.ts";
import { findDevicetree } from "../tree/boot-texts.ts";
import type { Recipe } from "../efi/recipes.ts";
import type { Tree } from "../tree/inspect.ts";
import type { Kernel } from "../tree/kernels.ts";
import { lacksInitrd } from "../tree/kernels.ts";
import type { EfiProgram } from "../tree/efi-programs.ts";
import { lookup, pathOf } from "../tree/nodes.ts";

/** What a boot loader needs to know about its disk. */
export interface BootContext {
  /** The kernel command line, complete with `root=`. */
  readonly options: string;
  /** For a kernel without an initrd, which must find the root by itself; absent: the same. */
  readonly bareOptions?: string;
  /** The filesystem of `/usr`, if it has a partition of its own: the initrd mounts it. */
  readonly usrFormat?: FilesystemName;
  /** UUID of the XBOOTLDR filesystem, in GRUB's spelling. */
  readonly bootUuid: string;
}

/** The files that make a disk boot, each with its path below the partition's root. */
export interface BootFiles {
  readonly esp: readonly ExtraFile[];
  readonly xbootldr: readonly ExtraFile[];
  /** What moves from `/boot` of the tree to the ESP: paths below `/boot`. */
  readonly moved?: readonly string[];
}

/** A boot loader that the tree supports. */
export interface FoundLoader {
  /** Why it was chosen, for the log and `--dry-run`. */
  readonly reason: string;
  /** Whether firmware with Microsoft's keys starts it under Secure Boot. */
  readonly signed: boolean;
  /** The directory of the tree that is its ESP, if the loader is already there. */
  readonly espInTree?: string;
  /** Whether it verifies kernels, or why it could not use our signature. */
  readonly verifiesKernels: boolean | { readonly problem: string; readonly hint: string };
  /** The filesystem that it needs on XBOOTLDR. */
  readonly boot: "vfat" | "ext4";
  /** Whether it finds its menu only on a disk with sectors of 512 bytes. */
  readonly needsSmallSectors: boolean;
  /** Findings about booting with it. */
  readonly findings?: readonly Finding[];
  readonly files: (context: BootContext) => BootFiles;
}

/** Directories of the tree that may hold the content of an ESP, in order of preference. */
export const ESP_DIRECTORIES = ["/boot/efi", "/efi"] as const;

/** UEFI's names for the firmware's architecture. */
export interface EfiNames {
  readonly architecture: ArchitectureName;
  /** As in `BOOT<ARCH>.EFI`, in lower case: `x64`. */
  readonly efi: string;
  /** The path that firmware starts by default: `EFI/BOOT/BOOTX64.EFI`. */
  readonly path: string;
}

/** The firmware's architecture, taken from the newest kernel: it may differ from the tree's. */
export function firmwareOf(tree: Tree): EfiNames | undefined {
  const architecture = tree.kernels[0]?.architecture ?? tree.architecture;
  const path = architecture && efiBootPath(architecture);
  if (!path) return undefined;
  const { efi } = ARCHITECTURES[architecture] as { efi: string };
  return { architecture, efi: efi.toLowerCase(), path };
}

/** The path of a directory without symlinks. */
export function realPath({ nodes }: Tree, directory: string): string {
  const node = lookup(nodes, directory);
  return node === undefined ? directory : pathOf(nodes, node);
}

/** The program at a path. */
export function programAt(tree: Tree, path: string): EfiProgram | undefined {
  return tree.programs.get(realPath(tree, path));
}

/** Adds a file of the tree under another path. */
export function copy(from: string, path: string): ExtraFile {
  return { path, type: "copy", from };
}

/** Adds a file with the given text. */
export function file(path: string, text: string): ExtraFile {
  return { path, type: "file", text };
}

/** A kernel or initrd on XBOOTLDR: at its path below `/boot`, or copied there. */
function onXbootldr(path: string, name: string): { path: string; copies: ExtraFile[] } {
  // What is below /boot/efi goes to the ESP.
  if (/^\/boot\/(?!efi\/)/.test(path)) return { path: path.slice("/boot".length), copies: [] };
  return { path: `/${name}`, copies: [copy(path, `/${name}`)] };
}

/** The command line for a kernel. */
export function optionsFor(kernel: Parameters<typeof lacksInitrd>[0], context: BootContext): string {
  return lacksInitrd(kernel) ? context.bareOptions ?? context.options : context.options;
}

/** A kernel as firmware needs it: unpacked. */
export function kernelRecipe({ image, unpackedSize }: Kernel): Recipe {
  const from: Recipe = { type: "copy", from: image };
  return unpackedSize === undefined ? from : { type: "gunzip", from: image, size: unpackedSize };
}

/** A kernel of the tree as a boot loader sees it. */
export interface BootableKernel {
  readonly version: string;
  /** Paths on XBOOTLDR. */
  readonly linux: string;
  readonly initrds: readonly string[];
  readonly devicetree?: string;
  /** Whether it is started only when somebody chooses it. */
  readonly fallback: boolean;
  /** The recipe for the file at `linux`. */
  readonly recipe: Recipe;
}

/**
 * The tree's kernels that a loader starts with our options, in menu order, and what must be copied
 * to XBOOTLDR for them. Without UKIs.
 */
export function bootableKernels(tree: Tree): { kernels: BootableKernel[]; copies: ExtraFile[] } {
  const copies: ExtraFile[] = [];
  const place = (path: string, name: string) => {
    const placed = onXbootldr(path, name);
    for (const copied of placed.copies) copies.push(copied);
    return placed.path;
  };
  const anyInitrd = tree.kernels.some((kernel) => !lacksInitrd(kernel));
  const kernels = tree.kernels.filter(({ unified }) => !unified).map((kernel): BootableKernel => {
    const { version, image, initrds, unpackedSize } = kernel;
    const recipe = kernelRecipe(kernel);
    const linux = unpackedSize === undefined
      ? place(image, `vmlinuz-${version}`)
      // Replaces it, so that there are not two of almost the same name.
      : onXbootldr(image.replace(/\.gz$/, ""), `vmlinuz-${version}`).path;
    if (unpackedSize !== undefined) copies.push({ path: linux, type: "made", recipe });
    const devicetree = findDevicetree(tree.bootTexts, tree.nodes, kernel);
    return {
      version,
      linux,
      initrds: initrds.map((path, i) => place(path, `initrd-${version}${i ? `-${i}` : ""}.img`)),
      fallback: anyInitrd && lacksInitrd(kernel),
      recipe,
      ...devicetree && { devicetree: place(devicetree, `dtb-${version}/${devicetree.split("/").at(-1)}`) },
    };
  });
  return { kernels, copies };
}

/** Why a loader whose menu has no UKIs cannot be used: the tree has nothing else. */
export function lacksKernels({ kernels }: Tree): string | undefined {
  return kernels.length > 0 && kernels.every(({ unified }) => unified)
    ? "no kernels but UKIs, which GRUB's menu does not start"
    : undefined;
}

/** The UKIs that are not in such a menu. */
export function unifiedFindings({ kernels }: Tree): Finding[] {
  return kernels.filter(({ unified }) => unified).map(({ image }) =>
    finding("kernel-firmware", `Leaving out ${quote(image)}: it is a UKI, which GRUB's menu does not start`, {
      path: image,
    })
  );
}

/** The title in a menu: the name of the OS in printable characters. */
export function titleOf({ osRelease }: Tree): string {
  return (osRelease["PRETTY_NAME"] || osRelease["NAME"] || "Linux").replace(/[^\x20-\x7e\u00a0-\uffff]/g, "");
}
