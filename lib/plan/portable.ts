/**
 * Checks and adds what an image needs for `portablectl attach`.
 *
 * - https://systemd.io/PORTABLE_SERVICES/
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import { FILESYSTEMS } from "../filesystem/filesystems.ts";
import type { Tree } from "../tree/inspect.ts";
import { directoryAt, exists, namesIn } from "../tree/query.ts";
import { SYSTEM_MOUNT_POINTS } from "./mount-points.ts";
import type { Settings } from "./settings.ts";

/** Where units are searched. One is often a link to another. */
const UNIT_DIRECTORIES = ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"];

/** The types of units that a portable service may have. */
const UNIT = /\.(service|socket|target|timer|path)$/;

/**
 * Mount points in every service. systemd can create missing ones only on a writable filesystem, and only some
 * versions do.
 */
const MOUNT_POINTS: readonly ExtraFile[] = [
  ...SYSTEM_MOUNT_POINTS,
  { path: "/var/tmp", type: "directory", mode: 0o1777 },
  { path: "/etc/resolv.conf", type: "file", text: "" },
  { path: "/etc/machine-id", type: "file", text: "" },
];

/** What is missing in a tree for a portable service. */
interface PortableCheck {
  /** For messages: what only the author of the tree can add, e.g. "os-release". */
  readonly lacks: readonly string[];
  /** The missing mount points. */
  readonly add: readonly ExtraFile[];
}

/** @param name the prefix of the units' names. */
export function checkPortable(
  { nodes, osRelease }: Pick<Tree, "nodes" | "osRelease">,
  name: string,
): PortableCheck {
  const lacks: string[] = [];
  if (Object.keys(osRelease).length === 0) lacks.push("an os-release in /usr/lib or /etc");
  const units = UNIT_DIRECTORIES.flatMap((path) => namesIn(nodes, path)).filter((name) => UNIT.test(name));
  if (!units.some((unit) => unit.startsWith(name) && /^[.@-]/.test(unit.slice(name.length)))) {
    lacks.push(
      `a unit in /usr/lib/systemd/system whose name starts with ${quote(name)}, such as ${name}.service`,
    );
  }
  const add = MOUNT_POINTS.filter(({ path, type }) =>
    // A file may be a dangling link: something will be mounted over it.
    type === "directory"
      ? directoryAt(nodes, path) === undefined
      : !exists(nodes, path) || directoryAt(nodes, path) !== undefined
  );
  return { lacks, add };
}

/**
 * The files to add for `PORTABLE=NAME`.
 *
 * @throws {BuildError} when the image could not be attached.
 */
export function planPortable(
  name: string,
  { filesystem, outputFormat, directory }: Pick<Settings, "filesystem" | "outputFormat" | "directory">,
  tree: Tree,
): readonly ExtraFile[] {
  const refuse = (what: string, hint: string, kind: "usage" | "build" = "usage") => {
    throw new BuildError(`Cannot make the portable service ${quote(name)}: ${what}`, { kind, hint });
  };
  if (!FILESYSTEMS[filesystem].holdsSystem) {
    refuse(`FILESYSTEM=${filesystem} has no owners, modes or links`, "Set FILESYSTEM to a different one");
  }
  if (outputFormat !== "raw") {
    refuse(`portablectl does not support OUTPUT_FORMAT=${outputFormat}`, "Set OUTPUT_FORMAT to raw");
  }
  if (directory !== "/") refuse(`DIRECTORY=${directory} is not the whole tree`, "Leave DIRECTORY out");
  const { lacks, add } = checkPortable(tree, name);
  if (lacks.length) refuse(`the tree lacks ${lacks.join(", and ")}`, "Add it to the tree", "build");
  return add;
}

/** Notes about `portablectl attach`, one per line; none without `PORTABLE`. */
export function describePortable({ portable }: Settings, tree: Tree): string[] {
  if (portable === undefined) return [];
  const { add } = checkPortable(tree, portable);
  return [
    ...add.length ? [`Adding for the portable service: ${add.map(({ path }) => path).join(", ")}`] : [],
    `portablectl accepts the image only with a name like ${portable}.raw or ${portable}_1.0.raw`,
  ];
}
