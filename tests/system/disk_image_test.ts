/**
 * `disk-image`, end to end: real trees become disks that other programs read and that boot.
 *
 * @module
 */

import assert from "node:assert/strict";
import { GiB, MiB } from "../../lib/core/units.ts";

import { build, filesystemUuid, runBuilder } from "../lab/builds.ts";
import { bootQemu, dissect, mountLoop, nspawn, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const TOOLS = ["sfdisk", "mke2fs", "mkfs.vfat", "mcopy", "qemu-img", "mmdebstrap"];
const ignore = missing(...TOOLS) || unprivileged();
const QEMU = ["qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd"];

const SMALL = { EFI_MB: "33", BOOT_MB: "64", FREE_MB: "16" };

/** What `sfdisk --json` says of each partition. */
async function partitionsOf(image: string) {
  const { partitiontable } = JSON.parse(await quiet`sfdisk --json ${image}`);
  return partitiontable.partitions as {
    start: number;
    size: number;
    type: string;
    uuid: string;
    name: string;
    attrs?: string;
  }[];
}

/** Runs `fn` on a partition cut out of the image. */
async function withPartition<T>(image: string, number: number, fn: (path: string) => Promise<T>): Promise<T> {
  const { start, size } = (await partitionsOf(image))[number - 1]!;
  return await tempDir(async (dir) => {
    const path = `${dir}/partition`;
    await quiet`dd if=${image} of=${path} bs=512 skip=${start} count=${size} conv=sparse status=none`;
    return await fn(path);
  });
}

/** Everything that finds faults in an image finds none. */
async function checkImage(image: string): Promise<void> {
  await quiet`sfdisk --verify ${image}`;
  assert.match(await quiet`sgdisk --verify ${image}`, /No problems found/);
  await withPartition(image, 1, (path) => quiet`fsck.vfat -n ${path}`);
  await withPartition(image, 2, (path) => quiet`fsck.vfat -n ${path}`);
  await withPartition(image, 3, (path) => quiet`e2fsck -fn ${path}`);
}

Deno.test(
  "disk-image: the table has the DPS types, labels and alignment of the promise",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.img`;
      await build("disk-image", await tinyTree(), image);
      const partitions = await partitionsOf(image);
      assert.deepEqual(partitions.map(({ name, type, attrs }) => [name, type.toLowerCase(), attrs]), [
        ["esp", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", undefined],
        ["xbootldr", "bc13c2ff-59e6-4262-a352-b275fd6f7172", undefined],
        ["root", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "GUID:59"],
      ]);
      for (const { start, size } of partitions) {
        assert.equal(start * 512 % MiB, 0);
        assert.equal(size * 512 % MiB, 0);
      }
      assert.deepEqual(partitions.slice(0, 2).map(({ size }) => size * 512), [32 * MiB, 512 * MiB]);
      // The backup header is in the very last sector.
      const { size } = await Deno.stat(image);
      using file = await Deno.open(image);
      await file.seek(size - 512, Deno.SeekMode.Start);
      const header = new Uint8Array(8);
      await file.read(header);
      assert.equal(new TextDecoder().decode(header), "EFI PART");
      await checkImage(image);
    });
  },
);

Deno.test("disk-image: /boot goes to XBOOTLDR, and the root has empty mount points", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    const tree = await tinyTree();
    await build("disk-image", tree, image, SMALL);
    const [esp, xbootldr, root] = await partitionsOf(image);
    const at = (partition: typeof root) => `${image}@@${partition!.start * 512}`;
    const listing = async (partition: typeof root) =>
      (await quiet`mdir -/ -b -i ${at(partition)} ::`).trim().split("\n").map((line) => line.slice(2)).sort();
    const [kernel] = (await Array.fromAsync(Deno.readDir(`${tree}/usr/lib/modules`))).map(({ name }) => name);
    assert.deepEqual(await listing(esp), [
      "/EFI/",
      "/EFI/BOOT/",
      "/EFI/BOOT/BOOTX64.EFI",
      "/EFI/systemd/",
      "/EFI/systemd/systemd-bootx64.efi",
      "/loader/",
      "/loader/loader.conf",
    ]);
    assert.deepEqual(
      await listing(xbootldr),
      [
        `/config-${kernel}`,
        "/efi/",
        "/loader/",
        "/loader/entries.srel",
        "/loader/entries/",
        `/loader/entries/tiny-${kernel}.conf`,
        `/vmlinuz-${kernel}`,
      ].sort(),
    );
    await mountLoop(image, { offset: root!.start * 512 }, async (mount) => {
      assert.deepEqual(await Array.fromAsync(Deno.readDir(`${mount}/boot`)), []);
      assert.deepEqual(await Array.fromAsync(Deno.readDir(`${mount}/efi`)), []);
      assert.equal(
        await Deno.readTextFile(`${mount}/etc/fstab`),
        `UUID=${await filesystemUuid(image, xbootldr!)} /boot vfat umask=0077 0 2\n` +
          `UUID=${await filesystemUuid(image, esp!)} /boot/efi vfat umask=0077 0 2\n`,
      );
      assert.equal(
        await Deno.readTextFile(`${mount}/etc/kernel/cmdline`),
        `root=PARTUUID=${root!.uuid.toLowerCase()} rw rootfstype=ext4 console=ttyS0 panic=-1\n`,
      );
    });
  });
});

for (const format of ["raw", "qcow2"]) {
  Deno.test(`disk-image: a ${format} image boots through UEFI with all its partitions`, {
    ignore: ignore || missing(...QEMU),
  }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.${format}`;
      await build("disk-image", await tinyTree(), image, { ...SMALL, OUTPUT_FORMAT: format });
      const info = JSON.parse(await quiet`qemu-img info --output=json ${image}`);
      assert.equal(info.format, format);
      const seen = report(await bootQemu(image, { format, architecture: "x86-64" }));
      const [esp, xbootldr, root] = seen.get("partitions")!.split("\n").map((line) => line.split(" "));
      assert.equal(
        seen.get("cmdline"),
        `root=PARTUUID=${root![1]} rw rootfstype=ext4 console=ttyS0 panic=-1`,
      );
      assert.deepEqual([esp![4], xbootldr![4], root![4]], ["esp", "xbootldr", "root"]);
      assert.match(seen.get("mounts")!, /^\S+p2 \/boot vfat rw/m);
      assert.match(seen.get("mounts")!, /^\S+p1 \/boot\/efi vfat rw/m);
      assert.match(seen.get("mounts")!, /^\S+ \/ ext4 rw/m);
      assert.match(seen.get("efi")!, new RegExp(`^LoaderDevicePartUUID=${esp![1]}$`, "im"));
      assert.match(seen.get("efi")!, /^LoaderInfo=systemd-boot/m);
      assert.equal(seen.get("writable"), "yes");
      assert.match(seen.get("files /boot/efi")!, /^\.\/EFI\/BOOT\/BOOTX64\.EFI$/m);
    });
  });
}

