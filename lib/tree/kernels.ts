/**
 * The kernels of a tree, each once and with its initrds: one table of names for all locations.
 *
 * What writes them, and where that is documented:
 *
 * - GRUB looks for them with `10_linux`: https://git.savannah.gnu.org/cgit/grub.git/tree/util/grub.d/10_linux.in
 * - kernel-install: https://www.freedesktop.org/software/systemd/man/latest/kernel-install.html
 * - dracut: https://github.com/dracut-ng/dracut-ng/blob/main/dracut.sh, and `lsinitrd.sh` for what it looks for
 * - mkinitcpio: https://gitlab.archlinux.org/archlinux/mkinitcpio/mkinitcpio/-/blob/master/libalpm/scripts/mkinitcpio
 * - mkinitfs: https://gitlab.alpinelinux.org/alpine/mkinitfs/-/blob/master/mkinitfs.in
 * - initramfs-tools: https://manpages.debian.org/update-initramfs
 * - booster: https://github.com/anatol/booster
 * - genkernel: https://wiki.gentoo.org/wiki/Genkernel
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { ArchitectureName } from "../core/dps.ts";
import { quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { MiB } from "../core/units.ts";
import { isRelease, type KernelImage, MAX_RELEASE, readKernelImage } from "./kernel-image.ts";
import { lookup, nameText, type Nodes, pathOf, typeOf } from "./nodes.ts";
import { directoryAt, fileAt, namesIn, pathsInAnyCase } from "./query.ts";
import type { TreeFiles } from "./root.ts";
import { compareVersions } from "./versions.ts";

/** A Linux kernel that firmware or a boot loader can start. */
export interface Kernel {
  /** As in `uname -r`, with the mark of a backup: names it in menus. Unique among the tree's kernels. */
  readonly version: string;
  /** Path in the tree, without symlinks. */
  readonly image: string;
  /** Paths in the tree, in loading order; empty if there are none. */
  readonly initrds: readonly string[];
  readonly architecture: ArchitectureName;
  /** The options built into a UKI; absent for other kernels. */
  readonly unified?: { readonly options: string };
  /** It has no EFI stub: only a boot loader for BIOS starts it. */
  readonly biosOnly?: true;
  /** Unpacked size in bytes of a gzip'd kernel, which firmware cannot start as it is. */
  readonly unpackedSize?: number;
  /** Its modules; absent if the tree has none for it. */
  readonly modules?: KernelModules;
}

/** The modules of a kernel. */
interface KernelModules {
  /** Their directory. */
  readonly path: string;
  /** The names of those built into the kernel, with `_` for `-`; absent if the tree does not say. */
  readonly builtin?: readonly string[];
}

/** Names of kernels; {@link KERNEL_NAME} is what may follow. U-Boot's are listed so that they can be reported. */
const KERNELS = [
  "vmlinuz", // most distributions
  "vmlinux", // riscv64, ppc64el and s390x of some
  "bzImage", // x86 of Yocto and Buildroot
  "zImage", // arm of Yocto and Buildroot
  "Image", // arm64 and riscv64: openSUSE, Arch Linux ARM, Yocto, Buildroot
  "kernel", // genkernel, and systemd's layout of Gentoo's installkernel
  "linux", // kernel-install
  "uImage",
  "fitImage",
];

/** `-VERSION`, a compressed kernel's suffix, and a backup suffix, as `make install` and people create them. */
const KERNEL_NAME = new RegExp(
  `^(?<base>${KERNELS.join("|")})(?:-(?:genkernel-\\w+-)?(?<name>.+?))?(?<gzip>\\.gz)?(?:\\.efi)?` +
    "(?<backup>\\.(?:old|bak|orig|prev)|~)?$",
  "s",
);

/** Files beside kernels that are not kernels; the first three as in GRUB's `grub_file_is_not_garbage`. */
const GARBAGE = /\.(?:dpkg-\w+|rpm\w+|sig|hmac|sha\w+|sum|txt|config|dtb)$/;

/** Names that are reported if they are not kernels: `kernel-…`, `linux-…` may be anything. */
const SURELY_KERNEL = /^(?:vmlinu[xz]|bzImage|zImage|Image|uImage|fitImage)/;

