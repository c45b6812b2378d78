/**
 * Decides how the root is found and mounted: our part of the kernel command line.
 *
 * Every initrd understands `root=UUID=`, including those with busybox, such as Alpine's. A kernel without an
 * initrd understands only PARTUUID: https://docs.kernel.org/admin-guide/kernel-parameters.html
 *
 * @module
 */

import { quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { rootLine } from "./fstab.ts";
import { isDefaultFlag, isFlag, isForPrograms, isRare } from "./mount-options.ts";

/** The root filesystem. */
interface RootDevice {
  readonly filesystem: string;
  readonly readOnly: boolean;
  /** The UUID of the filesystem; empty if it has none. */
  readonly uuid: string;
  readonly partitionUuid: string;
}

interface RootOptions {
  /** For a kernel with an initrd. */
  readonly options: readonly string[];
  /** For a kernel without one. */
  readonly bare: readonly string[];
  readonly findings: readonly Finding[];
  /** Findings if there is a kernel without an initrd. */
  readonly bareFindings: readonly Finding[];
}

/** Those that other parts of the command line say, and those that name a journal on another disk. */
const SAID_ELSEWHERE = /^(?:r[ow]|journal_(?:dev|path)=.*)$/;

/**
 * How the root of a disk is found and mounted, with the options for `/` in the tree's fstab.
 */
export function planRootOptions(fstab: string, root: RootDevice): RootOptions {
  const { filesystem, uuid, partitionUuid } = root;
  const line = rootLine(fstab);
  const readOnly = root.readOnly || (line?.options.includes("ro") ?? false);
  const asked = line?.options.filter((option) => !isForPrograms(option) && !SAID_ELSEWHERE.test(option)) ??
    [];
  // In `rootflags=`, they would reach the filesystem with many initrds, and it refuses to be mounted then.
  const rare = asked.filter(isRare);
  const wanted = asked.filter((option) => !isRare(option));
  const fits = line?.type === filesystem && wanted.every((option) => /^[\w.:=/@+-]+$/.test(option));
  const flags = fits ? wanted : wanted.filter(isFlag);
  const leaveOut = (options: readonly string[], why: string, hint?: string) =>
    options.length
      ? [
        finding("root-options", `Leaving out the mount options ${quote(options.join(","))} of /: ${why}`, {
          path: "/etc/fstab",
          ...hint && { hint },
        }),
      ]
      : [];
  const options = (device: string, flags: readonly string[]) => [
    device,
    readOnly ? "ro" : "rw",
    `rootfstype=${filesystem}`,
    ...flags.length ? [`rootflags=${flags.join(",")}`] : [],
  ];
  const bare = `root=PARTUUID=${partitionUuid}`;
  return {
    options: options(uuid ? `root=UUID=${uuid}` : bare, flags),
    bare: options(bare, flags.filter((option) => !isFlag(option))),
    findings: [
      ...leaveOut(
        rare,
        "not every initrd can mount a root with them",
        "Remove them from the line of /, or let the system remount / with them when it starts",
      ),
      ...leaveOut(
        wanted.filter((option) => !flags.includes(option)),
        line?.type === filesystem
          ? "a kernel command line cannot hold them"
          : `the root is ${filesystem} now`,
      ),
    ],
    bareFindings: leaveOut(
      flags.filter((option) => isFlag(option) && !isDefaultFlag(option)),
      "a kernel without an initrd does not know them",
      "Install what makes the initrd, or let the system remount / with them when it starts",
    ),
  };
}
