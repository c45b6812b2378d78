/**
 * Which Debian package has which program: one list for `deno task setup`, the Containerfile, `base.rapt`
 * and the hint of an error about a missing program.
 *
 * Debian 12 has nearly all of it new enough: its mke2fs 1.47.0 only formats (the files are written by
 * ext4.ts), its sfdisk 2.38, qemu-img 7.2 and mksquashfs 4.5 know every option used here. Only its mkfs.erofs
 * 1.5 is too old, and bookworm-backports has no other.
 *
 * @module
 */

/** `build`: what the builders run. `demo`: also `deno task demo` and `boot`. `test`: also the tests.
 * `bench`: also what is only measured. */
export type Purpose = "build" | "demo" | "test" | "bench";

interface Package {
  readonly purpose: Purpose;
  /** The programs (found on `PATH`) or files (absolute paths) that show it is installed. */
  readonly has: readonly string[];
  /** What it is for, in an error message: "to write the partition table". */
  readonly why: string;
}

/** One row per package, named as Debian names it. */
export const PACKAGES = {
  "fdisk": { purpose: "build", has: ["sfdisk"], why: "to write the partition table" },
  "e2fsprogs": { purpose: "build", has: ["mke2fs", "e2fsck", "debugfs"], why: "to make ext4 filesystems" },
  "dosfstools": { purpose: "build", has: ["mkfs.vfat", "fsck.vfat"], why: "to make FAT filesystems" },
  "grub-common": { purpose: "build", has: ["grub-mkimage"], why: "to install GRUB for BIOS" },
  "squashfs-tools": {
    purpose: "build",
    has: ["mksquashfs", "unsquashfs"],
    why: "to make squashfs filesystems",
  },
  "erofs-utils": { purpose: "build", has: ["mkfs.erofs", "fsck.erofs"], why: "to make erofs filesystems" },
  "cryptsetup-bin": { purpose: "build", has: ["veritysetup"], why: "to make dm-verity hashes" },
  "openssl": { purpose: "build", has: ["openssl"], why: "to sign the root hash" },
  "qemu-utils": { purpose: "build", has: ["qemu-img"], why: "to write other formats than raw" },
  "tar": { purpose: "build", has: ["tar"], why: "to read a tree from an archive" },
  "zstd": { purpose: "build", has: ["zstd"], why: "to read .tar.zst archives" },
  "xz-utils": { purpose: "build", has: ["xz"], why: "to read .tar.xz archives" },
  "mmdebstrap": { purpose: "demo", has: ["mmdebstrap"], why: "to make Debian trees" },
  "debian-archive-keyring": {
    purpose: "demo",
    has: ["/usr/share/keyrings/debian-archive-trixie-stable.gpg"],
    why: "to check the signatures of Debian 13",
  },
  "qemu-system-x86": { purpose: "demo", has: ["qemu-system-x86_64"], why: "to boot x86-64 images" },
  "ovmf": {
    purpose: "demo",
    has: ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"],
    why: "as UEFI firmware for x86-64",
  },
  "systemd-container": {
    purpose: "demo",
    has: ["systemd-nspawn", "systemd-dissect"],
    why: "to boot images as containers",
  },
  "qemu-system-arm": { purpose: "test", has: ["qemu-system-aarch64"], why: "to boot arm64 images" },
  "qemu-efi-aarch64": {
    purpose: "test",
    has: ["/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"],
    why: "as UEFI firmware for arm64",
  },
  "qemu-system-misc": { purpose: "test", has: ["qemu-system-riscv64"], why: "to boot riscv64 images" },
  "u-boot-qemu": {
    purpose: "test",
    has: ["/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf"],
    why: "as UEFI firmware for riscv64",
  },
  "sbsigntool": { purpose: "test", has: ["sbverify"], why: "to check signatures for Secure Boot" },
  "binutils": { purpose: "test", has: ["objcopy", "objdump"], why: "to look into UEFI programs" },
  "efibootguard": {
    purpose: "test",
    has: ["bg_setenv", "bg_gen_unified_kernel"],
    why: "to boot from the images of part-image",
  },
  "cpio": { purpose: "test", has: ["cpio"], why: "to make an initrd" },
  "gdisk": { purpose: "test", has: ["sgdisk"], why: "to check partition tables" },
  "mtools": { purpose: "test", has: ["mcopy", "mmd", "mdir"], why: "to look into FAT filesystems" },
  "mount": { purpose: "test", has: ["mount", "losetup"], why: "to look into images" },
  "kmod": { purpose: "test", has: ["depmod"], why: "to make arm64 trees" },
  "systemd": { purpose: "test", has: ["systemd-socket-activate"], why: "to stand in for udev" },
  "faketime": { purpose: "test", has: ["faketime"], why: "to build at another time" },
  "attr": { purpose: "test", has: ["getfattr", "setfattr"], why: "to compare xattrs" },
  "acl": { purpose: "test", has: ["getfacl", "setfacl"], why: "to compare ACLs" },
  "podman": { purpose: "test", has: ["podman"], why: "to run the container" },
  "runc": { purpose: "test", has: ["runc"], why: "to run the container where crun may not" },
  "uidmap": { purpose: "test", has: ["newuidmap"], why: "to run the container without root" },
  "catatonit": { purpose: "test", has: ["catatonit"], why: "to run pods" },
  "slirp4netns": { purpose: "test", has: ["slirp4netns"], why: "for its network without root" },
  "time": { purpose: "test", has: ["/usr/bin/time"], why: "to measure time and memory" },
  "genimage": { purpose: "bench", has: ["genimage"], why: "to be compared with" },
} as const satisfies Record<string, Package>;

