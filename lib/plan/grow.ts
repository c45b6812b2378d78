/**
 * Growing: an image that was written to a larger disk uses all of it from the first boot on, if the tree has
 * systemd-repart. systemd-repart grows the partition, systemd-growfs the filesystem.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/systemd-repart.service.html
 * - https://www.freedesktop.org/software/systemd/man/latest/systemd-growfs-root.service.html
 *
 * @module
 */

import { file } from "../boot/loader.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { countIn, firstFile } from "../tree/query.ts";

/** Where partition definitions may be. A tree that has any is left alone. */
const DEFINITIONS = ["/etc/repart.d", "/usr/lib/repart.d", "/usr/local/lib/repart.d"] as const;

const UNITS = "/etc/systemd/system";

/** Files to add to the root filesystem; none if the tree cannot grow it, or already does. */
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
      "# Grow the root partition into the free space after it.\n[Partition]\nType=root\n",
    ),
    // Since systemd 255, the partition's growfs flag is enough.
    file(`${UNITS}/systemd-repart.service.d/50-image.conf`, `[Unit]\nWants=${unit}\n`),
    file(`${UNITS}/${unit}.d/50-image.conf`, "[Unit]\nConditionVirtualization=!container\n"),
    // Older versions generate this unit only for a line in fstab, which would fail in a container.
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
