import assert from "node:assert/strict";
import { FINDINGS } from "../../../lib/core/findings.ts";
import { renderTable } from "../../../lib/core/table.ts";
import { MiB } from "../../../lib/core/units.ts";
import type { ExtraFile } from "../../../lib/filesystem/entries.ts";
import { plainPlan, renderPlan } from "../../../lib/plan/describe.ts";
import { type PartitionPlan, planDisk, planPart } from "../../../lib/plan/plan.ts";
import { DEBIAN, factsOf, kernel, NEWEST, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;
const KEYS = [{ path: "/etc/ssh/ssh_host_a_key" }, { path: "/etc/ssh/ssh_host_\u001b[31m_key" }];

const disk = (env: Record<string, string> = {}, tree = factsOf()) => planDisk(settingsOf(env), tree);

Deno.test("plainPlan() is the plan of a disk, as JSON that says all of it", pure, () => {
  const plan = disk({ SIZE_MB: "2000", OUTPUT_FORMAT: "qcow2" });
  // deno-lint-ignore no-explicit-any
  const plain = plainPlan(plan) as any;
  const { partitions, ...rest } = plain;
  assert.equal(rest.builder, "disk-image");
  assert.equal(rest.format, "qcow2");
  assert.equal(rest.size, 2000 * MiB);
  assert.equal(rest.architecture, "x86-64");
  assert.equal(rest.bootLoader.name, "systemd-boot");
  assert.equal(rest.time, NEWEST);
  assert.deepEqual(rest.leftovers, []);
  assert.equal(rest.settings.SIZE_MB, 2000);
  assert.deepEqual(
    partitions.map((each: PartitionPlan) => [each.role, each.typeName, each.label, each.mountPoint]),
    [
      ["esp", "esp", "esp", "/boot/efi"],
      ["xbootldr", "xbootldr", "xbootldr", "/boot"],
      ["root", "root-x86-64", "root", "/"],
    ],
  );
  assert.deepEqual(partitions.map(({ offset, size }: PartitionPlan) => [offset, size]), [
    [MiB, 32 * MiB],
    [33 * MiB, 512 * MiB],
    [545 * MiB, 1454 * MiB],
  ]);
  assert.deepEqual(partitions.map(({ contents }: PartitionPlan) => contents.from), [undefined, "/boot", "/"]);
  const added = partitions[2].contents.add.map(({ path }: ExtraFile) => path);
  assert(added.includes("/etc/fstab"));
  assert.equal(partitions[0].filesystem.findings, undefined);
  assert.deepEqual(
    [rest.findings[0].name, rest.findings[0].level, rest.findings[0].path],
    ["fat-small", "notice", undefined],
  );
  assert.match(rest.findings[0].message, /FAT16/);
  assert.equal(rest.findings[0].hint, FINDINGS["fat-small"].hint);
  assert.equal(plainPlan(disk({ BOOTLOADER: "none" })).bootLoader, undefined);
});

Deno.test(
  "a plan is data: it has no functions, and its JSON has nothing that is private to a writer",
  pure,
  () => {
    const functions = (value: unknown): boolean =>
      typeof value === "function" ||
      typeof value === "object" && value !== null && !ArrayBuffer.isView(value) &&
        Object.values(value).some(functions);
    for (const env of [{}, { FILESYSTEM: "squashfs", VERITY: "hash" }, { FILESYSTEM: "erofs" }]) {
      for (const plan of [disk(env), planPart(settingsOf(env), factsOf())]) {
        assert.equal(functions({ ...plan, settings: undefined }), false);
        const keys = new Set<string>();
        JSON.stringify(plainPlan(plan), (key, value) => {
          keys.add(key);
          return value;
        });
        for (const key of ["writer", "selection", "without", "signer", "recipe"]) {
          assert.ok(
            !keys.has(key),
            key,
          );
        }
      }
    }
  },
);

Deno.test("planDisk() counts what will be written", pure, () => {
  const [, boot] = disk({ BOOTLOADER: "none" }).partitions;
  assert.equal(boot!.filesystem.bytes, 52_000_000);
  // Kernel, initrd and the mount point.
  assert.equal(boot!.filesystem.entries, 3);
});

Deno.test("plainPlan() says all of the plan of a single filesystem", pure, () => {
  // deno-lint-ignore no-explicit-any
  const plain = plainPlan(planPart(settingsOf({ SIZE_MB: "700" }), factsOf())) as any;
  assert.equal(plain.builder, "part-image");
  assert.equal(plain.size, 700 * MiB);
  const [{ filesystem }] = plain.partitions;
  assert.equal(filesystem.type, "ext4");
  assert.equal(filesystem.label, "root");
  assert.match(filesystem.uuid, /^[0-9a-f-]{36}$/);
});

Deno.test("renderPlan() shows each partition in a line of a table", pure, () => {
  const lines = renderPlan(disk({ FREE_MB: "100" }));
  assert.match(lines[0]!, /^disk-image: raw, [\d.]+ MiB, GPT [0-9a-f-]{36}, x86-64$/);
  assert.match(lines[1]!, /^boot loader: systemd-boot, since the tree has \/usr\/lib\/systemd\/boot\/efi/);
  assert.match(lines[2]!, /^kernel options: root=UUID=[0-9a-f-]{36} rw rootfstype=ext4$/);
  assert.match(lines[3]!, /^ ▓▓▓▒{50,}▓{10,}░$/);
  assert.deepEqual(lines.slice(4, 7).map((line) => line.trimEnd().replace(/ {2,}/g, " ")), [
    " │ │ └─ root /",
    " │ └─ xbootldr /boot",
    " └─ esp /boot/efi",
  ]);
  assert.match(lines[7]!, /^# +type +label +mount point +size +filesystem +content$/);
  assert.match(lines[8]!, /^1 +esp +esp +\/boot\/efi +32 MiB +vfat +\d+ entries/);
  assert.match(lines[10]!, /^3 +root-x86-64 +root +\/ .* ext4 .*100\.?\d* MiB free$/);
  for (const line of lines.slice(3, 11)) assert.ok(line.length <= 100, line);
  const part = renderPlan(planPart(settingsOf(), factsOf()));
  assert.match(part[0]!, /^part-image: raw, /);
  assert.match(part[2]!, /ext4 +[0-9a-f-]{36} +\/ of the tree, \d+ entries/);
});

Deno.test("renderPlan() names what is left out, and lets no control character through", pure, () => {
  const tree = factsOf([...DEBIAN, ...KEYS, { path: "/boot/a\u001b[2J", target: "vmlinuz-6.12.48" }], {
    kernelOptions: "quiet",
    osRelease: { PRETTY_NAME: "x" },
    kernels: [kernel("6.12.48")],
  });
  const plan = disk({}, tree);
  const text = renderPlan(plan).join("\n");
  assert.match(text, /^left out: host-keys: 2, "\/etc\/ssh\/ssh_host_\\u001b\[31m_key" …$/m);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  assert.deepEqual(plan.leftovers.map(({ kind, paths }) => [kind, paths.length]), [["host-keys", 2]]);
});

Deno.test("renderTable() makes columns as wide as their widest cell", pure, () => {
  assert.deepEqual(renderTable([["a", "bb", ""], ["ccc", "d", "e"]]), ["a    bb", "ccc  d   e"]);
  assert.deepEqual(renderTable([]), []);
});
