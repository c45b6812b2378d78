/**
 * Trees with the names of distributions that cannot be installed here: a tiny tree whose kernel and initrd are where the
 * distribution puts them. Its kernel finds a virtio disk only with the initrd, which prints at boot which one it is.
 *
 * @module
 */

import { dirname } from "node:path";
import { quiet, stubProgram, tempDir } from "./helpers.ts";
import { copyTree, tinyTree, tinyUnpacked } from "./trees.ts";

/** The script of these initrds: loads the driver, and mounts the root of the command line with busybox. */
const INIT = `#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo MARK >/dev/.initrd
insmod /virtio_blk.ko
mode=ro
for word in $(cat /proc/cmdline); do
  case $word in
    root=*) root=\${word#root=} ;;
    rootfstype=*) type=\${word#rootfstype=} ;;
    rootflags=*) flags=,\${word#rootflags=} ;;
    rw) mode=rw ;;
  esac
done
for try in 1 2 3 4 5 6 7 8 9 10; do findfs "$root" >/dev/null 2>&1 && break; sleep 1; done
mount -t $type -o $mode$flags "$root" /new || poweroff -f
exec switch_root /new /sbin/init
`;

/** The contents of files in a distribution's tree. */
type Content =
  /** The kernel. */
  | "kernel"
  /** An initrd that prints this name at boot. */
  | { readonly initrd: string }
  /** Early microcode: an empty archive. */
  | "microcode"
  | { readonly link: string }
  | { readonly text: string };

/** A distribution's tree: `VERSION` in paths and texts is that of the kernel. */
export interface Distribution {
  readonly name: string;
  readonly id: string;
  readonly files: Readonly<Record<string, Content>>;
  /** The files of the menu's first entry, as paths of the firmware. */
  readonly loads: readonly string[];
}

const beside = "/usr/lib/modules/VERSION";

/** The initrd that must be loaded prints `right`. */
const right: Content = { initrd: "right" };
const wrong: Content = { initrd: "wrong" };

export const DISTRIBUTIONS: readonly Distribution[] = [
  {
    name: "Debian (initramfs-tools, tiny-initramfs)",
    id: "debian",
    files: { "/boot/vmlinuz-VERSION": "kernel", "/boot/initrd.img-VERSION": right },
    loads: ["initrd.img-VERSION"],
  },
  {
    name: "Fedora, RHEL (dracut), with a rescue kernel",
    id: "fedora",
    files: {
      "/boot/vmlinuz-VERSION": "kernel",
      "/boot/initramfs-VERSION.img": right,
      [`${beside}/vmlinuz`]: "kernel",
      "/boot/vmlinuz-0-rescue-0123456789abcdef0123456789abcdef": "kernel",
      "/boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img": wrong,
    },
    loads: ["initramfs-VERSION.img"],
  },
  {
    name: "an image-based system (bootc)",
    id: "fedora",
    files: { [`${beside}/vmlinuz`]: "kernel", [`${beside}/initramfs.img`]: right },
    loads: ["initrd-VERSION.img"],
  },
  {
    name: "openSUSE",
    id: "opensuse-tumbleweed",
    files: {
      [`${beside}/vmlinuz`]: "kernel",
      "/boot/vmlinuz-VERSION": { link: "../usr/lib/modules/VERSION/vmlinuz" },
      "/boot/vmlinuz": { link: "vmlinuz-VERSION" },
      "/boot/initrd-VERSION": right,
      "/boot/initrd": { link: "initrd-VERSION" },
    },
    loads: ["initrd-VERSION"],
  },
  {
    name: "Arch (mkinitcpio), with microcode and a fallback",
    id: "arch",
    files: {
      [`${beside}/vmlinuz`]: "kernel",
      [`${beside}/pkgbase`]: { text: "linux\n" },
      "/boot/vmlinuz-linux": "kernel",
      "/boot/intel-ucode.img": "microcode",
      "/boot/amd-ucode.img": "microcode",
      "/boot/initramfs-linux.img": right,
      "/boot/initramfs-linux-fallback.img": wrong,
    },
    loads: ["intel-ucode.img", "amd-ucode.img", "initramfs-linux.img"],
  },
  {
    name: "Alpine (mkinitfs)",
    id: "alpine",
    files: { "/boot/vmlinuz-lts": "kernel", "/boot/initramfs-lts": right },
    loads: ["initramfs-lts"],
  },
  {
    name: "Gentoo (genkernel)",
    id: "gentoo",
    files: {
      "/boot/kernel-genkernel-x86_64-VERSION": "kernel",
      "/boot/initramfs-genkernel-x86_64-VERSION": right,
    },
    loads: ["initramfs-genkernel-x86_64-VERSION"],
  },
  {
    name: "Void (dracut)",
    id: "void",
    files: { "/boot/vmlinuz-VERSION": "kernel", "/boot/initramfs-VERSION.img": right },
    loads: ["initramfs-VERSION.img"],
  },
  {
    name: "Mageia (dracut)",
    id: "mageia",
    files: {
      "/boot/vmlinuz-VERSION": "kernel",
      "/boot/vmlinuz-desktop": { link: "vmlinuz-VERSION" },
      "/boot/initrd-VERSION.img": right,
      "/boot/initrd-desktop.img": { link: "initrd-VERSION.img" },
    },
    loads: ["initrd-VERSION.img"],
  },
  {
    name: "Slackware",
    id: "slackware",
    files: {
      "/boot/vmlinuz-generic-VERSION": "kernel",
      "/boot/vmlinuz": { link: "vmlinuz-generic-VERSION" },
      "/boot/initrd.gz": right,
    },
    loads: ["initrd.gz"],
  },
  {
    name: "Yocto and Buildroot",
    id: "poky",
    files: { "/boot/bzImage": "kernel", "/boot/initrd": right },
    loads: ["initrd"],
  },
  {
    name: "kernel-install",
    id: "debian",
    files: {
      "/boot/debian/VERSION/linux": "kernel",
      "/boot/debian/VERSION/initrd-0-microcode": "microcode",
      "/boot/debian/VERSION/initrd-1": right,
    },
    loads: ["debian\\VERSION\\initrd-0-microcode", "debian\\VERSION\\initrd-1"],
  },
];

