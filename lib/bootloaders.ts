/**
 * The boot loaders: one row each says whether the tree has what it takes, and which files it puts where.
 *
 * - Boot Loader Specification: https://uapi-group.org/specifications/specs/boot_loader_specification/
 * - systemd-boot: https://www.freedesktop.org/software/systemd/man/latest/systemd-boot.html
 *
 * @module
 */

import type { Addition } from "./contents.ts";
import { type ArchitectureName, ARCHITECTURES, efiBootPath } from "./dps.ts";
import { lookup, typeOf } from "./nodes.ts";
import type { Kernel, Tree } from "./tree.ts";

/** What a boot loader needs to know of the disk that it is put on. */
export interface BootContext {
  /** The kernel command line, complete with `root=`. */
  readonly options: string;
}

/** The files that make a disk boot, each with its path below the partition's root. */
export interface BootFiles {
  readonly esp: readonly Addition[];
  readonly xbootldr: readonly Addition[];
}

/** A boot loader that the tree supports. */
export interface FoundLoader {
  /** Why it was taken, for the log and `--dry-run`. */
  readonly reason: string;
  readonly files: (context: BootContext) => BootFiles;
}

interface BootLoader {
  readonly summary: string;
  /** What would be installed, or, as a string, what is missing for it. */
  readonly find: (tree: Tree) => FoundLoader | string;
}

/** In the order in which `auto` asks; the first that the tree supports is taken. */
export const BOOTLOADERS = {
  "existing": { summary: "the boot loader on the ESP that the tree brings", find: findExisting },
  "systemd-boot": { summary: "systemd-boot of the tree", find: findSystemdBoot },
} as const satisfies Record<string, BootLoader>;

export type BootLoaderName = keyof typeof BOOTLOADERS;

/** The values of the setting `BOOTLOADER`. */
export const BOOT_LOADER_CHOICES = ["auto", ...Object.keys(BOOTLOADERS) as BootLoaderName[], "none"] as const;

export type BootLoaderChoice = (typeof BOOT_LOADER_CHOICES)[number];

/** Directories of the tree that may hold the content of an ESP, in the order of preference. */
export const ESP_DIRECTORIES = ["/boot/efi", "/efi"] as const;

/** The architecture of the firmware: that of the newest kernel, which may be another than that of the tree. */
export function firmwareArchitecture(tree: Tree): ArchitectureName | undefined {
  return tree.kernels[0]?.architecture ?? tree.architecture;
}

function isFile(tree: Tree, path: string): boolean {
  const node = lookup(tree.nodes, path);
  return node !== undefined && typeOf(tree.nodes, node) === "file";
}

function findExisting(tree: Tree): FoundLoader | string {
  const architecture = firmwareArchitecture(tree);
  const path = architecture && efiBootPath(architecture);
  if (!path) return "no boot loader for an architecture without UEFI";
  // FAT ignores case, and so do the tools that wrote the files into the tree.
  const spellings = [path, path.replace(/\.EFI$/, ".efi"), path.toLowerCase()];
  for (const directory of ESP_DIRECTORIES) {
    const found = spellings.find((spelling) => isFile(tree, `${directory}/${spelling}`));
    if (found) {
      return {
        reason: `the tree has ${directory}/${found}`,
        files: (context) => ({ esp: [], xbootldr: bootEntries(tree, context) }),
      };
    }
  }
  return `no ${ESP_DIRECTORIES[0]}/${path}`;
}

function findSystemdBoot(tree: Tree): FoundLoader | string {
  const architecture = firmwareArchitecture(tree);
  const target = architecture && efiBootPath(architecture);
  if (!target) return "no systemd-boot for an architecture without UEFI";
  const { efi } = ARCHITECTURES[architecture] as { efi: string };
  const name = `systemd-boot${efi.toLowerCase()}.efi`;
  const unsigned = `/usr/lib/systemd/boot/efi/${name}`;
  // Debian 13's package systemd-boot may bring only the signed one, which boots without Secure Boot as well.
  const from = [unsigned, `${unsigned}.signed`].find((path) => isFile(tree, path));
  if (!from) return `no ${unsigned} (in Debian: package systemd-boot-efi)`;
  return {
    reason: `the tree has ${from}`,
    files: (context) => ({
      esp: [
        { path: `/${target}`, type: "copy", from },
        // Where bootctl looks for it: without this one, kernel-install thinks that it is not installed.
        { path: `/EFI/systemd/${name}`, type: "copy", from },
        ...ESP_DIRECTORIES.some((directory) => isFile(tree, `${directory}/loader/loader.conf`))
          ? []
          : [{ path: "/loader/loader.conf", type: "file", text: "timeout 1\nconsole-mode keep\n" } as const],
      ],
      xbootldr: bootEntries(tree, context),
    }),
  };
}

/** Where a kernel or initrd is on the XBOOTLDR partition: as below `/boot`, or copied there. */
function onXbootldr(path: string, name: string): { path: string; copies: Addition[] } {
  // What is below /boot/efi goes to the ESP.
  if (/^\/boot\/(?!efi\/)/.test(path)) return { path: path.slice("/boot".length), copies: [] };
  return { path: `/${name}`, copies: [{ path: `/${name}`, type: "copy", from: path }] };
}

/** So much of `ID` is enough to tell systems apart, and leaves room for the version in a file's name. */
const MAX_ID = 64;

/** One type 1 entry per kernel. `sort-key` and `version` are what orders them, not the file's name. */
function bootEntries(tree: Tree, { options }: BootContext): Addition[] {
  const id = tree.osRelease["ID"]?.replace(/[^a-z0-9._-]/g, "").slice(0, MAX_ID) || "linux";
  const title = tree.osRelease["PRETTY_NAME"] || tree.osRelease["NAME"] || "Linux";
  return [
    ...tree.kernels.flatMap((kernel) => {
      const image = onXbootldr(kernel.image, `vmlinuz-${kernel.version}`);
      const initrds = kernel.initrds.map((path, i) =>
        onXbootldr(path, `initrd-${kernel.version}${i ? `-${i}` : ""}.img`)
      );
      return [
        ...image.copies,
        ...initrds.flatMap(({ copies }) => copies),
        {
          path: `/loader/entries/${id}-${kernel.version}.conf`,
          type: "file",
          text: bootEntry(title, id, kernel, image.path, initrds.map(({ path }) => path), options),
        } as const,
      ];
    }),
    // Says to bootctl and kernel-install that the entries here are of type 1.
    { path: "/loader/entries.srel", type: "file", text: "type1\n" },
  ];
}

function bootEntry(
  title: string,
  sortKey: string,
  kernel: Kernel,
  linux: string,
  initrds: readonly string[],
  options: string,
): string {
  const lines: [string, string][] = [
    ["title", title],
    ["version", kernel.version],
    ["sort-key", sortKey],
    ["linux", linux],
    ...initrds.map((path): [string, string] => ["initrd", path]),
    ["options", options],
  ];
  return lines.map(([key, value]) => `${key.padEnd(10)} ${value}\n`).join("");
}
