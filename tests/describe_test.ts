import { renderTable } from "../lib/core/table.ts";
import assert from "node:assert/strict";
import { describeDisk, describePart, renderDescription } from "../lib/plan/describe.ts";
import { planDisk, planPart } from "../lib/plan/plan.ts";
import { MiB } from "../lib/core/units.ts";
import { DEBIAN, factsOf, kernel, NEWEST, settingsOf } from "./facts.ts";

const pure = { permissions: "none" } as const;
const KEYS = [{ path: "/etc/ssh/ssh_host_a_key" }, { path: "/etc/ssh/ssh_host_\u001b[31m_key" }];

const disk = (env: Record<string, string> = {}, tree = factsOf()) =>
  describeDisk(planDisk(settingsOf(env), tree));

Deno.test("describeDisk() is plain data that says all of the plan", pure, () => {
  const description = disk({ SIZE_MB: "2000", OUTPUT_FORMAT: "qcow2" });
  assert.deepEqual(JSON.parse(JSON.stringify(description)), description);
  const { partitions, ...rest } = description;
  assert.equal(rest.builder, "disk-image");
  assert.equal(rest.format, "qcow2");
  assert.equal(rest.size, 2000 * MiB);
  assert.equal(rest.architecture, "x86-64");
  assert.equal(rest.bootLoader, "systemd-boot");
  assert.equal(rest.sourceDateEpoch, NEWEST);
  assert.deepEqual(rest.leftOut, {});
  assert.deepEqual(
    partitions.map(({ role, typeName, label, mountPoint }) => [role, typeName, label, mountPoint]),
    [
      ["esp", "esp", "esp", "/boot/efi"],
      ["xbootldr", "xbootldr", "xbootldr", "/boot"],
      ["root", "root-x86-64", "root", "/"],
    ],
  );
  assert.deepEqual(partitions.map(({ offset, size }) => [offset, size]), [
    [MiB, 32 * MiB],
    [33 * MiB, 512 * MiB],
    [545 * MiB, 1454 * MiB],
  ]);
  assert.deepEqual(partitions.map(({ from }) => from), [undefined, "/boot", "/"]);
  assert(partitions[2]!.added.includes("/etc/fstab"));
  assert.match(partitions[0]!.notices[0]!, /FAT16/);
  assert.equal(disk({ BOOTLOADER: "none" }).bootLoader, null);
});

Deno.test("describeDisk() counts what will be written", pure, () => {
  const [, boot] = disk({ BOOTLOADER: "none" }).partitions;
  assert.equal(boot!.contentBytes, 52_000_000);
  // Kernel, initrd and the mount point.
  assert.equal(boot!.entries, 3);
});

Deno.test("describePart() says all of the plan of a single filesystem", pure, () => {
  const description = describePart(planPart(settingsOf({ SIZE_MB: "700" }), factsOf()));
  assert.deepEqual(JSON.parse(JSON.stringify(description)), description);
  assert.equal(description.builder, "part-image");
  assert.equal(description.size, 700 * MiB);
  assert.equal(description.filesystem, "ext4");
  assert.equal(description.filesystemLabel, "root");
  assert.match(description.filesystemUuid, /^[0-9a-f-]{36}$/);
});

Deno.test("renderDescription() shows each partition in a line of a table", pure, () => {
  const lines = renderDescription(disk({ FREE_MB: "100" }));
  assert.match(lines[0]!, /^disk-image: raw, [\d.]+ MiB, GPT [0-9a-f-]{36}, x86-64$/);
  assert.match(lines[1]!, /^boot loader: systemd-boot, since the tree has \/usr\/lib\/systemd\/boot\/efi/);
  assert.match(lines[2]!, /^kernel options: root=PARTUUID=[0-9a-f-]{36} rw$/);
  assert.match(lines[3]!, /^# +type +label +mount point +partition UUID +offset +size +filesystem/);
  assert.match(
    lines[4]!,
    /^1 +esp +esp +\/boot\/efi +[0-9a-f-]{36} +1 MiB +32 MiB +vfat +[0-9A-F]{4}-[0-9A-F]{4} /,
  );
  assert.match(lines[6]!, /^3 +root-x86-64 +root +\/ +[0-9a-f-]{36} +545 MiB .* ext4 .*100\.?\d* MiB free$/);
  const part = renderDescription(describePart(planPart(settingsOf(), factsOf())));
  assert.match(part[0]!, /^part-image: raw, /);
  assert.match(part[2]!, /ext4 +[0-9a-f-]{36} +\/ of the tree, \d+ entries/);
});

Deno.test("renderDescription() names what is left out, and lets no control character through", pure, () => {
  const tree = factsOf([...DEBIAN, ...KEYS, { path: "/boot/a\u001b[2J", target: "vmlinuz-6.12.48" }], {
    kernelOptions: "quiet",
    osRelease: { PRETTY_NAME: "x" },
    kernels: [kernel("6.12.48")],
  });
  const description = disk({}, tree);
  const text = renderDescription(description).join("\n");
  assert.match(text, /^left out: host-keys: 2, "\/etc\/ssh\/ssh_host_\\u001b\[31m_key" …$/m);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  assert.equal(description.leftOut["host-keys"]!.length, 2);
});

Deno.test("renderTable() makes columns as wide as their widest cell", pure, () => {
  assert.deepEqual(renderTable([["a", "bb", ""], ["ccc", "d", "e"]]), ["a    bb", "ccc  d   e"]);
  assert.deepEqual(renderTable([]), []);
});
