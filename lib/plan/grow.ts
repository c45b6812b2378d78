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
import { KiB } from "../core/units.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { countIn, firstFile } from "../tree/query.ts";
import { LAST_PADDING } from "./repart/sizes.ts";
import { isReadOnly, type PartitionRequest } from "./requests.ts";

/** Where partition definitions may be. A tree that has any is left alone. */
const DEFINITIONS = ["/etc/repart.d", "/usr/lib/repart.d", "/usr/local/lib/repart.d"] as const;

const UNITS = "/etc/systemd/system";

/**
 * Files to add to the root filesystem; none if the tree cannot grow it, or already does.
 *
 * Partitions cannot be moved, so the last one grows, and what definitions leave behind it.
 */
export function growFiles(tree: Tree, requests: readonly PartitionRequest[]): ExtraFile[] {
  const own = DEFINITIONS.some((path) => countIn(tree.nodes, path) > 0);
  if (own || !firstFile(tree.nodes, ["/usr/bin/systemd-repart", "/bin/systemd-repart"])) return [];
  const growfs = firstFile(tree.nodes, ["/usr/lib/systemd/systemd-growfs", "/lib/systemd/systemd-growfs"]);
  if (!growfs) return [];
  const unit = "systemd-growfs-root.service";
  const shipped = firstFile(tree.nodes, [`/usr/lib/systemd/system/${unit}`, `/lib/systemd/system/${unit}`]);
  return [
    ...requests.some(({ definition }) => definition)
      ? requests.map((request, i) =>
        file(`/etc/repart.d/${request.name}.conf`, definitionText(request, i === requests.length - 1))
      )
      : [
        file(
          "/etc/repart.d/50-root.conf",
          "# Grow the root partition into the free space after it.\n[Partition]\nType=root\n",
        ),
      ],
    // Since systemd 255, the partition's growfs flag is enough.
    file(`${UNITS}/systemd-repart.service.d/50-image.conf`, `[Unit]\nWants=${unit}\n`),
    file(`${UNITS}/${unit}.d/50-image.conf`, "[Unit]\nConditionVirtualization=!container\n"),
    // Older versions generate this unit only for a line in fstab, which would fail in a container.
    ...shipped ? [] : [file(`${UNITS}/${unit}`, growUnit(growfs))],
  ];
}

/** A definition for the partition as it is in the image: it has its contents, and is never smaller than it is now. */
function definitionText({ type, content, definition }: PartitionRequest, isLast: boolean): string {
  const { sizeMin = 4 * KiB, sizeMax, paddingMin = 0, paddingMax, weight, paddingWeight } = definition!;
  const grows = content.type === "filesystem"
    ? !isReadOnly(content)
    : !["hash", "signature"].includes(content.type);
  const values = {
    Type: type,
    SizeMinBytes: sizeMin,
    SizeMaxBytes: sizeMax,
    Weight: grows ? weight : 0,
    // Otherwise, it would fill what is left for the backup of the table.
    PaddingMinBytes: isLast ? Math.max(paddingMin, LAST_PADDING) : paddingMin || undefined,
    PaddingMaxBytes: paddingMax,
    // The space up to where the next partition begins stays.
    PaddingWeight: grows ? paddingWeight : paddingWeight || 1,
  };
  const lines = Object.entries(values).filter(([, value]) => value !== undefined);
  return [
    "# What systemd-repart may do with this partition of the image.",
    "[Partition]",
    ...lines.map(([key, value]) => `${key}=${value}`),
    "",
  ].join("\n");
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
