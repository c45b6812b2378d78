/**
 * The tree's own ESP: what `bootctl install`, `grub-install` or packages left in it, or somebody put there by
 * hand. It is used only if its programs are what their names say, and would find the disk of the image.
 *
 * - GRUB's configuration: https://www.gnu.org/software/grub/manual/grub/grub.html#Embedded-configuration
 * - The removable path, shim and its fallback: https://github.com/rhboot/shim/blob/main/README.fallback
 *
 * @module
 */

import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { typeOf } from "../tree/nodes.ts";
import { optionWords } from "../tree/boot-texts.ts";
import type { EfiProgram } from "../tree/efi-programs.ts";
import { countIn, entriesIn, fileAt, pathsInAnyCase } from "../tree/query.ts";
import { foreignGrub, grubFiles, grubStub } from "./grub.ts";
import {
  copy,
  type EfiNames,
  ESP_DIRECTORIES,
  file,
  firmwareOf,
  type FoundLoader,
  lacksKernels,
  programAt,
  realPath,
  unifiedFindings,
} from "./loader.ts";
import { bootEntries, loaderConfiguration, readsOnlySmallSectors } from "./systemd-boot.ts";

/** Where a tree may have its ESP. Also `/boot`, where kernels and loader share a partition. */
const PLACES = [...ESP_DIRECTORIES, "/boot"] as const;

/** The tree's ESP as it is, with a loader where firmware looks for one. */
export function findExisting(tree: Tree): FoundLoader | string {
  const names = firmwareOf(tree);
  if (!names) return "no boot loader for an architecture without UEFI";
  const [first] = findFirst(tree, names);
  if (!first) return `no ${ESP_DIRECTORIES[0]}/${names.path}`;
  const { directory, path } = first;
  const started = follow(tree, names, directory, path);
  if (typeof started === "string") return started;
  // Next to another loader, a grub.cfg is a leftover.
  const isGrub = started.kind === "grub" || started.kind === "unknown";
  const stubs = isGrub ? grubStubs(tree, directory, started) : [];
  return {
    reason: `the tree has ${path}${KINDS[started.kind]}`,
    signed: false,
    espInTree: directory,
    verifiesKernels: true,
    boot: stubs.length ? "ext4" : "vfat",
    findings: stubs.length ? unifiedFindings(tree) : [],
    needsSmallSectors: stubs.length === 0 && started.kind !== "uki" && readsOnlySmallSectors(started),
    files: (context) => {
      const isBoot = directory === "/boot";
      const esp = isBoot ? moved(tree) : [];
      const from = isBoot ? { moved: movedDirectories(tree) } : {};
      return stubs.length
        ? {
          ...from,
          esp: [...esp, ...stubs.map((path) => file(path, grubStub(tree, context)))],
          xbootldr: grubFiles(tree, context, started.grub),
        }
        : {
          ...from,
          esp: started.kind === "systemd-boot" ? [...esp, ...loaderConfiguration(tree)] : esp,
          xbootldr: bootEntries(tree, context),
        };
    },
  };
}

const KINDS: { readonly [kind in EfiProgram["kind"]]: string } = {
  "systemd-boot": ", which is systemd-boot",
  "grub": ", which is GRUB",
  "shim": ", which is shim",
  "uki": ", which is a UKI",
  "unknown": "",
};

/** The programs that firmware would start, by ESP directory. */
function findFirst(tree: Tree, { path }: EfiNames): { directory: string; path: string }[] {
  return PLACES.flatMap((directory) =>
    findAnyCase(tree, directory, path.split("/")).slice(0, 1).map((path) => ({ directory, path }))
  );
}

/** The program that is finally started, or the reason why there is none, worded to follow "Cannot install …:". */
function follow(tree: Tree, names: EfiNames, directory: string, path: string): EfiProgram | string {
  const program = programAt(tree, path);
  if (!program) return `${path} of the tree is no program for UEFI`;
  if (program.architecture !== names.architecture) {
    return `${path} of the tree is for ${program.architecture}, not for ${names.architecture}`;
  }
  if (program.kind === "shim") {
    const second = program.starts ?? `grub${names.efi}.efi`;
    const beside = path.slice(directory.length + 1).split("/").slice(0, -1);
    const [next] = [
      ...findAnyCase(tree, directory, [...beside, second]),
      // The fallback program starts what the vendor directories name.
      ...findAnyCase(tree, directory, [...beside, `fb${names.efi}.efi`]).flatMap(() =>
        findAnyCase(tree, directory, ["EFI", undefined, second])
      ),
    ].filter((next) => programAt(tree, next)?.kind !== "shim");
    return next
      ? follow(tree, names, directory, next)
      : `${path} of the tree is shim, and has no ${second} to start`;
  }
  const lacking = program.kind === "grub" ? lacksKernels(tree) : undefined;
  if (lacking !== undefined) return `${path} of the tree is GRUB, and the tree has ${lacking}`;
  const foreign = program.grub ? foreignGrub(program.grub) : foreignRoot(program);
  return foreign ? `${path} of the tree was made for another disk: ${foreign}` : program;
}

