import assert from "node:assert/strict";
import { entryPath } from "../../../lib/filesystem/contents.ts";
import { findLeftovers, LEFTOVER_NAMES, type LeftoverName } from "../../../lib/plan/leftovers.ts";
import { systemdVersion } from "../../../lib/plan/machine-id.ts";
import { type PartPlan, planDisk, planPart } from "../../../lib/plan/plan.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import type { Tree } from "../../../lib/tree/inspect.ts";
import { lookup } from "../../../lib/tree/nodes.ts";
import { DEBIAN, factsOf, kernel, settingsOf, SYSTEMD } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;
const ID = "0123456789abcdef0123456789abcdef\n";

/** For each kind what a tree may have of it, and beside it what looks alike and stays. */
const EXAMPLES: Record<LeftoverName, { gone: NodeInput[]; kept: NodeInput[] }> = {
  "whiteouts": {
    gone: [
      { path: "/usr/share/.wh.doc" },
      { path: "/.wh..wh..opq" },
      { path: "/var/.wh.dir/below" },
      { path: "/usr/share/zero", type: "char", device: [0, 0] },
      { path: "/boot/.wh.vmlinuz-1" },
    ],
    kept: [
      { path: "/usr/share/.whx" },
      { path: "/usr/share/wh.file" },
      { path: "/dev/null", type: "char", device: [1, 3] },
      { path: "/dev/zero", type: "block", device: [0, 0] },
    ],
  },
  "container-marks": {
    gone: [{ path: "/.dockerenv" }, { path: "/run/.containerenv" }],
    kept: [{ path: "/root/.dockerenv" }],
  },
  "machine-id": {
    gone: [{ path: "/var/lib/dbus/machine-id", size: 33 }],
    kept: [{ path: "/etc/machine-info" }],
  },
  "random-seed": {
    gone: [
      { path: "/var/lib/systemd/random-seed", size: 512 },
      { path: "/boot/loader/random-seed", size: 32 },
      { path: "/boot/efi/loader/random-seed", size: 32 },
      { path: "/var/lib/seedrng/seed.credit" },
    ],
    kept: [{ path: "/var/lib/systemd/timers/x" }, { path: "/usr/bin/random-seed" }],
  },
  "credential-secret": {
    gone: [{ path: "/var/lib/systemd/credential.secret", mode: 0o400 }],
    kept: [{ path: "/etc/credstore/x" }],
  },
  "host-keys": {
    gone: [
      { path: "/etc/ssh/ssh_host_ed25519_key", mode: 0o600 },
      { path: "/etc/ssh/ssh_host_ed25519_key.pub" },
      { path: "/etc/ssh/ssh_host_rsa_key", target: "/nowhere" },
    ],
    kept: [
      { path: "/etc/ssh/sshd_config" },
      { path: "/etc/ssh/ssh_host_key" },
      { path: "/root/.ssh/id_ed25519" },
    ],
  },
  "container-files": {
    gone: [
      { path: "/usr/sbin/policy-rc.d", mode: 0o755, size: 20 },
      { path: "/etc/resolv.conf" },
      { path: "/etc/hostname" },
      { path: "/etc/dpkg/dpkg.cfg.d/docker-apt-speedup" },
    ],
    kept: [{ path: "/etc/hosts", size: 20 }, { path: "/etc/apt/apt.conf.d/docker-clean" }],
  },
  "apple-double": { gone: [{ path: "/usr/bin/._tool", size: 100 }], kept: [{ path: "/usr/bin/._other" }] },
  "iscsi-initiator": {
    gone: [{ path: "/etc/iscsi/initiatorname.iscsi" }],
    kept: [{ path: "/etc/iscsi/iscsid.conf" }],
  },
  "nvme-host": {
    gone: [{ path: "/etc/nvme/hostid" }, { path: "/etc/nvme/hostnqn" }],
    kept: [{ path: "/etc/nvme/discovery.conf" }],
  },
  "network-secret": {
    gone: [{ path: "/var/lib/NetworkManager/secret_key" }],
    kept: [{ path: "/etc/NetworkManager/NetworkManager.conf" }],
  },
  "dhcp": {
    gone: [
      { path: "/var/lib/dhcp/dhclient.eth0.leases" },
      { path: "/var/lib/dhcpcd/duid" },
      { path: "/var/lib/NetworkManager/internal-x-eth0.lease" },
    ],
    kept: [{ path: "/etc/dhcp/dhclient.conf" }, { path: "/etc/dhcpcd.conf" }],
  },
  "network-mac": {
    gone: [{ path: "/etc/netplan/50-cloud-init.yaml" }, {
      path: "/etc/udev/rules.d/70-persistent-net.rules",
    }],
    kept: [{ path: "/etc/netplan/60-static.yaml" }, { path: "/etc/udev/rules.d/80-other.rules" }],
  },
  "cloud-init": {
    gone: [
      { path: "/var/lib/cloud/instance", target: "/var/lib/cloud/instances/i-1" },
      { path: "/var/lib/cloud/instances/i-1/sem/x" },
      { path: "/var/lib/cloud/data/instance-id" },
    ],
    kept: [{ path: "/var/lib/cloud/seed/nocloud/user-data" }, { path: "/etc/cloud/cloud.cfg" }],
  },
  "journal": {
    gone: [
      { path: `/var/log/journal/${ID.trim()}/system.journal` },
      { path: `/var/log/journal/${ID.trim()}.web/system.journal` },
    ],
    kept: [{ path: "/var/log/journal/remote/x.journal" }],
  },
  "lvm-devices": {
    gone: [{ path: "/etc/lvm/devices/system.devices" }],
    kept: [{ path: "/etc/lvm/lvm.conf" }],
  },
  "service-keys": {
    gone: [
      { path: "/etc/bind/rndc.key" },
      { path: "/etc/ssl/certs/ssl-cert-snakeoil.pem" },
      { path: "/etc/ssl/private/ssl-cert-snakeoil.key" },
    ],
    kept: [{ path: "/etc/ssl/private/own.key" }],
  },
  "agent-keys": {
    gone: [{ path: "/var/lib/tailscale/tailscaled.state" }, { path: "/var/lib/puppet/ssl/x" }],
    kept: [{ path: "/var/lib/tailscale/other" }],
  },
  "package-cache": {
    gone: [
      { path: "/var/cache/apt/pkgcache.bin", size: 9_000_000 },
      { path: "/var/cache/apt/archives/bash_5_amd64.deb" },
      { path: "/var/lib/apt/lists/mirror.example_dists" },
      { path: "/var/lib/apt/lists/partial", type: "directory" },
      { path: "/var/cache/dnf/fedora/repodata/x" },
    ],
    kept: [
      { path: "/var/cache/apt/archives/lock" },
      { path: "/var/lib/apt/extended_states" },
      { path: "/var/cache/man/index.db" },
      { path: "/usr/share/x.deb" },
    ],
  },
};

