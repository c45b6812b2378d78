/**
 * That the lab itself works: its trees boot in its guests, from images made by hand, so that a failing
 * boot test elsewhere is the builder's fault.
 *
 * @module
 */

import assert from "node:assert/strict";
import { efiBootPath, partitionType } from "../../lib/core/dps.ts";
import { MiB } from "../../lib/core/units.ts";
import { $ } from "../../lib/system/sh.ts";
import { bootQemu, dissect, mountLoop, newerSystemd, nspawn, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, type DebianArchitecture, tinyTree } from "../lab/trees.ts";

const ROOT_UUID = "6a09e667-f3bc-4908-b2fb-1366ea957d3e";
const ESP_UUID = "bb67ae85-84ca-4a73-bc6e-cbf6c0a93b2d";

/** A disk made with nothing but the field's tools: an ESP with everything to boot, and the root. */
async function handmadeDisk(architecture: DebianArchitecture, dir: string): Promise<string> {
  const [name, efi] = architecture === "amd64" ? ["x86-64", "x64"] as const : ["arm64", "aa64"] as const;
  const tree = await tinyTree({ architecture });
  const disk = `${dir}/disk.raw`;
  const esp = { start: 1 * MiB, size: 100 * MiB };
  const root = { start: 101 * MiB, size: 64 * MiB };
  await Deno.writeFile(disk, new Uint8Array());
  await Deno.truncate(disk, 166 * MiB);
  const script = `label: gpt
start=${esp.start / 512}, size=${esp.size / 512}, type=${
    partitionType("esp", name)
  }, uuid=${ESP_UUID}, name=esp
start=${root.start / 512}, size=${root.size / 512}, type=${
    partitionType("root", name)
  }, uuid=${ROOT_UUID}, name=root
`;
  await $`sfdisk --quiet ${disk}`.quiet().stdinText(script);
  const options = (await Deno.readTextFile(`${tree}/etc/kernel/cmdline`)).trim();
  const kernel = (await Array.fromAsync(Deno.readDir(`${tree}/boot`)))
    .find(({ name }) => name.startsWith("vmlinuz"))!.name;
  await Deno.writeTextFile(
    `${dir}/tiny.conf`,
    `title Tiny\nlinux /vmlinuz\noptions root=PARTUUID=${ROOT_UUID} rw ${options}\n`,
  );
  const fat = `${dir}/esp.raw`;
  await quiet`mkfs.vfat -C -F 32 ${fat} ${esp.size / 1024}`;
  await quiet`mmd -i ${fat} ::EFI ::EFI/BOOT ::loader ::loader/entries`;
  const loader = `${tree}/usr/lib/systemd/boot/efi/systemd-boot${efi}.efi`;
  await quiet`mcopy -i ${fat} ${loader} ${`::${efiBootPath(name)}`}`;
  await quiet`mcopy -i ${fat} ${`${tree}/boot/${kernel}`} ::vmlinuz`;
  await quiet`mcopy -i ${fat} ${dir}/tiny.conf ::loader/entries/tiny.conf`;
  await quiet`dd if=${fat} of=${disk} bs=1M seek=${esp.start / MiB} conv=notrunc status=none`;
  const to = await copyTree(tree, `${dir}/tree`);
  await Deno.mkdir(`${to}/efi`);
  await Deno.writeTextFile(
    `${to}/etc/fstab`,
    `PARTUUID=${ESP_UUID} /efi vfat umask=0077,x-systemd.idle-timeout=9 0 2\n`,
  );
  await quiet`mke2fs -q -t ext4 -b 4096 -d ${to} -E ${`offset=${root.start}`} ${disk} ${`${
    root.size / 1024
  }k`}`;
  return disk;
}

const TOOLS = ["mmdebstrap", "mke2fs", "sfdisk", "mkfs.vfat", "mcopy", "xz"] as const;

