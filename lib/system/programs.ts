/**
 * The programs that we run: one row each, with its package, what runs it, and the required version. This is the source
 * for `deno task setup`, Deno's permissions, the package lists of the containers, and hints of errors.
 *
 * Debian 12 is new enough for nearly all of them. Only its mkfs.erofs 1.5 is too old, even in bookworm-backports.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import * as log from "../core/log.ts";
import { compareNumerically } from "../core/units.ts";
import type { Patience } from "./watchdog.ts";

/**
 * What needs a program: `build`: the builders; `demo`: also `deno task demo` and `boot`; `test`: also the tests; `bench`:
 * also the benchmark. Each includes those before it.
 */
export type Purpose = "build" | "demo" | "test" | "bench";

/** One row per program, per file where an absolute path is needed, or per library. */
interface Program {
  readonly purpose: Purpose;
  /** The Debian package, or its names in newer and older releases; absent: it is in an essential package. */
  readonly package?: string | readonly [string, string];
  /** What it is for, for error messages: "to write the partition table". */
  readonly why: string;
  /** A shared library, which is loaded: nothing starts it. */
  readonly library?: true;
  /** The required version. */
  readonly version?: Version;
  /** Harmless lines on stderr, which are not logged. */
  readonly chatter?: RegExp;
  /** How long it may make no progress, in seconds; {@link PATIENCE} for all others of the builders. */
  readonly patience?: Patience;
}

interface Version {
  /** The option that makes it print its version. */
  readonly ask: string;
  /** The oldest version that we test: Debian 12's, unless that is too old. */
  readonly tested: string;
  /** The oldest version that works. */
  readonly required?: string;
  /** Versions that must not be used: from the first bad one to the one with the fix. */
  readonly broken?: { readonly from: string; readonly until: string; readonly why: string };
}

/** Generous: a slow disk, a busy machine and a slow compressor are no reason to end a build. */
const PATIENCE: Patience = { idle: 900, busy: 3600 };