/**
 * Names of initrds, best first, with `{}` for a version, a flavour (`lts`) or the contents of `pkgbase` (`linux`).
 * If a kernel's name has no version, neither has its initrd's: then `-{}` is left out.
 */
const INITRDS = [
  "initrd.img-{}", // initramfs-tools, tiny-initramfs
  "initramfs-{}.img", // dracut of Fedora, Void and Gentoo; mkinitcpio
  "initramfs-{}", // mkinitfs
  "initrd-{}", // dracut and mkinitrd of openSUSE
  "initrd-{}.img", // dracut and mkinitrd of Mageia and RHEL
  "initramfs-genkernel-{arch}-{}", // genkernel
  "initramfs-genkernel-{}",
  "booster-{}.img", // booster
  "initramfs-{}.cpio", // Yocto and Buildroot
  "initrd-{}.cpio",
  "initramfs-{}-fallback.img", // mkinitcpio's with all drivers
];

/** Suffixes of initrds; Slackware's is `initrd.gz`. */
const COMPRESSED = ["", ".gz", ".xz", ".zst", ".lz4", ".bz2", ".lzma"];

/** Microcode, loaded before the kernel starts: GRUB_EARLY_INITRD_LINUX_STOCK, in GRUB's order. */
const MICROCODE = [
  ...["intel-uc.img", "intel-ucode.img", "amd-uc.img", "amd-ucode.img", "early_ucode.cpio", "microcode.cpio"],
];

/** Where an ESP may be, besides `/boot` itself. */
const ESPS = ["/efi", "/boot/efi"];

/** Where the modules of kernels are, in a directory per version. */
export const MODULES = ["/usr/lib/modules", "/lib/modules"];

/** A directory to search. */
interface Place {
  readonly path: string;
  /** The version of everything in it. */
  readonly release?: string;
  /** Whether to load every file whose name begins with `initrd`. */
  readonly entry?: true;
}

interface Candidate {
  readonly place: Place;
  readonly node: number;
  /** What follows the kernel's name in the file name: a version, a flavour. */
  readonly name?: string;
  /** The suffix of a backup. */
  readonly backup?: string;
  /** Whether it counts only if it is a UKI. */
  readonly unified?: true;
}

/** A kernel and all its names. */
interface Found {
  version: string;
  release: string;
  readonly node: number;
  readonly image: KernelImage;
  /** Whether the release is only a guess. */
  readonly guessed: boolean;
  readonly candidates: Candidate[];
}

/**
 * The kernels, the default first: versions are compared as in kernel-install and systemd-boot, backups and release
 * candidates come after their release, and kernels without an initrd after all that have one.
 *
 * @param findings receives one for each file that is left out.
 */
export function findKernels(files: TreeFiles, findings: Finding[]): Kernel[] {
  const { nodes } = files;
  const modules = findModules(files);
  const found: Found[] = [];
  const problems: { candidate: Candidate; problem: string }[] = [];
  const seen = new Map<number, Found | undefined>();
  for (const candidate of candidates(nodes)) {
    if (seen.has(candidate.node)) {
      // A symlink is another name, and its initrd may be named after it.
      seen.get(candidate.node)?.candidates.push(candidate);
      continue;
    }
    seen.set(candidate.node, undefined);
    const path = pathOf(nodes, candidate.node);
    if (!isPlain(path)) {
      findings.push(notBootable(path, path));
      continue;
    }
    const image = typeOf(nodes, candidate.node) === "file"
      ? readKernelImage(
        (offset, length) => files.read(candidate.node, offset, length),
        nodes.size[candidate.node]!,
      )
      : "it is no kernel with an EFI stub";
    if (typeof image === "string") problems.push({ candidate, problem: image });
    else if (image.unified || !candidate.unified) {
      seen.set(candidate.node, addFound(files, found, candidate, image, modules));
    }
  }
  const kernels = found.flatMap((each) => describe(files, each, found.length === 1, modules, findings));
  for (const { candidate: { node, name, place }, problem } of problems) {
    // openSUSE's vmlinux-VERSION.gz is the same kernel for a debugger.
    const known = found.some(({ release, candidates }) =>
      [name, place.release].includes(release) || candidates.some((each) => name && each.name === name)
    );
    const path = pathOf(nodes, node);
    if (!known && SURELY_KERNEL.test(path.slice(path.lastIndexOf("/") + 1))) {
      findings.push(finding("kernel-stub", `Leaving out ${quote(path)}: ${problem}`, { path }));
    }
  }
  return sortKernels(kernels);
}

