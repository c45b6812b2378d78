/**
 * What is in the tree: facts, no choices. One sorted walk, then a handful of small files.
 *
 * @module
 */

import { decodeText } from "../core/bytes.ts";
import { type ArchitectureName, elfArchitecture } from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding, listPaths } from "../core/findings.ts";
import { KiB } from "../core/units.ts";
import { type BootTexts, readBootTexts, treeOptions } from "./boot-texts.ts";
import { type EfiPrograms, findPrograms } from "./efi-programs.ts";
import { INITRD_LIMIT, readInitrd } from "./initrd.ts";
import { findKernels, type Kernel } from "./kernels.ts";
import { dropHostLabels, type HostLabels } from "./labels.ts";
import { decodeDevice, lookup, type Nodes, pathOf, typeOf } from "./nodes.ts";
import { type OsRelease, parseOsRelease } from "./os-release.ts";
import { fileAt, namesIn } from "./query.ts";
import { findAppleDouble, findNetworkByMac } from "./remarks.ts";
import { openRoot, readFile, type Root, type TreeFiles } from "./root.ts";
import { findPolicy, type SelinuxPolicy } from "./selinux.ts";
import { newWalkNotes, walk, type WalkNotes } from "./walk.ts";

/** The facts about an OS tree. */
export interface Tree {
  /** The path of the tree, for messages. */
  readonly path: string;
  readonly nodes: Nodes;
  readonly osRelease: OsRelease;
  /** The architecture of the programs in the tree; absent when there are none that we know. */
  readonly architecture?: ArchitectureName;
  /** The default kernel comes first, see {@link findKernels}. */
  readonly kernels: readonly Kernel[];
  /** The kernel options in the tree's configuration, on one line; absent when no file has any. */
  readonly kernelOptions?: string;
  /** Small files that say how the tree boots. */
  readonly bootTexts: BootTexts;
  /** The boot loaders and other UEFI programs in the tree. */
  readonly programs: EfiPrograms;
  /** The contents of `/etc/machine-id`; absent when there is no such file. */
  readonly machineId?: string;
  /** The paths in an initrd; `undefined` if they cannot be told, see {@link readInitrd}. Read when it is called. */
  readonly initrdFiles: (initrd: string) => readonly string[] | undefined;
  /** `/etc/fstab`, or an empty text. */
  readonly fstab: string;
  /** The definitions of partitions in `/usr/lib/repart.d`, by their paths below it. */
  readonly repart: Readonly<Record<string, string>>;
  /** Rows of files that macOS created. */
  readonly appleDouble: readonly number[];
  /** Rows of network configuration for the MAC addresses of one machine. */
  readonly networkByMac: readonly number[];
  /** The newest mtime in the tree that is not in the future, in seconds since 1970, rounded up. */
  readonly newest: number;
  /** The SELinux policy that it is configured for; absent when it is for none. */
  readonly selinux?: SelinuxPolicy;
  /** The SELinux labels of the build host that were taken out of it, if any. */
  readonly hostLabels?: HostLabels;
  /** Findings about the tree. */
  readonly findings: readonly Finding[];
  /** Findings about its kernels, which matter only if the image must boot them. */
  readonly kernelFindings: readonly Finding[];
}

/** Configuration files are small; a larger one is a mistake or an attack. */
const CONFIGURATION_LIMIT = 64 * KiB;

/** The header of an ELF or PE program is within its first KiB. */
const HEADER_SIZE = 4 * KiB;

/**
 * Programs that tell the tree's architecture. The init first: an i386 tree may contain an amd64 kernel's
 * tools, but the init decides.
 */
const PROGRAMS = ["/sbin/init", "/usr/lib/systemd/systemd", "/bin/sh", "/usr/bin/env", "/usr/bin/busybox"];

/** An open tree: its facts and its files. */
export interface OpenTree extends Tree {
  readonly root: Root;
  /** When reading began: later changes may not be in the image. */
  readonly began: Date;
}

/**
 * Reads the facts about the tree in the directory `path`. Follows no symlinks out of it, and runs nothing from it.
 *
 * @param began when reading began, if the tree was unpacked first; files that are much newer do not count for `newest`.
 * @throws {BuildError} when `path` is no directory, or something in it cannot be read.
 */