/** A UKI's option that names the root of another disk. */
function foreignRoot({ kind, options = "" }: EfiProgram): string | undefined {
  const root = kind === "uki" ? optionWords(options).find((word) => word.startsWith("root=")) : undefined;
  return root && `a UKI with ${JSON.stringify(root)}`;
}

/**
 * The program that firmware would start from the image's ESP, and why it would not boot the image; `undefined` when
 * there is no such program, or when it would.
 */
export function brokenLoader(tree: Tree): string | undefined {
  const names = firmwareOf(tree);
  const first = names && findFirst(tree, names)[0];
  // Files in /boot are not on an ESP, so firmware does not start them.
  if (!first || first.directory === "/boot") return undefined;
  const started = follow(tree, names, first.directory, first.path);
  return typeof started === "string" ? started : undefined;
}

/**
 * Where GRUB looks for its configuration: beside itself, at its prefix, and wherever there is one already. In
 * the image, these files must name the image's filesystem.
 */
function grubStubs(tree: Tree, directory: string, started: EfiProgram): string[] {
  const present = findAnyCase(tree, directory, ["EFI", undefined, "grub.cfg"]);
  const programs = [...tree.programs].filter(([path, { kind }]) =>
    kind === "grub" && isBelow(tree, directory, path)
  );
  const wanted = started.kind !== "grub" ? [] : programs.flatMap(([path, { grub }]) => [
    `${relative(tree, directory, path).replace(/\/[^/]*$/, "")}/grub.cfg`,
    ...grub?.prefix.startsWith("/") ? [`${grub.prefix.replace(/\/+$/, "")}/grub.cfg`] : [],
  ]);
  // On FAT, all spellings are one file.
  const paths = new Map<string, string>();
  for (const path of [...present.map((path) => path.slice(directory.length)), ...wanted]) {
    if (/^\/[\w./+-]+$/.test(path) && !path.includes("/../")) paths.set(path.toUpperCase(), path);
  }
  return [...paths.values()].sort();
}

function isBelow(tree: Tree, directory: string, path: string): boolean {
  return path.startsWith(`${realPath(tree, directory)}/`);
}

function relative(tree: Tree, directory: string, path: string): string {
  return path.slice(realPath(tree, directory).length);
}

/** What moves from an ESP at `/boot` to the image's ESP: all programs except UKIs, which may be on XBOOTLDR. */
function moved(tree: Tree): ExtraFile[] {
  const files: ExtraFile[] = [];
  const pending = movedDirectories(tree);
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    for (const { name, node } of entriesIn(tree.nodes, `/boot${path}`)) {
      const type = typeOf(tree.nodes, node);
      if (type === "directory") pending.push(`${path}/${name}`);
      else if (fileAt(tree.nodes, `/boot${path}/${name}`) !== undefined) {
        files.push(copy(`/boot${path}/${name}`, `${path}/${name}`));
      }
    }
  }
  return files;
}

/** The directories below `/boot` that contain it. */
function movedDirectories(tree: Tree): string[] {
  return pathsInAnyCase(tree.nodes, "/boot", ["EFI", undefined])
    .map((path) => path.slice("/boot".length)).filter((path) => !/\/linux$/i.test(path));
}

/** What on the tree's ESP would make systemd-boot start another machine's system: paths below the ESP. */
export function foreignEntries(tree: Tree, directory: string): string[] {
  const entries = pathsInAnyCase(tree.nodes, directory, ["loader", "entries"])
    .filter((path) => countIn(tree.nodes, path) > 0).map((path) => path.slice(directory.length));
  const others = tree.kernels.some(({ image }) => tree.programs.get(image)?.kind !== "uki");
  const images = [...tree.programs].filter(([path, program]) =>
    others && foreignRoot(program) && isBelow(tree, directory, path) &&
    /^\/EFI\/Linux\//i.test(relative(tree, directory, path))
  ).map(([path]) => relative(tree, directory, path));
  return [...entries.map((path) => `${path}/`), ...images];
}

/** The files among {@link pathsInAnyCase}. */
function findAnyCase(tree: Tree, directory: string, names: readonly (string | undefined)[]): string[] {
  return pathsInAnyCase(tree.nodes, directory, names)
    .filter((path) => fileAt(tree.nodes, path) !== undefined);
}