/** The menu order. */
function sortKernels(kernels: readonly Kernel[]): Kernel[] {
  return [...kernels].sort((a, b) =>
    Number(lacksInitrd(a)) - Number(lacksInitrd(b)) ||
    compareVersions(comparableVersion(b.version), comparableVersion(a.version)) ||
    // The one with more of the tree.
    Number(b.unified !== undefined) - Number(a.unified !== undefined)
  );
}

/** Whether a kernel must find the root without an initrd. */
export function lacksInitrd({ initrds, unified }: Pick<Kernel, "initrds"> & Partial<Kernel>): boolean {
  return initrds.length === 0 && unified === undefined;
}

/**
 * A kernel's version in the form of the UAPI group's version format, where `~` marks what comes before a
 * release: `6.12-rc1`, backups (GRUB's `10_linux` sorts them after the original), and kernels for
 * rescue and debugging, which no distribution starts by default.
 */
export function comparableVersion(version: string): string {
  return version
    .replace(/(?<![~A-Za-z])[-_.]?(?=rc\d)/, "~")
    .replace(/[-+._](?=(?:debug|rescue|old|bak|orig|prev)(?:[-+._]|$))/, "~");
}

function addFound(
  files: TreeFiles,
  found: Found[],
  candidate: Candidate,
  image: KernelImage,
  modules: ReadonlyMap<string, KernelModules>,
): Found {
  const { node, name, backup = "", place } = candidate;
  const known = image.release ?? place.release ?? releaseNamed(files, name, modules);
  const release = known ?? name ?? (modules.size === 1 ? [...modules.keys()][0]! : "linux");
  const guessed = known === undefined && !/^\d/.test(withoutWords(name ?? ""));
  // A rescue kernel is a copy of another kernel with its own initrd.
  const isOther = name !== undefined && /rescue/.test(name);
  const version = (isOther || isNamedElse(name, release) ? name! : release) + (backup && ".old");
  const isUnified = image.unified !== undefined;
  const alike = found.filter((other) => other.image.unified !== undefined === isUnified);
  const same =
    alike.find((other) => other.version === version && !isUnified && belongs(name, release, other)) ??
      alike.find((other) =>
        // Names with different versions are trusted.
        !isOther && (guessed || other.guessed || backup || isUnified) && isSame(files, other.node, node)
      );
  if (same) {
    same.candidates.push(candidate);
    if (!guessed && same.guessed) [same.version, same.release] = [version, release];
    return same;
  }
  // Slackware's huge and generic kernels have the same version.
  const isTaken = alike.some((other) => other.version === version);
  const added = {
    version: isTaken && name || version,
    release,
    node,
    image,
    guessed,
    candidates: [candidate],
  };
  found.push(added);
  return added;
}

/** Whether a name has a version that is not the kernel's own: somebody tells kernels apart by it. */
function isNamedElse(name: string | undefined, release: string): boolean {
  const said = withoutWords(name ?? "");
  return /^\d/.test(said) && !release.startsWith(said);
}

/** Whether a file of the same version is the same kernel by name: unless their names say otherwise. */
function belongs(name: string | undefined, release: string, { candidates }: Found): boolean {
  const names = [name, ...candidates.map(({ name }) => name)].filter((each) => each && each !== release);
  return new Set(names).size < 2;
}

/** The release whose modules belong to a name: the name, its end, or the name of a package or its end. */
function releaseNamed(
  files: TreeFiles,
  name: string | undefined,
  modules: ReadonlyMap<string, KernelModules>,
): string | undefined {
  if (name === undefined) return undefined;
  const exact = [name, withoutWords(name)].find((each) => modules.has(each));
  if (exact !== undefined) return exact;
  const named = [...modules].filter(([release, { path }]) => {
    const base = packageBase(files, path);
    return base ? base === name : release.endsWith(`-${name}`);
  });
  return named.length === 1 ? named[0]![0] : undefined;
}