/** Makes the tree of a distribution, and returns the version of its kernel. */
export async function distributionTree({ id, files }: Distribution, to: string): Promise<string> {
  const packages = await tinyUnpacked("amd64");
  const tree = await copyTree(await tinyTree(), to);
  const [version] = (await Array.fromAsync(Deno.readDir(`${tree}/usr/lib/modules`))).map(({ name }) => name);
  const kernel = `${packages}/boot/vmlinuz-${version}`;
  await Deno.remove(`${tree}/boot/vmlinuz-${version}`);
  await Deno.copyFile(
    `${packages}/usr/lib/modules/${version}/modules.builtin`,
    `${tree}/usr/lib/modules/${version}/modules.builtin`,
  );
  await Deno.writeTextFile(`${tree}/usr/lib/os-release`, `ID=${id}\nNAME="${id}"\nVERSION_ID=1\n`);
  const named = (text: string) => text.replaceAll("VERSION", version!);
  for (const [name, content] of Object.entries(files)) {
    const path = `${tree}${named(name)}`;
    await Deno.mkdir(dirname(path), { recursive: true });
    if (content === "kernel") await Deno.copyFile(kernel, path);
    else if (content === "microcode") await makeArchive([], path);
    else if ("link" in content) await Deno.symlink(named(content.link), path);
    else if ("text" in content) await Deno.writeTextFile(path, content.text);
    else await makeInitrd(content.initrd, { tree, modules: `${packages}/usr/lib/modules/${version}` }, path);
  }
  return version!;
}

async function makeInitrd(
  mark: string,
  { tree, modules }: { readonly tree: string; readonly modules: string },
  path: string,
): Promise<void> {
  await tempDir(async (dir) => {
    for (const name of ["bin", "dev", "new", "proc", "sys"]) await Deno.mkdir(`${dir}/${name}`);
    await Deno.copyFile(`${tree}/usr/bin/busybox`, `${dir}/bin/busybox`);
    await Deno.copyFile(`${modules}/kernel/drivers/block/virtio_blk.ko.xz`, `${dir}/virtio_blk.ko.xz`);
    await quiet`xz --decompress ${dir}/virtio_blk.ko.xz`;
    await stubProgram(dir, "init", INIT.replace("MARK", mark));
    await makeArchive([dir], path);
  });
}

/** An archive as the kernel unpacks it, of a directory or of nothing. */
async function makeArchive([dir]: readonly string[], path: string): Promise<void> {
  const list = dir === undefined ? ":" : "find .";
  await quiet`env --chdir ${
    dir ?? "/"
  } sh -euc ${`${list} | cpio --quiet -o -H newc -R 0:0 | gzip -1 >"$1"`} sh ${path}`;
}
