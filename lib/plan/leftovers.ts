/**
 * What an installed or used tree has gathered, and an image for many machines should not
 * have: one row per kind. The setting `KEEP` names the kinds that stay.
 *
 * - https://systemd.io/BUILDING_IMAGES/
 * - Whiteouts: https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
 *
 * @module
 */

import { type Finding, finding, type FindingName, listPaths } from "../core/findings.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { childNamed, lookup, nameBytes, type Nodes, pathOf, typeOf } from "../tree/nodes.ts";
import { entriesIn, exists, matching } from "../tree/query.ts";
import { isFilled, resetMachineId } from "./machine-id.ts";

/** What is asked of a tree. */
type Facts = Pick<Tree, "nodes" | "machineId" | "appleDouble" | "networkByMac">;

interface Leftover {
  readonly what: string;
  /** Why it is left out, for the docs. */
  readonly why: string;
  /** Paths in the tree, with `*` for any part of a name. */
  readonly paths: readonly string[];
  /** Paths that are left out only if they are empty files. */
  readonly empty?: readonly string[];
  /** At least one of these paths must exist for the row to apply. */
  readonly where?: readonly string[];
  /** Finds entries by their contents. */
  readonly foreign?: (tree: Facts) => readonly number[];
  /** Finds entries that may be anywhere. */
  readonly anywhere?: (nodes: Nodes, node: number) => boolean;
  /** The finding about those that were found. */
  readonly about?: (nodes: Nodes, rows: readonly number[]) => Iterable<Finding>;
  /** The finding if it is absent, and its message. */
  readonly finding?: readonly [FindingName, string];
}

/** Files by which container runtimes mark a container. */
const CONTAINER_MARKS = ["/.dockerenv", "/.dockerinit", "/run/.containerenv"];

