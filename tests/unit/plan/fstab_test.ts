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
