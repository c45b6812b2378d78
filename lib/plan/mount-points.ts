/**
 * The directories on which every system mounts something before it can create any.
 *
 * @module
 */

import { type Finding, finding } from "../core/findings.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { Nodes } from "../tree/nodes.ts";
import { exists } from "../tree/query.ts";

/** In the order they are added. */
export const SYSTEM_MOUNT_POINTS: readonly ExtraFile[] = [
  { path: "/proc", type: "directory" },
  { path: "/sys", type: "directory" },
  { path: "/dev", type: "directory" },
  { path: "/run", type: "directory" },
  { path: "/tmp", type: "directory", mode: 0o1777 },
];

/** Those that a system lacks, for example after `tar --exclude=/proc`. A symlink is left alone. */
export function planMountPoints(nodes: Nodes): { add: readonly ExtraFile[]; findings: readonly Finding[] } {
  const add = SYSTEM_MOUNT_POINTS.filter(({ path }) => !exists(nodes, path));
  if (add.length === 0) return { add, findings: [] };
  const paths = add.map(({ path }) => path);
  return {
    add,
    findings: [
      finding("mount-points", `Adding the mount points ${paths.join(", ")}, which the tree does not have`, {
        path: paths[0],
      }),
    ],
  };
}