/** The package of a kernel, as Arch Linux writes it beside the modules. */
function packageBase({ nodes, read }: TreeFiles, modules: string): string | undefined {
  const node = fileAt(nodes, `${modules}/pkgbase`);
  return node === undefined ? undefined : new TextDecoder().decode(read(node, 0, 256)).trim();
}

/** The version in `generic-6.1.2`, extracted as in `10_linux`. */
function withoutWords(name: string): string {
  return name.replace(/^\D*-(?=\d)/, "");
}

/** Bytes to compare at a time. */
const PIECE = 4 * MiB;

/** Whether two files have the same contents. */
function isSame({ nodes, read }: TreeFiles, a: number, b: number): boolean {
  const size = nodes.size[a]!;
  if (nodes.size[b] !== size || size > 512 * MiB) return false;
  for (let at = 0; at < size; at += PIECE) {
    if (Buffer.compare(read(a, at, PIECE), read(b, at, PIECE)) !== 0) return false;
  }
  return true;
}

/** A kernel with its initrds and modules, unless a boot entry could not name it. */
function describe(
  files: TreeFiles,
  found: Found,
  isOnly: boolean,
  modules: ReadonlyMap<string, KernelModules>,
  findings: Finding[],
): Kernel[] {
  const { nodes } = files;
  const { version, release, node, image: { release: _, ...image } } = found;
  const path = pathOf(nodes, node);
  const initrds = image.unified ? [] : findInitrds(files, found, isOnly, findings);
  const odd = [version, ...initrds].find((text) => !isPlain(text)) ??
    (version.length > MAX_RELEASE ? version : undefined);
  if (odd !== undefined) {
    findings.push(notBootable(path, odd));
    return [];
  }
  const own = modules.get(release);
  return [{ version, image: path, initrds, ...image, ...own && { modules: own } }];
}

function notBootable(path: string, odd: string): Finding {
  const message = `Leaving out the kernel ${quote(path)}: ${quote(odd)} cannot stand in a boot entry`;
  return finding("kernel-name", message, { path });
}

/** Whether a boot entry can contain it unescaped; no distribution uses other names. */
function isPlain(text: string): boolean {
  return /^[\w/.+~-]+$/.test(text);
}

/** The files that may be kernels by name, the best location and name first. */
function* candidates(nodes: Nodes): Generator<Candidate> {
  yield* unifiedKernels(nodes);
  for (const place of places(nodes)) {
    const names = namesIn(nodes, place.path).map((name) => ({ name, parts: KERNEL_NAME.exec(name)?.groups }));
    const kernels = names.filter(({ name, parts }) => parts && !GARBAGE.test(name))
      // A name with a version says more than one without, which is usually a symlink to it; unpacked files need no work.
      .sort((a, b) => rank(a.parts!) - rank(b.parts!));
    for (const { name, parts } of kernels) {
      const node = lookup(nodes, `${place.path}/${name}`);
      if (node === undefined) continue;
      yield {
        place,
        node,
        ...parts!["name"] && { name: parts!["name"] },
        ...parts!["backup"] && { backup: parts!["backup"] },
      };
    }
  }
}

function rank({ name, gzip, backup }: Readonly<Record<string, string | undefined>>): number {
  return (backup ? 8 : 0) + (name === undefined ? 4 : /\d/.test(name) ? 0 : 2) + (gzip ? 1 : 0);
}

/** UKIs: beside their modules, from packages, and where kernel-install and others put them for systemd-boot. */
function* unifiedKernels(nodes: Nodes): Generator<Candidate> {
  const directories: Place[] = [
    ...["/boot", ...ESPS].flatMap((path) =>
      pathsInAnyCase(nodes, path, ["EFI", "Linux"]).map((path) => ({ path }))
    ),
    ...modulePlaces(nodes),
  ];
  for (const place of directories) {
    for (const name of namesIn(nodes, place.path)) {
      const node = /\.efi$/i.test(name) ? fileAt(nodes, `${place.path}/${name}`) : undefined;
      if (node !== undefined) yield { place, node, name: name.slice(0, -".efi".length), unified: true };
    }
  }
}