export const PROGRAMS = {
  "sfdisk": {
    purpose: "build",
    package: "fdisk",
    why: "to write the partition table",
    version: { ask: "--version", tested: "2.38" },
    // The filesystems have already been made.
    chatter: /^Partition #\d+ contains a \w+ signature/,
  },
  "mke2fs": {
    purpose: "build",
    package: "e2fsprogs",
    why: "to make ext4 filesystems",
    version: { ask: "-V", tested: "1.47" },
  },
  "e2fsck": { purpose: "build", package: "e2fsprogs", why: "to check ext4 filesystems" },
  "mkfs.vfat": {
    purpose: "build",
    package: "dosfstools",
    why: "to make FAT filesystems",
    version: { ask: "--help", tested: "4.2" },
    // It expects a filesystem to fill its file.
    chatter: /block count mismatch/,
  },
  "fsck.vfat": { purpose: "build", package: "dosfstools", why: "to check FAT filesystems" },
  "mksquashfs": {
    purpose: "build",
    package: "squashfs-tools",
    why: "to make squashfs filesystems",
    version: {
      ask: "-version",
      tested: "4.5",
      // Files of nothing but zeros: https://github.com/plougher/squashfs-tools/issues/339
      broken: { from: "4.7", until: "4.7.5", why: "it may corrupt contents" },
    },
    // Before 4.7, it complains about large numbers, which it reads as negative, but writes them correctly.
    chatter: /^(Major|Minor) -\d+ out of range in device node /,
  },
  "unsquashfs": { purpose: "build", package: "squashfs-tools", why: "to check squashfs filesystems" },
  "mkfs.erofs": {
    purpose: "build",
    package: "erofs-utils",
    why: "to make erofs filesystems",
    // The first version that can fill a filesystem from a stream. Debian 12 has 1.5, Debian 13 has 1.8.
    version: { ask: "-V", tested: "1.8", required: "1.7" },
    // Before 1.9.1, it reads the end of a stream that was cut off for ever.
    patience: { idle: 900, busy: 900 },
  },
  "fsck.erofs": { purpose: "build", package: "erofs-utils", why: "to check erofs filesystems" },
  "veritysetup": {
    purpose: "build",
    package: "cryptsetup-bin",
    why: "to make dm-verity hashes",
    version: { ask: "--version", tested: "2.6" },
  },
  "openssl": { purpose: "build", package: "openssl", why: "to sign the root hash" },
  "grub-mkimage": {
    purpose: "build",
    package: "grub-common",
    why: "to install GRUB for BIOS, or one of the tree's modules",
  },
  "qemu-img": {
    purpose: "build",
    package: "qemu-utils",
    why: "to write other formats than raw",
    version: { ask: "--version", tested: "7.2" },
  },
  "tar": { purpose: "build", package: "tar", why: "to read a tree from an archive" },
  "gzip": { purpose: "build", why: "to read .tar.gz archives, and to check .gz images" },
  "zstd": { purpose: "build", package: "zstd", why: "to read .tar.zst archives, and to check .zst images" },
  "xz": { purpose: "build", package: "xz-utils", why: "to read .tar.xz archives, and to write .xz images" },
  "find": { purpose: "build", why: "to find files newer than an image" },
  "mknod": { purpose: "build", why: "to check whether device nodes can be made" },
  "/bin/sh": { purpose: "build", why: "to clean up after a build that was killed" },
  "libselinux.so.1": {
    purpose: "build",
    package: "libselinux1",
    why: "to label the files for SELinux",
    library: true,
  },
  "mmdebstrap": { purpose: "demo", package: "mmdebstrap", why: "to make Debian trees" },
  "/usr/share/keyrings/debian-archive-trixie-stable.gpg": {
    purpose: "demo",
    package: "debian-archive-keyring",
    why: "to check the signatures of Debian 13",
  },
  "qemu-system-x86_64": { purpose: "demo", package: "qemu-system-x86", why: "to boot x86-64 images" },
  "/usr/share/OVMF/OVMF_CODE_4M.fd": {
    purpose: "demo",
    package: "ovmf",
    why: "as UEFI firmware for x86-64",
  },
  "systemd-nspawn": { purpose: "demo", package: "systemd-container", why: "to boot images as containers" },
  "systemd-dissect": { purpose: "test", package: "systemd-container", why: "to look into images" },
  "debugfs": { purpose: "test", package: "e2fsprogs", why: "to look into ext4 filesystems" },
  "qemu-system-aarch64": { purpose: "test", package: "qemu-system-arm", why: "to boot arm64 images" },
  "/usr/share/AAVMF/AAVMF_CODE.fd": {
    purpose: "test",
    package: "qemu-efi-aarch64",
    why: "as UEFI firmware for arm64",
  },
  "qemu-system-riscv64": {
    purpose: "test",
    // Debian 13 and Debian 12.
    package: ["qemu-system-riscv", "qemu-system-misc"],
    why: "to boot riscv64 images",
  },
  "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf": {
    purpose: "test",
    package: "u-boot-qemu",
    why: "as UEFI firmware for riscv64",
  },
  "sbverify": { purpose: "test", package: "sbsigntool", why: "to check signatures for Secure Boot" },
  "objcopy": { purpose: "test", package: "binutils", why: "to look into UEFI programs" },
  "bg_setenv": {
    purpose: "test",
    package: "efibootguard",
    why: "to boot from the images of part-image",
  },
  "cpio": { purpose: "test", package: "cpio", why: "to make an initrd" },
  "sgdisk": { purpose: "test", package: "gdisk", why: "to check partition tables" },
  "mcopy": { purpose: "test", package: "mtools", why: "to look into FAT filesystems" },
  "xmllint": { purpose: "test", package: "libxml2-utils", why: "to check what describes virtual machines" },
  "bmaptool": { purpose: "test", package: "bmap-tools", why: "to write images with their block maps" },
  "losetup": { purpose: "test", package: "mount", why: "to look into images" },
  "depmod": { purpose: "test", package: "kmod", why: "to make arm64 trees" },
  "systemd-socket-activate": { purpose: "test", package: "systemd", why: "to stand in for udev" },
  "faketime": { purpose: "test", package: "faketime", why: "to build at another time" },
  "setfiles": { purpose: "test", package: "policycoreutils", why: "to compare SELinux labels" },
  "getfattr": { purpose: "test", package: "attr", why: "to compare xattrs" },
  "getfacl": { purpose: "test", package: "acl", why: "to compare ACLs" },
  "strace": { purpose: "test", package: "strace", why: "to let system calls fail" },
  "mkfs.xfs": { purpose: "test", package: "xfsprogs", why: "to read trees from XFS" },
  "mkfs.btrfs": { purpose: "test", package: "btrfs-progs", why: "to read trees from Btrfs" },
  "podman": { purpose: "test", package: "podman", why: "to run the container" },
  "skopeo": { purpose: "test", package: "skopeo", why: "to read container images" },
  "dockerd": { purpose: "test", package: "docker.io", why: "to load container images" },
  "docker": { purpose: "test", package: "docker.io", why: "to load container images" },
  "bsdtar": { purpose: "test", package: "libarchive-tools", why: "to unpack archives with another tar" },
  "runc": { purpose: "test", package: "runc", why: "to run the container where crun may not" },
  "newuidmap": { purpose: "test", package: "uidmap", why: "to run the container without root" },
  "catatonit": { purpose: "test", package: "catatonit", why: "to run pods" },
  "slirp4netns": { purpose: "test", package: "slirp4netns", why: "for its network without root" },
  "nft": { purpose: "test", package: "nftables", why: "for the network of podman 5" },
  "/usr/bin/time": { purpose: "test", package: "time", why: "to measure time and memory" },
  "zsh": { purpose: "test", package: "zsh", why: "to try its completion" },
  "fish": { purpose: "test", package: "fish", why: "to try its completion" },
  "mandoc": { purpose: "test", package: "mandoc", why: "to check the man page" },
  "genimage": { purpose: "bench", package: "genimage", why: "to be compared with" },
} as const satisfies Record<string, Program>;

