/**
 * Reasons why a kernel of the tree will not boot, found while they can still be fixed.
 *
 * @module
 */

import { quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import type { Tree } from "../tree/inspect.ts";
import { type Kernel, lacksInitrd } from "../tree/kernels.ts";
import { rowFor } from "../tree/os-release.ts";

/** The command that makes an initrd, see {@link rowFor}. */
const INITRD_MAKERS: readonly {
  readonly ids: readonly string[];
  readonly install: string;
  readonly make: string;
}[] = [
  { ids: ["debian", "ubuntu"], install: "initramfs-tools", make: "update-initramfs -c -k all" },
  { ids: ["arch", "archlinux"], install: "mkinitcpio", make: "mkinitcpio -P" },
  { ids: ["alpine", "postmarketos"], install: "mkinitfs", make: "mkinitfs VERSION" },
  {
    ids: ["fedora", "rhel", "centos", "suse", "opensuse"],
    install: "dracut",
    make: "dracut --regenerate-all",
  },
  { ids: ["gentoo", "void", "mageia"], install: "dracut", make: "dracut --regenerate-all" },
];

/** Disk drivers by module name, with the name of the disks. Virtual machines first. */
const DISKS = {
  "virtio_blk": "virtio",
  "virtio_scsi": "virtio-scsi",
  "nvme": "NVMe",
  "ahci": "SATA",
  "sd_mod": "SCSI and SATA",
  "usb_storage": "USB",
  "mmc_block": "SD and eMMC",
  "xen_blkfront": "Xen",
  "hv_storvsc": "Hyper-V",
} as const;

/** The root that kernels must find, and `/usr` if that has a partition of its own. */
interface Root {
  readonly filesystem: string;
  readonly usrFormat: string | undefined;
  /** All options that name it. */
  readonly options: string;
}

/** Findings about what a kernel lacks. */
export function kernelFindings(kernel: Kernel, tree: Tree, root: Root): Finding[] {
  const { version, image, unified, modules } = kernel;
  const named = `The kernel ${version} (${quote(image)})`;
  if (unified) return foreignRoot(kernel, root.options);
  // A kernel built for one machine may need no modules: then its name has no version, and there are no modules at all.
  const monolithic = !tree.kernels.some(({ modules }) => modules) && !/-\d[^/]*$/.test(image);
  return [
    ...modules || monolithic ? [] : [
      finding("kernel-modules", `${named} has no modules in /usr/lib/modules/${version}`, { path: image }),
    ],
    ...(lacksInitrd(kernel) ? missingInitrd : initrdFindings)(named, kernel, tree, root),
  ];
}

/** Whether systemd's generators, or what does their work, must open the root or `/usr` with dm-verity. */
function isVerified(options: string): boolean {
  return /(?:^| )(?:root|usr)hash=/.test(options);
}

/** What opens dm-verity: programs of systemd and of cryptsetup. */
const VERITY_PROGRAM = /(?:^|\/)(?:systemd-)?veritysetup(?:-generator)?$/;

/** The name in the path of a module. */
const MODULE = /([^/]+)\.ko(?:\.\w+)?$/;

/**
 * Findings about what an initrd must have for this image but not for the system that it was made on: the driver of another
 * filesystem, and what opens dm-verity. With ext4 and without dm-verity none is unpacked, which takes up to half a second:
 * whatever makes initrds expects an ext4.
 */
function initrdFindings(
  named: string,
  { image, initrds, modules }: Kernel,
  tree: Tree,
  { filesystem, usrFormat = "ext4", options }: Root,
): Finding[] {
  const verified = isVerified(options);
  const drivers = new Set([filesystem, usrFormat, ...verified ? ["dm_verity"] : []]);
  drivers.delete("ext4");
  if (drivers.size === 0) return [];
  const read = initrds.map((initrd) => tree.initrdFiles(initrd));
  if (read.includes(undefined)) return [];
  const paths = read.flatMap((files) => files!);
  const present = new Set(paths.map((path) => MODULE.exec(path)?.[1]?.replaceAll("-", "_")));
  const absent = [...drivers].filter((driver) =>
    modules?.builtin?.includes(driver) === false && !present.has(driver)
  );
  const isClosed = verified && !paths.some((path) => VERITY_PROGRAM.test(path));
  if (absent.length === 0 && !isClosed) return [];
  const lacks = [...absent, ...isClosed ? ["systemd-veritysetup"] : []].join(", ");
  const message = `${named} does not boot: its initrd ${initrds.map(quote).join(", ")} lacks ${lacks}`;
  const { make } = makerOf(tree);
  const hint = isClosed
    ? 'Make it with dracut, and add_dracutmodules+=" systemd-veritysetup " in /etc/dracut.conf.d of the tree'
    : `Name ${
      absent.join(", ")
    } in /etc/initramfs-tools/modules, in add_drivers+= of dracut or in MODULES= of ` +
      `mkinitcpio, and run "${make}" in the tree`;
  return [finding("initrd-lacks", message, { path: image, hint })];
}

function missingInitrd(
  named: string,
  { image, modules }: Kernel,
  tree: Tree,
  { filesystem, options }: Root,
): Finding[] {
  const found = (message: string) => {
    const { install, make } = makerOf(tree);
    const hint = `Install ${install} into the tree, and run "${make}" there`;
    return [finding("initrd-missing", `${named} has no initrd and ${message}`, { path: image, hint })];
  };
  if (isVerified(options)) return found("does not boot: only an initrd opens what dm-verity verifies");
  const builtin = modules?.builtin;
  if (builtin === undefined) return [];
  if (!builtin.includes(filesystem)) {
    return found(`does not boot: its driver of ${filesystem}, the root's filesystem, is a module`);
  }
  const [inside, outside] = [true, false].map((wanted) =>
    Object.entries(DISKS).filter(([driver]) => builtin.includes(driver) === wanted)
  ) as [[string, string][], [string, string][]];
  if (outside.length === 0) return [];
  const drivers = outside.map(([driver]) => driver).join(", ");
  return inside.length === 0
    ? found(`does not boot: its drivers of disks (${drivers}) are modules, or missing`)
    : found(
      `boots from ${inside.map(([, disk]) => disk).join(", ")} disks only: ` +
        `other drivers of disks (${drivers}) are modules, or missing`,
    );
}

function makerOf({ osRelease }: Tree): { readonly install: string; readonly make: string } {
  return rowFor(osRelease, INITRD_MAKERS) ??
    { install: "dracut or what the distribution has for it", make: "dracut --regenerate-all" };
}

/** A root that is built into a UKI, and that the image does not have. */
function foreignRoot({ version, image, unified }: Kernel, options: string): Finding[] {
  const root = /(?:^|\s)(root=(?!gpt-auto|tmpfs)\S+)/.exec(unified!.options)?.[1];
  if (root === undefined || options.toLowerCase().split(" ").includes(root.toLowerCase())) return [];
  const message = `The UKI ${version} (${quote(image)}) has ${
    quote(root)
  } built in, which is not this image's root`;
  return [finding("uki-root", message, { path: image })];
}
