/**
 * What is in the tree: facts, no choices. One sorted walk, then a handful of small files.
 *
 * @module
 */

import { decodeText } from "../core/bytes.ts";
import { type ArchitectureName, elfArchitecture, peArchitecture } from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { KiB } from "../core/units.ts";
import { type BootTexts, readBootTexts, treeOptions } from "./boot-texts.ts";
import { lookup, type Nodes, pathOf, typeOf } from "./nodes.ts";
import { type OsRelease, parseOsRelease } from "./os-release.ts";
import { fileAt, namesIn } from "./query.ts";
import { openRoot, readFile, type Root } from "./root.ts";
import { compareVersions } from "./versions.ts";
import { walk } from "./walk.ts";

/** A Linux kernel that UEFI can start: a PE file, that is, one with an EFI stub. */
export interface Kernel {
  /** As in `uname -r`, taken from the file's or directory's name. */
  readonly version: string;
  /** Path in the tree, without a symlink in it. */
  readonly image: string;
  /** Paths in the tree; empty for a kernel that needs none. */
  readonly initrds: readonly string[];
  readonly architecture: ArchitectureName;
}

/** The facts about an OS tree. */
export interface Tree {
  /** Where the tree is, for messages. */
  readonly path: string;
  readonly nodes: Nodes;
  readonly osRelease: OsRelease;
  /** Of the programs in the tree; absent when it holds none that is known. */
  readonly architecture?: ArchitectureName;
  /** Newest first. */
  readonly kernels: readonly Kernel[];
  /** The kernel options that the tree is configured with, on one line; absent when no file has any. */
  readonly kernelOptions?: string;
  /** Small files that say how the tree boots. */
  readonly bootTexts: BootTexts;
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
  const kernels = findKernels(nodes, head, kernelFindings);
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

/** `uname -r` has room for 64 bytes with the NUL. */
const MAX_VERSION = 63;

type Head = (node: number) => Uint8Array;

function findArchitecture(nodes: Nodes, head: Head): ArchitectureName | undefined {
  for (const path of PROGRAMS) {
    const node = fileAt(nodes, path);
    // A script says nothing: elfArchitecture() of it is undefined, and the next program is asked.
    const found = node !== undefined && elfArchitecture(head(node));
    if (found) return found;
  }
}

/** A file that by its name may be a kernel, in the order in which places are looked through. */
interface Candidate {
  readonly version: string;
  readonly node: number;
  readonly initrds: readonly number[];
}

/**
 * The kernels of the tree: `/boot/vmlinuz-VERSION` (Debian, Fedora, Arch, Alpine) with the initrd beside it,
 * `/boot/TOKEN/VERSION/linux` (kernel-install), `/usr/lib/modules/VERSION/vmlinuz` (image-based systems),
 * `/boot/bzImage` (embedded systems).
 */
function findKernels(nodes: Nodes, head: Head, findings: Finding[]): Kernel[] {
  const kernels = new Map<string, Kernel>();
  const seen = new Set<number>();
  for (const { version, node, initrds } of candidates(nodes)) {
    if (kernels.has(version) || seen.has(node)) continue;
    seen.add(node);
    const image = pathOf(nodes, node);
    const paths = initrds.map((initrd) => pathOf(nodes, initrd));
    // Such a name could not stand in a boot entry, and no distribution makes one.
    const odd = [version, image, ...paths].find((text) => !/^[\w/.+~-]+$/.test(text)) ??
      (version.length > MAX_VERSION ? version : undefined);
    if (odd !== undefined) {
      findings.push(finding(
        "kernel-name",
        `Leaving out the kernel ${quote(image)}: ${quote(odd)} cannot stand in a boot entry`,
        { path: image },
      ));
      continue;
    }
    const architecture = typeOf(nodes, node) === "file" ? peArchitecture(head(node)) : undefined;
    if (!architecture) {
      findings.push(finding(
        "kernel-stub",
        `Leaving out ${quote(image)}: it is no kernel with an EFI stub`,
        { path: image },
      ));
      continue;
    }
    kernels.set(version, { version, image, initrds: paths, architecture });
  }
  return [...kernels.values()].sort((a, b) => compareVersions(b.version, a.version));
}

function* candidates(nodes: Nodes): Generator<Candidate> {
  const find = (path: string) => lookup(nodes, path);
  const isFile = (node: number | undefined): node is number =>
    node !== undefined && typeOf(nodes, node) === "file";
  const list = (path: string) => namesIn(nodes, path);
  for (const name of list("/boot")) {
    const version = /^(?:vmlinuz|vmlinux|bzImage|kernel|Image|linux)-(.+)$/s.exec(name)?.[1];
    const node = version && !/\.(?:dpkg-\w+|rpm\w+)$/.test(version) && find(`/boot/${name}`);
    if (!node) continue;
    const beside = [
      `initrd.img-${version}`,
      `initramfs-${version}.img`,
      `initramfs-${version}`,
      `initrd-${version}`,
    ];
    yield { version, node, initrds: beside.map((name) => find(`/boot/${name}`)).filter(isFile).slice(0, 1) };
  }
  for (const token of list("/boot")) {
    // Below: what is not a directory has no files, so that list() yields nothing.
    for (const version of list(`/boot/${token}`)) {
      const node = find(`/boot/${token}/${version}/linux`);
      if (node === undefined) continue;
      const initrds = [...list(`/boot/${token}/${version}`)].filter((name) => name.startsWith("initrd"));
      yield {
        version,
        node,
        initrds: initrds.map((name) => find(`/boot/${token}/${version}/${name}`)).filter(isFile),
      };
    }
  }
  for (const version of list("/usr/lib/modules")) {
    const node = find(`/usr/lib/modules/${version}/vmlinuz`);
    if (node === undefined) continue;
    const places = [`/usr/lib/modules/${version}/initrd`, `/boot/initrd.img-${version}`];
    yield { version, node, initrds: places.map(find).filter(isFile).slice(0, 1) };
  }
  // Buildroot and Yocto leave the version out; last, so that a link to a kernel found above adds nothing.
  const versions = [...list("/usr/lib/modules")];
  for (const name of ["vmlinuz", "bzImage", "Image", "linux"]) {
    const node = find(`/boot/${name}`);
    if (node === undefined || typeOf(nodes, node) === "directory") continue;
    const beside = ["initrd.img", "initramfs.img", "initrd", "initramfs"];
    yield {
      version: versions.length === 1 ? versions[0]! : "linux",
      node,
      initrds: beside.map((name) => find(`/boot/${name}`)).filter(isFile).slice(0, 1),
    };
  }
}