export async function inspectTree(path: string, began: Date = new Date()): Promise<OpenTree> {
  const root = openRoot(path);
  const notes = newWalkNotes();
  const nodes = await walk(root, notes);
  if (nodes.count === 1) {
    throw new BuildError(`Cannot build an image of ${quote(path)}: it is empty`, {
      hint: "Mount or name the directory that holds the finished tree",
      kind: "usage",
    });
  }
  const kernelFindings: Finding[] = [];
  const hostLabels = dropHostLabels(nodes);
  const { newest, late } = newestTime(nodes, began.getTime() / 1000);
  const findings = [
    ...describeNotes(nodes, notes),
    ...describeLate(nodes, late, newest),
  ];
  const head = (node: number) => readFile(root, nodes, node, { limit: HEADER_SIZE });
  const architecture = findArchitecture(nodes, head);
  const bootTexts = readBootTexts(nodes, (path) => readText(root, nodes, path));
  const files: TreeFiles = {
    nodes,
    read: (node, offset, length) => readFile(root, nodes, node, { limit: length, offset }),
  };
  const kernels = findKernels(files, kernelFindings);
  const { options, unread } = treeOptions(bootTexts, nodes, kernels[0]);
  kernelFindings.push(
    ...unread.map((path) =>
      finding("options-script", "Leaving out kernel options that a shell would compute", { path })
    ),
  );
  const machineId = readText(root, nodes, "/etc/machine-id");
  const selinux = findPolicy(readText(root, nodes, "/etc/selinux/config") ?? "", root, nodes);
  return {
    path,
    root,
    began,
    nodes,
    // It is also part of JSON.
    osRelease: parseOsRelease(
      (readText(root, nodes, "/etc/os-release") ?? readText(root, nodes, "/usr/lib/os-release") ?? "")
        .toWellFormed(),
    ),
    ...architecture && { architecture },
    kernels,
    ...options !== undefined && { kernelOptions: options },
    bootTexts,
    programs: findPrograms(files),
    ...machineId !== undefined && { machineId },
    ...selinux && { selinux },
    ...hostLabels && { hostLabels },
    initrdFiles: initrdReader(root, nodes),
    fstab: readText(root, nodes, "/etc/fstab") ?? "",
    repart: readDefinitions(nodes, (path) => readText(root, nodes, path)),
    appleDouble: findAppleDouble(root, nodes),
    networkByMac: findNetworkByMac(root, nodes),
    newest,
    findings,
    kernelFindings,
  };
}

/** Reads initrds, each once. */
function initrdReader(root: Root, nodes: Nodes): Tree["initrdFiles"] {
  const known = new Map<string, ReturnType<typeof readInitrd>>();
  return (initrd) => {
    if (!known.has(initrd)) {
      const node = lookup(nodes, initrd)!;
      const isReadable = nodes.size[node]! <= INITRD_LIMIT;
      known.set(
        initrd,
        isReadable ? readInitrd(readFile(root, nodes, node, { limit: INITRD_LIMIT })) : undefined,
      );
    }
    return known.get(initrd);
  };
}

/**
 * The file with a text. A link to `/dev/null`, with which a configuration file is masked, is none, whether or not the
 * tree has device nodes.
 *
 * @throws {BuildError} when it is something else.
 */
export function textFileAt(nodes: Nodes, path: string): number | undefined {
  const node = lookup(nodes, path);
  if (node === undefined || isNull(nodes, node)) return undefined;
  const type = typeOf(nodes, node);
  if (type === "file") return node;
  const place = pathOf(nodes, node);
  throw new BuildError(
    `Cannot read ${path} of the tree: ${place === path ? "it" : quote(place)} is a ${type}, not a file`,
    { hint: `Make ${path} a file in the tree, or remove it` },
  );
}

/** Whether it is the device that `/dev/null` is: https://docs.kernel.org/admin-guide/devices.html */
function isNull(nodes: Nodes, node: number): boolean {
  if (typeOf(nodes, node) !== "char") return false;
  const [major, minor] = decodeDevice(nodes.special[node]!);
  return major === 1 && minor === 3;
}