Deno.test("disk-image: a raw image boots in systemd-nspawn, and systemd-dissect knows its parts", {
  ignore: ignore || missing("systemd-nspawn", "systemd-dissect"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await tinyTree(), image, SMALL);
    const designators = (await dissect(image)).mounts
      .map(({ designator, fstype }: { designator: string; fstype: string }) => `${designator} ${fstype}`);
    assert.deepEqual(designators.sort(), ["esp vfat", "root ext4", "xbootldr vfat"]);
    assert.match(report(await nspawn(image)).get("os-release")!, /^ID=tiny$/m);
    await checkImage(image);
  });
});

Deno.test("disk-image: every kernel gets an entry, the newest first in the menu", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = await copyTree(await tinyTree(), `${dir}/tree`);
    const [kernel] = (await Array.fromAsync(Deno.readDir(`${tree}/usr/lib/modules`))).map(({ name }) => name);
    for (const version of ["6.9.1-old", "10.0.1-new"]) {
      await Deno.copyFile(`${tree}/boot/vmlinuz-${kernel}`, `${tree}/boot/vmlinuz-${version}`);
      await Deno.writeTextFile(`${tree}/boot/initrd.img-${version}`, "initrd");
    }
    const image = `${dir}/disk.img`;
    await build("disk-image", tree, image, SMALL);
    const { start } = (await partitionsOf(image))[1]!;
    const at = `${image}@@${start * 512}`;
    const names = (await quiet`mdir -b -i ${at} ::/loader/entries/`).trim().split("\n");
    assert.equal(names.length, 3);
    const entry = await quiet`mtype -i ${at} ::/loader/entries/tiny-10.0.1-new.conf`;
    assert.match(entry, /^title +Tiny 1\.0 \(for tests\)$/m);
    assert.match(entry, /^version +10\.0\.1-new$/m);
    assert.match(entry, /^sort-key +tiny$/m);
    assert.match(entry, /^linux +\/vmlinuz-10\.0\.1-new$/m);
    assert.match(entry, /^initrd +\/initrd\.img-10\.0\.1-new$/m);
    assert.match(entry, /^options +root=UUID=[0-9a-f-]{36} rw /m);
  });
});

