/**
 * Decides how the filesystems of a disk are mounted: the lines of `/etc/fstab`, and which ones systemd needs none for.
 *
 * - What systemd discovers by itself: https://www.freedesktop.org/software/systemd/man/latest/systemd-gpt-auto-generator.html
 *
 * @module
 */

import { GPT_ATTRIBUTES } from "../core/dps.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import type { Tree } from "../tree/inspect.ts";
import { firstFile } from "../tree/query.ts";
import type { FstabLine } from "./fstab.ts";
import { MOUNT_POINTS } from "./repart/keys.ts";
import { isMounted, type PartitionRequest } from "./requests.ts";

const GENERATORS = ["/usr/lib", "/lib"].map((path) =>
  `${path}/systemd/system-generators/systemd-gpt-auto-generator`
);

/**
 * What systemd mounts without a line. Not `var`, which it mounts only if its PARTUUID is derived from the machine's ID;
 * not ESP and XBOOTLDR, whose disk only some boot loaders tell; and not `usr`, which the initrd mounts.
 */
const DISCOVERED = ["home", "srv", "tmp"];

/** What the plan knows of a partition with a filesystem or swap. */
export interface Mountable {
  readonly request: PartitionRequest;
  /** `UUID=…` or `PARTUUID=…`. */
  readonly source: string;
  readonly format: FilesystemName | "swap";
}

/** The lines for the filesystems of a disk and its swap, except for its root. */
export function planMounts(mountables: readonly Mountable[], tree: Tree): FstabLine[] {
  const hasDiscovery = firstFile(tree.nodes, GENERATORS) !== undefined;
  const lines = mountables.flatMap(({ request, source, format }): FstabLine[] => {
    const { role, mountPoint, attributes, mountOptions, isVerified } = request;
    const isAuto = !attributes.includes(GPT_ATTRIBUTES.noAuto);
    if (format === "swap") {
      if (!isAuto) return [];
      const isDiscovered = hasDiscovery && role === "swap";
      return [{ source, mountPoint: "none", type: "swap", options: "defaults", pass: 0, isDiscovered }];
    }
    // What a root hash verifies, the initrd opens and mounts.
    if (!isMounted(request) || mountPoint === "/" || isVerified) return [];
    if (!isAuto && mountOptions === undefined) return [];
    const isBoot = role === "esp" || role === "xbootldr";
    const { readOnly } = FILESYSTEMS[format];
    const grows = hasDiscovery && attributes.includes(GPT_ATTRIBUTES.growfs) && !isBoot;
    const options = [
      ...isBoot && format === "vfat" ? ["umask=0077"] : [],
      ...readOnly || attributes.includes(GPT_ATTRIBUTES.readOnly) ? ["ro"] : [],
      ...grows ? ["x-systemd.growfs"] : [],
      ...mountOptions ?? [],
    ];
    return [{
      source,
      mountPoint,
      type: format,
      options: options.join(",") || "defaults",
      pass: readOnly ? 0 : 2,
      isDiscovered: hasDiscovery && isAuto && DISCOVERED.includes(role ?? "") &&
        mountPoint === MOUNT_POINTS[role!] && !mountOptions?.length,
    }];
  });
  const isAbove = (a: FstabLine, b: FstabLine) =>
    a.mountPoint.split("/").length - b.mountPoint.split("/").length;
  return lines.toSorted(isAbove);
}
