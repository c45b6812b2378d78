/**
 * The kernel options of a tree, without those that are specific to the machine it was installed on.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/kernel-command-line.html
 * - https://man7.org/linux/man-pages/man7/dracut.cmdline.7.html
 *
 * @module
 */

import { quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { optionWords } from "../tree/boot-texts.ts";
import type { Tree } from "../tree/inspect.ts";

/** Options that say how the root is mounted: the plan sets these itself. */
const ROOT_OPTION = /^(?:rootfstype=|ro$|rw$)/;

/**
 * Options that name disks or an identity of the machine a tree was installed on. In the image, nothing has these
 * names, and an initrd would wait for it.
 */
const FOREIGN_OPTION = new RegExp(
  `^(?:${
    [
      ...[
        "root",
        "rootflags",
        "resume",
        "resume_offset",
        "BOOT_IMAGE",
        "initrd",
        "ostree",
        "roothash",
        "usrhash",
      ],
      // dracut and systemd; switches such as rd.lvm=0 and luks=no do not name anything.
      ...[
        "(?:rd\\.)?luks\\.(?:uuid|name|key|data|serial|partuuid)",
        "rd\\.lvm\\.\\w+",
        "rd\\.(?:md|dm)\\.uuid",
      ],
      ...["mount\\.usr", "systemd\\.machine_id", "systemd\\.verity_\\w+"],
      // mkinitcpio, mkinitfs
      ...["cryptdevice", "cryptroot", "cryptdm", "cryptkey"],
    ].join("|")
  })=`,
);

/** Whether an option is specific to the machine a tree was installed on. */
export function isForeign(option: string): boolean {
  return FOREIGN_OPTION.test(option);
}

/** The options of a tree that an image keeps. */
export function keptOptions({ kernelOptions = "" }: Pick<Tree, "kernelOptions">): string[] {
  return optionWords(kernelOptions).filter((word) => !ROOT_OPTION.test(word) && !isForeign(word));
}

/** The options that an image drops. */
export function foreignOptions({ kernelOptions = "" }: Pick<Tree, "kernelOptions">): Finding[] {
  const foreign = optionWords(kernelOptions).filter(isForeign);
  return foreign.length
    ? [
      finding(
        "foreign-options",
        `Leaving out kernel options of another machine: ${foreign.map(quote).join(", ")}`,
      ),
    ]
    : [];
}
