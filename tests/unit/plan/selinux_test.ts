import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { attributesOf, entryPath, type Selection } from "../../../lib/filesystem/contents.ts";
import { xattrsIn } from "../../../lib/filesystem/labels.ts";
import { plainPlan, renderPlan } from "../../../lib/plan/describe.ts";
import { planDisk, planPart } from "../../../lib/plan/plan.ts";
import { buildNodes, type NodeInput, type NodesBuilder } from "../../../lib/tree/builder.ts";
import { dropHostLabels } from "../../../lib/tree/labels.ts";
import type { SelinuxPolicy } from "../../../lib/tree/selinux.ts";
import { DEBIAN, factsOf, kernel, settingsOf } from "../../lab/facts.ts";
import { planLayout } from "../../lab/layouts.ts";

const pure = { permissions: "none" } as const;

const decoder = new TextDecoder();

const AUTORELABEL = "/.autorelabel";

/** A policy that gives each path a label of its own, and none to what is below /proc. */
const POLICY: SelinuxPolicy = {
  type: "targeted",
  enforcing: true,
  labelsIn: (directory) => (name, mode) =>
    directory.startsWith("/proc/") ? undefined : `u:r:${directory}${name}:${mode.toString(8)}`,
};
const { labelsIn: _, ...BARE } = POLICY;

const labelled = (label: string) => ({
  xattrs: [{ name: "security.selinux", value: new TextEncoder().encode(`${label}\0`) }],
});
const LABELLED: readonly NodeInput[] = [
  { path: "/", ...labelled("u:r:root_t:s0") },
  ...DEBIAN.map((input) => ({ ...input, ...labelled("u:r:own_t:s0") })),
];

/** The label of each entry, by its path in the filesystem. */
function labelsOf(selection: Selection): Map<string, string | undefined> {
  return new Map(Array.from({ length: selection.count }, (_, entry) => {
    const value = xattrsIn(selection, entry).find(({ name }) => name === "security.selinux")?.value;
    return [entryPath(selection, entry), value && decoder.decode(value)];
  }));
}

const tree = (selinux?: SelinuxPolicy, list = DEBIAN) =>
  factsOf(list, { kernels: [kernel("6.12.48")], ...selinux && { selinux } });

/** The selection that the writer of an ext4 has: with its lost+found. */
function written(plan: ReturnType<typeof planDisk>["partitions"][number]): Selection {
  assert(plan.filesystem.type === "ext4");
  return plan.filesystem.writer.selection;
}

Deno.test("planDisk() labels what is in the tree, what it adds, and what the filesystem adds", pure, () => {
  const { partitions, selinux } = planDisk(settingsOf({ BOOTLOADER: "none" }), tree(POLICY));
  assert.equal(selinux.labels, "policy");
  const labels = labelsOf(written(partitions.at(-1)!));
  for (
    const [path, mode] of [
      ["/", "40755"],
      ["/usr/sbin/init", "100755"],
      ["/etc/os-release", "120777"],
      ["/etc/fstab", "100644"],
      ["/boot", "40755"],
      ["/efi", "40755"],
      ["/lost+found", "40700"],
    ] as const
  ) {
    assert.equal(labels.get(path), `u:r:${path}:${mode}\0`);
  }
  assert.ok([...labels.values()].every((label) => label !== undefined));
});

Deno.test("planDisk() labels what is in an ext4 boot partition by its place below /boot", pure, () => {
  const list = [...DEBIAN, { path: "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", size: 5 }];
  const { partitions } = planDisk(settingsOf({ BOOTLOADER: "grub" }), tree(POLICY, list));
  const [esp, boot] = partitions as [typeof partitions[number], typeof partitions[number]];
  const labels = labelsOf(written(boot));
  assert.equal(labels.get("/"), "u:r:/boot:40755\0");
  assert.equal(labels.get("/vmlinuz-6.12.48"), "u:r:/boot/vmlinuz-6.12.48:100644\0");
  assert.equal(labels.get("/lost+found"), "u:r:/boot/lost+found:40700\0");
  // FAT has no labels.
  assert.equal(esp.selection.labels, undefined);
});