Deno.test("bootQemu() boots a tiny x86-64 tree and reports", {
  ignore: unprivileged() || missing(...TOOLS, "qemu-system-x86_64"),
}, () =>
  tempDir(async (dir) => {
    const sections = report(await bootQemu(await handmadeDisk("amd64", dir)));
    assert.match(sections.get("cmdline")!, new RegExp(`root=PARTUUID=${ROOT_UUID} rw console=ttyS0`));
    assert.match(sections.get("kernel")!, /^6\.\S+ x86_64$/);
    assert.match(sections.get("mounts")!, /^\/dev\/root \/ ext4 rw,/m);
    assert.match(
      sections.get("partitions")!,
      new RegExp(`^nvme0n1p2 ${ROOT_UUID} ${partitionType("root", "x86-64")} 131072 root$`, "m"),
    );
    assert.match(sections.get("mounts")!, /^\/dev\/nvme0n1p1 \/efi vfat rw,.*fmask=0077/m);
    assert.match(sections.get("files /efi")!, /^\.\/EFI\/BOOT\/BOOTX64\.EFI$/m);
    assert.match(sections.get("entries")!, /^title Tiny$/m);
    assert.match(sections.get("efi")!, /^LoaderInfo=systemd-boot 257/m);
    assert.match(sections.get("efi")!, new RegExp(`^LoaderDevicePartUUID=${ESP_UUID}$`, "im"));
    assert.match(sections.get("efi")!, /^SecureBoot=0$/m);
    assert.equal(sections.get("writable"), "yes");
  }));

Deno.test("bootQemu() boots a tiny arm64 tree and reports", {
  ignore: unprivileged() || missing(...TOOLS, "qemu-system-aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd"),
}, () =>
  tempDir(async (dir) => {
    const sections = report(await bootQemu(await handmadeDisk("arm64", dir)));
    assert.match(sections.get("kernel")!, /^6\.\S+ aarch64$/);
    assert.match(sections.get("mounts")!, /^\/dev\/root \/ ext4 rw,/m);
    assert.match(sections.get("efi")!, /^LoaderInfo=systemd-boot 257/m);
  }));

Deno.test("nspawn() boots a tiny tree from a disk, a filesystem and a directory", {
  ignore: unprivileged() || missing(...TOOLS, "systemd-nspawn", "systemd-socket-activate", "unshare"),
}, () =>
  tempDir(async (dir) => {
    const disk = await handmadeDisk("amd64", dir);
    const part = `${dir}/part.raw`;
    await quiet`dd if=${disk} of=${part} bs=1M skip=101 count=64 status=none`;
    for (const target of [disk, part, { directory: `${dir}/tree` }]) {
      const sections = report(await nspawn(target));
      assert.match(sections.get("os-release")!, /^ID=tiny$/m);
      assert.equal(sections.get("writable"), "yes");
    }
    const sections = report(await nspawn(part, { readOnly: true }));
    assert.equal(sections.get("writable"), "no");
    assert.equal(await nspawn(part, { boot: false, args: ["/bin/sh", "-c", "echo hello"] }), "hello\n");
    await assert.rejects(nspawn(part, { boot: false, args: ["/bin/sh", "-c", "exit 3"] }), /exit code 3/);
  }));

Deno.test("dissect() and mountLoop() look into an image", {
  ignore: unprivileged() || missing(...TOOLS, "systemd-dissect", "losetup"),
}, () =>
  tempDir(async (dir) => {
    const disk = await handmadeDisk("amd64", dir);
    const { mounts } = await dissect(disk);
    assert.deepEqual(mounts.map(({ designator }: { designator: string }) => designator).sort(), [
      "esp",
      "root",
    ]);
    const [program, ...args] = await newerSystemd("systemd-dissect");
    await quiet`${program!} ${args} --validate ${disk}`;
    await mountLoop(disk, { offset: 101 * MiB }, async (root) => {
      assert.match(await Deno.readTextFile(`${root}/usr/lib/os-release`), /ID=tiny/);
      await assert.rejects(Deno.writeTextFile(`${root}/new`, ""), /Read-only/);
    });
  }));
