/**
 * `disk-image` on the machines that people have: boot loaders, Secure Boot, BIOS, 4K disks, larger disks.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { GiB, MiB } from "../../lib/core/units.ts";
import { searchPath } from "../../lib/system/programs.ts";

import { build, runBuilder } from "../lab/builds.ts";
import { bootQemu, newerSystemd, nspawn, report } from "../lab/guests.ts";
import { missing, quiet, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, debianTree, tinyTree, unpack } from "../lab/trees.ts";

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
    const options = `root=PARTUUID=${
      root!.uuid.toLowerCase()
    } rw rootfstype=ext4 console=ttyS0 panic=-1 quiet dyndbg="a b"`;
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
    format: "vdi",
    info: /^LoaderInfo=systemd-boot/m,
  },
  "grub": { files: [...SHIM, GRUB, SYSTEMD_BOOT], boot: "ext4", format: "vhdx", info: /^SecureBoot=1$/m },
} as const;

for (const [name, { files, boot, format, info }] of Object.entries(VENDOR_SIGNED)) {
  Deno.test(`BOOTLOADER=auto takes shim and a signed ${name}, which boot under Secure Boot`, {
    ignore: ignore || missing(...QEMU),
  }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.${format}`;
      const env = { ...SMALL, OUTPUT_FORMAT: format };
      const { stderr } = await build("disk-image", await treeWith(dir, files), image, env);
      assert.match(stderr, new RegExp(`boot loader: ${name}, since the tree has .*shim.*signed`));
      const seen = report(
        await bootQemu(image, { architecture: "x86-64", format, firmware: "microsoft" }),
      );
      assert.match(seen.get("efi")!, /^SecureBoot=1$/m);
      assert.match(seen.get("efi")!, info);
      assert.match(seen.get("mounts")!, new RegExp(`^\\S+p2 /boot ${boot} rw`, "m"));
      assert.match(seen.get("files /boot/efi")!, /^\.\/EFI\/BOOT\/mmx64\.efi$/m);
      assert.doesNotMatch(seen.get("files /boot/efi")!, /fbx64/);
    });
  });
}

/** The key of Debian's package ovmf, whose passphrase is its name, without it. */
async function snakeoil(dir: string) {
  const key = `${dir}/key.pem`;
  await quiet`openssl pkey -in /usr/share/ovmf/PkKek-1-snakeoil.key -passin pass:snakeoil -out ${key}`;
  return { SECURE_BOOT_KEY: key, SECURE_BOOT_CERT: "/usr/share/ovmf/PkKek-1-snakeoil.pem" };
}

const STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

const OWN_SIGNED = {
  "systemd-boot": { files: [SYSTEMD_BOOT], expected: /^LoaderInfo=systemd-boot/m },
  "grub": { files: [...SHIM, GRUB], expected: /^SecureBoot=1$/m },
  "uki": { files: [STUB], expected: /^StubInfo=systemd-stub/m },
} as const;

