/**
 * Findings: what the user should know about an image before it is made, because it will not work or because
 * something in the tree is lost. All are part of the plan, so `--dry-run` shows them, too.
 *
 * To add one:
 *
 * 1. Add a row to {@link FINDINGS}. Its name is for programs and must never change.
 * 2. Return `finding("its-name", message, { path })` where the fact is known:
 *    - for facts about the whole tree: in a function in `CHECKS` (`lib/plan/checks.ts`);
 *    - while reading the tree: in `Tree.findings`; in a boot loader: `FoundLoader.findings`; in the planner of a
 *      filesystem: `FilesystemPlan.findings`. The plan collects all of them.
 *
 * The log, `--dry-run --json`, `STRICT`, and the table in docs/findings.md follow.
 *
 * @module
 */

import { BuildError, quote } from "./error.ts";

interface FindingKind {
  /** What to look for. */
  readonly what: string;
  /** What it means for the image. */
  readonly means: string;
  /** What to do about it: one sentence, no final period. */
  readonly hint: string;
  /** Nothing is wrong, but the user may want to know: a detail of the plan, and not an error with `STRICT`. */
  readonly notice?: true;
}

/** In the order of the table in the docs. */
export const FINDINGS = {
  "no-boot": {
    what: "no kernel, or no boot loader to start it",
    means: "the image will not boot on a machine, at most as a container",
    hint: "If that is intended, set BOOTLOADER=none; otherwise add what is missing to the tree",
  },
  "root-mode": {
    what: "a root directory that not everyone can enter, such as mode 0700 from `mktemp -d`",
    means: "users and services other than root cannot do anything",
    hint: "chmod 0755 the directory of the tree",
  },
  "root-owner": {
    what: "a root directory that does not belong to root",
    means: "its owner can replace /etc and /usr, and sshd and systemd-tmpfiles refuse paths below it",
    hint: "chown root:root the directory of the tree",
  },
  "owners": {
    what: "`/etc`, `/usr`, `/etc/shadow`, `sudo` and the like with an owner other than root",
    means: "whoever owns them owns the system, and sudo refuses to work",
    hint: "Make the tree as root, or with fakeroot, podman unshare or the like",
  },
  "setuid": {
    what: "`sudo` and `su` without setuid",
    means: "nobody can become root with them",
    hint: "Unpack or copy the tree as root, and with its modes (tar --same-permissions, cp --archive)",
  },
  "no-init": {
    what: "neither `/sbin/init`, nor what `init=` names, nor another first process",
    means: "the kernel stops, unless the initrd itself is the system",
    hint: "Install an init such as systemd-sysv in the tree, or give the kernel option init=",
  },
  "no-os-release": {
    what: "a system with neither `/etc/os-release` nor `/usr/lib/os-release`",
    means: "systemd-nspawn, portablectl and systemd in an initrd take it for no system, and refuse it",
    hint: "Add /usr/lib/os-release to the tree, with at least ID= and NAME=",
  },
  "no-vfat": {
    what: "a kernel that has no vfat, neither as a module nor built in",
    means: "`/boot` and `/boot/efi` cannot be mounted, and the system stops in emergency mode",
    hint: "Install all modules of this kernel (in Debian: linux-image, not only linux-image-cloud's core)",
  },
  "nested-tree": {
    what: "a tree that is a single directory, which holds the system",
    means: "the image has the system in that directory, where nothing finds it",
    hint: "Give that directory with --input, or pack what is in it (tar -C DIRECTORY -cf ARCHIVE .)",
  },
  "mount-points": {
    what:
      "no `/proc`, `/sys`, `/dev`, `/run` or `/tmp` in a system, as when they were excluded from an archive",
    means: "they are added as empty directories",
    hint: "Nothing needs to be done",
    notice: true,
  },
  "mounted": {
    what: "`/proc`, `/sys`, `/dev` and the like that are still mounted in the tree",
    means: "they are taken as empty directories: what is in them belongs to the machine that builds",
    hint: "Unmount them before the build",
  },
  "whiteouts": {
    what: "`.wh.*` files, with which layers of container images mark what they delete",
    means: "whoever unpacked the layers did not apply them: what they delete is still there",
    hint: "Take the tree from podman export, or unpack the image with a tool that applies them, e.g. umoci",
  },
  "future-time": {
    what: "files that are newer than now",
    means: "they are dated back; they do not count for the default of `SOURCE_DATE_EPOCH`",
    hint: "Set SOURCE_DATE_EPOCH, or touch the files",
  },
  "fstab-device": {
    what: "lines of `/etc/fstab` for a device that the image does not have, without `nofail` or `noauto`",
    means: "the system waits 90 seconds for it, and stops in emergency mode",
    hint: "Remove the line from the tree, or add nofail to its options",
  },
  "fstab-root": {
    what:
      "a line of `/etc/fstab` for `/` with the UUID or label of another filesystem, in an image of part-image",
    means: "systemd-remount-fs fails on boot, and the options of the line do not count",
    hint:
      "Remove the line from the tree, or name the partition that the image becomes: PARTLABEL=, PARTUUID=",
  },
  "fstab-boot": {
    what: "lines of `/etc/fstab` for what is below `/boot`",
    means: "they belong to the old boot partition and are left out",
    hint: "Nothing needs to be done",
    notice: true,
  },
  "fstab-options": {
    what: "mount options in `/etc/fstab` of what is a partition of the image now",
    means: "what every filesystem has, such as `nodev`, is kept, and the others are left out",
    hint: "Add those that the new filesystem has to MountPoint= in the definition of its partition",
    notice: true,
  },
  "selinux-host": {
    what: "SELinux labels from the build host: for containers, home directories and the like",
    means: "they are left out; a system with SELinux has to label its files on its first boot",
    hint:
      "Install the policy with its file_contexts in the tree: then the image has the labels of that policy",
  },
  "selinux-unused": {
    what: "SELinux labels in a tree without a policy",
    means: "they come from the build host, and are left out",
    hint: "Nothing needs to be done",
    notice: true,
  },
  "flags-lost": {
    what:
      "what chattr set (immutable, casefold, verity …) on a filesystem of the image that does not have it",
    means: "the files are in the image without it",
    hint:
      "Set FILESYSTEM to ext4, which has all but casefold, encrypted and verity, or chattr the files of the tree",
  },
  "xattrs-foreign": {
    what: "extended attributes that only the filesystem of the tree has, such as `system.nfs4_acl`",
    means: "they are left out; what they allow besides the mode is lost",
    hint: "Nothing needs to be done, unless access depends on them",
    notice: true,
  },
  "acl-names": {
    what: "ACLs in an archive that name users or groups, as `tar --acls` packs them",
    means: "the image gets the IDs that these names have where it is built",
    hint: "Pack it with GNU tar --xattrs, which stores the IDs",
  },
  "devices": {
    what: "device nodes in an archive that this process may not make",
    means: "they are left out; a system makes those that it needs on boot",
    hint: "Run with --cap-add=MKNOD, which a rootless container cannot have, or remove them from the archive",
  },
  "swap-file": {
    what: "swap files with holes, as fallocate makes them",
    means: "they are written without holes, since the kernel refuses others",
    hint: "Let the system make its swap file on first boot, and the image gets smaller",
    notice: true,
  },
  "kernel-name": {
    what: "a kernel or initrd with a name that is not possible in a boot entry",
    means: "the kernel is left out",
    hint: "Rename it in the tree",
  },
  "kernel-stub": {
    what: "a file that is named like a kernel, but is not one that UEFI can start",
    means: "it gets no boot entry",
    hint: "Install a kernel with an EFI stub, or remove the file from the tree",
  },
  "kernel-firmware": {
    what:
      "a kernel that the firmware or GRUB cannot start: neither BIOS nor GRUB a UKI, UEFI none without an EFI stub",
    means: "it gets no boot entry there",
    hint: "Set FIRMWARE or BOOTLOADER to what starts it, or install another kernel",
  },
  "kernel-modules": {
    what: "a kernel without its modules in `/usr/lib/modules`",
    means: "drivers that are not built into it, such as the one for `/boot`, cannot be loaded",
    hint: "Install the kernel's package with its modules, or remove the kernel from the tree",
  },
  "initrd-missing": {
    what: "a kernel without an initrd, though drivers of disks or of the root's filesystem are modules",
    means: "it finds no root, or only on disks whose driver is built in",
    hint: "Install what makes the initrd",
  },
  "initrd-empty": {
    what: "an initrd of no bytes, as a full disk or an interrupted installation leaves it",
    means: "the initrd is left out",
    hint: "Make the initrd again, or remove the file",
  },
  "initrd-lacks": {
    what: "an initrd without the driver of a read-only root or `/usr`, or without what opens dm-verity",
    means: "it finds no root, and the boot ends there",
    hint: "Make the initrd with them",
  },
  "uki-root": {
    what: "a UKI with a `root=` in it that is not the image's",
    means: "it waits for a disk that is not there, or mounts another machine's",
    hint: "Make it without root=, so that it finds the root by its partition type",
  },
  "root-options": {
    what: "mount options of `/` in `/etc/fstab` that the image's root cannot be mounted with",
    means: "they are left out",
    hint: "Change the line of / in the tree, or put rootflags= into KERNEL_CMDLINE",
  },
  "boot-entries": {
    what:
      "boot entries in `/boot/loader/entries` and on the tree's ESP, and a `loader.conf` that names one of them",
    means:
      "they name another disk and are left out; each kernel gets a new one, with the options that it had",
    hint: "Put other options that must stay into /etc/kernel/cmdline of the tree or into KERNEL_CMDLINE",
  },
  "loader-replaced": {
    what:
      "a boot loader on the tree's ESP that would not boot the image, such as a GRUB made for another disk",
    means: "another one takes its place",
    hint: "Nothing needs to be done, or set BOOTLOADER",
    notice: true,
  },
  "foreign-options": {
    what: "kernel options that name disks or the identity of another machine, such as `root=` and `resume=`",
    means: "they are left out: nothing in the image has these names, and its initrd would wait for them",
    hint: "Nothing needs to be done; KERNEL_CMDLINE adds options as they are",
    notice: true,
  },
  "options-script": {
    what: "kernel options in scripts such as `/etc/default/grub` that only a shell could tell",
    means: "scripts of the tree are not run, so these options are left out",
    hint: "Write the options out, or put them into /etc/kernel/cmdline of the tree",
  },
  "no-host-keys": {
    what: "SSH host keys",
    means: "they are left out; sshd does not start without keys",
    hint: 'Run "ssh-keygen -A" on first boot if the system does not; KEEP=host-keys keeps them',
  },
  "no-service-keys": {
    what: "private keys that packages made when they were installed",
    means:
      "they are left out, and services that are configured with them do not start before new ones are made",
    hint:
      "make-ssl-cert generate-default-snakeoil and rndc-confgen -a make new ones on first boot; KEEP=service-keys keeps them",
  },
  "copy-missing": {
    what: "`CopyFiles=` of a definition for something that the tree does not have",
    means: "the partition is made without it",
    hint: "Nothing needs to be done, if the definition is also for other trees",
    notice: true,
  },
  "selinux-labels": {
    what: "files without labels in a system that enforces SELinux, and no file_contexts to take them from",
    means: "`/.autorelabel` is added: the system labels its files on its first boot, and reboots",
    hint: "Install the policy in the tree with its file_contexts, or set SELINUX=none",
  },
  "acl-lost": {
    what: "ACLs on a filesystem that has none",
    means: "they are left out; groups keep their permissions",
    hint: "Set FILESYSTEM to ext4 or erofs",
  },
  "time-early": {
    what: "times before 1970 on a filesystem that cannot store them",
    means: "the files get the earliest time that it can store",
    hint: "Set FILESYSTEM to ext4 or erofs",
  },
  "time-fraction": {
    what: "times with fractions of a second that a filesystem cannot store",
    means: "the fractions are dropped",
    hint: "No action needed",
    notice: true,
  },
  "large-directory": {
    what: "a directory with so many entries that mksquashfs or mkfs.erofs becomes slow",
    means: "the build may take minutes longer",
    hint: "Set FILESYSTEM to ext4",
    notice: true,
  },
  "wsl-lacks": {
    what: "what WSL needs to start a shell: `/etc/passwd`, `/etc/shadow`, `/bin/sh`",
    means: "WSL cannot start the distribution",
    hint: "Add it to the tree",
  },
  "wsl-units": {
    what: "enabled units that WSL's guide discourages, such as `systemd-resolved.service`",
    means: "they may break the network or `/tmp` of WSL",
    hint: "Mask them in the tree: systemctl --root=TREE mask UNIT",
  },
  "wsl-fstab": {
    what: "lines in `/etc/fstab` of a distribution for WSL",
    means: "WSL mounts them when it starts, and complains about disks that are not there",
    hint: "Remove the lines",
  },
  "wsl-kernel": {
    what: "a kernel in a distribution for WSL",
    means: "it takes space only",
    hint: "Leave it out of the tree",
    notice: true,
  },
  "wsl-resolver": {
    what: "`/etc/resolv.conf` in a distribution for WSL",
    means: "it is left out: WSL writes it",
    hint: "To keep it, add an /etc/wsl.conf to the tree that says generateResolvConf=false",
    notice: true,
  },
  "no-command": {
    what: "a container image without a command",
    means: "a container starts only if it is told what to run",
    hint: "Set OCI_COMMAND, or name a command when starting a container",
  },
  "socket": {
    what: "sockets on a filesystem that cannot hold them",
    means: "they are left out; no process listens on them",
    hint: "No action needed",
    notice: true,
  },
  "full": {
    what: "a root or `/var` with less than 16 MiB of free space, in a layout",
    means: "what the system writes when it boots does not fit",
    hint: "Set SizeMinBytes= or Weight= of the partition, or SIZE_MB or FREE_MB to more",
  },
  "fat-link": {
    what: "symlinks on FAT, which has no symlinks",
    means: "a link to a file elsewhere becomes a copy; any other link is left out",
    hint: "No action needed",
    notice: true,
  },
  "fat-small": {
    what: "a FAT filesystem too small for FAT32",
    means: "virtual machines and most firmware can read it, but UEFI requires FAT32 on fixed disks",
    hint: "Set EFI_MB or BOOT_MB to a larger size",
    notice: true,
  },
  "no-free-space": {
    what: "`FREE_MB` with a read-only filesystem",
    means: "its size follows from its contents",
    hint: "Leave FREE_MB out",
    notice: true,
  },
} as const satisfies Record<string, FindingKind>;

