/**
 * `disk-image` on the machines that people have: boot loaders, Secure Boot, BIOS, 4K disks, larger disks.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { build } from "./builds.ts";
import { bootQemu, report } from "./guests.ts";
import { missing, tempDir, unprivileged } from "./helpers.ts";
import { copyTree, quiet, tinyTree, unpack } from "./trees.ts";

const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "mcopy", "mmdebstrap") || unprivileged();

const QEMU = ["qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"];

const SMALL = { EFI_MB: "33", BOOT_MB: "64", FREE_MB: "16" };

interface Partition {
  readonly start: number;
  readonly size: number;
  readonly name: string;
  readonly type: string;
  readonly uuid: string;
}

/** The partitions of an image by label. */
async function partitionsOf(image: string): Promise<Record<string, Partition>> {
  const { partitiontable: { partitions } } = JSON.parse(await quiet`sfdisk --json ${image}`);
  return Object.fromEntries((partitions as Partition[]).map((partition) => [partition.name, partition]));
}

/** The text of a file on a FAT partition. */
async function fatText(image: string, label: string, path: string): Promise<string> {
  const { start } = (await partitionsOf(image))[label]!;
  return await quiet`mtype -i ${`${image}@@${start * 512}`} ${`::${path}`}`;
}

/** Files of Debian's packages that make a tree boot in one way or another. */
const SHIM = ["/usr/lib/shim/shimx64.efi.signed", "/usr/lib/shim/mmx64.efi.signed"];
const SYSTEMD_BOOT = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const GRUB = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";

/** A tiny tree with these files of Debian's boot loaders. */
async function treeWith(dir: string, files: readonly string[]): Promise<string> {
  const packages = await unpack("trixie", "amd64", [
    ...["shim-signed", "grub-efi-amd64-signed", "grub-efi-amd64-bin", "grub-pc-bin"],
    ...["systemd-boot-efi", "systemd-boot-efi-amd64-signed"],
  ]);
  const tree = await copyTree(await tinyTree({ loader: false }), `${dir}/tree`);
  for (const file of files) {
    await Deno.mkdir(`${tree}${dirname(file)}`, { recursive: true });
    await quiet`cp --archive ${`${packages}${file}`} ${`${tree}${file}`}`;
  }
  return tree;
}

Deno.test("KERNEL_CMDLINE joins the options of the tree, now and for later kernels", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await tinyTree(), image, { ...SMALL, KERNEL_CMDLINE: 'quiet dyndbg="a b"' });
    const { xbootldr, root } = await partitionsOf(image);
    const options = `root=PARTUUID=${root!.uuid.toLowerCase()} rw console=ttyS0 panic=-1 quiet dyndbg="a b"`;
    const listing = await quiet`mdir -b -i ${`${image}@@${xbootldr!.start * 512}`} ::/loader/entries`;
    const [, entry] = /^::(.*\.conf)$/m.exec(listing)!;
    assert.match(await fatText(image, "xbootldr", entry!), new RegExp(`^options +${options}$`, "m"));
    const at = `${image}?offset=${root!.start * 512}`;
    assert.equal(await quiet`debugfs -R ${"cat /etc/kernel/cmdline"} ${at}`, `${options}\n`);
  });
});

const VENDOR_SIGNED = {
  "systemd-boot": {
    files: [...SHIM, SYSTEMD_BOOT, `${SYSTEMD_BOOT}.signed`],
    boot: "vfat",
    info: /^LoaderInfo=systemd-boot/m,
  },
  "grub": { files: [...SHIM, GRUB, SYSTEMD_BOOT], boot: "ext4", info: /^SecureBoot=1$/m },
} as const;

for (const [name, { files, boot, info }] of Object.entries(VENDOR_SIGNED)) {
  Deno.test(`BOOTLOADER=auto takes shim and a signed ${name}, which boot under Secure Boot`, {
    ignore: ignore || missing(...QEMU),
  }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.img`;
      const { stderr } = await build("disk-image", await treeWith(dir, files), image, SMALL);
      assert.match(stderr, new RegExp(`boot loader: ${name}, since the tree has .*shim.*signed`));
      const seen = report(await bootQemu(image, { architecture: "x86-64", format: "raw", secureBoot: true }));
      assert.match(seen.get("efi")!, /^SecureBoot=1$/m);
      assert.match(seen.get("efi")!, info);
      assert.match(seen.get("mounts")!, new RegExp(`^\\S+p2 /boot ${boot} rw`, "m"));
      assert.match(seen.get("files /boot/efi")!, /^\.\/EFI\/BOOT\/mmx64\.efi$/m);
      assert.doesNotMatch(seen.get("files /boot/efi")!, /fbx64/);
    });
  });
}