for (const [name, { files, expected }] of Object.entries(OWN_SIGNED)) {
  Deno.test(`SECURE_BOOT_KEY signs what BOOTLOADER=${name} starts, for firmware that knows only this key`, {
    ignore: ignore || missing(...QEMU, "/usr/share/ovmf/PkKek-1-snakeoil.key", "openssl", "sbverify"),
  }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.img`;
      const env = { ...SMALL, BOOTLOADER: name, ...await snakeoil(dir) };
      await build("disk-image", await treeWith(dir, files), image, env);
      const { esp } = await partitionsOf(image);
      await quiet`mcopy -i ${`${image}@@${esp!.start * 512}`} ::/EFI/BOOT/BOOTX64.EFI ${dir}/loader.efi`;
      await quiet`sbverify --cert ${env.SECURE_BOOT_CERT} ${dir}/loader.efi`;
      const guest = { architecture: "x86-64", format: "raw", firmware: "snakeoil" } as const;
      const seen = report(await bootQemu(image, guest));
      assert.match(seen.get("efi")!, /^SecureBoot=1$/m);
      assert.match(seen.get("efi")!, expected);
    });
  });
}

Deno.test("Secure Boot refuses a loader that nobody signed: the tests above mean something", {
  ignore: ignore || missing(...QEMU),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await treeWith(dir, [SYSTEMD_BOOT]), image, SMALL);
    const guest = { architecture: "x86-64", format: "raw", firmware: "snakeoil" } as const;
    await assert.rejects(bootQemu(image, { ...guest }), /Access Denied/);
  });
});

Deno.test("BOOTLOADER=uki makes a UKI that systemd's own tools read, and systemd-boot's menu shows", {
  ignore: ignore || missing(...QEMU, "objcopy"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    const tree = await treeWith(dir, [SYSTEMD_BOOT, STUB]);
    const [kernel] = (await Array.fromAsync(Deno.readDir(`${tree}/usr/lib/modules`))).map(({ name }) => name);
    await Deno.copyFile(`${tree}/boot/vmlinuz-${kernel}`, `${tree}/boot/vmlinuz-1.0-old`);
    await build("disk-image", tree, image, { ...SMALL, BOOTLOADER: "uki" });
    const { esp, root } = await partitionsOf(image);
    const uki = `${dir}/uki.efi`;
    await quiet`mcopy -i ${`${image}@@${esp!.start * 512}`} ${`::/EFI/Linux/tiny-${kernel}.efi`} ${uki}`;
    const options = `root=PARTUUID=${root!.uuid.toLowerCase()} rw rootfstype=ext4 console=ttyS0 panic=-1`;
    const inspected = await quiet`${await newerSystemd("bootctl")} kernel-inspect ${uki}`;
    assert.match(inspected, /^ *Kernel Type: uki$/m);
    assert.match(inspected, new RegExp(`^ *Cmdline: ${options}$`, "m"));
    assert.match(inspected, /^ *OS: Tiny 1\.0/m);
    await quiet`objcopy --dump-section ${`.linux=${dir}/linux`} ${uki} ${dir}/copy.efi`;
    const original = `${tree}/boot/vmlinuz-${kernel}`;
    await quiet`cmp --bytes ${(await Deno.stat(original)).size} ${dir}/linux ${original}`;
    const seen = report(await bootQemu(image, { architecture: "x86-64", format: "raw" }));
    assert.equal(seen.get("cmdline"), options);
    assert.match(seen.get("kernel")!, new RegExp(`^${kernel!.replaceAll("+", "\\+")} `));
    assert.match(seen.get("efi")!, /^LoaderInfo=systemd-boot/m);
    assert.match(seen.get("efi")!, /^StubInfo=systemd-stub/m);
  });
});

/** A `PATH` on which sfdisk is that of Debian 13, run by its own dynamic loader: Debian 12's knows no 4K sectors. */
async function pathWithNewerSfdisk(dir: string): Promise<string> {
  const packages = await unpack("trixie", "amd64", ["fdisk"]);
  const run =
    `${packages}/usr/lib64/ld-linux-x86-64.so.2 --library-path ${packages}/usr/lib/x86_64-linux-gnu`;
  await Deno.mkdir(`${dir}/bin`);
  await stubProgram(`${dir}/bin`, "sfdisk", `exec ${run} ${packages}/usr/sbin/sfdisk "$@"`);
  return `${dir}/bin:${searchPath()}`;
}

const FOUR_K = {
  "grub": { files: [...SHIM, GRUB], boot: "ext4", format: "vmdk" },
  "uki": { files: [SYSTEMD_BOOT, STUB], boot: "vfat", format: "vpc" },
  "systemd-boot": { files: [], boot: "vfat", format: "raw" },
} as const;

for (const [loader, { files, boot, format }] of Object.entries(FOUR_K)) {
  Deno.test(`SECTOR_SIZE=4096 boots from a 4K NVMe with BOOTLOADER=${loader}`, {
    ignore: ignore || missing(...QEMU),
  }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.${format}`;
      const env = { ...SMALL, PATH: await pathWithNewerSfdisk(dir), SECTOR_SIZE: "4096", EFI_MB: "64" };
      const tree = await treeWith(dir, files);
      if (loader === "systemd-boot") {
        const newer = await unpack("forky", "amd64", ["systemd-boot-efi"]);
        await Deno.mkdir(`${tree}${dirname(SYSTEMD_BOOT)}`, { recursive: true });
        await Deno.copyFile(`${newer}${SYSTEMD_BOOT}`, `${tree}${SYSTEMD_BOOT}`);
      }
      const { stderr } = await build("disk-image", tree, image, {
        ...env,
        OUTPUT_FORMAT: format,
      });
      assert.match(stderr, new RegExp(`boot loader: ${loader},`));
      const seen = report(await bootQemu(image, { architecture: "x86-64", format, disk: "nvme-4k" }));
      assert.match(seen.get("mounts")!, new RegExp(`^\\S+p2 /boot ${boot} rw`, "m"));
      assert.match(seen.get("mounts")!, /^\S+p1 \/boot\/efi vfat rw/m);
      assert.equal(seen.get("writable"), "yes");
    });
  });
}