export type FindingName = keyof typeof FINDINGS;

/** One finding: plain data. */
export interface Finding {
  readonly name: FindingName;
  readonly level: "warning" | "notice";
  /** The path in the tree; the first one if there are several. */
  readonly path?: string;
  /** What it means for this image, on one line; text from the tree is quoted. */
  readonly message: string;
  /** What to do about it. */
  readonly hint: string;
}

/** Makes a finding. `hint` replaces the row's hint, where more is known. */
export function finding(
  name: FindingName,
  message: string,
  { path, hint }: { readonly path?: string | undefined; readonly hint?: string } = {},
): Finding {
  const row: FindingKind = FINDINGS[name];
  return {
    name,
    level: row.notice ? "notice" : "warning",
    ...path !== undefined && { path },
    message,
    hint: hint ?? row.hint,
  };
}

/** At most this many paths are listed. */
const SHOWN = 5;

/** Lists paths for a message: the first few, and how many more there are. */
export function listPaths(paths: readonly string[]): string {
  const more = paths.length > SHOWN ? ` and ${paths.length - SHOWN} others` : "";
  return `${paths.slice(0, SHOWN).map(quote).join(", ")}${more}`;
}

/** The warnings among findings: what `STRICT` turns into errors. */
export function warningsOf(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level === "warning");
}

/** A finding as text: what it is, its name in docs/findings.md, and what to do. */
export function describeFinding({ name, path, message, hint }: Finding): string {
  const place = path === undefined || message.includes(quote(path)) ? "" : `${quote(path)}: `;
  return `${place}${message} (${name})\n  ${hint}`;
}

/** The error for `STRICT=1`, with all warnings. */
export function strictError(warnings: readonly Finding[]): BuildError {
  const count = warnings.length === 1 ? "1 finding is an error" : `${warnings.length} findings are errors`;
  return new BuildError(`Cannot build with STRICT=1: ${count}\n${warnings.map(describeFinding).join("\n")}`, {
    hint: "Change the tree or the settings as suggested, or unset STRICT",
  });
}
