/**
 * What a tree that was installed or used has gathered and an image that many machines start from should not
 * have: one row per kind. The setting `KEEP` names those that stay.
 *
 * - https://systemd.io/BUILDING_IMAGES/
 * - Whiteouts: https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
 *
 * @module
 */

import { type Finding, finding, type FindingName } from "../core/findings.ts";
import type { ExtraFile } from "../filesystem/contents.ts";
import { children, lookup, nameBytes, nameText, type Nodes, pathOf, typeOf } from "../tree/nodes.ts";
import { isFilled, resetMachineId } from "./machine-id.ts";

interface Leftover {
  readonly what: string;
  /** Why it is left out, for the docs. */
  readonly why: string;
  /** Paths in the tree, with `*` for any part of a name. */
  readonly paths: readonly string[];
  /** Finds entries that may stand anywhere. */
  readonly anywhere?: (nodes: Nodes, node: number) => boolean;
  /** What a person has to know about its absence: the finding and its message. */
  readonly finding?: readonly [FindingName, string];
}

/** In the order of the table in the docs. */
export const LEFTOVERS = {
  "whiteouts": {
    what: "whiteouts of container layers",
    why: "they mark what a layer removed, and mean nothing in a filesystem",
    paths: [],
    anywhere: isWhiteout,
  },
  "container-marks": {
    what: "marks of Docker and Podman",
    why: "systemd takes a machine that boots with one for a container",
    paths: ["/.dockerenv", "/.dockerinit", "/run/.containerenv"],
  },
  "machine-id": {
    what: "a filled machine ID",
    why:
      "each machine needs its own: it becomes `uninitialized`, or empty where the first boot would ask questions",
    paths: ["/var/lib/dbus/machine-id"],
  },
  "random-seed": {
    what: "saved random seeds",
    why: "machines that start from the same seed may draw the same random numbers",
    paths: [
      "/var/lib/systemd/random-seed",
      "/var/lib/urandom/random-seed",
      "/var/lib/random-seed",
      "/var/lib/misc/random-seed",
      "/var/lib/seedrng/*",
      "/boot/loader/random-seed",
      "/boot/efi/loader/random-seed",
      "/efi/loader/random-seed",
    ],
  },
  "credential-secret": {
    what: "the key of systemd's credentials",
    why: "it is made on first use, and whoever has the image could decrypt with it",
    paths: ["/var/lib/systemd/credential.secret"],
  },
  "host-keys": {
    what: "SSH host keys",
    why: "whoever has the image could pose as every machine made from it",
    paths: ["/etc/ssh/ssh_host_*_key", "/etc/ssh/ssh_host_*_key.pub", "/etc/dropbear/dropbear_*_host_key"],
    finding: ["no-host-keys", "The image has no SSH host keys"],
  },
  "package-cache": {
    what: "downloaded packages and package lists",
    why: "the package manager downloads them again when it needs them",
    paths: [
      "/var/cache/apt/*.bin",
      "/var/cache/apt/archives/*.deb",
      "/var/lib/apt/lists/*",
      "/var/cache/dnf/*",
      "/var/cache/libdnf5/*",
      "/var/cache/yum/*",
      "/var/cache/zypp/*",
      "/var/cache/pacman/pkg/*",
      "/var/cache/apk/*",
      "/etc/apk/cache/*",
    ],
  },
} as const satisfies Record<string, Leftover>;

export type LeftoverName = keyof typeof LEFTOVERS;

export const LEFTOVER_NAMES = Object.keys(LEFTOVERS) as LeftoverName[];

const MACHINE_ID = "/etc/machine-id";

/** What an image leaves out. */
export interface Leftovers {
  /** Rows of the tree that are left out with all below them. */
  readonly without: ReadonlySet<number>;
  /** What stands in the place of something. */
  readonly add: readonly ExtraFile[];
  /** Each kind that was found, with the paths in the tree. */
  readonly found: readonly { readonly kind: LeftoverName; readonly paths: readonly string[] }[];
  readonly findings: readonly Finding[];
}

/** Finds the leftovers in a tree, apart from the kinds that are kept. */
export function findLeftovers(
  { nodes, machineId }: { readonly nodes: Nodes; readonly machineId?: string },
  keep: readonly LeftoverName[],
): Leftovers {
  const without = new Set<number>();
  const add: ExtraFile[] = [];
  const left: { kind: LeftoverName; paths: readonly string[] }[] = [];
  const findings: Finding[] = [];
  for (const kind of LEFTOVER_NAMES) {
    if (keep.includes(kind)) continue;
    const { paths, anywhere, finding: about }: Leftover = LEFTOVERS[kind];
    const rows = [
      ...paths.flatMap((path) => [...matches(nodes, path)]),
      ...anywhere ? rowsWhere(nodes, anywhere) : [],
    ];
    if (kind === "machine-id" && isFilled(machineId)) {
      rows.push(lookup(nodes, MACHINE_ID, { follow: false })!);
      const text = resetMachineId(nodes);
      if (text !== undefined) add.push({ path: MACHINE_ID, type: "file", text });
    }
    if (rows.length === 0) continue;
    for (const row of rows) without.add(row);
    const found = rows.map((row) => pathOf(nodes, row)).sort();
    left.push({ kind, paths: found });
    if (about) findings.push(finding(...about, { path: found[0] }));
  }
  return { without, add, found: left, findings };
}

function rowsWhere(nodes: Nodes, test: (nodes: Nodes, node: number) => boolean): number[] {
  const rows: number[] = [];
  for (let node = 1; node < nodes.count; node++) if (test(nodes, node)) rows.push(node);
  return rows;
}

const WHITEOUT = new TextEncoder().encode(".wh.");

/** A `.wh.` file of an image layer, or the character device 0:0 that overlayfs has in its place. */
function isWhiteout(nodes: Nodes, node: number): boolean {
  if (typeOf(nodes, node) === "char") return nodes.special[node] === 0;
  const name = nameBytes(nodes, node);
  return WHITEOUT.every((byte, i) => name[i] === byte);
}

/** The entries that a path names; symlinks are followed inside the tree, but not the last one. */
function* matches(nodes: Nodes, path: string): Generator<number> {
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  if (!name.includes("*")) {
    const node = lookup(nodes, path, { follow: false });
    if (node !== undefined) yield node;
    return;
  }
  const directory = lookup(nodes, path.slice(0, slash));
  if (directory === undefined || typeOf(nodes, directory) !== "directory") return;
  const pattern = new RegExp(`^${name.split("*").map(RegExp.escape).join(".*")}$`, "s");
  for (const child of children(nodes, directory)) {
    if (pattern.test(nameText(nodes, child) ?? "")) yield child;
  }
}
