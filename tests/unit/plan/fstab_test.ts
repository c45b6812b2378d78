import assert from "node:assert/strict";
import { planFstab } from "../../../lib/plan/fstab.ts";

const pure = { permissions: "none" } as const;

function plan(fstab: string) {
  return planFstab(fstab, {
    lines: [
      { source: "UUID=boot", mountPoint: "/boot", type: "vfat", options: "umask=0077", pass: 2 },
      { source: "UUID=esp", mountPoint: "/boot/efi", type: "vfat", options: "umask=0077", pass: 2 },
    ],
    exists: (path) => path === "/swapfile",
  });
}

for (
  const line of [
    "UUID=66666666-2222-3333-4444-555555555555 none swap sw 0 0",
    "LABEL=data /var/log xfs defaults 0 2",
    '  UUID="1234"\t/home btrfs subvol=home 0 0',
    "PARTLABEL=home /home ext4 rw 0 2",
    "/dev/sda3 /srv ext4 defaults",
    "/dev/disk/by-id/wwn-0x5 /srv ext4 defaults 0 0",
    "/dev/mapper/vg-home /home xfs defaults 0 0",
    "/missing none swap sw 0 0",
    "/images/a.squashfs /mnt squashfs loop,ro 0 0",
  ]
) {
  Deno.test(`planFstab() says that the image does not have what this names: ${line}`, pure, () => {
    const { text, findings } = plan(line);
    assert(text.includes(line.trim()), text);
    assert.deepEqual(findings.map(({ name, path }) => [name, path]), [["fstab-device", "/etc/fstab"]]);
  });
  Deno.test(`planFstab() says nothing when a boot does not wait for it: ${line}`, pure, () => {
    const fields = line.trim().split(/\s+/);
    for (const option of ["nofail", "noauto", "_netdev", "x-systemd.automount"]) {
      const optional = [...fields.slice(0, 3), `${fields[3]},${option}`].join(" ");
      assert.deepEqual(plan(optional).findings, []);
    }
  });
}

Deno.test("planFstab() says nothing of what every machine or the image has", pure, () => {
  const lines = [
    "# UUID=1 /old ext4 defaults 0 0",
    "tmpfs /tmp tmpfs mode=1777 0 0",
    "proc /proc proc defaults 0 0",
    "server:/export /srv nfs defaults 0 0",
    "//server/share /mnt cifs credentials=/x 0 0",
    "/swapfile none swap sw 0 0",
    "/dev/zram0 none swap pri=100 0 0",
    "UUID=boot /again ext4 ro 0 0",
    "host /mnt/host virtiofs defaults 0 0",
  ];
  const { text, findings } = plan(lines.join("\n"));
  assert.deepEqual(findings, []);
  for (const line of lines) assert(text.includes(line), line);
});

Deno.test("planFstab() leaves out what belonged to the old /boot, and says so", pure, () => {
  const { text, findings } = plan([
    "UUID=1 /boot/grub2/x86_64-efi btrfs subvol=@/boot/grub2/x86_64-efi 0 0",
    "LABEL=system-boot /boot/firmware vfat defaults 0 1",
    "UUID=2 /bootstrap ext4 nofail 0 0",
  ].join("\n"));
  assert.doesNotMatch(text, /x86_64-efi|firmware/);
  assert.match(text, /bootstrap/);
  assert.deepEqual(findings.map(({ name, level }) => [name, level]), [["fstab-boot", "notice"]]);
  assert.match(findings[0]!.message, /"\/boot\/grub2\/x86_64-efi", "\/boot\/firmware"/);
});

const HOME = { source: "UUID=home", mountPoint: "/home", type: "ext4", options: "defaults", pass: 2 };

Deno.test.each<{ line: string; options?: string; own?: string; discovered?: boolean; lost?: string }>([
  { line: "LABEL=home /home ext4 defaults,noatime,nodev,nosuid 0 2", options: "noatime,nodev,nosuid" },
  { line: "LABEL=home /home/ xfs noexec,noexec", options: "noexec", discovered: true },
  { line: "LABEL=home /home xfs nodev,rw", own: "x-systemd.growfs", options: "nodev,x-systemd.growfs" },
  { line: "LABEL=home /home ext4 ro", own: "x-systemd.growfs", options: "ro" },
  { line: "LABEL=home /home ext4 ro,nosuid", own: "rw,nosuid", options: "ro,rw,nosuid" },
  {
    line: "LABEL=home /home ext4 noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=1min",
    options: "noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=1min",
  },
  { line: "LABEL=home /home ext4 relatime,exec,user,x-systemd.requires=a.service,X-mount.subdir=a" },
  { line: "LABEL=home /home ext4 relatime", discovered: true },
  {
    line: "UUID=1 /home btrfs nodev,subvol=home,compress=zstd",
    options: "nodev",
    lost: "subvol=home,compress=zstd",
  },
  { line: "LABEL=home /home ext4 commit=60", discovered: true, lost: "commit=60" },
  { line: "LABEL=home /home ext4 commit=60", own: "commit=60", options: "commit=60" },
])(
  "planFstab() keeps the options of a line that it replaces, if every filesystem has them: $line",
  pure,
  ({ line, own = "defaults", options = own, discovered = false, lost }) => {
    const { text, findings } = planFstab(line, {
      lines: [{ ...HOME, options: own, isDiscovered: discovered }],
      exists: () => false,
    });
    // systemd would mount it without options.
    const isWritten = !discovered || options !== own;
    assert.equal(text, isWritten ? `UUID=home /home ext4 ${options} 0 2\n` : "");
    assert.deepEqual(
      findings.map(({ name, level, message }) => [name, level, message]),
      lost === undefined ? [] : [[
        "fstab-options",
        "notice",
        `Leaving out the mount options "${lost}" of "/home", which is ext4 now`,
      ]],
    );
  },
);

Deno.test(
  "planFstab() keeps such options for the boot partitions, and does not mention the others",
  pure,
  () => {
    const { text, findings } = plan(
      "UUID=1 /boot ext4 nodev,noexec,data=journal 0 2\nUUID=2 /boot/efi vfat utf8 0 2\n",
    );
    assert.equal(
      text,
      "UUID=boot /boot vfat nodev,noexec,umask=0077 0 2\nUUID=esp /boot/efi vfat umask=0077 0 2\n",
    );
    assert.deepEqual(findings, []);
  },
);

Deno.test("planFstab() does not take a line without a mount point for the one of the swap", pure, () => {
  const line = "/dev/disk/by-id/a none btrfs noauto,nodev 0 0";
  const swap = { source: "UUID=swap", mountPoint: "none", type: "swap", options: "defaults", pass: 0 };
  const { text } = planFstab(line, { lines: [swap], exists: () => false });
  assert.equal(text, `${line}\nUUID=swap none swap defaults 0 0\n`);
});