/** Reads a small text file, not necessarily UTF-8; `undefined` when there is none. */
function readText(root: Root, nodes: Nodes, path: string): string | undefined {
  const node = textFileAt(nodes, path);
  if (node === undefined) return undefined;
  const size = nodes.size[node]!;
  if (size > CONFIGURATION_LIMIT) {
    throw new BuildError(`Cannot read ${path} of the tree: ${size} bytes are too many for such a file`, {
      hint: `At most ${CONFIGURATION_LIMIT} bytes are read`,
    });
  }
  return decodeText(readFile(root, nodes, node, { limit: CONFIGURATION_LIMIT }));
}

/** Definitions of partitions, and what is added to them: https://man7.org/linux/man-pages/man5/repart.d.5.html */
function readDefinitions(
  nodes: Nodes,
  read: (path: string) => string | undefined,
): Readonly<Record<string, string>> {
  const directory = "/usr/lib/repart.d";
  // Hidden files are no definitions.
  const visible = (path: string) => namesIn(nodes, path).filter((name) => !name.startsWith("."));
  const names = visible(directory).flatMap((name) =>
    /\.conf\.d$/.test(name) ? visible(`${directory}/${name}`).map((own) => `${name}/${own}`) : [name]
  );
  return Object.fromEntries(
    names.filter((name) => name.endsWith(".conf") && fileAt(nodes, `${directory}/${name}`) !== undefined)
      .map((name) => [name, read(`${directory}/${name}`)!]),
  );
}

/** How far ahead clocks may be: covers files from another time zone. */
const CLOCK_SKEW = 24 * 3600;

/** The newest time that counts, and the rows that are later; if all are, this machine's clock is wrong. */
function newestTime(nodes: Nodes, now: number): { newest: number; late: number[] } {
  let newest = 0, latest = 0;
  const late: number[] = [];
  for (let node = 0; node < nodes.count; node++) {
    const seconds = nodes.mtimeSeconds[node]! + (nodes.mtimeNanoseconds[node]! > 0 ? 1 : 0);
    latest = Math.max(latest, seconds);
    if (seconds > now + CLOCK_SKEW) late.push(node);
    else if (seconds > newest) newest = seconds;
  }
  return late.length === nodes.count ? { newest: latest, late: [] } : { newest, late };
}

function* describeLate(nodes: Nodes, late: readonly number[], newest: number): Iterable<Finding> {
  if (late.length === 0) return;
  const paths = late.map((node) => pathOf(nodes, node));
  yield finding(
    "future-time",
    `${listPaths(paths)}: from the future; the newest of the others counts, ${isoDate(newest)}`,
    { path: paths[0]! },
  );
}

function isoDate(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10);
}

/** Findings from reading the tree. */
function* describeNotes(nodes: Nodes, { mounted, swapFiles, foreignXattrs }: WalkNotes): Iterable<Finding> {
  const paths = (rows: readonly number[]) => rows.map((node) => pathOf(nodes, node));
  if (mounted.length) {
    const all = paths(mounted);
    yield finding("mounted", `Leaving out what is mounted on ${listPaths(all)} of the tree`, {
      path: all[0]!,
    });
  }
  if (swapFiles.length) {
    const all = paths(swapFiles);
    yield finding("swap-file", `Writing the swap file ${listPaths(all)} without holes`, { path: all[0]! });
  }
  if (foreignXattrs.size) {
    const names = [...foreignXattrs.keys()].sort();
    yield finding("xattrs-foreign", `Leaving out the extended attributes ${listPaths(names)}`, {
      path: pathOf(nodes, [...foreignXattrs.values()].reduce((a, b) => Math.min(a, b))),
    });
  }
}

type Head = (node: number) => Uint8Array;

function findArchitecture(nodes: Nodes, head: Head): ArchitectureName | undefined {
  for (const path of PROGRAMS) {
    const node = fileAt(nodes, path);
    // A script tells nothing: elfArchitecture() returns undefined, and the next program counts.
    const found = node !== undefined && elfArchitecture(head(node));
    if (found) return found;
  }
}