/** In the order of the table in docs/. */
export const LEFTOVERS = {
  "whiteouts": {
    what: "whiteouts of container layers",
    why: "they mark what a layer removed, and mean nothing in a filesystem",
    paths: [],
    anywhere: isWhiteout,
    about: describeWhiteouts,
  },
  "container-marks": {
    what: "marks of Docker and Podman",
    why: "systemd takes a machine that boots with one for a container",
    paths: CONTAINER_MARKS,
  },
  "container-files": {
    what:
      "what Docker and Podman leave in a container: an empty `resolv.conf`, `hosts` and `hostname`, `policy-rc.d`",
    why:
      "the runtime mounted something over the empty files, and the others forbid to start services and to sync the disk",
    paths: ["/usr/sbin/policy-rc.d", "/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"],
    empty: ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"],
    where: CONTAINER_MARKS,
  },
  "apple-double": {
    what: "`._*` files of macOS",
    why: "they hold what macOS keeps beside a file, and mean nothing to Linux",
    paths: [],
    foreign: ({ appleDouble }) => appleDouble,
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
  "iscsi-initiator": {
    what: "the name of the iSCSI initiator",
    why: "two machines with one name take each other's disks, and may destroy them",
    paths: ["/etc/iscsi/initiatorname.iscsi"],
  },
  "nvme-host": {
    what: "host ID and NQN for NVMe over fabrics",
    why: "a target takes two machines with one NQN for the same",
    paths: ["/etc/nvme/hostid", "/etc/nvme/hostnqn"],
  },
  "network-secret": {
    what: "NetworkManager's secret key",
    why: "stable addresses and DHCP client IDs are derived from it, and it is made on first use",
    paths: ["/var/lib/NetworkManager/secret_key"],
  },
  "dhcp": {
    what: "DHCP leases and DUIDs",
    why: "machines that ask with one DUID get one address",
    paths: [
      "/var/lib/dhcp/*.lease*",
      "/var/lib/dhclient/*.lease*",
      "/var/lib/dhcpcd/*",
      "/etc/dhcpcd.duid",
      "/var/lib/NetworkManager/*.lease",
      "/var/lib/systemd/network/*",
      "/var/lib/wicked/*.xml",
      "/var/lib/wicked/duid*",
    ],
  },
  "network-mac": {
    what: "network configuration for the MAC addresses of one machine",
    why: "on another machine it fits nothing; cloud-init and udev write it again",
    paths: ["/etc/udev/rules.d/70-persistent-net.rules"],
    foreign: ({ networkByMac }) => networkByMac,
  },
  "cloud-init": {
    what: "cloud-init's instance",
    why: "a machine with the same instance ID, or none, is not set up again",
    paths: [
      "/var/lib/cloud/instance",
      "/var/lib/cloud/instances/*",
      "/var/lib/cloud/data/*",
      "/var/lib/cloud/sem/*",
    ],
  },
  "journal": {
    what: "the journal of the old machine ID",
    why: "it belongs to another machine, and no program on this one shows it",
    paths: [],
    foreign: journals,
  },
  "lvm-devices": {
    what: "LVM's list of devices",
    why: "LVM would use only the old machine's devices, which it lists",
    paths: ["/etc/lvm/devices/system.devices"],
  },
  "service-keys": {
    what: "keys that packages made on installation: snakeoil of ssl-cert, rndc of BIND",
    why: "every machine would have the same private key",
    paths: [
      "/etc/ssl/private/ssl-cert-snakeoil.key",
      "/etc/ssl/certs/ssl-cert-snakeoil.pem",
      "/etc/bind/rndc.key",
      "/etc/rndc.key",
    ],
    finding: ["no-service-keys", "The image does not have the private keys that packages made in the tree"],
  },
  "agent-keys": {
    what: "the identity of agents: Tailscale, Puppet, Salt",
    why: "every machine would be the same one to their servers",
    paths: [
      "/var/lib/tailscale/tailscaled.state",
      "/var/lib/puppet/ssl",
      "/etc/puppetlabs/puppet/ssl",
      "/etc/salt/pki/minion/minion.pem",
      "/etc/salt/pki/minion/minion.pub",
      "/etc/salt/minion_id",
    ],
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

/** What the image leaves out. */
export interface Leftovers {
  /** Rows of the tree to leave out, with everything below. */
  readonly without: ReadonlySet<number>;
  /** Replacements. */
  readonly add: readonly ExtraFile[];
  /** Each kind that was found, with its paths in the tree. */
  readonly found: readonly { readonly kind: LeftoverName; readonly paths: readonly string[] }[];
  readonly findings: readonly Finding[];
}

/** Finds the leftovers in a tree, except the kinds that are kept. */
export function findLeftovers(tree: Facts, keep: readonly LeftoverName[]): Leftovers {
  const { nodes, machineId } = tree;
  const without = new Set<number>();
  const add: ExtraFile[] = [];
  const left: { kind: LeftoverName; paths: readonly string[] }[] = [];
  const findings: Finding[] = [];
  for (const kind of LEFTOVER_NAMES) {
    if (keep.includes(kind)) continue;
    const { paths, empty = [], where, foreign, anywhere, about, finding: absence }: Leftover =
      LEFTOVERS[kind];
    if (where && !where.some((path) => exists(nodes, path))) continue;
    const rows = [
      ...paths.flatMap((path) => matching(nodes, path)),
      ...empty.flatMap((path) => matching(nodes, path)).filter((node) => isEmptyFile(nodes, node)),
      ...foreign?.(tree) ?? [],
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
    if (absence) findings.push(finding(...absence, { path: found[0] }));
    findings.push(...about?.(nodes, rows) ?? []);
  }
  return { without, add, found: left, findings };
}

function isEmptyFile(nodes: Nodes, node: number): boolean {
  return typeOf(nodes, node) === "file" && nodes.size[node] === 0;
}

function rowsWhere(nodes: Nodes, test: (nodes: Nodes, node: number) => boolean): number[] {
  const rows: number[] = [];
  for (let node = 1; node < nodes.count; node++) if (test(nodes, node)) rows.push(node);
  return rows;
}

const WHITEOUT = new TextEncoder().encode(".wh.");

/** Where journald keeps journals, by machine ID; for a namespace, with a dot and its name appended. */
const JOURNALS = "/var/log/journal";

function journals({ nodes }: Facts): number[] {
  return entriesIn(nodes, JOURNALS).filter(({ name }) => /^[0-9a-f]{32}(\.|$)/.test(name)).map(({ node }) =>
    node
  );
}

/** Signs of layers that were unpacked over each other without applying their deletions. */
function* describeWhiteouts(nodes: Nodes, rows: readonly number[]): Iterable<Finding> {
  const files = rows.filter((node) => typeOf(nodes, node) !== "char");
  if (files.length === 0) return;
  const there = files.flatMap((node) => {
    const deleted = childNamed(nodes, nodes.parent[node]!, nameBytes(nodes, node).subarray(WHITEOUT.length));
    return deleted === undefined ? [] : [pathOf(nodes, deleted)];
  });
  const still = there.length ? `; ${listPaths(there)} should not be there` : "";
  yield finding(
    "whiteouts",
    `The tree has ${files.length} marks of container layers that nobody applied${still}`,
    { path: pathOf(nodes, files[0]!) },
  );
}

/** A `.wh.` file of an image layer, or overlayfs's equivalent, a character device 0:0. */
function isWhiteout(nodes: Nodes, node: number): boolean {
  if (typeOf(nodes, node) === "char") return nodes.special[node] === 0;
  const name = nameBytes(nodes, node);
  return WHITEOUT.every((byte, i) => name[i] === byte);
}