Deno.test(
  "SECTOR_SIZE=4096 refuses systemd-boot, which would find no entries, and an old sfdisk",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const tree = await treeWith(dir, [SYSTEMD_BOOT]);
      const args = ["--input", tree, "--output", `${dir}/disk.img`, "--sector-size=4096"];
      const loader = await runBuilder("disk-image", {
        args: [...args, "--bootloader=systemd-boot", "--dry-run"],
      });
      assert.equal(loader.code, 2);
      assert.match(loader.stderr, /Cannot install BOOTLOADER=systemd-boot: .*4096 bytes/);
      const auto = await runBuilder("disk-image", { args: [...args, "--dry-run"] });
      assert.match(
        auto.stderr,
        /only as a container: the tree has no boot loader for UEFI that finds its menu on sectors of 4096 bytes/,
      );
      await Deno.mkdir(`${dir}/old`);
      await stubProgram(`${dir}/old`, "sfdisk", "echo sfdisk from util-linux 2.39.3");
      const env = { PATH: `${dir}/old:${searchPath()}` };
      const sfdisk = await runBuilder("disk-image", { args: [...args, "--bootloader=none"], env });
      assert.equal(sfdisk.code, 2);
      assert.match(sfdisk.stderr, /SECTOR_SIZE=4096: sfdisk 2\.39\.3 is too old/);
    });
  },
);

const GRUB_BIOS = "/usr/lib/grub/i386-pc";

Deno.test("FIRMWARE=hybrid boots the same file through UEFI and through BIOS", {
  ignore: ignore || missing(...QEMU, "grub-mkimage"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    const tree = await treeWith(dir, [SYSTEMD_BOOT, GRUB_BIOS]);
    await build("disk-image", tree, image, { ...SMALL, FIRMWARE: "hybrid", VERIFY: "full" });
    await quiet`sgdisk --verify ${image}`;
    const { bios, root } = await partitionsOf(image);
    assert.equal(bios!.type, "21686148-6449-6E6F-744E-656564454649");
    const uefi = report(await bootQemu(image, { architecture: "x86-64", format: "raw" }));
    assert.match(uefi.get("efi")!, /^LoaderInfo=systemd-boot/m);
    const seen = report(await bootQemu(image, { architecture: "x86-64", format: "raw", firmware: "bios" }));
    assert.equal(seen.get("efi"), "", "not started through BIOS");
    assert.equal(
      seen.get("cmdline"),
      `BOOT_IMAGE=/vmlinuz-${seen.get("kernel")!.split(" ")[0]} root=PARTUUID=${root!.uuid.toLowerCase()} ` +
        "rw rootfstype=ext4 console=ttyS0 panic=-1",
    );
    assert.match(seen.get("mounts")!, /^\S+p3 \/boot vfat rw/m);
    assert.match(seen.get("mounts")!, /^\S+p2 \/boot\/efi vfat rw/m);
  });
});

