/**
 * The mounts of this process: what a container was given from outside, and its name there.
 *
 * - https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
 *
 * @module
 */

import { basename } from "node:path";
import { readProc } from "./proc.ts";

/** One mount. */
export interface Mount {
  /** What is mounted, as a path in its own filesystem: for a bind mount, its path outside. */
  readonly root: string;
  /** Where it is mounted. */
  readonly point: string;
  /** The filesystem type, e.g. `ext4`, `overlay`, `tmpfs`. */
  readonly type: string;
}

/** Filesystems that disappear with the container. */
const VOLATILE = ["tmpfs", "ramfs", "devtmpfs", "proc", "sysfs"];

/** Reads the mounts, in the order in which they cover each other; none if the list cannot be read. */
export function readMounts(): Mount[] {
  return parseMounts(readProc("/proc/self/mountinfo") ?? "");
}

/** Parses the text of `/proc/self/mountinfo`. */
export function parseMounts(text: string): Mount[] {
  return text.split("\n").flatMap((line) => {
    const fields = line.split(" ");
    // A hyphen ends the optional fields, whose number varies.
    const end = fields.indexOf("-", 6);
    const [root, point, type] = [fields[3], fields[4], fields[end + 1]].map((field) =>
      field?.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)))
    );
    return end > 0 && root && point && type ? [{ root, point, type }] : [];
  });
}

/** The mount at exactly this absolute path. */
export function mountAt(path: string, mounts: readonly Mount[]): Mount | undefined {
  return mounts.findLast(({ point }) => point === path);
}

/** The name of a mounted file or directory outside the container; `undefined` if it is not a mount. */
export function nameOutside(path: string, mounts: readonly Mount[]): string | undefined {
  const root = mountAt(path, mounts)?.root.replace(/\/\/deleted$/, "");
  return root && basename(root) || undefined;
}

/** Whether files written to an absolute path are lost with the container, because nothing is mounted there. */
export function isVolatile(path: string, mounts: readonly Mount[]): boolean {
  const holds = (point: string) => point === "/" || path === point || path.startsWith(`${point}/`);
  const above = mounts.filter(({ point }) => holds(point));
  const deepest = above.reduce<Mount | undefined>(
    (best, mount) => !best || mount.point.length >= best.point.length ? mount : best,
    undefined,
  );
  return !deepest || deepest.point === "/" || VOLATILE.includes(deepest.type);
}