export type ProgramName = keyof typeof PROGRAMS;

const rows: readonly (readonly [name: ProgramName, row: Program])[] = Object.entries(PROGRAMS) as [
  ProgramName,
  Program,
][];

const PURPOSES: readonly Purpose[] = ["build", "demo", "test", "bench"];

function serves(row: Program, purpose: Purpose): boolean {
  return PURPOSES.indexOf(row.purpose) <= PURPOSES.indexOf(purpose);
}

/** What `--allow-run` lists: the programs that the builders start themselves. */
export function startedPrograms(): ProgramName[] {
  return rows.filter(([, row]) => row.purpose === "build" && !row.library).map(([name]) => name);
}

/** A Debian package, and what we need from it. */
export interface Package {
  /** Its name; if it was renamed, the names in newer and older releases. */
  readonly names: readonly string[];
  /** The programs and files that it must have. */
  readonly has: readonly ProgramName[];
  /** The first purpose that needs it. */
  readonly purpose: Purpose;
  /** What it is for, from its first program. */
  readonly why: string;
}

/** The packages for `purpose`, sorted by name. */
export function packagesFor(purpose: Purpose): Package[] {
  const packages = new Map<
    string,
    { names: readonly string[]; has: ProgramName[]; purpose: Purpose; why: string }
  >();
  for (const [name, row] of rows) {
    if (row.package === undefined || !serves(row, purpose)) continue;
    const names = [row.package].flat();
    const found = packages.get(names[0]!);
    if (found) found.has.push(name);
    else packages.set(names[0]!, { names, has: [name], purpose: row.purpose, why: row.why });
  }
  return [...packages.entries()].sort(([a], [b]) => a < b ? -1 : 1).map(([, found]) => found);
}

/** The packages for `purpose` that are not fully installed here. */
export function missingPackages(purpose: Purpose): Package[] {
  return packagesFor(purpose).filter(({ has }) => !has.every(isInstalled));
}

/** The hint for a missing program: which package has it, and how to get it. */
export function packageHint(program: string): string | undefined {
  const row: Program | undefined = Object.hasOwn(PROGRAMS, program)
    ? PROGRAMS[program as ProgramName]
    : undefined;
  if (row?.package === undefined) return undefined;
  return `It is needed ${row.why}: run "deno task setup", or install the package ${
    [row.package].flat().join(" or ")
  }`;
}

/** How long a program may make no progress: only those that the builders run have a limit. */
export function patienceWith(program: string): Patience | undefined {
  if (!Object.hasOwn(PROGRAMS, program)) return undefined;
  const { purpose, patience }: Program = PROGRAMS[program as ProgramName];
  return purpose === "build" ? patience ?? PATIENCE : undefined;
}