function places(nodes: Nodes): Place[] {
  const boots = ["/boot", ...ESPS];
  const entries = boots.flatMap((boot) =>
    namesIn(nodes, boot).flatMap((token) =>
      namesIn(nodes, `${boot}/${token}`)
        .filter((version) => fileAt(nodes, `${boot}/${token}/${version}/linux`) !== undefined)
        .map((release): Place => ({ path: `${boot}/${token}/${release}`, release, entry: true }))
    )
  );
  return [
    { path: "/boot" },
    ...entries,
    ...ESPS.map((path) => ({ path })),
    ...modulePlaces(nodes),
    // Debian's symlinks, and the kernels of some distributions.
    { path: "" },
  ];
}

function modulePlaces(nodes: Nodes): Place[] {
  return MODULES.flatMap((path) =>
    namesIn(nodes, path).map((release) => ({ path: `${path}/${release}`, release }))
  );
}

/** The initrds of a kernel: microcode, then the first name in the table that exists. */
function findInitrds(files: TreeFiles, found: Found, isOnly: boolean, findings: Finding[]): string[] {
  const { nodes } = files;
  const versions = namesOfVersion(files, found);
  for (const place of placesOf(nodes, found)) {
    const usable = (name: string) => {
      const path = `${place.path}/${name}`;
      return isStale(nodes, path, found, versions) ? undefined : usableInitrd(nodes, path, findings);
    };
    const present = namesIn(nodes, place.path);
    if (place.entry) {
      const all = present.filter((name) => /^initr/.test(name)).map(usable).filter((path) =>
        path !== undefined
      );
      if (all.length > 0) return all;
      continue;
    }
    const { release, candidates } = found;
    const isBare = place.release === release || isOnly ||
      candidates.some((each) => each.place.path === place.path && each.name === undefined);
    const wanted = initrdNames(found, versions, isBare).filter((name) => present.includes(name));
    for (const name of wanted) {
      const path = usable(name);
      if (path !== undefined) return [...findMicrocode(nodes, place), path];
    }
  }
  return isOnly ? findOnlyInitrd(nodes, found, versions) : [];
}

/** The mark that makes a kernel a backup; only the name by which it was found first can make it one. */
function backupOf({ candidates }: Found): string | undefined {
  return candidates[0]!.backup;
}

/** All that a kernel's initrd may have in its name where the kernel has its version. */
function namesOfVersion(files: TreeFiles, found: Found): string[] {
  const { release, candidates } = found;
  const backup = backupOf(found);
  return [
    ...backup ? [`${candidates[0]!.name ?? release}${backup}`] : [],
    ...candidates.flatMap(({ name }) => name ? [name, withoutWords(name)] : []),
    release,
    ...modulePlaces(files.nodes).filter((place) => place.release === release)
      .flatMap(({ path }) => packageBase(files, path) ?? []),
  ];
}

/** Where a kernel's initrd may be: beside the kernel, then elsewhere, but not among the files of another version. */
function placesOf(nodes: Nodes, { release, candidates }: Found): Iterable<Place> {
  const all = places(nodes).filter((place) => place.release === undefined || place.release === release);
  const own = candidates.flatMap(({ place: { path } }) => all.filter((place) => place.path === path));
  return new Set([...own, ...all]);
}

/** The file names that a kernel's initrd may have, the best first. */
function initrdNames(found: Found, versions: readonly string[], isBare: boolean): string[] {
  const { architecture } = found.image;
  const arch = architecture === "x86-64" ? "x86_64" : architecture;
  const backup = backupOf(found);
  return [
    ...[...new Set(versions)].flatMap((version) => INITRDS.map((name) => name.replace("{}", version))),
    ...isBare ? INITRDS.map((name) => name.replace("-{}", "")) : [],
  ].map((name) => name.replace("{arch}", arch))
    .flatMap((name) => backup ? [name + backup, name] : [name])
    .flatMap((name) => COMPRESSED.map((suffix) => name + suffix));
}

