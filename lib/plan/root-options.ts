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
}

/** Options that mount(8) and its callers handle themselves, and those that name a journal on another disk. */
const NOT_FOR_MOUNTING =
  /^(?:defaults|r[ow]|(?:no)?auto|(?:no)?users?|owner|group|_netdev|nofail|loop|(?:x-|comment=|journal_(?:dev|path)=).*|)$/;

/** Options that mount(8) turns into flags. In `rootflags=`, they would reach the filesystem, which fails. */
const FLAGS =
  /^(?:(?:no|rel|strict)?(?:dir)?atime|(?:no)?lazytime|(?:no)?(?:suid|exec|dev)|(?:a|dir)?sync|(?:no)?iversion)$/;

/**
 * How the root of a disk is found and mounted, with the options for `/` in the tree's fstab.
 */
export function planRootOptions(fstab: string, root: RootDevice): RootOptions {
  const { filesystem, uuid, partitionUuid } = root;
  const line = rootLine(fstab);
  const readOnly = root.readOnly || (line?.options.includes("ro") ?? false);
  const wanted = line?.options.filter((option) => !NOT_FOR_MOUNTING.test(option)) ?? [];
  const fits = line?.type === filesystem && wanted.every((option) => /^[\w.:=/@+-]+$/.test(option));
  const flags = fits ? wanted : [];
  const options = (device: string, flags: readonly string[]) => [
    device,
    readOnly ? "ro" : "rw",
    `rootfstype=${filesystem}`,
    ...flags.length ? [`rootflags=${flags.join(",")}`] : [],
  ];
  const bare = `root=PARTUUID=${partitionUuid}`;
  return {
    options: options(uuid ? `root=UUID=${uuid}` : bare, flags),
    bare: options(bare, flags.filter((option) => !FLAGS.test(option))),
    findings: wanted.length > 0 && !fits
      ? [
        finding(
          "root-options",
          `Leaving out the mount options ${quote(wanted.join(","))} of /: ` +
            (line!.type === filesystem
              ? "a kernel command line cannot hold them"
              : `the root is ${filesystem} now`),
          { path: "/etc/fstab" },
        ),
      ]
      : [],
  };
}
