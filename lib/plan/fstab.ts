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

/** Fields of a line; none for a comment or an empty line. */
function fieldsOf(line: string): readonly string[] {
  const text = line.replace(/^[ \t]+/, "");
  return text.startsWith("#") || !text ? [] : text.split(/[ \t]+/);
}

/** The line of `/` in the tree's fstab. */
export function rootLine(
  fstab: string,
): { readonly type: string; readonly options: readonly string[] } | undefined {
  for (const line of fstab.split("\n")) {
    const [, mountPoint, type, options] = fieldsOf(line);
    if (type !== undefined && mountPointOf(mountPoint!) === "/") {
      return { type, options: (options ?? "defaults").split(",") };
    }
  }
}

/**
 * The tree's fstab without lines for the partitions of the image, and with ours.
 *
 * @param devices the filesystems of XBOOTLDR and ESP, as `UUID=…`, which busybox's mount knows, unlike PARTUUID.
 */
export function planFstab(
  fstab: string,
  boot: "vfat" | "ext4",
  devices: { readonly xbootldr: string; readonly esp: string },
): string {
  const kept = fstab.split("\n").filter((line) => {
    if (line.trimStart().startsWith("#")) return !line.includes("UNCONFIGURED FSTAB");
    return !OWN_MOUNT_POINTS.includes(mountPointOf(fieldsOf(line)[1] ?? ""));
  });
  const lines = [
    `${devices.xbootldr} /boot ${boot === "vfat" ? "vfat umask=0077" : "ext4 defaults"} 0 2`,
    `${devices.esp} /boot/efi vfat umask=0077 0 2`,
  ];
  const before = kept.join("\n").trim();
  return `${before}${before && "\n"}${lines.join("\n")}\n`;
}
