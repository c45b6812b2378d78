/**
 * Archives around a disk: what their readers unpack is the disk, and it boots.
 *
 * @module
 */

import assert from "node:assert/strict";
import { GiB, KiB, MiB } from "../../lib/core/units.ts";
import {
  ARCHIVE_END,
  memberHeader,
  padding,
  type Range,
  sparseHeader,
} from "../../lib/filesystem/tar-member.ts";
import { formatNames, formatOf } from "../../lib/image/formats.ts";
import { $ } from "../../lib/system/sh.ts";
import { build, runBuilder } from "../lab/builds.ts";
import { bootQemu, report } from "../lab/guests.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "qemu-img", "mmdebstrap", "gzip", "tar") ||
  unprivileged();
const SMALL = { EFI_MB: "33", BOOT_MB: "64", FREE_MB: "16" };
const ARCHIVES = formatNames().filter((name) => formatOf(name).archive);

/** What is in each archive, in its order. */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  "gce": ["disk.raw"],
  "ova": ["disk.ovf", "disk.mf", "disk.vmdk"],
  "vagrant": ["metadata.json", "Vagrantfile", "box.img"],
};

for (const format of ARCHIVES) {
  const { archive, driver, suffixes: [suffix] } = formatOf(format);
  Deno.test(`disk-image: ${format} is an archive of a disk that boots, as tar unpacks it`, {
    ignore: ignore || missing("qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
  }, () =>
    tempDir(async (dir) => {
      const output = `${dir}/disk.${suffix}`;
      const { stderr } = await build("disk-image", await tinyTree(), output, { ...SMALL, VERIFY: "full" });
      assert.match(stderr, new RegExp(`^\\[\\*\\] Packing as ${format}$`, "m"));
      assert.deepEqual((await quiet`tar --list --file=${output}`).trim().split("\n"), MEMBERS[format]);
      await quiet`tar --extract --file=${output} --directory=${dir}`;
      const found = report(
        await bootQemu(`${dir}/${archive!.member}`, { format: driver!, architecture: "x86-64" }),
      );
      assert.match(found.get("mounts") ?? "", / \/boot\/efi /);
    }));
}

Deno.test(
  "disk-image: gce has whole GiB, and a sparse file that is byte for byte the raw image",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await tinyTree();
      await build("disk-image", tree, `${dir}/disk.tar.gz`, SMALL);
      await build("disk-image", tree, `${dir}/disk.img`, { ...SMALL, SIZE_MB: "1024" });
      await quiet`tar --extract --file=${dir}/disk.tar.gz --directory=${dir}`;
      const { size, blocks } = await Deno.stat(`${dir}/disk.raw`);
      assert.equal(size, GiB);
      assert.ok(blocks! * 512 < 64 * MiB, "it is sparse again");
      await quiet`cmp ${dir}/disk.raw ${dir}/disk.img`;
      // Google's own words: tar --format=oldgnu -S.
      await $`sh -c ${'gzip -dc "$0" | head -c 512 >"$1"'} ${dir}/disk.tar.gz ${dir}/header`.quiet();
      const header = new TextDecoder("latin1").decode(await Deno.readFile(`${dir}/header`));
      assert.equal(header.slice(156, 157) + header.slice(257, 265), "Sustar  \0");

      // A root that cannot grow leaves the rest of the disk free.
      await build("disk-image", tree, `${dir}/fixed.tar.gz`, { ...SMALL, FILESYSTEM: "squashfs" });
      await quiet`tar --extract --file=${dir}/fixed.tar.gz --directory=${dir}`;
      assert.equal((await Deno.stat(`${dir}/disk.raw`)).size, GiB);
      await quiet`sgdisk --verify ${dir}/disk.raw`;

      const { code, stderr } = await runBuilder("disk-image", {
        args: ["--input", tree, "--output", `${dir}/odd.tar.gz`],
        env: { SIZE_MB: "1500" },
      });
      assert.equal(code, 2);
      assert.match(
        stderr,
        /Cannot use SIZE_MB=1500 with OUTPUT_FORMAT=gce\n.*multiple of 1024, such as 2048/,
      );
    }),
);

