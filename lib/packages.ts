/**
 * Which Debian package has which program: one list for `deno task setup`, the Containerfile, `base.rapt`
 * and the hint of an error about a missing program.
 *
 * @module
 */

/** `build`: what the builders run. `demo`: also `deno task demo` and `boot`. `test`: also the tests. */
export type Purpose = "build" | "demo" | "test";

interface Package {
  readonly purpose: Purpose;
  /** The programs (found on `PATH`) or files (absolute paths) that show it is installed. */
  readonly has: readonly string[];
  /** What it is for, in an error message: "to write the partition table". */
  readonly why: string;
}

export const PACKAGES = {
  "fdisk": { purpose: "build", has: ["sfdisk"], why: "to write the partition table" },
  "e2fsprogs": { purpose: "build", has: ["mke2fs", "e2fsck"], why: "to make ext4 filesystems" },
  "dosfstools": { purpose: "build", has: ["mkfs.vfat", "fsck.vfat"], why: "to make FAT filesystems" },
  "mtools": { purpose: "build", has: ["mcopy", "mmd", "mdir"], why: "to fill FAT filesystems" },
  "qemu-utils": { purpose: "build", has: ["qemu-img"], why: "to write other formats than raw" },
  "tar": { purpose: "build", has: ["tar"], why: "to read a tree from an archive" },
  "zstd": { purpose: "build", has: ["zstd"], why: "to read .tar.zst archives" },
  "mmdebstrap": { purpose: "demo", has: ["mmdebstrap"], why: "to make Debian trees" },
  "qemu-system-x86": { purpose: "demo", has: ["qemu-system-x86_64"], why: "to boot x86-64 images" },
  "ovmf": { purpose: "demo", has: ["/usr/share/OVMF/OVMF_CODE_4M.fd"], why: "as UEFI firmware for x86-64" },
  "systemd-container": { purpose: "demo", has: ["systemd-nspawn"], why: "to boot images as containers" },
} as const satisfies Record<string, Package>;

export type PackageName = keyof typeof PACKAGES;

const rank: Record<Purpose, number> = { build: 0, demo: 1, test: 2 };

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