Deno.test("FIRMWARE=bios boots through BIOS without any loader for UEFI, in other formats as well", {
  ignore: ignore || missing(...QEMU, "grub-mkimage"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.qcow2`;
    const env = { ...SMALL, FIRMWARE: "bios", OUTPUT_FORMAT: "qcow2" };
    const { stderr } = await build("disk-image", await treeWith(dir, [GRUB_BIOS]), image, env);
    assert.doesNotMatch(stderr, /^\[W\]/m);
    const guest = { architecture: "x86-64", format: "qcow2", firmware: "bios" } as const;
    const seen = report(await bootQemu(image, guest));
    assert.match(seen.get("mounts")!, /^\S+p3 \/boot ext4 rw/m);
  });
});

Deno.test("FIRMWARE=hybrid is refused with what the tree lacks, or the machine", { ignore }, async () => {
  await tempDir(async (dir) => {
    const args = ["--output", `${dir}/disk.img`, "--firmware=hybrid", "--dry-run"];
    const without = await runBuilder("disk-image", { args: [...args, "--input", await tinyTree()] });
    assert.equal(without.code, 2);
    assert.match(without.stderr, /FIRMWARE=hybrid: no .*i386-pc.*grub-pc-bin/);
    const arm64 = await tinyTree({ architecture: "arm64" });
    const other = await runBuilder("disk-image", { args: [...args, "--input", arm64] });
    assert.equal(other.code, 2);
    assert.match(other.stderr, /FIRMWARE=hybrid: arm64 machines have no BIOS/);
  });
});

Deno.test("Written to a larger disk, a bookworm with systemd-repart takes all of it at its first boot", {
  ignore: ignore || missing(...QEMU, "systemd-nspawn"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await debianTree({ suite: "bookworm" }), image, {
      FREE_MB: "64",
      BOOT_MB: "256",
    });
    await Deno.truncate(image, (await Deno.stat(image)).size + GiB);
    const guest = { architecture: "x86-64", format: "raw" } as const;
    const seen = report(await bootQemu(image, guest));
    assert.equal(seen.get("failed"), "", seen.get("logs"));
    await assertGrown(image, seen);
    // Nothing is to grow in a container, and nothing fails for that.
    const container = report(await nspawn(image));
    assert.equal(container.get("failed"), "", container.get("logs"));
  });
});

/** The root filesystem of a guest reaches to the end of its disk. */
async function assertGrown(image: string, seen: Map<string, string>): Promise<void> {
  const { size } = JSON.parse(seen.get("findmnt /")!).filesystems[0];
  const { root } = await partitionsOf(image);
  // What the filesystem keeps for itself is less than a tenth.
  const available = (await Deno.stat(image)).size - root!.start * 512 - MiB;
  assert.ok(size > available * 0.9 && size <= available, `${size} of ${available} bytes`);
}

Deno.test("A riscv64 image boots in a riscv64 machine, whose firmware names the console", {
  ignore: ignore || missing("qemu-system-riscv64", "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf", "cpio"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    const tree = await copyTree(await tinyTree({ architecture: "riscv64" }), `${dir}/tree`);
    // No console= at all: the kernel takes the one that the firmware describes.
    await Deno.writeTextFile(`${tree}/etc/kernel/cmdline`, "panic=-1\n");
    await build("disk-image", tree, image, { ...SMALL, BOOT_MB: "128" });
    const { root } = await partitionsOf(image);
    assert.equal(root!.type.toLowerCase(), "72ec70a6-cf74-40e6-bd49-4bda08e8f224");
    const seen = report(await bootQemu(image, { architecture: "riscv64", format: "raw", disk: "virtio" }));
    assert.match(seen.get("kernel")!, /riscv64$/);
    assert.match(seen.get("efi")!, /^LoaderInfo=systemd-boot/m);
    assert.match(seen.get("mounts")!, /^\S+p?1 \/boot\/efi vfat rw/m);
  });
});