Deno.test("disk-image: without kernel and loader it makes an image for systemd-nspawn, and says so", {
  ignore,
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    const tree = await tinyTree({ kernel: false, loader: false });
    const { stderr } = await build("disk-image", tree, image, SMALL);
    assert.match(
      stderr,
      /^\[W\] .*only as a container: .*no kernel.*no boot loader.*\n\[W\] .*systemd-boot/m,
    );
    assert.match(report(await nspawn(image)).get("os-release")!, /^ID=tiny$/m);
    const wanted = await build("disk-image", tree, image, { ...SMALL, BOOTLOADER: "none" });
    assert.doesNotMatch(wanted.stderr, /^\[W\]/m);
  });
});

Deno.test(
  "disk-image: an arm64 tree gets arm64 types and loader, from any build machine",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.img`;
      await build("disk-image", await tinyTree({ architecture: "arm64" }), image, SMALL);
      const [esp, , root] = await partitionsOf(image);
      assert.equal(root!.type.toLowerCase(), "b921b045-1df0-41c3-af44-4c6f280d3fae");
      const listing = await quiet`mdir -/ -b -i ${`${image}@@${esp!.start * 512}`} ::`;
      assert.match(listing, /^::\/EFI\/BOOT\/BOOTAA64\.EFI$/m);
    });
  },
);

Deno.test("disk-image: an arm64 image boots in an arm64 machine", {
  ignore: ignore || missing("qemu-system-aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    const tree = await copyTree(await tinyTree({ architecture: "arm64" }), `${dir}/tree`);
    const [version] = (await Array.fromAsync(Deno.readDir(`${tree}/usr/lib/modules`))).map(({ name }) =>
      name
    );
    // As Ubuntu has it, with a name that does not tell.
    await quiet`gzip --suffix .packed ${`${tree}/boot/vmlinuz-${version}`}`;
    await Deno.rename(`${tree}/boot/vmlinuz-${version}.packed`, `${tree}/boot/vmlinuz-${version}`);
    await build("disk-image", tree, image, SMALL);
    const seen = report(await bootQemu(image, { architecture: "arm64", format: "raw" }));
    assert.match(seen.get("kernel")!, /aarch64$/);
    assert.match(seen.get("mounts")!, /^\S+p1 \/boot\/efi vfat rw/m);
  });
});

Deno.test("disk-image: SIZE_MB is the size of the file, whatever the format", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = await tinyTree();
    await build("disk-image", tree, `${dir}/disk.img`, { ...SMALL, SIZE_MB: "777" });
    assert.equal((await Deno.stat(`${dir}/disk.img`)).size, 777 * MiB);
    await checkImage(`${dir}/disk.img`);
    const qcow2 = `${dir}/disk.qcow2`;
    await build("disk-image", tree, qcow2, { ...SMALL, SIZE_MB: "3072", OUTPUT_FORMAT: "qcow2" });
    assert.equal(JSON.parse(await quiet`qemu-img info --output=json ${qcow2}`)["virtual-size"], 3 * GiB);
  });
});

Deno.test("disk-image: the size is EFI_MB + BOOT_MB + USED_MB + FREE_MB", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await tinyTree(), image, { ...SMALL, USED_MB: "150" });
    assert.equal((await Deno.stat(image)).size, (33 + 64 + 150 + 16) * MiB);
    await checkImage(image);
  });
});

Deno.test("disk-image: FREE_MB is what df shows as available", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await tinyTree(), image, { ...SMALL, FREE_MB: "100" });
    const { start } = (await partitionsOf(image))[2]!;
    await mountLoop(image, { offset: start * 512 }, async (mount) => {
      const available = Number((await quiet`df --output=avail -B1 ${mount}`).trim().split("\n").at(-1));
      assert.ok(available >= 100 * MiB, `${available} bytes are less than 100 MiB`);
      assert.ok(available <= 102 * MiB, `${available} bytes are more than 102 MiB`);
    });
  });
});

Deno.test(
  "disk-image: a size that is too small is refused with the smallest that works",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const tree = await tinyTree();
      const image = `${dir}/disk.img`;
      for (const name of ["BOOT_MB", "USED_MB", "SIZE_MB"]) {
        const refused = await runBuilder("disk-image", {
          args: ["--input", tree, "--output", image],
          env: { ...SMALL, [name]: "2" },
        });
        assert.equal(refused.code, 2, refused.stderr);
        assert.match(refused.stderr, new RegExp(`Cannot fit .* ${name}=2$`, "m"));
        const [, smallest] = new RegExp(`Set ${name} to (\\d+) or more`).exec(refused.stderr) ?? [];
        assert.ok(smallest, refused.stderr);
        await assert.rejects(
          build("disk-image", tree, image, { ...SMALL, [name]: String(Number(smallest) - 1) }),
        );
        await build("disk-image", tree, image, { ...SMALL, [name]: smallest });
        await checkImage(image);
      }
    });
  },
);