/** Matches harmless lines on a program's stderr. */
export function chatterOf(program: string): RegExp | undefined {
  return Object.hasOwn(PROGRAMS, program) ? (PROGRAMS[program as ProgramName] as Program).chatter : undefined;
}

/** Not on the `PATH` of ordinary users in Debian, but `sfdisk` and `mke2fs` are there. */
const SYSTEM_DIRECTORIES = ["/usr/local/sbin", "/usr/sbin", "/sbin"] as const;

/** `PATH`, extended with the directories of system programs. */
export function searchPath(path: string = Deno.env.get("PATH") ?? "/usr/bin:/bin"): string {
  const directories = path.split(":");
  return [...directories, ...SYSTEM_DIRECTORIES.filter((dir) => !directories.includes(dir))].join(":");
}

/**
 * The variables of our environment that other programs inherit. This is an allow-list, since many variables can change
 * their output (`TAR_OPTIONS`, `XZ_OPT`, `MKE2FS_CONFIG`, `ZSTD_CLEVEL`), and since our environment may contain keys.
 */
const INHERITED = ["HOME", "TMPDIR"] as const;

/** The environment of every program: messages can be parsed, and times do not depend on the machine. */
export function childEnvironment(): Record<string, string> {
  const inherited = INHERITED.flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  });
  return { ...Object.fromEntries(inherited), LC_ALL: "C.UTF-8", TZ: "UTC", PATH: searchPath() };
}

/** Where distributions have their libraries. */
const LIBRARY_DIRECTORIES = [`/usr/lib/${Deno.build.arch}-linux-gnu`, "/usr/lib64", "/usr/lib"] as const;

/** Whether a program (on {@link searchPath}), a file (by absolute path) or a library exists. */
export function isInstalled(program: string): boolean {
  const isLibrary = Object.hasOwn(PROGRAMS, program) && "library" in PROGRAMS[program as ProgramName];
  const directories = isLibrary ? LIBRARY_DIRECTORIES : searchPath().split(":");
  const candidates = program.startsWith("/")
    ? [program]
    : directories.map((dir) => `${dir || "."}/${program}`);
  return candidates.some((path) => {
    try {
      const { isFile, mode } = Deno.statSync(path);
      return isFile && (program.startsWith("/") || isLibrary || ((mode ?? 0) & 0o111) !== 0);
    } catch {
      // Missing, or in a directory that we may not enter.
      return false;
    }
  });
}

/** Checks that all programs exist. @throws {BuildError} naming the package of a missing one. */
export function requirePrograms(programs: readonly string[]): void {
  const missing = programs.find((program) => !isInstalled(program));
  if (missing) throw new BuildError(`Cannot find the program ${missing}`, { hint: packageHint(missing) });
}

/** The programs whose version matters. */
export function versionedPrograms(programs: readonly ProgramName[]): ProgramName[] {
  return programs.filter((program) => (PROGRAMS[program] as Program).version !== undefined);
}

/**
 * Checks the version that a program printed.
 *
 * @param printed its output when asked for its version.
 * @returns the version.
 * @throws {BuildError} when it cannot be determined, is too old, or is broken.
 */
export function checkVersion(program: ProgramName, printed: string): string {
  const { tested, required, broken } = (PROGRAMS[program] as Program).version!;
  const version = /\b(\d+(?:\.\d+)+)\b/.exec(printed)?.[1];
  if (!version) {
    throw new BuildError(`Cannot determine the version of ${program}`, { hint: packageHint(program) });
  }
  if (required && compareNumerically(version, required) < 0) {
    throw new BuildError(`Cannot use ${program} ${version}: ${required} or later is needed`, {
      hint: "Debian 13 and this suite's container have it",
    });
  }
  const isBroken = broken && compareNumerically(version, broken.from) >= 0 &&
    compareNumerically(version, broken.until) < 0;
  if (isBroken) {
    throw new BuildError(`Cannot use ${program} ${version}: ${broken.why}`, {
      hint: `Install ${broken.until} or later, or one before ${broken.from}`,
    });
  }
  if (compareNumerically(version, tested) < 0) {
    log.warn(`${program} ${version} is older than ${tested}, the oldest tested version`);
  }
  return version;
}
