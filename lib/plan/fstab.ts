/**
 * Decides on `/etc/fstab` of the image.
 *
 * - https://man7.org/linux/man-pages/man5/fstab.5.html
 *
 * @module
 */

import { normalize } from "node:path";

/** Mount points that the image's own partitions have. */
const OWN_MOUNT_POINTS = ["/", "/boot", "/boot/efi", "/efi"];

/** A mount point of an fstab as mount takes it: with octal escapes, and a path that can be written in many ways. */
function mountPointOf(field: string): string {
  const path = field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
  return normalize(path).replace(/(?<=.)\/+$/, "");
}

/** The tree's fstab without lines for the partitions of the image, and with ours. */
export function planFstab(fstab: string, boot: "vfat" | "ext4", uuid: (name: string) => string): string {
  const kept = fstab.split("\n").filter((line) => {
    const [device = "", mountPoint = ""] = line.replace(/^[ \t]+/, "").split(/[ \t]+/);
    if (device.startsWith("#")) return !line.includes("UNCONFIGURED FSTAB");
    return !OWN_MOUNT_POINTS.includes(mountPointOf(mountPoint));
  });
  const lines = [
    `PARTUUID=${uuid("xbootldr/partition")} /boot ${
      boot === "vfat" ? "vfat umask=0077" : "ext4 defaults"
    } 0 2`,
    `PARTUUID=${uuid("esp/partition")} /boot/efi vfat umask=0077 0 2`,
  ];
  const before = kept.join("\n").trim();
  return `${before}${before && "\n"}${lines.join("\n")}\n`;
}