Deno.test("planDisk() labels what is in the partitions of a layout by its place in the system", pure, () => {
  const list = [...DEBIAN, { path: "/var/lib/x" }, { path: "/var/tmp/y" }, { path: "/opt/tool" }, {
    path: AUTORELABEL,
  }];
  const { partitions } = planLayout(
    {
      "10-root": "Type=root",
      "20-var": "Type=var;Format=erofs",
      "30-second": "Type=var;Format=ext4;CopyFiles=/opt:/lib;MountPoint=/srv/data",
      "40-data": "Type=linux-generic;Format=ext4;CopyFiles=/opt/tool:/tool",
    },
    { BOOTLOADER: "none" },
    tree(POLICY, list),
  );
  const [root, ...others] = partitions.map((partition) => labelsOf(partition.selection));
  assert.ok(!root!.has(AUTORELABEL));
  assert.equal(root!.get("/var"), "u:r:/var:40755\0");
  assert.deepEqual(others.map((labels) => [...labels].filter(([path]) => /^\/(lib|tool)?$/.test(path))), [
    [["/", "u:r:/var:40755\0"], ["/lib", "u:r:/var/lib:40755\0"]],
    [["/", "u:r:/srv/data:40755\0"], ["/lib", "u:r:/srv/data/lib:40755\0"]],
    [["/", "u:r:/:40755\0"], ["/tool", "u:r:/tool:100644\0"]],
  ]);
});

Deno.test("planDisk() leaves the label of FAT to the kernel, which has it from the policy", pure, () => {
  const fstab = (selinux?: SelinuxPolicy) => {
    const { partitions } = planDisk(settingsOf({ BOOTLOADER: "none" }), tree(selinux));
    return partitions.at(-1)!.contents.add.find(({ path }) => path === "/etc/fstab");
  };
  assert.deepEqual(fstab(POLICY), fstab());
});

Deno.test(
  "planPart() labels a directory by its place in the tree, in every filesystem with labels",
  pure,
  () => {
    for (const FILESYSTEM of ["ext4", "squashfs", "erofs"]) {
      const plan = planPart(settingsOf({ FILESYSTEM, DIRECTORY: "/usr/" }), tree(POLICY));
      const labels = labelsOf(plan.partitions[0].selection);
      assert.equal(labels.get("/"), "u:r:/usr:40755\0", FILESYSTEM);
      assert.equal(labels.get("/sbin/init"), "u:r:/usr/sbin/init:100755\0", FILESYSTEM);
    }
  },
);

Deno.test("planPart() counts what labels take: a block for each inode that has no room left", pure, () => {
  const xattrs = [{ name: "user.x", value: new Uint8Array(60) }];
  const blocks = (SELINUX: string) => {
    const list = DEBIAN.map((input) => ({ ...input, xattrs }));
    const { filesystem } = planPart(settingsOf({ SELINUX }), tree(POLICY, list)).partitions[0];
    assert(filesystem.type === "ext4");
    return filesystem.writer.allocation.totalBlocks;
  };
  assert.equal(blocks("policy") - blocks("none"), DEBIAN.length);
});

Deno.test.each([
  { name: "a policy", selinux: POLICY, env: {}, labels: "policy" },
  { name: "no policy", selinux: undefined, env: {}, labels: "none" },
  { name: "a policy without file_contexts", selinux: BARE, env: {}, labels: "tree" },
  { name: "SELINUX=policy", selinux: POLICY, env: { SELINUX: "policy" }, labels: "policy" },
  { name: "SELINUX=tree", selinux: POLICY, env: { SELINUX: "tree" }, labels: "tree" },
  { name: "SELINUX=none", selinux: POLICY, env: { SELINUX: "none" }, labels: "none" },
  { name: "no policy, but labels", selinux: undefined, env: {}, labels: "tree" },
  { name: "FAT", selinux: POLICY, env: { FILESYSTEM: "vfat", DIRECTORY: "/boot" }, labels: "none" },
])("planPart() decides whose labels the image has: $name", pure, ({ selinux, env, labels }) => {
  const list = labels === "none" && !selinux ? DEBIAN : LABELLED;
  const plan = planPart(settingsOf(env as Record<string, string>), tree(selinux, list));
  assert.equal(plan.selinux.labels, labels);
  const said = renderPlan(plan).filter((line) => line.startsWith("SELinux labels: "));
  assert.equal(said.length, list === LABELLED ? 1 : 0);
  assert.equal((plainPlan(plan).selinux as { labels: string }).labels, labels);
  if (env.FILESYSTEM) return;
  const found = labelsOf(plan.partitions[0].selection).get("/usr/sbin/init");
  const expected = { policy: "u:r:/usr/sbin/init:100755\0", tree: "u:r:own_t:s0\0", none: undefined };
  assert.equal(found, expected[labels as keyof typeof expected]);
});

Deno.test.each([
  { env: { SELINUX: "policy" }, selinux: undefined, says: /has no \/etc\/selinux\/config with SELINUXTYPE/ },
  { env: { SELINUX: "policy" }, selinux: BARE, says: /targeted\/contexts\/files\/file_contexts/ },
  {
    env: { SELINUX: "tree", FILESYSTEM: "vfat" },
    selinux: POLICY,
    says: /SELINUX=tree with FILESYSTEM=vfat/,
  },
])("planPart() refuses labels that it cannot give: $says", pure, ({ env, selinux, says }) => {
  assert.throws(
    () => planPart(settingsOf(env as unknown as Record<string, string>), tree(selinux)),
    (error) => error instanceof BuildError && error.kind === "usage" && says.test(error.message),
  );
});

