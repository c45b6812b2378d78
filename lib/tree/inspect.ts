/**
 * What is in the tree: facts, no choices. One sorted walk, then a handful of small files.
 *
 * @module
 */

import { decodeText } from "../core/bytes.ts";
import { type ArchitectureName, elfArchitecture } from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { KiB } from "../core/units.ts";
import { type BootTexts, readBootTexts, treeOptions } from "./boot-texts.ts";
import { type EfiPrograms, findPrograms } from "./efi-programs.ts";
import { findKernels, type Kernel } from "./kernels.ts";
import { lookup, type Nodes, typeOf } from "./nodes.ts";
import { type OsRelease, parseOsRelease } from "./os-release.ts";
import { fileAt } from "./query.ts";
import { openRoot, readFile, type Root } from "./root.ts";
import { walk } from "./walk.ts";

/** The facts about an OS tree. */
export interface Tree {
  /** Where the tree is, for messages. */
  readonly path: string;
  readonly nodes: Nodes;
  readonly osRelease: OsRelease;
  /** Of the programs in the tree; absent when it holds none that is known. */
  readonly architecture?: ArchitectureName;
  /** The one to boot first, see {@link findKernels}. */
  readonly kernels: readonly Kernel[];
  /** The kernel options that the tree is configured with, on one line; absent when no file has any. */
  readonly kernelOptions?: string;
  /** Small files that say how the tree boots. */
  readonly bootTexts: BootTexts;
  /** The boot loaders in the tree, and other programs for UEFI. */
  readonly programs: EfiPrograms;
  /** What `/etc/machine-id` says; absent when there is no such file. */
  readonly machineId?: string;
  /** `/etc/fstab`, or nothing. */
  readonly fstab: string;
  /** The newest mtime in the tree, in seconds since 1970, rounded up. */
  readonly newest: number;
  /** What a person should know about the tree. */
  readonly findings: readonly Finding[];
  /** What a person should know about its kernels, where they are to be started. */
  readonly kernelFindings: readonly Finding[];
}

/** Configuration files are small; a larger one is a mistake or an attack. */
const CONFIGURATION_LIMIT = 64 * KiB;

/** The header of an ELF or PE program lies within its first KiB. */
const HEADER_SIZE = 4 * KiB;

/**
 * Programs whose architecture is the tree's. The init first: an i386 tree may hold an amd64 kernel's
 * tools, but what starts it decides.
 */
const PROGRAMS = ["/sbin/init", "/usr/lib/systemd/systemd", "/bin/sh", "/usr/bin/env", "/usr/bin/busybox"];

/** An open tree: its facts, and the files behind them. */
export interface OpenTree extends Tree {
  readonly root: Root;
  /** When reading began: what was changed later may not be in the image. */
  readonly began: Date;
}

/**
 * Reads the facts about the tree in the directory `path`; follows no symlink out of it, runs nothing of it.
 *
 * @param began when reading began, if the tree was unpacked before.
 * @throws {BuildError} when `path` is no directory, or something in it cannot be read.
 */
export async function inspectTree(path: string, began: Date = new Date()): Promise<OpenTree> {
  const root = openRoot(path);
  const nodes = await walk(root);
  if (nodes.count === 1) {
    throw new BuildError(`Cannot build an image of ${quote(path)}: it is empty`, {
      hint: "Mount or name the directory that holds the finished tree",
      kind: "usage",
    });
  }
  const kernelFindings: Finding[] = [];
  const head = (node: number) => readFile(root, nodes, node, { limit: HEADER_SIZE });
  const architecture = findArchitecture(nodes, head);
  const bootTexts = readBootTexts(nodes, (path) => readText(root, nodes, path));
  const kernels = findKernels({
    nodes,
    read: (node, offset, limit) => readFile(root, nodes, node, { limit, offset }),
  }, kernelFindings);
  const { options, unread } = treeOptions(bootTexts, nodes, kernels[0]);
  kernelFindings.push(
    ...unread.map((path) =>
      finding("options-script", "Leaving out kernel options that a shell would compute", { path })
    ),
  );
  const machineId = readText(root, nodes, "/etc/machine-id");
  return {
    path,
    root,
    began,
    nodes,
    // It stands in JSON, too.
    osRelease: parseOsRelease(
      (readText(root, nodes, "/etc/os-release") ?? readText(root, nodes, "/usr/lib/os-release") ?? "")
        .toWellFormed(),
    ),
    ...architecture && { architecture },
    kernels,
    ...options !== undefined && { kernelOptions: options },
    bootTexts,
    programs: findPrograms(nodes, (node, limit) => readFile(root, nodes, node, { limit })),
    ...machineId !== undefined && { machineId },
    fstab: readText(root, nodes, "/etc/fstab") ?? "",
    newest: newestTime(nodes),
    findings: [],
    kernelFindings,
  };
}

/** Reads a small text file, which may be no UTF-8; `undefined` when there is none. */
function readText(root: Root, nodes: Nodes, path: string): string | undefined {
  const node = lookup(nodes, path);
  if (node === undefined) return undefined;
  if (typeOf(nodes, node) !== "file") {
    throw new BuildError(`Cannot read ${path} of the tree: it is a ${typeOf(nodes, node)}, not a file`);
  }
  const size = nodes.size[node]!;
  if (size > CONFIGURATION_LIMIT) {
    throw new BuildError(`Cannot read ${path} of the tree: ${size} bytes are too many for such a file`, {
      hint: `At most ${CONFIGURATION_LIMIT} bytes are read`,
    });
  }
  return decodeText(readFile(root, nodes, node, { limit: CONFIGURATION_LIMIT }));
}

function newestTime(nodes: Nodes): number {
  let newest = 0;
  for (let node = 0; node < nodes.count; node++) {
    const seconds = nodes.mtimeSeconds[node]! + (nodes.mtimeNanoseconds[node]! > 0 ? 1 : 0);
    if (seconds > newest) newest = seconds;
  }
  return newest;
}

type Head = (node: number) => Uint8Array;

function findArchitecture(nodes: Nodes, head: Head): ArchitectureName | undefined {
  for (const path of PROGRAMS) {
    const node = fileAt(nodes, path);
    // A script says nothing: elfArchitecture() of it is undefined, and the next program is asked.
    const found = node !== undefined && elfArchitecture(head(node));
    if (found) return found;
  }
}
