/**
 * Growing: an image that is written to a larger disk takes all of it at its first boot, where the tree has
 * systemd-repart. The partition is grown by that, the filesystem by systemd-growfs.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/systemd-repart.service.html
 * - https://www.freedesktop.org/software/systemd/man/latest/systemd-growfs-root.service.html
 *
 * @module
 */

import { file } from "../boot/loader.ts";
import type { ExtraFile } from "../filesystem/contents.ts";
import type { Tree } from "../tree/inspect.ts";
import { countIn, firstFile } from "../tree/query.ts";

/** Where definitions of partitions may be; a tree with its own decides itself. */
const DEFINITIONS = ["/etc/repart.d", "/usr/lib/repart.d", "/usr/local/lib/repart.d"] as const;

const UNITS = "/etc/systemd/system";

/** Files for the root filesystem; none when the tree cannot grow it, or does so by itself. */
export function growFiles(tree: Tree): ExtraFile[] {
  const own = DEFINITIONS.some((path) => countIn(tree.nodes, path) > 0);
  if (own || !firstFile(tree.nodes, ["/usr/bin/systemd-repart", "/bin/systemd-repart"])) return [];
  const growfs = firstFile(tree.nodes, ["/usr/lib/systemd/systemd-growfs", "/lib/systemd/systemd-growfs"]);
  if (!growfs) return [];
  const unit = "systemd-growfs-root.service";
  const shipped = firstFile(tree.nodes, [`/usr/lib/systemd/system/${unit}`, `/lib/systemd/system/${unit}`]);
  return [
    file(
      "/etc/repart.d/50-root.conf",
      "# The root partition takes what is free behind it.\n[Partition]\nType=root\n",
    ),
    // The flag of the partition does so from systemd 255 on.
    file(`${UNITS}/systemd-repart.service.d/50-image.conf`, `[Unit]\nWants=${unit}\n`),
    file(`${UNITS}/${unit}.d/50-image.conf`, "[Unit]\nConditionVirtualization=!container\n"),
    // Older versions make this unit only for a line in fstab, which would fail in a container.
    ...shipped ? [] : [file(`${UNITS}/${unit}`, growUnit(growfs))],
  ];
}

function growUnit(growfs: string): string {
  return `[Unit]
Description=Grow Root File System
DefaultDependencies=no
After=systemd-repart.service systemd-remount-fs.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=${growfs} /
`;
}