export type PackageName = keyof typeof PACKAGES;

const rank: Record<Purpose, number> = { build: 0, demo: 1, test: 2, bench: 3 };

/** Debian's users have these not on their `PATH`, though `sfdisk` and `mke2fs` are there. */
const SYSTEM_DIRECTORIES = ["/usr/local/sbin", "/usr/sbin", "/sbin"] as const;

/** The packages needed for `purpose`, sorted by name; each purpose includes those before it. */
export function packagesFor(purpose: Purpose): PackageName[] {
  return (Object.keys(PACKAGES) as PackageName[])
    .filter((name) => rank[(PACKAGES[name] as Package).purpose] <= rank[purpose])
    .sort();
}

/** The hint for a missing program: which package has it, and how to get it. */
export function packageOf(program: string): string | undefined {
  for (const [name, row] of Object.entries<Package>(PACKAGES)) {
    if (row.has.includes(program)) {
      return `It is needed ${row.why}: run "deno task setup", or install the package ${name}`;
    }
  }
}

/** `PATH` with the directories of system programs, for a user whose own lacks them. */
export function searchPath(path: string = Deno.env.get("PATH") ?? "/usr/bin:/bin"): string {
  const directories = path.split(":");
  return [...directories, ...SYSTEM_DIRECTORIES.filter((dir) => !directories.includes(dir))].join(":");
}

/** Whether a program (found on {@link searchPath}) or a file (absolute path) is there. */
export function isInstalled(program: string): boolean {
  const candidates = program.startsWith("/")
    ? [program]
    : searchPath().split(":").map((dir) => `${dir || "."}/${program}`);
  return candidates.some((path) => {
    try {
      const { isFile, mode } = Deno.statSync(path);
      return isFile && (program.startsWith("/") || ((mode ?? 0) & 0o111) !== 0);
    } catch {
      // Not there, or in a directory that we may not enter.
      return false;
    }
  });
}

/** The packages of `purpose` of which a program or file is missing here. */
export function missingPackages(purpose: Purpose): PackageName[] {
  return packagesFor(purpose).filter((name) => !PACKAGES[name].has.every(isInstalled));
}
