import assert from "node:assert/strict";
import { planRootOptions } from "../../../lib/plan/root-options.ts";

const pure = { permissions: "none" } as const;

const EXT4 = { filesystem: "ext4", readOnly: false, uuid: "f", partitionUuid: "p" };

Deno.test(
  "planRootOptions() names the filesystem for an initrd, the partition for a kernel without one",
  pure,
  () => {
    const { options, bare, findings } = planRootOptions("", EXT4);
    assert.deepEqual(options, ["root=UUID=f", "rw", "rootfstype=ext4"]);
    assert.deepEqual(bare, ["root=PARTUUID=p", "rw", "rootfstype=ext4"]);
    assert.deepEqual(findings, []);
  },
);

Deno.test("planRootOptions() names the partition where the filesystem has no UUID", pure, () => {
  const { options } = planRootOptions("", { ...EXT4, filesystem: "squashfs", readOnly: true, uuid: "" });
  assert.deepEqual(options, ["root=PARTUUID=p", "ro", "rootfstype=squashfs"]);
});

Deno.test.each<{ name: string; line: string; flags?: string; bare?: string; mode?: "ro" }>([
  {
    name: "Debian's",
    line: "UUID=1 / ext4 errors=remount-ro 0 1",
    flags: "errors=remount-ro",
    bare: "errors=remount-ro",
  },
  { name: "none", line: "UUID=1 / ext4" },
  { name: "defaults", line: "/dev/sda1 / ext4 defaults 0 1" },
  {
    name: "what is for mount alone",
    line: "UUID=1 / ext4 defaults,rw,x-systemd.growfs,nofail,_netdev,comment=a 0 1",
  },
  {
    name: "what is for other programs",
    line: "UUID=1 / ext4 X-fstrim.notrim,X-mount.owner=root,nobootwait,silent,user=a,loop=/dev/loop0,acl 0 1",
    flags: "acl",
    bare: "acl",
  },
  {
    name: "flags, which the kernel itself does not take",
    line: "UUID=1 / ext4 noatime,discard 0 1",
    flags: "noatime,discard",
    bare: "discard",
  },
  { name: "only flags", line: "UUID=1 / ext4 relatime,nodiratime 0 1", flags: "relatime,nodiratime" },
  { name: "read-only", line: "UUID=1\t/\text4\tro,noatime\t0\t1", flags: "noatime", mode: "ro" },
  { name: "another disk's journal", line: "UUID=1 / ext4 journal_dev=0x801 0 1" },
  {
    name: "a root that is written as //",
    line: "UUID=1 // ext4 commit=60 0 1",
    flags: "commit=60",
    bare: "commit=60",
  },
])(
  "planRootOptions() takes the options of the tree's line for /: $name",
  pure,
  ({ line, flags, bare, mode = "rw" }) => {
    const found = planRootOptions(`# / is here\n${line}\ntmpfs /tmp tmpfs noexec 0 0\n`, EXT4);
    assert.deepEqual(found.options.slice(1), [
      mode,
      "rootfstype=ext4",
      ...flags ? [`rootflags=${flags}`] : [],
    ]);
    assert.deepEqual(found.bare.slice(1), [mode, "rootfstype=ext4", ...bare ? [`rootflags=${bare}`] : []]);
    assert.deepEqual(found.findings, []);
  },
);

Deno.test(
  "planRootOptions() leaves out options of another filesystem, and those that are none, and says so",
  pure,
  () => {
    for (
      const line of [
        "UUID=1 / btrfs subvol=@,compress=zstd 0 0",
        'UUID=1 / ext4 a"b 0 0',
        "UUID=1 / ext4 a\u001bb",
      ]
    ) {
      const { options, findings } = planRootOptions(line, EXT4);
      assert.deepEqual(options, ["root=UUID=f", "rw", "rootfstype=ext4"]);
      assert.deepEqual(findings.map(({ name, path }) => [name, path]), [["root-options", "/etc/fstab"]]);
      assert.match(findings[0]!.message, /^Leaving out the mount options ".*" of \/: /);
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(findings[0]!.message, /\u001b/);
    }
  },
);

Deno.test(
  "planRootOptions() leaves out options with which an initrd may fail to mount the root, and says so",
  pure,
  () => {
    for (const option of ["nosymfollow", "iversion", "mand", "rbind", "rshared", "verity.roothash=00"]) {
      const { options, bare, findings } = planRootOptions(`UUID=1 / ext4 ${option},commit=60`, EXT4);
      for (const words of [options, bare]) assert.deepEqual(words.slice(3), ["rootflags=commit=60"]);
      assert.deepEqual(
        findings.map(({ name, message }) => [name, message]),
        [[
          "root-options",
          `Leaving out the mount options "${option}" of /: not every initrd can mount a root with them`,
        ]],
      );
      // In rootflags=, they would stop the boot.
      assert.doesNotMatch(findings[0]!.hint, /rootflags/);
    }
  },
);

Deno.test("planRootOptions() keeps the options that every filesystem takes, whatever / was", pure, () => {
  for (
    const [line, filesystem, flags, lost] of [
      ["UUID=1 / auto noatime 0 1", "ext4", "noatime", undefined],
      [
        "UUID=1 / xfs nodev,nosuid,x-systemd.growfs,logbsize=256k 0 1",
        "ext4",
        "nodev,nosuid",
        "logbsize=256k",
      ],
      ["UUID=1 / btrfs subvol=@,noatime,compress=zstd 0 0", "ext4", "noatime", "subvol=@,compress=zstd"],
      ["UUID=1 / ext4 relatime,errors=remount-ro 0 1", "erofs", "relatime", "errors=remount-ro"],
      ['UUID=1 / ext4 nodev,context="a:b" 0 1', "ext4", "nodev", 'context=\\"a:b\\"'],
    ] as const
  ) {
    const { options, findings } = planRootOptions(line, { ...EXT4, filesystem });
    assert.deepEqual(options.slice(3), [`rootflags=${flags}`]);
    assert.equal(findings.length, lost === undefined ? 0 : 1);
    if (lost !== undefined) {
      assert(findings[0]!.message.startsWith(`Leaving out the mount options "${lost}" of /: `));
    }
  }
});

Deno.test("planRootOptions() says what a kernel without an initrd does not know", pure, () => {
  const { bare, findings, bareFindings } = planRootOptions(
    "UUID=1 / ext4 noatime,nodev,relatime,exec,errors=remount-ro 0 1",
    EXT4,
  );
  assert.deepEqual(bare.slice(3), ["rootflags=errors=remount-ro"]);
  assert.deepEqual(findings, []);
  assert.deepEqual(bareFindings.map(({ name, message, path }) => [name, message, path]), [[
    "root-options",
    'Leaving out the mount options "noatime,nodev" of /: a kernel without an initrd does not know them',
    "/etc/fstab",
  ]]);
  // What holds anyway is not lost.
  assert.deepEqual(planRootOptions("UUID=1 / ext4 relatime,exec,acl", EXT4).bareFindings, []);
});
