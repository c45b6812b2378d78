/**
 * systemd-boot, and the boot entries that it reads.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/systemd-boot.html
 * - Boot Loader Specification: https://uapi-group.org/specifications/specs/boot_loader_specification/
 *
 * @module
 */

import type { ExtraFile } from "../filesystem/entries.ts";
import type { EfiProgram } from "../tree/efi-programs.ts";
import type { Tree } from "../tree/inspect.ts";
import { comparableVersion } from "../tree/kernels.ts";
import { firstFile } from "../tree/query.ts";
import {
  type BootableKernel,
  bootableKernels,
  type BootContext,
  copy,
  ESP_DIRECTORIES,
  file,
  firmwareOf,
  type FoundLoader,
  optionsFor,
  programAt,
  titleOf,
} from "./loader.ts";
import { findShim } from "./shim.ts";

/** The tree's systemd-boot, started by shim if both are signed. */
export function findSystemdBoot(tree: Tree): FoundLoader | string {
  const names = firmwareOf(tree);
  if (!names) return "no systemd-boot for an architecture without UEFI";
  const name = `systemd-boot${names.efi}.efi`;
  const unsigned = `/usr/lib/systemd/boot/efi/${name}`;
  const signed = firstFile(tree.nodes, [`${unsigned}.signed`]);
  const shim = signed && findShim(tree, names);
  // Debian 13 may have only the signed one, which also boots without Secure Boot.
  const from = shim ? signed : firstFile(tree.nodes, [unsigned]) ?? signed;
  if (!from) return `no ${unsigned} (in Debian: package systemd-boot-efi)`;
  const [directory, first] = [`/${names.path.replace(/\/[^/]*$/, "")}`, names.path.split("/").at(-1)!];
  return {
    reason: `the tree has ${shim ? `${shim.path} and ` : ""}${from}`,
    signed: Boolean(shim),
    boot: "vfat",
    verifiesKernels: true,
    needsSmallSectors: readsOnlySmallSectors(programAt(tree, from)),
    files: (context) => ({
      esp: [
        ...shim ? shim.files(directory, first, from) : [copy(from, `${directory}/${first}`)],
        // Where bootctl looks for it: without this copy, kernel-install thinks that it is not installed.
        copy(from, `/EFI/systemd/${name}`),
        ...unifiedImages(tree).map(([path, name]) => copy(path, `/EFI/Linux/${name}`)),
        ...loaderConfiguration(tree),
      ],
      xbootldr: bootEntries(tree, context),
    }),
  };
}

/**
 * Whether a systemd-boot reads the partition table in units of 512 bytes, and so finds no XBOOTLDR on a disk with larger
 * sectors: 257 does, 262 does not.
 */
export function readsOnlySmallSectors(program: EfiProgram | undefined): boolean {
  return (program?.release ?? 0) < 262;
}

/** UKIs that packages put beside their modules, with their names on the ESP. It finds other UKIs where they are. */
function unifiedImages(tree: Tree): [path: string, name: string][] {
  return tree.kernels.filter(({ unified }) => unified).flatMap(({ image }) => {
    const [, version, name] = /^(?:\/usr)?\/lib\/modules\/([^/]+)\/([^/]+)\.efi$/i.exec(image) ?? [];
    return name ? [[image, `${entryName(tree, `${version}-${name}`)}.efi`]] : [];
  });
}

/**
 * The file name of a menu entry. `+3` or `+2-1` at its end would be a boot counter, which systemd-boot counts
 * down and renames: https://uapi-group.org/specifications/specs/boot_loader_specification/#boot-counting
 */
export function entryName(tree: Tree, version: string): string {
  return `${entryToken(tree)}-${version}`.replace(/\+(?=\d+(?:-\d+)?$)/, "_");
}

/** The path of the menu's settings on the ESP. */
const CONFIGURATION = "/loader/loader.conf";

/** A line that names an entry; patterns such as @saved do not. */
const DEFAULT_ENTRY = /^[ \t]*(?:default|preferred)[ \t]+(?!@).*\n?/gm;

function ownConfiguration(tree: Tree): string | undefined {
  return firstFile(tree.nodes, [...ESP_DIRECTORIES, "/boot"].map((directory) => directory + CONFIGURATION));
}

/** The menu's settings: the tree's without lines that name its entries, or ours. */
export function loaderConfiguration(tree: Tree): ExtraFile[] {
  const own = ownConfiguration(tree);
  if (!own) return [file(CONFIGURATION, "timeout 1\nconsole-mode keep\n")];
  const kept = tree.bootTexts.get(own)?.replace(DEFAULT_ENTRY, "");
  // If already on the ESP, they stay as they are.
  return own.startsWith("/boot/loader/") || defaultEntry(tree) ? [file(CONFIGURATION, kept ?? "")] : [];
}

/** The tree's menu settings, if they name an entry of the tree. */
export function defaultEntry(tree: Tree): string[] | undefined {
  const own = ownConfiguration(tree);
  return own && tree.bootTexts.get(own)?.match(DEFAULT_ENTRY) ? [own] : undefined;
}

/** Enough of `ID` to tell systems apart, with room left for the version in a file name. */
const MAX_ID = 64;

/** The prefix by which entries of this OS are named and sorted. */
export function entryToken({ osRelease }: Tree): string {
  return osRelease["ID"]?.replace(/[^a-z0-9._-]/g, "").slice(0, MAX_ID) || "linux";
}

/** One type 1 entry per kernel. They are ordered by `sort-key` and `version`, not by file name. */
export function bootEntries(tree: Tree, context: BootContext): ExtraFile[] {
  const id = entryToken(tree);
  const title = titleOf(tree);
  const { kernels, copies } = bootableKernels(tree);
  return [
    ...copies,
    ...kernels.map((kernel) =>
      file(
        `/loader/entries/${entryName(tree, kernel.version)}.conf`,
        bootEntry(title, id, kernel, optionsFor(kernel, context)),
      )
    ),
    // Tells bootctl and kernel-install that the entries here are of type 1.
    file("/loader/entries.srel", "type1\n"),
  ];
}

function bootEntry(title: string, id: string, kernel: BootableKernel, options: string): string {
  const lines: [string, string][] = [
    ["title", title],
    ["version", comparableVersion(kernel.version)],
    // Sorts after all entries of the same system, including those of kernels that are installed later.
    ["sort-key", kernel.fallback ? `${id}-fallback` : id],
    ["linux", kernel.linux],
    ...kernel.initrds.map((path): [string, string] => ["initrd", path]),
    ...kernel.devicetree ? [["devicetree", kernel.devicetree] as [string, string]] : [],
    ["options", options],
  ];
  return lines.map(([key, value]) => `${key.padEnd(10)} ${value}\n`).join("");
}