/** Facts about a tree in which the rows of some paths have the contents that make them leftovers. */
function treeOf(list: readonly NodeInput[], more: Partial<Omit<Tree, "nodes">> = {}): Tree {
  const tree = factsOf(list, more);
  const rows = (path: string) => [lookup(tree.nodes, path)].filter((node) => node !== undefined);
  return {
    ...tree,
    appleDouble: rows("/usr/bin/._tool"),
    networkByMac: rows("/etc/netplan/50-cloud-init.yaml"),
  };
}

const EVERYTHING = Object.values(EXAMPLES).flatMap(({ gone, kept }) => [...gone, ...kept]);

/** The paths of a plan's filesystems, as they are in the running system. */
function installed(list: readonly NodeInput[], keep: string, machineId = ID): Set<string> {
  const { partitions } = planDisk(
    settingsOf({ KEEP: keep }),
    treeOf(list, { machineId, kernels: [kernel("6.12.48")] }),
  );
  return new Set(partitions.flatMap(({ selection, mountPoint }) =>
    Array.from(
      { length: selection.count },
      (_, entry) => `${mountPoint}${entryPath(selection, entry)}`.replace(/^\/\//, "/"),
    )
  ));
}

for (const kind of LEFTOVER_NAMES) {
  Deno.test(`LEFTOVERS.${kind} is left out unless KEEP names it`, pure, () => {
    const { gone, kept } = EXAMPLES[kind];
    const list = [...DEBIAN, ...EVERYTHING];
    const others = LEFTOVER_NAMES.filter((name) => name !== kind).join(",");
    for (const keep of ["none", others]) {
      const found = installed(list, keep);
      for (const { path } of gone) assert(!found.has(path), `${path} with KEEP=${keep}`);
      for (const { path } of kept) assert(found.has(path), `${path} with KEEP=${keep}`);
    }
    for (const keep of ["all", kind]) {
      const found = installed(list, keep);
      for (const { path } of [...gone, ...kept]) assert(found.has(path), `${path} with KEEP=${keep}`);
    }
  });
}

Deno.test("planPart() leaves out the same", pure, () => {
  const tree = treeOf([...DEBIAN, ...EVERYTHING], { machineId: ID });
  const paths = ({ partitions: [{ selection }] }: PartPlan) =>
    Array.from({ length: selection.count }, (_, entry) => entryPath(selection, entry));
  const found = paths(planPart(settingsOf(), tree));
  for (const { gone, kept } of Object.values(EXAMPLES)) {
    for (const { path } of gone) assert(!found.includes(path), path);
    for (const { path } of kept) assert(found.includes(path), path);
  }
  assert.equal(paths(planPart(settingsOf({ KEEP: "all" }), tree)).length, tree.nodes.count);
});

Deno.test("findLeftovers() says what it found, and nothing of a clean tree", pure, () => {
  const clean = findLeftovers(factsOf(), []);
  assert.deepEqual([clean.found, clean.add, clean.findings, clean.without.size], [[], [], [], 0]);
  const { found, findings } = findLeftovers(treeOf([...DEBIAN, ...EVERYTHING], { machineId: ID }), []);
  assert.deepEqual(found.map(({ kind }) => kind), LEFTOVER_NAMES);
  const keys = found.find(({ kind }) => kind === "host-keys");
  assert.deepEqual(keys!.paths, EXAMPLES["host-keys"].gone.map(({ path }) => path).toSorted());
  assert.deepEqual(findings.map(({ name, path }) => [name, path]), [
    ["whiteouts", "/.wh..wh..opq"],
    ["no-host-keys", found.find(({ kind }) => kind === "host-keys")!.paths[0]],
    ["no-service-keys", "/etc/bind/rndc.key"],
  ]);
});

Deno.test(
  "findLeftovers() follows links on the way inside the tree, and removes the link and not its target",
  pure,
  () => {
    const tree = factsOf([
      { path: "/etc", target: "../../../usr/etc" },
      { path: "/usr/etc/ssh/ssh_host_rsa_key" },
      { path: "/var/lib/systemd/random-seed", target: "/usr/seed" },
      { path: "/usr/seed" },
      { path: "/var/lib/apt/lists", target: "/var/lib/apt/lists" },
      { path: "/var/cache/dnf", size: 5 },
    ]);
    const { found } = findLeftovers(tree, []);
    assert.deepEqual(Object.fromEntries(found.map(({ kind, paths }) => [kind, paths])), {
      "random-seed": ["/var/lib/systemd/random-seed"],
      "host-keys": ["/usr/etc/ssh/ssh_host_rsa_key"],
    });
  },
);

/** What becomes of /etc/machine-id: its text, `kept`, or `gone`. */
function machineId(text: string | undefined, list: readonly NodeInput[]): string {
  const tree = factsOf(list, text === undefined ? {} : { machineId: text });
  const { partitions: [{ contents, selection }] } = planPart(settingsOf(), tree);
  const addition = contents.add.find(({ path }) => path === "/etc/machine-id");
  if (addition?.type === "file") return addition.text;
  for (let entry = 0; entry < selection.count; entry++) {
    if (entryPath(selection, entry) === "/etc/machine-id") return "kept";
  }
  return "gone";
}

const FILE: NodeInput = { path: "/etc/machine-id", size: 33, mode: 0o444 };
/** A tree whose systemd-firstboot has an answer to everything, and what makes it ask. */
const ASKING: NodeInput[] = [
  FILE,
  { path: SYSTEMD },
  { path: "/usr/lib/systemd/system/sysinit.target.wants/systemd-firstboot.service", target: "../x" },
  { path: "/etc/localtime", target: "/usr/share/zoneinfo/UTC" },
  { path: "/etc/shadow" },
  { path: "/usr/lib/locale/C.utf8", type: "directory" },
];
const LOCALES: NodeInput[] = [{ path: "/usr/lib/locale/locale-archive", size: 9 }];
const without = (path: string) => ASKING.filter((input) => input.path !== path);
const library = (path: string): NodeInput => ({ path });

Deno.test.each<{ name: string; text: string | undefined; list: NodeInput[]; is: string }>([
  { name: "systemd 257", text: ID, list: [FILE, library(SYSTEMD)], is: "uninitialized\n" },
  {
    name: "systemd 247 of Debian 11",
    text: ID,
    list: [FILE, library("/lib/systemd/libsystemd-shared-247.so")],
    is: "uninitialized\n",
  },
  {
    name: "systemd 246",
    text: ID,
    list: [FILE, library("/usr/lib/systemd/libsystemd-shared-246.so")],
    is: "",
  },
  {
    name: "systemd of Fedora",
    text: ID,
    list: [FILE, library("/usr/lib64/systemd/libsystemd-shared-258.1-1.fc43.so")],
    is: "uninitialized\n",
  },
  { name: "no systemd", text: ID, list: [FILE], is: "gone" },
  {
    name: "without a newline",
    text: ID.trim(),
    list: [FILE, library(SYSTEMD)],
    is: "uninitialized\n",
  },
  { name: "a first boot that would ask for a locale", text: ID, list: [...ASKING, ...LOCALES], is: "" },
  {
    name: "a first boot that would ask for the time zone",
    text: ID,
    list: without("/etc/localtime"),
    is: "",
  },
  { name: "a first boot that would ask for a password", text: ID, list: without("/etc/shadow"), is: "" },
  { name: "a first boot that asks nothing", text: ID, list: ASKING, is: "uninitialized\n" },
  {
    name: "a first boot that knows the locale",
    text: ID,
    list: [...ASKING, ...LOCALES, { path: "/etc/locale.conf" }],
    is: "uninitialized\n",
  },
  {
    name: "a first boot that is masked",
    text: ID,
    list: [...ASKING, ...LOCALES, {
      path: "/etc/systemd/system/systemd-firstboot.service",
      target: "/dev/null",
    }],
    is: "uninitialized\n",
  },
  { name: "empty", text: "", list: [FILE, library(SYSTEMD)], is: "kept" },
  { name: "uninitialized", text: "uninitialized\n", list: [FILE, library(SYSTEMD)], is: "kept" },
  { name: "missing", text: undefined, list: [library(SYSTEMD)], is: "gone" },
  {
    name: "a link",
    text: ID,
    list: [{ path: "/etc/machine-id", target: "../var/lib/dbus/machine-id" }, library(SYSTEMD)],
    is: "uninitialized\n",
  },
])("findLeftovers() resets the machine ID as systemd recommends: $name", pure, ({ text, list, is }) => {
  assert.equal(machineId(text, list), is);
});

Deno.test("systemdVersion() is nothing without systemd", pure, () => {
  assert.equal(systemdVersion(factsOf([{ path: "/sbin/init" }]).nodes), undefined);
  assert.equal(
    systemdVersion(factsOf([{ path: "/usr/lib/systemd/libsystemd-shared-x.so" }]).nodes),
    undefined,
  );
});