/** The kernel's version in the name of an initrd, `6.1.0-9-amd64`; a rescue image's `0-rescue-…` is none. */
function versionOfInitrd(name: string): string | undefined {
  for (const pattern of INITRDS) {
    const [before = "", after = ""] = pattern.replace("{arch}", "@").split("{}").map(RegExp.escape);
    const suffixes = COMPRESSED.map(RegExp.escape).join("|");
    const found = new RegExp(`^${before.replace("@", "\\w+")}(.+?)${after}(?:${suffixes})$`).exec(name)?.[1];
    const version = withoutWords(found ?? "");
    if (/^\d+\.\d/.test(version)) return version;
  }
}

/**
 * Whether an initrd without a version in its name is a link to one of another version: Debian's `/initrd.img` stays
 * when its kernel is removed by hand, and the modules in it are of no use to another kernel.
 */
function isStale(nodes: Nodes, path: string, { guessed }: Found, versions: readonly string[]): boolean {
  if (guessed || versionOfInitrd(path.slice(path.lastIndexOf("/") + 1)) !== undefined) return false;
  const node = fileAt(nodes, path);
  const target = node === undefined ? undefined : versionOfInitrd(nameText(nodes, node) ?? "");
  return target !== undefined && !versions.some((version) =>
    version === target ||
    // `6.1-fallback`, `6.1.old`, but not `6.1.9`
    target.startsWith(version) && /^(?!\.?\d)\W/.test(target.slice(version.length)) ||
    // The name says less than the kernel.
    version.startsWith(target) && /^\W/.test(version.slice(target.length))
  );
}

/** The path of an initrd without symlinks; `undefined` if it is missing or, which is reported, empty. */
function usableInitrd(nodes: Nodes, name: string, findings: Finding[]): string | undefined {
  const node = fileAt(nodes, name);
  if (node === undefined) return undefined;
  const path = pathOf(nodes, node);
  if (nodes.size[node]! > 0) return path;
  findings.push(finding("initrd-empty", `Leaving out the initrd ${quote(path)}: it is empty`, { path }));
  return undefined;
}

/** The initrd without a version in its name, in a tree with one kernel: Arch Linux ARM's. */
function findOnlyInitrd(nodes: Nodes, kernel: Found, versions: readonly string[]): string[] {
  const patterns = INITRDS.filter((name) => !name.includes("fallback")).map((name) => {
    const [before, after] = name.replace("{arch}", "").split("{}").map(RegExp.escape);
    return new RegExp(`^${before}[a-z][\\w-]*${after}$`);
  });
  const found = namesIn(nodes, "/boot").filter((name) =>
    patterns.some((pattern) => pattern.test(name)) && !name.includes("fallback") && !MICROCODE.includes(name)
  ).map((name) => `/boot/${name}`).filter((path) => !isStale(nodes, path, kernel, versions)).map((path) =>
    fileAt(nodes, path)
  ).filter((node) => node !== undefined && nodes.size[node]! > 0);
  const place = { path: "/boot" };
  return found.length === 1 ? [...findMicrocode(nodes, place), pathOf(nodes, found[0]!)] : [];
}

/** Microcode beside an initrd or in `/boot`. */
function findMicrocode(nodes: Nodes, place: Place): string[] {
  for (const path of new Set([place.path, "/boot"])) {
    const found = MICROCODE.flatMap((name) => {
      const node = fileAt(nodes, `${path}/${name}`);
      return node !== undefined && nodes.size[node]! > 0 ? [pathOf(nodes, node)] : [];
    });
    if (found.length > 0) return found;
  }
  return [];
}

/** The module directories by version. */
function findModules({ nodes, read }: TreeFiles): Map<string, KernelModules> {
  const found = new Map<string, KernelModules>();
  for (const { path, release } of modulePlaces(nodes)) {
    if (found.has(release!) || !isRelease(release!) || directoryAt(nodes, path) === undefined) continue;
    const list = fileAt(nodes, `${path}/modules.builtin`);
    const builtin = list !== undefined && namesOfModules(new TextDecoder().decode(read(list, 0, MiB)));
    found.set(release!, { path, ...builtin && { builtin } });
  }
  return found;
}

/** `kernel/drivers/nvme/host/nvme-core.ko` as `nvme_core`. */
function namesOfModules(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const name = /([^/]+)\.ko$/.exec(line)?.[1];
    return name === undefined ? [] : [name.replaceAll("-", "_")];
  });
}
