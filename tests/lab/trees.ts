/**
 * Real OS trees for the tests, made once from Debian's packages and kept outside the repository (in
 * `RAPTOR_BUILDERS_TREES`, or `raptor-builders-trees` in `TMPDIR` or `/var/tmp`; remove it at will).
 *
 * A tree is made under a temporary name and renamed when complete, and its name holds a checksum of its
 * recipe, so an incomplete or outdated one is never used. Tests share the trees and must
 * not change them: {@link copyTree} first.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { quiet } from "./helpers.ts";

const ROOT = Deno.env.get("RAPTOR_BUILDERS_TREES") ??
  `${Deno.env.get("TMPDIR") ?? "/var/tmp"}/raptor-builders-trees`;

// Trees have ordinary modes, whatever the umask of whoever runs the tests.
Deno.umask(0o022);

/**
 * The directory `name` of the cache, created by `make` if it does not exist. Data that determines its contents
 * belongs in `recipe`; a change of `make` itself needs a new `version` there.
 */
export async function cached(
  name: string,
  recipe: unknown,
  make: (dir: string) => Promise<void>,
): Promise<string> {
  await Deno.mkdir(ROOT, { recursive: true });
  const key = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);
  const dir = `${ROOT}/${name}-${key}`;
  // The lock belongs to the open file, so it holds between processes and between workers of one.
  using lock = await Deno.open(`${ROOT}/${name}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await exists(dir)) return dir;
  const partial = `${dir}.partial`;
  await remove(partial);
  await Deno.mkdir(partial);
  await make(partial);
  await Deno.rename(partial, dir);
  return dir;
}

/** Waits until no other test, in this process or another, holds the lock `name`, and holds it for `fn`. */
export async function exclusively<T>(name: string, fn: () => Promise<T>): Promise<T> {
  await Deno.mkdir(ROOT, { recursive: true });
  using lock = await Deno.open(`${ROOT}/${name}.lock`, { create: true, write: true });
  await lock.lock(true);
  return await fn();
}

/** Copies a tree with owners, modes, links, times and extended attributes, for a test to change. */
export async function copyTree(from: string, to: string): Promise<string> {
  await quiet`cp --archive --reflink=auto ${from} ${to}`;
  return to;
}

export type Suite = "bullseye" | "bookworm" | "trixie" | "forky";

/** Debian's architectures, with the kernel's console and the name of systemd's boot loader. */
const ARCHITECTURES = {
  "amd64": { console: "ttyS0", efi: "x64", kernel: "linux-image-cloud-amd64" },
  "arm64": { console: "ttyAMA0", efi: "aa64", kernel: "linux-image-cloud-arm64" },
  // Its kernel is not made for virtual machines: drivers that others have built in come with an initrd.
  "riscv64": { console: "ttyS0", efi: "riscv64", kernel: "linux-image-riscv64" },
} as const;

export type DebianArchitecture = keyof typeof ARCHITECTURES;

/**
 * Only the release itself: its updates come and go, and those of an old release move while its indices
 * still name them.
 */
const MMDEBSTRAP = [
  ...["--quiet", "--mode=root", "--aptopt=Acquire::Retries 3"],
  String.raw`--setup-hook=sed -i "/security\|updates/d" "$1"/etc/apt/sources.list`,
] as const;

/**
 * Packages with their dependencies, unpacked but not configured: nothing in them is run, so they may be for
 * any architecture (Debian's name for it).
 */
export function unpack(suite: Suite, architecture: string, packages: readonly string[]): Promise<string> {
  return cached(`packages-${suite}-${architecture}-${packages[0]}`, { packages, MMDEBSTRAP }, async (dir) => {
    // The indices of a release in development expire after a week, and a mirror may be behind.
    const expired = suite === "forky" ? ['--aptopt=Acquire::Check-Valid-Until "false"'] : [];
    await quiet`mmdebstrap ${MMDEBSTRAP} ${expired} --variant=extract --architectures=${architecture}
      --include=${packages.join(",")} ${suite} ${dir}`;
  });
}

/**
 * Single packages without dependencies, unpacked into directories named as in `packages`, which
 * names them with their architecture: `hostname:riscv64`.
 */
export function download(suite: Suite, name: string, packages: readonly string[]): Promise<string> {
  const recipe = { version: 1, suite, packages, MMDEBSTRAP };
  return cached(`download-${suite}-${name}`, recipe, async (dir) => {
    const architectures = new Set(packages.map((each) => each.split(":")[1]));
    const script = String.raw`mkdir "$1/debs" && cd "$1/debs" &&
      APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download ${packages.join(" ")}`;
    // Nothing in the packages is run.
    await quiet`mmdebstrap ${MMDEBSTRAP} --skip=check/qemu --variant=custom --architectures=${
      [...architectures].join(",")
    }
      ${`--customize-hook=${script}`} ${suite} ${dir}/apt`;
    for (const each of packages) {
      const [packageName, architecture] = each.split(":");
      for await (const { name: deb } of Deno.readDir(`${dir}/apt/debs`)) {
        if (deb.startsWith(`${packageName}_`) && deb.endsWith(`_${architecture}.deb`)) {
          await quiet`dpkg-deb --extract ${dir}/apt/debs/${deb} ${dir}/${each}`;
        }
      }
    }
    await Deno.remove(`${dir}/apt`, { recursive: true });
  });
}

/** In the order in which they depend on each other; the rest that a tiny tree needs is built into the kernel. */
const MODULES = ["nls/nls_cp437", "nls/nls_ascii", "fat/fat", "fat/vfat", "efivarfs/efivarfs"] as const;

const APPLETS = [
  ...[
    "cat",
    "cut",
    "find",
    "grep",
    "insmod",
    "ls",
    "mkdir",
    "mount",
    "od",
    "poweroff",
    "readlink",
    "sed",
    "sh",
  ],
  ...["sort", "stat", "sync", "uname"],
] as const;

export interface TinyOptions {
  readonly architecture?: DebianArchitecture;
  /** With a kernel in `/boot` (default) that boots without an initrd from an NVMe disk. */
  readonly kernel?: boolean;
  /** With systemd-boot in `/usr/lib/systemd/boot/efi` (default). */
  readonly loader?: boolean;
}

function tinyPackages(architecture: DebianArchitecture): readonly string[] {
  return ["busybox-static", ARCHITECTURES[architecture].kernel, "systemd-boot-efi"];
}

/** The packages that a tiny tree is made of, unpacked: more modules of its kernel, above all. */
export function tinyUnpacked(architecture: DebianArchitecture): Promise<string> {
  return unpack("trixie", architecture, tinyPackages(architecture));
}

/**
 * An OS of a few MiB that boots in seconds: busybox, Debian's cloud kernel, systemd-boot, and an init that
 * mounts what `/etc/fstab` says, reports what it sees, and powers off.
 */
export async function tinyTree(
  { architecture = "amd64", kernel = true, loader = true }: TinyOptions = {},
): Promise<string> {
  const parts = [kernel ? [] : ["nokernel"], loader ? [] : ["noloader"]].flat();
  const { console, efi } = ARCHITECTURES[architecture];
  const packages = tinyPackages(architecture);
  const init = await script("tiny-init.sh");
  const initrd = architecture === "riscv64" ? [await script("tiny-initrd.sh"), INITRD_TINY] : undefined;
  const recipe = { version: 1, init, APPLETS, MODULES, packages, kernel, loader, initrd };
  return await cached(["tiny", architecture, ...parts].join("-"), recipe, async (dir) => {
    const debian = await unpack("trixie", architecture, packages);
    for (const path of ["usr/bin", "usr/sbin", "usr/lib/modules", "etc/kernel", "boot", "var/lib"]) {
      await Deno.mkdir(`${dir}/${path}`, { recursive: true });
    }
    for (const path of ["dev", "proc", "sys", "run", "root", "mnt", "tmp", "var/tmp"]) {
      await Deno.mkdir(`${dir}/${path}`);
    }
    await Deno.chmod(`${dir}/root`, 0o700);
    for (const path of ["tmp", "var/tmp"]) await Deno.chmod(`${dir}/${path}`, 0o1777);
    for (const name of ["bin", "sbin", "lib"]) await Deno.symlink(`usr/${name}`, `${dir}/${name}`);

    await Deno.copyFile(`${debian}/usr/bin/busybox`, `${dir}/usr/bin/busybox`);
    for (const applet of APPLETS) await Deno.symlink("busybox", `${dir}/usr/bin/${applet}`);
    await text(`${dir}/usr/sbin/init`, init, 0o755);
    await text(
      `${dir}/usr/lib/os-release`,
      'ID=tiny\nNAME="Tiny"\nPRETTY_NAME="Tiny 1.0 (for tests)"\nVERSION_ID=1.0\n',
    );
    await Deno.symlink("../usr/lib/os-release", `${dir}/etc/os-release`);
    // An empty file means that the system has no identity yet.
    await text(`${dir}/etc/machine-id`, "");
    await text(`${dir}/etc/hostname`, "tiny\n");
    await text(`${dir}/etc/resolv.conf`, "");
    await text(`${dir}/etc/passwd`, "root:x:0:0:root:/root:/bin/sh\n");
    await text(`${dir}/etc/group`, "root:x:0:\n");
    await text(`${dir}/etc/shadow`, "root:*:20000:0:99999:7:::\n", 0o640);
    // Init switches the kernel's messages off; until then they help to see why a boot fails.
    await text(`${dir}/etc/kernel/cmdline`, `console=${console} panic=-1\n`);
    await text(`${dir}/etc/modules`, "");
    if (loader) {
      await Deno.mkdir(`${dir}/usr/lib/systemd/boot/efi`, { recursive: true });
      const name = `systemd-boot${efi}.efi`;
      await Deno.copyFile(
        `${debian}/usr/lib/systemd/boot/efi/${name}`,
        `${dir}/usr/lib/systemd/boot/efi/${name}`,
      );
    }
    if (kernel) await copyKernel(debian, dir);
    if (kernel && architecture === "riscv64") await makeInitrd(debian, dir);
  });
}

/** In the order in which they depend on each other: a disk of a virtual machine, and ext4. */
const INITRD_TINY = [
  ...["drivers/block/virtio_blk", "lib/crc16", "crypto/crc32c_generic", "lib/libcrc32c", "fs/mbcache"],
  ...["fs/jbd2/jbd2", "fs/ext4/ext4"],
] as const;

/** An initrd for a kernel that needs one, made without running anything of the tree. */
async function makeInitrd(debian: string, dir: string): Promise<void> {
  const [version] = (await Array.fromAsync(Deno.readDir(`${debian}/usr/lib/modules`))).map(({ name }) =>
    name
  );
  const initrd = `${dir}/initrd`;
  for (const path of ["bin", "dev", "new", "proc", "sys"]) {
    await Deno.mkdir(`${initrd}/${path}`, { recursive: true });
  }
  await Deno.copyFile(`${debian}/usr/bin/busybox`, `${initrd}/bin/busybox`);
  for (const applet of ["cat", "insmod", "mount", "od", "readlink", "sed", "sh", "sleep", "switch_root"]) {
    await Deno.symlink("busybox", `${initrd}/bin/${applet}`);
  }
  const paths: string[] = [];
  for (const module of INITRD_TINY) {
    const path = `/${module.split("/").at(-1)}.ko`;
    await Deno.copyFile(`${debian}/usr/lib/modules/${version}/kernel/${module}.ko.xz`, `${initrd}${path}.xz`);
    await quiet`xz --decompress ${initrd}${path}.xz`;
    paths.push(path);
  }
  await text(`${initrd}/modules`, paths.map((path) => `${path}\n`).join(""));
  await text(`${initrd}/init`, await script("tiny-initrd.sh"), 0o755);
  const pack = `find . | cpio --quiet --create --format=newc --owner=0:0 >"$1"`;
  await quiet`env --chdir ${initrd} sh -euc ${pack} sh ${`${dir}/boot/initrd.img-${version}`}`;
  await Deno.remove(initrd, { recursive: true });
}

/** The kernel as Debian places it, with the few modules that the tiny tree loads, uncompressed for busybox. */
async function copyKernel(debian: string, dir: string): Promise<void> {
  const [version] = (await Array.fromAsync(Deno.readDir(`${debian}/usr/lib/modules`))).map(({ name }) =>
    name
  );
  for (const name of ["vmlinuz", "vmlinux"]) {
    const path = `/boot/${name}-${version}`;
    if (await exists(debian + path)) await Deno.copyFile(debian + path, dir + path);
  }
  await Deno.copyFile(`${debian}/boot/config-${version}`, `${dir}/boot/config-${version}`);
  const to = `/usr/lib/modules/${version}`;
  await Deno.mkdir(`${dir}${to}`);
  const paths: string[] = [];
  for (const module of MODULES) {
    const path = `${to}/${module.split("/")[1]}.ko`;
    await Deno.copyFile(`${debian}${to}/kernel/fs/${module}.ko.xz`, `${dir}${path}.xz`);
    await quiet`xz --decompress ${dir}${path}.xz`;
    paths.push(path);
  }
  await text(`${dir}/etc/modules`, paths.map((path) => `${path}\n`).join(""));
}

/** Packages that a Debian test tree needs to boot as a virtual machine and as a container. */
const DEBIAN_PACKAGES = ["systemd-sysv", "udev", "dbus", "kmod", "e2fsprogs"] as const;

/** What the drivers of a virtual machine's disk need beyond the kernel's own, for an initrd that loads fast. */
const INITRD_MODULES = [
  "nvme",
  "virtio_pci",
  "virtio_blk",
  "ahci",
  "sd_mod",
  "xhci_pci",
  "usb_storage",
] as const;

/** What makes the initrd of a Debian: its packages, and files that it reads when the kernel is configured. */
const INITRDS = {
  "initramfs-tools": {
    packages: ["initramfs-tools"],
    files: {
      // Without FSTYPE the initrd has no e2fsck.
      "initramfs-tools/conf.d/lab": "MODULES=list\nFSTYPE=ext4\n",
      "initramfs-tools/modules": INITRD_MODULES.map((name) => `${name}\n`).join(""),
    },
  },
  // systemd is process 1 in it, and opens what dm-verity verifies.
  "dracut": {
    packages: ["dracut", "systemd-cryptsetup"],
    files: {
      "dracut.conf.d/lab.conf": `hostonly=no\nadd_dracutmodules=" systemd-veritysetup "\n` +
        `drivers=" dm-verity ${INITRD_MODULES.join(" ")} "\nfilesystems=" ext4 squashfs vfat "\n`,
    },
  },
} as const;

/** Units that wait for a person, or take time in an emulated machine for nothing that a test checks. */
const MASKED_UNITS = [
  ...["getty@.service", "serial-getty@.service", "console-getty.service", "systemd-firstboot.service"],
  ...["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"],
  ...["e2scrub_reap.service", "fstrim.timer", "systemd-hwdb-update.service"],
] as const;

/** On every Debian, although nothing here depends on it: only a tree that is not configured must name it. */
const ESSENTIAL_PACKAGES = [
  ...["base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname"],
  ...["libc-bin", "login", "mawk", "mount", "passwd", "sed", "tar", "util-linux"],
] as const;

export interface DebianOptions {
  readonly suite: Suite;
  /** For another than amd64 the tree is made without running anything of it, and has no initrd. */
  readonly architecture?: DebianArchitecture;
  /** Additional packages. */
  readonly include?: readonly string[];
  /** What makes the initrd. */
  readonly initrd?: keyof typeof INITRDS;
}

/**
 * A small Debian with systemd, udev, a cloud kernel, an initrd (by default of initramfs-tools with `e2fsck`), and
 * systemd-boot, that reports its state when it has booted and powers off.
 */
export async function debianTree(
  { suite, architecture = "amd64", include = [], initrd = "initramfs-tools" }: DebianOptions,
): Promise<string> {
  const report = await script("report.sh");
  const service = await script("report.service");
  const patience = await script("patience.conf");
  // Debian 11 has systemd-boot in the package systemd.
  const loader = suite === "bullseye" ? [] : ["systemd-boot"];
  if (architecture === "arm64") loader.splice(0, loader.length, "systemd-boot-efi");
  const { packages: makers, files } = INITRDS[initrd];
  const packages = [...DEBIAN_PACKAGES, ...makers, ...loader, ARCHITECTURES[architecture].kernel, ...include];
  const recipe = {
    version: 1,
    report,
    service,
    packages,
    files,
    MASKED_UNITS,
    MMDEBSTRAP,
    patience,
  };
  const name = ["debian", suite, architecture, ...initrd === "dracut" ? [initrd] : [], ...include].join("-");
  return await cached(name, recipe, async (dir) => {
    if (architecture !== "amd64") {
      const unpacked = await unpack(suite, architecture, [...packages, ...ESSENTIAL_PACKAGES]);
      await quiet`cp --archive --reflink=auto ${unpacked}/. ${dir}`;
      await configure(dir);
      return await addReport(dir, {
        report,
        service,
        patience,
        console: ARCHITECTURES[architecture].console,
      });
    }
    // Read when the kernel is configured.
    const hooks = Object.entries(files).map(([path, content]) =>
      `--essential-hook=mkdir -p "$1/etc/${path.slice(0, path.lastIndexOf("/"))}" &&
        printf %s '${content}' >"$1/etc/${path}"`
    );
    await quiet`mmdebstrap ${MMDEBSTRAP} --variant=minbase --include=${packages.join(",")} ${hooks}
      ${suite} ${dir}`;
    await addReport(dir, { report, service, patience, console: ARCHITECTURES[architecture].console });
  });
}

/**
 * What the packages' scripts would have done, as far as needed to boot: users, a machine ID to be created,
 * and the list of kernel modules. systemd-sysusers creates other users at boot.
 */
async function configure(dir: string): Promise<void> {
  for (const name of ["passwd", "group"]) {
    await Deno.copyFile(`${dir}/usr/share/base-passwd/${name}.master`, `${dir}/etc/${name}`);
  }
  await text(`${dir}/etc/machine-id`, "");
  for await (const { name } of Deno.readDir(`${dir}/usr/lib/modules`)) {
    await quiet`depmod --basedir ${dir} ${name}`;
  }
}

/** Makes a Debian tree report its state after booting. */
async function addReport(
  dir: string,
  { report, service, patience, console }: Record<"report" | "service" | "patience" | "console", string>,
): Promise<void> {
  const units = `${dir}/etc/systemd/system`;
  await Deno.mkdir(`${dir}/usr/local/sbin`, { recursive: true });
  await Deno.mkdir(`${units}/multi-user.target.wants`, { recursive: true });
  await text(`${dir}/usr/local/sbin/report`, report, 0o755);
  await text(`${units}/report.service`, service);
  await Deno.symlink("../report.service", `${units}/multi-user.target.wants/report.service`);
  for (const unit of MASKED_UNITS) await Deno.symlink("/dev/null", `${units}/${unit}`);
  await text(`${dir}/etc/hostname`, "debian\n");
  // On a slow machine, finding a disk may take longer than usual.
  await Deno.mkdir(`${dir}/etc/systemd/system.conf.d`, { recursive: true });
  await text(`${dir}/etc/systemd/system.conf.d/patience.conf`, patience);
  await Deno.mkdir(`${dir}/etc/kernel`, { recursive: true });
  await text(`${dir}/etc/kernel/cmdline`, `console=${console} panic=-1 quiet systemd.show_status=false\n`);
}

/** Adds lines of shell to what a Debian tree of {@link debianTree}, or a copy of it, does for its report. */
export async function addToReport(tree: string, lines: string): Promise<void> {
  const path = `${tree}/usr/local/sbin/report`;
  const script = await Deno.readTextFile(path);
  await Deno.writeTextFile(path, script.replace('echo "=== end"', () => `${lines}echo "=== end"`));
}

/** Reads a script that runs in a tree. */
function script(name: string): Promise<string> {
  return Deno.readTextFile(new URL(`./trees/${name}`, import.meta.url));
}

/** Writes a file with exactly this mode, whatever the umask. */
async function text(path: string, content: string, mode = 0o644): Promise<void> {
  await Deno.writeTextFile(path, content);
  await Deno.chmod(path, mode);
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function remove(path: string): Promise<void> {
  if (await exists(path)) await Deno.remove(path, { recursive: true });
}
