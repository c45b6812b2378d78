/**
 * Findings: what a person should know about an image before it is made, because it will not work or because
 * something of the tree is lost. All of them are decided from the tree, in the plan: `--dry-run` shows them, too.
 *
 * To add one:
 *
 * 1. Add a row to {@link FINDINGS}: its name, for programs, stays the same forever.
 * 2. Where the fact is known, return `finding("its-name", message, path)`:
 *    - from facts about the whole tree: a function in `CHECKS` (`lib/plan/checks.ts`);
 *    - while the tree is read: `Tree.findings`; by a boot loader: `FoundLoader.findings`; by the planner of a filesystem:
 *      `FilesystemPlan.findings`. The plan collects all of them.
 *
 * The log, `--dry-run --json`, `STRICT`, and the table in docs/findings.md follow.
 *
 * @module
 */

import { BuildError, quote } from "./error.ts";

interface FindingKind {
  /** What is looked for. */
  readonly what: string;
  /** What it means for the image. */
  readonly means: string;
  /** What to do about it: one sentence, no final period. */
  readonly hint: string;
  /** Nothing is wrong, but a person may want to know: shown as a detail of the plan, and no error with `STRICT`. */
  readonly notice?: true;
}

/** In the order of the table in the docs. */
export const FINDINGS = {
  "no-boot": {
    what: "no kernel, or nothing that could be installed to start it",
    means: "the image starts as a container, but on no machine",
    hint: "If that is wanted, set BOOTLOADER=none; otherwise add what is missing to the tree",
  },
  "root-mode": {
    what: "a root directory that not everybody can enter, such as the 0700 of `mktemp -d`",
    means: "every user but root, and every service that does not run as root, can do nothing",
    hint: "chmod 0755 the directory of the tree",
  },
  "root-owner": {
    what: "a root directory that does not belong to root",
    means: "its owner can replace /etc and /usr, and sshd and systemd-tmpfiles refuse paths below it",
    hint: "chown root:root the directory of the tree",
  },
  "kernel-name": {
    what: "a kernel or initrd whose name cannot stand in a boot entry",
    means: "the kernel is left out",
    hint: "Rename it in the tree",
  },
  "kernel-stub": {
    what: "a file that is named like a kernel, but is none that UEFI can start",
    means: "it gets no boot entry",
    hint: "Install a kernel with an EFI stub, or remove the file from the tree",
  },
  "kernel-firmware": {
    what: "a kernel that the firmware of `FIRMWARE` cannot start: BIOS no UKI, UEFI none without an EFI stub",
    means: "it gets no boot entry there",
    hint: "Set FIRMWARE to what starts it, or install another kernel",
  },
  "kernel-modules": {
    what: "a kernel without its modules in `/usr/lib/modules`",
    means: "drivers that are not built into it, such as that of `/boot`, cannot be loaded",
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
  "uki-root": {
    what: "a UKI with a `root=` in it that is not the image's",
    means: "it waits for a disk that is not there, or mounts another machine's",
    hint: "Make it without root=, so that it finds the root by its partition type",
  },
  "root-options": {
    what: "mount options of `/` in `/etc/fstab` that are for another filesystem",
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
    means: "they are left out, and without keys sshd does not start",
    hint: '"ssh-keygen -A" on first boot makes new ones, unless the system does; KEEP=host-keys keeps them',
  },
  "acl-lost": {
    what: "ACLs on a filesystem that has none",
    means: "they are left out; the groups keep their rights",
    hint: "Set FILESYSTEM to ext4 or erofs",
  },
  "time-early": {
    what: "times before 1970 on a filesystem whose times begin there",
    means: "the files get the first time that it has",
    hint: "Set FILESYSTEM to ext4 or erofs",
  },
  "time-fraction": {
    what: "times with fractions of a second that a filesystem does not have",
    means: "they are cut off",
    hint: "Nothing needs to be done",
    notice: true,
  },
  "large-directory": {
    what: "a directory with so many entries that a filesystem's program is slow",
    means: "the build may take minutes longer",
    hint: "Set FILESYSTEM to ext4",
    notice: true,
  },
  "socket": {
    what: "sockets on a filesystem that cannot hold them",
    means: "they are left out; no process listens on them",
    hint: "Nothing needs to be done",
    notice: true,
  },
  "fat-link": {
    what: "symlinks on FAT, which has none",
    means: "a link to a file elsewhere becomes a copy, any other is left out",
    hint: "Nothing needs to be done",
    notice: true,
  },
  "fat-small": {
    what: "a FAT filesystem too small for FAT32",
    means: "virtual machines and most firmware read it, but UEFI asks for FAT32 on fixed disks",
    hint: "Set EFI_MB or BOOT_MB to a larger size",
    notice: true,
  },
  "no-free-space": {
    what: "`FREE_MB` with a read-only filesystem",
    means: "it is as large as its contents become",
    hint: "Leave FREE_MB out",
    notice: true,
  },
} as const satisfies Record<string, FindingKind>;

export type FindingName = keyof typeof FINDINGS;

/** Something that was found: plain data. */
export interface Finding {
  readonly name: FindingName;
  readonly level: "warning" | "notice";
  /** Where in the tree; the first of several. */
  readonly path?: string;
  /** What it means for this image, on one line; whatever comes from the tree is quoted. */
  readonly message: string;
  /** What to do about it. */
  readonly hint: string;
}

/** Makes a finding. `hint` replaces that of the row where more is known. */
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

/** Paths for a message: the first few, and how many others there are. */
export function listPaths(paths: readonly string[]): string {
  const more = paths.length > SHOWN ? ` and ${paths.length - SHOWN} others` : "";
  return `${paths.slice(0, SHOWN).map(quote).join(", ")}${more}`;
}

/** The warnings among findings: what `STRICT` refuses. */
export function warningsOf(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level === "warning");
}

/** A finding for people: what it is, under which name docs/findings.md has it, and what to do. */
export function describeFinding({ name, path, message, hint }: Finding): string {
  const place = path === undefined || message.includes(quote(path)) ? "" : `${quote(path)}: `;
  return `${place}${message} (${name})\n  ${hint}`;
}

/** The error that warnings are with `STRICT=1`; all of them are in it. */
export function strictError(warnings: readonly Finding[]): BuildError {
  const count = warnings.length === 1 ? "1 finding is an error" : `${warnings.length} findings are errors`;
  return new BuildError(`Cannot build with STRICT=1: ${count}\n${warnings.map(describeFinding).join("\n")}`, {
    hint: "Change the tree or the settings as it says, or unset STRICT",
  });
}