Deno.test(
  "disk-image: ova has a manifest with the right sums, and a descriptor of this disk",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await copyTree(await tinyTree(), `${dir}/tree`);
      await Deno.writeTextFile(`${tree}/usr/lib/os-release`, 'ID=debian\nPRETTY_NAME="A <B> & \\"C\\""\n');
      await Deno.remove(`${tree}/etc/os-release`).catch(() => {});
      await build("disk-image", tree, `${dir}/a <machine>.ova`, SMALL);
      await build("disk-image", tree, `${dir}/disk.img`, SMALL);
      await quiet`tar --extract --file=${`${dir}/a <machine>.ova`} --directory=${dir}`;
      for (const line of (await Deno.readTextFile(`${dir}/disk.mf`)).trim().split("\n")) {
        const [, file, sum] = /^SHA256\((\S+)\)= ([0-9a-f]{64})$/.exec(line)!;
        assert.equal(await sha256(`${dir}/${file}`), sum);
      }
      const info = JSON.parse(await quiet`qemu-img info --output=json ${dir}/disk.vmdk`);
      assert.equal(info["format-specific"].data["create-type"], "streamOptimized");
      await quiet`qemu-img compare ${dir}/disk.img ${dir}/disk.vmdk`;
      const ovf = await Deno.readTextFile(`${dir}/disk.ovf`);
      const has = (text: string) => assert.ok(ovf.includes(text), `${text} is not in ${ovf}`);
      has(
        `<File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="${
          (await Deno.stat(`${dir}/disk.vmdk`)).size
        }"/>`,
      );
      has(`ovf:capacity="${(await Deno.stat(`${dir}/disk.img`)).size}"`);
      has('<OperatingSystemSection ovf:id="96" vmw:osType="debian10_64Guest">');
      has("<Description>A &lt;B&gt; &amp; &quot;C&quot;</Description>");
      has("<Name>a &lt;machine&gt;</Name>");
      // Each for VMware and VirtualBox, which does not heed the other's.
      has('vmw:key="firmware" vmw:value="efi"');
      has('<Firmware type="EFI"/>');
      has('name="a &lt;machine&gt;" OSType="Debian_64"');
      const [, uuid] = /<Disk [^>]* vbox:uuid="([^"]+)"/.exec(ovf)!;
      has(`<Image uuid="{${uuid}}"/>`);
      assert.match(await quiet`xmllint --noout ${dir}/disk.ovf`, /^$/);
    }),
);

Deno.test("disk-image: vagrant has what vagrant-libvirt asks for", { ignore }, () =>
  tempDir(async (dir) => {
    const tree = await tinyTree();
    await build("disk-image", tree, `${dir}/disk.box`, SMALL);
    await build("disk-image", tree, `${dir}/disk.img`, SMALL);
    await quiet`tar --extract --file=${dir}/disk.box --directory=${dir}`;
    assert.deepEqual(JSON.parse(await Deno.readTextFile(`${dir}/metadata.json`)), {
      provider: "libvirt",
      format: "qcow2",
      virtual_size: 1,
    });
    await quiet`qemu-img compare -f raw -F qcow2 ${dir}/disk.img ${dir}/box.img`;
    assert.match(
      await Deno.readTextFile(`${dir}/Vagrantfile`),
      /config\.vm\.provider :libvirt do \|libvirt\|/,
    );
  }));

/** Ranges of a file of 10 GiB, more than one block of a header has room for. */
const RANGES: readonly Range[] = Array.from({ length: 60 }, (_, i) => ({
  offset: i < 59 ? i * 192 * KiB : 9 * GiB,
  length: 4 * KiB,
}));

for (const size of [10 * GiB, 9 * GiB + 4 * KiB]) {
  Deno.test(`sparseHeader() is what GNU tar reads, with many ranges and ${size} bytes`, {
    ignore: missing("tar"),
  }, () =>
    tempDir(async (dir) => {
      const data = RANGES.map((_, i) => new Uint8Array(4 * KiB).fill(i + 1));
      await Deno.writeFile(
        `${dir}/tar`,
        new Blob([
          memberHeader({ name: "text", size: 4, time: 1_000_000_000 }),
          ...["text", padding(4)],
          sparseHeader({ name: "sparse", size, time: 2 ** 33 }, RANGES),
          ...data,
          ARCHIVE_END,
        ]).stream(),
      );
      const listed = await quiet`tar --list --verbose --utc --full-time --file=${dir}/tar`;
      assert.match(listed, /^-rw-r--r-- 0\/0 +4 2001-09-09 01:46:40 text$/m);
      assert.match(listed, new RegExp(`^-rw-r--r-- 0/0 +${size} 2242-03-16 12:56:32 sparse$`, "m"));
      await quiet`tar --extract --file=${dir}/tar --directory=${dir}`;
      assert.equal(await Deno.readTextFile(`${dir}/text`), "text");
      using file = await Deno.open(`${dir}/sparse`);
      assert.equal((await file.stat()).size, size);
      assert.ok((await file.stat()).blocks! * 512 <= 61 * 4 * KiB);
      for (const [i, { offset }] of RANGES.entries()) {
        const found = new Uint8Array(4 * KiB);
        await file.seek(offset, Deno.SeekMode.Start);
        await file.read(found);
        assert.deepEqual(found, data[i]);
      }
    }));
}