Deno.test("With the tree's labels what is new gets that of its directory, as from the kernel", pure, () => {
  const env = { BOOTLOADER: "none", SELINUX: "tree" };
  const { partitions } = planDisk(settingsOf(env), tree(undefined, LABELLED));
  const root = written(partitions.at(-1)!);
  const labels = labelsOf(root);
  assert.equal(labels.get("/efi"), "u:r:root_t:s0\0");
  assert.equal(labels.get("/lost+found"), "u:r:root_t:s0\0");
  assert.equal(labels.get("/etc/fstab"), "u:r:own_t:s0\0");
  const efi = Array.from({ length: root.count }, (_, entry) => entry)
    .find((entry) => entryPath(root, entry) === "/efi")!;
  assert.equal(attributesOf(root, efi), undefined);
});

Deno.test(
  "Labels of the container that the tree is in are in no image, and only matter without a policy",
  pure,
  () => {
    for (const type of ["container_file_t", "container_ro_file_t", "svirt_sandbox_file_t"]) {
      const list = [{ path: "/" }, ...DEBIAN].map((input) => ({
        ...input,
        ...labelled(`system_u:object_r:${type}:s0:c12,c900`),
      }));
      for (const SELINUX of ["auto", "tree", "none"]) {
        for (const selinux of [undefined, POLICY, BARE]) {
          const nodes = buildNodes(list) as NodesBuilder;
          const hostLabels = dropHostLabels(nodes)!;
          const facts = { ...factsOf(list, { ...selinux && { selinux }, hostLabels }), nodes };
          const plan = planPart(settingsOf({ SELINUX }), facts);
          for (const found of labelsOf(plan.partitions[0].selection).values()) {
            assert.ok(!found?.includes(type), `${SELINUX} ${type}`);
          }
          const isSaid = plan.findings.some(({ name }) => name.startsWith("selinux-"));
          assert.equal(isSaid, plan.selinux.labels === "tree" || !selinux && SELINUX === "auto");
        }
      }
    }
  },
);

/** Every directory on the way has a label, too. */
const COMPLETE: readonly NodeInput[] = [
  ...LABELLED.flatMap(({ path }) =>
    path.split("/").slice(1, -1).map((_, i, names) => ({
      path: `/${names.slice(0, i + 1).join("/")}`,
      type: "directory" as const,
      ...labelled("u:r:own_t:s0"),
    }))
  ),
  ...LABELLED,
];
const VOLATILE = ["/proc/1", "/dev/pts/1", "/run/a/b", "/tmp/x"].map((path) => ({ path }));
const RELABELS: readonly NodeInput[] = [...DEBIAN, { path: AUTORELABEL }];

Deno.test.each([
  { name: "labels of the policy", selinux: POLICY, list: RELABELS, env: {}, has: false },
  { name: "missing labels", selinux: BARE, list: DEBIAN, env: {}, has: true },
  { name: "missing labels, as asked", selinux: POLICY, list: DEBIAN, env: { SELINUX: "tree" }, has: true },
  { name: "none", selinux: POLICY, list: DEBIAN, env: { SELINUX: "none" }, has: false },
  { name: "none, in a tree with it", selinux: POLICY, list: RELABELS, env: { SELINUX: "none" }, has: true },
  {
    name: "permissive, as the kernel is told",
    selinux: BARE,
    list: DEBIAN,
    env: {},
    options: "x enforcing=0",
    has: false,
  },
  {
    name: "enforcing, as the kernel is told",
    selinux: { ...BARE, enforcing: false },
    list: DEBIAN,
    env: {},
    options: "enforcing=1 x",
    has: true,
  },
  { name: "permissive", selinux: { ...BARE, enforcing: false }, list: DEBIAN, env: {}, has: false },
  { name: "all labels", selinux: BARE, list: COMPLETE, env: {}, has: false },
  {
    name: "all labels that a policy gives",
    selinux: BARE,
    list: [...COMPLETE, ...VOLATILE],
    env: {},
    has: false,
  },
  { name: "read-only", selinux: BARE, list: DEBIAN, env: { FILESYSTEM: "erofs" }, has: false, warns: true },
])("planPart() has the system label itself only when it must: $name", pure, (row) => {
  const { selinux, list, env, options, has, warns = has && list === DEBIAN } = row;
  const plan = planPart(settingsOf(env as Record<string, string>), {
    ...tree(selinux, list),
    ...options && { kernelOptions: options },
  });
  assert.equal(labelsOf(plan.partitions[0].selection).has(AUTORELABEL), has);
  assert.equal(plan.findings.some(({ name }) => name === "selinux-labels"), warns);
});
