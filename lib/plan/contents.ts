/**
 * Decides what goes where on a disk: which part of the tree each filesystem holds, and what is added to it.
 *
 * What is below the mount point of another partition of the disk is left out; the mount point is an empty directory.
 *
 * @module
 */

import { grubDefaults } from "../boot/grub.ts";
import { type BootFiles, ESP_DIRECTORIES, realPath } from "../boot/loader.ts";
import { defaultEntry } from "../boot/systemd-boot.ts";
import { foreignEntries } from "../boot/tree-esp.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { type Clash, planChanges } from "../filesystem/changes.ts";
import type { Contents, ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { children, lookup, type Nodes, pathOf, typeOf } from "../tree/nodes.ts";
import { countIn, directoryAt, entriesIn, exists } from "../tree/query.ts";
import { type FstabLine, planFstab } from "./fstab.ts";
import { growFiles } from "./grow.ts";
import type { Leftovers } from "./leftovers.ts";
import { type Definition, placeOf } from "./repart/definitions.ts";
import { wrong } from "./repart/ini.ts";
import { isFromTree, isMounted, isWhole, type PartitionRequest, systemPath } from "./requests.ts";
import { selinuxFiles, type SelinuxPlan } from "./selinux.ts";

/** Earlier decisions. */
interface Decided {
  readonly requests: readonly PartitionRequest[];
  readonly kernelOptions: string;
  readonly kernelCmdline: string | undefined;
  /** Whether the root filesystem is read-only. */
  readonly readOnly: boolean;
  readonly leftovers: Leftovers;
  readonly selinux: SelinuxPlan;
  /** The filesystem of `/boot`. */
  readonly boot: "vfat" | "ext4";
  /** Absent: no boot loader is installed. */
  readonly files: BootFiles | undefined;
  /** The lines of fstab for the disk's partitions. */
  readonly mounts: readonly FstabLine[];
}

/**
 * The contents of the filesystems of a disk, by the names of their partitions.
 *
 * @throws {BuildError} when the tree has two ESPs.
 */
export function planContents(
  tree: Tree,
  decided: Decided,
): { contents: ReadonlyMap<string, Contents>; findings: Finding[] } {
  const { requests, leftovers, selinux } = decided;
  const { nodes } = tree;
  const boot = bootContents(tree, decided);
  const fstab = planFstab(tree.fstab, {
    lines: decided.mounts,
    exists: (path) => exists(nodes, path),
  });
  const relabel = selinuxFiles(selinux);
  const hasEsp = requests.some((request) => request.role === "esp" && isMounted(request));
  const additions: ExtraFile[] = [
    ...hasEsp ? [{ path: "/efi", type: "directory" } as const] : [],
    ...leftovers.add,
    ...relabel.add,
    ...rootAdditions(tree, decided, fstab.text),
  ];
  const mounted = requests.filter(isMounted);
  for (const request of mounted) checkMountPoint(nodes, request);
  const findings: Finding[] = [];
  const contents = new Map<string, Contents>();
  for (const request of requests) {
    const { name, content } = request;
    if (content.type !== "filesystem") continue;
    const place = systemPath(request);
    const below = mounted.map(({ mountPoint }) => mountPoint).filter((path) => isBelow(path, place));
    // Where an ESP is mounted elsewhere, systemd still looks into an empty /efi.
    const omit = [...below, ...place === "/" && hasEsp ? ["/efi"] : []].map((path) =>
      `${relative(path, place)}/`
    );
    const selected = content.definition
      ? copiedContents(nodes, content.definition, findings)
      : boot.get(request) ??
        { ...directoryAt(nodes, place) !== undefined && { from: place }, omit: [], add: [] };
    // Only what belongs to the place as a whole gets what the system needs there.
    const directories = below.map((path): ExtraFile => ({ path, type: "directory" }));
    const own = isWhole(request) && !boot.has(request)
      ? [...directories, ...additions].filter(({ path }) => ownerOf(path, mounted) === request)
      : [];
    const without = [leftovers.without, selected.without, excludedRows(nodes, request.definition)];
    const planned: Contents = {
      ...selected,
      omit: [...boot.has(request) ? [] : omit, ...place === "/" ? relabel.omit : [], ...selected.omit],
      without: without.reduce<ReadonlySet<number>>(
        (all, some) => some?.size ? all.union(some) : all,
        new Set(),
      ),
      add: [...own.map((file) => ({ ...file, path: relative(file.path, place) })), ...selected.add],
    };
    if (content.definition) checkClashes(nodes, planned, selected, content.definition);
    contents.set(name, planned);
  }
  return { contents, findings: [...fstab.findings, ...boot.findings, ...findings] };
}

function isBelow(path: string, place: string): boolean {
  return place !== "" && path !== place && path.startsWith(place === "/" ? "/" : `${place}/`);
}

/** A path below a place, as it is in the filesystem that is mounted there. */
function relative(path: string, place: string): string {
  return place === "/" ? path : path.slice(place.length) || "/";
}

/** The partition whose filesystem has what is at a path: the one that is mounted nearest above it. */
function ownerOf(path: string, mounted: readonly PartitionRequest[]): PartitionRequest | undefined {
  return mounted.filter(({ mountPoint }) => isBelow(path, mountPoint))
    .reduce<PartitionRequest | undefined>(
      (best, each) => best && best.mountPoint.length >= each.mountPoint.length ? best : each,
      undefined,
    );
}

/** What systemd-repart never copies: what is in these directories belongs to the machine that runs. */
const VOLATILE = ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"].map((path) => `${path}/`);

/** What `CopyFiles=` and the like say is in a filesystem. */
function copiedContents(nodes: Nodes, definition: Definition, findings: Finding[]): Contents {
  const { copyFiles = [], excludeFiles = [], excludeFilesTarget = [] } = definition;
  const covers = (excluded: string, path: string) => {
    const plain = excluded.replace(/(?<=.)\/$/, "");
    return plain === path || isBelow(path, plain);
  };
  const copies = copyFiles.filter(({ from, path }) => {
    if (excludeFiles.some((excluded) => covers(excluded, from))) return false;
    if (excludeFilesTarget.some((excluded) => covers(excluded, path))) return false;
    if (lookup(nodes, from) !== undefined) return true;
    findings.push(
      finding("copy-missing", `${placeOf(definition, "CopyFiles")} takes nothing from ${quote(from)}`, {
        path: from,
      }),
    );
    return false;
  });
  checkCopies(nodes, copies, definition);
  const [first, ...others] = copies;
  const isRoot = first?.path === "/" && directoryAt(nodes, first.from) !== undefined;
  return {
    ...isRoot && { from: first.from },
    copies: isRoot ? others : copies,
    omit: excludeFilesTarget,
    without: rowsOf(nodes, VOLATILE),
    add: [
      ...(definition.makeDirectories ?? []).map((path): ExtraFile => ({
        path,
        type: "directory",
        follow: true,
      })),
      ...(definition.makeSymlinks ?? []).map((link): ExtraFile => ({ ...link, type: "symlink" })),
    ],
  };
}

/** A directory has one place in a filesystem. @throws {BuildError} (usage) when another copy is inside of it. */
function checkCopies(
  nodes: Nodes,
  copies: NonNullable<Contents["copies"]>,
  definition: Definition,
): void {
  copies.forEach(({ from, path }, i) => {
    const other = copies.find((other, j) =>
      i !== j && directoryAt(nodes, from) !== undefined && (other.from === from || isBelow(from, other.from))
    );
    if (other) {
      throw wrong(
        placeOf(definition, "CopyFiles"),
        `${quote(from)} would be in the filesystem twice: as ${quote(path)}, and with ${quote(other.from)}`,
        "Leave one of them out",
      );
    }
    if (path === "/" && directoryAt(nodes, from) === undefined) {
      throw wrong(
        placeOf(definition, "CopyFiles"),
        `${quote(from)} is no directory, which / must be`,
        `Write CopyFiles=${from}:/NAME`,
      );
    }
  });
}

/** Nothing that a definition asks for costs other files. @throws {BuildError} (usage) */
function checkClashes(nodes: Nodes, planned: Contents, asked: Contents, definition: Definition): void {
  planChanges(nodes, planned, ({ by, type, node, name }: Clash) => {
    const isCopy = "from" in by;
    // What the system needs, such as fstab, replaces what is there.
    if (!isCopy && !asked.add.includes(by)) return;
    const key = isCopy ? "CopyFiles" : by.type === "symlink" ? "MakeSymlinks" : "MakeDirectories";
    const what = isCopy ? `${quote(by.from)} as ${quote(by.path)}` : `the ${by.type} ${quote(by.path)}`;
    const there = node === undefined ? quote(name!) : `${quote(pathOf(nodes, node))} of the tree`;
    throw wrong(
      placeOf(definition, key),
      `${what} would take the place of the ${type} ${there}`,
      "Leave one of them out, or write another path",
    );
  });
}

/** A mount point is a directory, and makes no other file disappear. @throws {BuildError} (usage) */
function checkMountPoint(nodes: Nodes, { mountPoint, definition }: PartitionRequest): void {
  if (!definition) return;
  const names = mountPoint.split("/");
  for (let count = 2; count <= names.length; count++) {
    const path = names.slice(0, count).join("/");
    const row = lookup(nodes, path);
    if (row === undefined || typeOf(nodes, row) === "directory") continue;
    throw wrong(
      placeOf(definition, "MountPoint"),
      `${quote(mountPoint)} would take the place of the ${typeOf(nodes, row)} ${quote(path)} of the tree`,
      "Mount it elsewhere",
    );
  }
}

/** The rows of the tree at these paths; of one that ends with a slash, those of what is in it. */
function rowsOf(nodes: Nodes, paths: readonly string[]): ReadonlySet<number> {
  return new Set(paths.flatMap((path) => {
    const row = lookup(nodes, path, { follow: false });
    if (row === undefined) return [];
    if (!path.endsWith("/")) return [row];
    return typeOf(nodes, row) === "directory" ? [...children(nodes, row)] : [];
  }));
}

function excludedRows(nodes: Nodes, definition: Definition | undefined): ReadonlySet<number> {
  return rowsOf(nodes, definition?.excludeFiles ?? []);
}

/** The contents of ESP and XBOOTLDR, where nothing else says what they are. */
function bootContents(tree: Tree, { requests, files, boot }: Decided) {
  const { nodes } = tree;
  const find = (role: string) => requests.find((each) => each.role === role && isFromTree(each));
  const [esp, xbootldr] = [find("esp"), find("xbootldr")];
  const contents = new Map<PartitionRequest, Contents>();
  if (!esp && !xbootldr) return { has: () => false, get: () => undefined, findings: [] };
  const { from } = esp ? espSource(tree) : {};
  const entries = files && countIn(nodes, "/boot/loader/entries") ? entriesBelowBoot(tree) : [];
  const foreign = files && from ? foreignEntries(tree, from) : [];
  const bootFrom = directoryAt(nodes, "/boot") === undefined ? undefined : "/boot";
  // Without XBOOTLDR, what is in /boot is on the ESP, too, wherever that is mounted.
  const isJoined = esp && (esp.mountPoint === "/boot" || !xbootldr && files !== undefined);
  if (esp && isJoined) {
    const without = rowsOf(nodes, ESP_DIRECTORIES);
    contents.set(esp, {
      ...bootFrom && { from: bootFrom },
      copies: from ? [{ from, path: "/" }] : [],
      omit: [...entries, ...foreign, ...linksAbove(nodes, files?.xbootldr ?? [])],
      without,
      add: asSpelled(nodes, ["/boot", ...from ? [from] : []], [
        ...files?.esp ?? [],
        ...files?.xbootldr ?? [],
      ], without),
    });
  } else if (esp) {
    contents.set(esp, {
      ...from && { from },
      omit: foreign,
      add: asSpelled(nodes, from ? [from] : [], files?.esp ?? []),
    });
  }
  if (xbootldr) {
    const hasEfi = boot === "vfat" && hasOwnEfi(tree);
    contents.set(xbootldr, {
      ...bootFrom && { from: bootFrom },
      omit: [
        hasEfi ? "/efi" : "/efi/",
        ...entries,
        ...boot === "vfat" ? linksAbove(nodes, files?.xbootldr ?? []) : [],
        ...files?.moved ?? [],
      ],
      add: [
        // The mount point of the ESP. On FAT, a directory EFI is the same.
        ...hasEfi ? [] : [{ path: "/efi", type: "directory" } as const],
        ...boot === "vfat"
          ? asSpelled(nodes, bootFrom ? [bootFrom] : [], files?.xbootldr ?? [])
          : files?.xbootldr ?? [],
      ],
    });
  }
  const left = [
    ...entries.map((path) => `/boot${path}`),
    ...foreign.map((path) => `${from}${path}`),
    ...files && defaultEntry(tree) || [],
  ];
  return {
    has: (request: PartitionRequest) => contents.has(request),
    get: (request: PartitionRequest) => contents.get(request),
    findings: left.map((path) =>
      finding("boot-entries", "Leaving out the boot entries: they name another disk", {
        path: path.replace(/\/$/, ""),
      })
    ),
  };
}

/** Where the boot entries of the tree are, below `/boot`: ostree has a link to them at `/boot/loader`. */
function entriesBelowBoot(tree: Tree): string[] {
  const path = realPath(tree, "/boot/loader/entries");
  return path.startsWith("/boot/") ? [`${path.slice("/boot".length)}/`] : [];
}

/** Links in `/boot` where a file for FAT needs a directory: FAT has no links, and what is behind them has another name. */
function linksAbove(nodes: Nodes, files: readonly ExtraFile[]): string[] {
  const directories = files.flatMap(({ path }) => {
    const names = path.split("/").slice(1, -1);
    return names.map((_, i) => `/${names.slice(0, i + 1).join("/")}`);
  });
  return [...new Set(directories)].filter((path) => {
    const node = lookup(nodes, `/boot${path}`, { follow: false });
    return node !== undefined && typeOf(nodes, node) === "symlink";
  });
}

/**
 * Files for FAT under the names that are already there, since two names cannot differ only in case. The rows `without` are not
 * there.
 */
function asSpelled(
  nodes: Nodes,
  from: readonly string[],
  files: readonly ExtraFile[],
  without: ReadonlySet<number> = new Set(),
): readonly ExtraFile[] {
  const spellings = new Map<string, string>();
  const spell = (path: string): string => {
    if (path === "") return "";
    const slash = path.lastIndexOf("/");
    const above = spell(path.slice(0, slash));
    const name = path.slice(slash + 1);
    const key = `${above}/${name}`.toLowerCase();
    const names = from.flatMap((directory) => entriesIn(nodes, directory + above))
      .flatMap(({ name, node }) => without.has(node) ? [] : [name]);
    const known = spellings.get(key) ??
      `${above}/${
        names.includes(name)
          ? name
          : names.find((other) => other.toLowerCase() === name.toLowerCase()) ?? name
      }`;
    spellings.set(key, known);
    return known;
  };
  return files.map((file) => ({ ...file, path: spell(file.path) }));
}

function rootAdditions(tree: Tree, decided: Decided, fstab: string): Contents["add"] {
  const { kernelOptions, kernelCmdline, readOnly } = decided;
  const always = [
    { path: "/etc/fstab", type: "file", text: fstab },
  ] as const;
  // A read-only root never gets new kernels, and does not grow.
  if (readOnly) return always;
  const asked = tree.kernelOptions !== undefined || kernelCmdline !== undefined;
  return [
    ...always,
    // Used by kernel-install for the entries of later kernels.
    ...asked ? [{ path: "/etc/kernel/cmdline", type: "file", text: `${kernelOptions}\n` } as const] : [],
    ...grubDefaults(tree, kernelOptions),
    ...growFiles(tree, decided.requests),
  ];
}

/** Whether `/boot` has a directory that is `efi` on FAT, as boot partitions with UKIs do. */
function hasOwnEfi({ nodes }: Tree): boolean {
  return entriesIn(nodes, "/boot").some(({ name, node }) =>
    name !== "efi" && name.toLowerCase() === "efi" && typeOf(nodes, node) === "directory"
  );
}

/** Where the content of the ESP comes from. */
function espSource(tree: Tree): { from?: string } {
  const full = ESP_DIRECTORIES.filter((path) => countIn(tree.nodes, path) > 0);
  // One may be a symlink to the other.
  const places = new Set(full.map((path) => lookup(tree.nodes, path)));
  if (places.size > 1) {
    throw new BuildError(`Cannot tell which is the ESP: ${full.join(" and ")} of the tree both hold files`, {
      hint: "Leave one of them empty",
    });
  }
  return full[0] ? { from: full[0] } : {};
}
