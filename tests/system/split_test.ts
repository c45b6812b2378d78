/**
 * The parts of a disk as files of their own: systemd-sysupdate installs them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { $ } from "../../lib/system/sh.ts";
import { build, runBuilder } from "../lab/builds.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { addInitrd } from "../lab/initrd.ts";
import { copyTree, debianTree, tinyTree, tinyUnpacked } from "../lab/trees.ts";

const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "qemu-img", "mmdebstrap") || unprivileged();
const SMALL = { EFI_MB: "33", BOOT_MB: "48", FREE_MB: "8" };

/** The names in a directory, sorted. */
async function namesIn(dir: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort();
}

/** Builds a disk with its parts in `dir/split`. */
async function buildSplit(dir: string, env: Record<string, string> = {}, tree?: string): Promise<void> {
  await Deno.mkdir(`${dir}/split`, { recursive: true });
  const settings = { ...SMALL, SPLIT_DIR: `${dir}/split`, ...env };
  await build("disk-image", tree ?? await tinyTree(), `${dir}/disk.img`, settings);
  // The checksums are right, and there is nothing else.
  await quiet`sh -c ${'cd "$0" && sha256sum --quiet --check SHA256SUMS'} ${dir}/split`;
  const listed = (await Deno.readTextFile(`${dir}/split/SHA256SUMS`)).trim().split("\n").map((line) =>
    line.slice(66)
  );
  assert.deepEqual(await namesIn(`${dir}/split`), ["SHA256SUMS", ...listed]);
}

Deno.test("systemd-sysupdate of Debian 13 installs a file of SPLIT_DIR into an empty slot, byte for byte", {
  ignore: ignore || missing("unshare", "gzip"),
}, () =>
  tempDir(async (dir) => {
    const root = await debianTree({ suite: "trixie", include: ["systemd-container"] });
    const type = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
    const slot = `size=24MiB, type=${type}, name=_empty\n`;
    await Deno.writeFile(`${dir}/target`, new Uint8Array());
    await Deno.truncate(`${dir}/target`, 64 << 20);
    await $`sfdisk --quiet ${dir}/target`.quiet().stdinText(`label: gpt\n${slot}${slot}`);
    await Deno.mkdir(`${dir}/sysupdate`);
    const sources = [
      { version: "1.0", compress: "none", source: "Type=regular-file\nPath=/mnt/split", suffix: "raw" },
      // Checked against SHA256SUMS, and unpacked.
      { version: "1.1", compress: "gz", source: "Type=url-file\nPath=file:///mnt/split", suffix: "raw.gz" },
    ];
    for (const [i, { version, compress, source, suffix }] of sources.entries()) {
      await buildSplit(dir, { IMAGE_VERSION: version, COMPRESS: compress, BOOTLOADER: "none" });
      await Deno.writeTextFile(
        `${dir}/sysupdate/root.transfer`,
        `[Transfer]\nVerify=no\n[Source]\n${source}\nMatchPattern=disk_@v.root-x86-64.${suffix}
[Target]\nType=partition\nPath=/mnt/target\nMatchPattern=disk_@v\nMatchPartitionType=root-x86-64\n`,
      );
      // In a namespace of its own, since the tree must not change.
      const script = `mount --make-rprivate / && mount --bind "$1" "$0/mnt" && mount -t proc proc "$0/proc" &&
        mount --rbind /dev "$0/dev" &&
        chroot "$0" /usr/lib/systemd/systemd-sysupdate --definitions=/mnt/sysupdate update`;
      await quiet`unshare --mount sh -c ${script} ${root} ${dir}`;
      const { partitions } = JSON.parse(await quiet`sfdisk --json ${dir}/target`).partitiontable;
      assert.equal(partitions[i].name, `disk_${version}`);
      const file = `${dir}/split/disk_${version}.root-x86-64.raw`;
      if (compress === "gz") await quiet`gzip --decompress --keep ${file}.gz`;
      const { size } = await Deno.stat(file);
      await quiet`dd if=${dir}/target of=${dir}/slot bs=512 skip=${partitions[i].start} count=${
        size / 512
      } status=none`;
      await quiet`cmp ${dir}/slot ${file}`;
      if (compress === "gz") await Deno.remove(file);
    }
  }));

Deno.test(
  "SPLIT_DIR has each partition as it is in the image, kernel, initrd and command line",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await copyTree(await tinyTree(), `${dir}/tree`);
      await addInitrd(tree);
      const env = {
        FILESYSTEM: "squashfs",
        VERITY: "hash",
        OUTPUT_FORMAT: "qcow2",
        MANIFEST: `${dir}/manifest`,
      };
      await buildSplit(dir, env, tree);
      await quiet`qemu-img convert -O raw ${dir}/disk.img ${dir}/raw`;
      const { partitions } = JSON.parse(await quiet`sfdisk --json ${dir}/raw`).partitiontable;
      const types = ["esp", "xbootldr", "root-x86-64-verity", "root-x86-64"];
      const files = types.map((type, i) => {
        const id = type.startsWith("root") ? `.${partitions[i].uuid.toLowerCase()}` : "";
        return `disk_1.0.${type}${id}.raw`;
      });
      for (const [i, { start, size }] of partitions.entries()) {
        await quiet`dd if=${dir}/raw of=${dir}/part bs=512 skip=${start} count=${size} status=none`;
        await quiet`cmp ${dir}/part ${dir}/split/${files[i]!}`;
      }
      const boot = ["cmdline", "initrd", "vmlinuz"].map((suffix) => `disk_1.0.${suffix}`);
      assert.deepEqual(await namesIn(`${dir}/split`), ["SHA256SUMS", ...files, ...boot].sort());
      const { subject, predicate } = JSON.parse(await Deno.readTextFile(`${dir}/manifest`));
      const sums = (await Deno.readTextFile(`${dir}/split/SHA256SUMS`)).trim().split("\n");
      assert.deepEqual(
        subject.slice(1 + files.length).map((one: { name: string; digest: { sha256: string } }) =>
          `${one.digest.sha256}  ${one.name}`
        ).sort((a: string, b: string) => a.slice(66) < b.slice(66) ? -1 : 1),
        sums,
      );
      const { kernelOptions } = predicate.buildDefinition.internalParameters;
      assert.equal(await Deno.readTextFile(`${dir}/split/disk_1.0.cmdline`), `${kernelOptions}\n`);
      assert.match(kernelOptions, /roothash=[0-9a-f]{64}/);
      for (const [suffix, name] of [["vmlinuz", "vmlinuz-"], ["initrd", "initrd.img-"]]) {
        const [found] = (await namesIn(`${tree}/boot`)).filter((file) => file.startsWith(name!));
        await quiet`cmp ${tree}/boot/${found!} ${dir}/split/disk_1.0.${suffix!}`;
      }
    }),
);

Deno.test("SPLIT_DIR has the UKI of BOOTLOADER=uki as it is on the ESP", {
  ignore: ignore || missing("mcopy"),
}, () =>
  tempDir(async (dir) => {
    const tree = await copyTree(await tinyTree(), `${dir}/tree`);
    const stub = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    await Deno.copyFile(`${await tinyUnpacked("amd64")}/${stub}`, `${tree}/${stub}`);
    await buildSplit(dir, { BOOTLOADER: "uki", EFI_MB: "64" }, tree);
    await quiet`mcopy -i ${dir}/split/disk_1.0.esp.raw ::/EFI/BOOT/BOOTX64.EFI ${dir}/uki`;
    await quiet`cmp ${dir}/uki ${dir}/split/disk_1.0.efi`;
  }));

Deno.test("SPLIT_DIR follows the SplitName= of a layout", { ignore }, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/repart.d`);
    const definitions = {
      "10-esp.conf": "Type=esp\nFormat=vfat\nCopyFiles=/boot:/\nSizeMinBytes=64M\nSplitName=-",
      "20-a.conf": "Type=root\nFormat=ext4\nCopyFiles=/\nSplitName=system.%U",
      "30-b.conf": "Type=root\nLabel=_empty\nSizeMinBytes=16M",
    };
    for (const [name, text] of Object.entries(definitions)) {
      await Deno.writeTextFile(`${dir}/repart.d/${name}`, `[Partition]\n${text}\n`);
    }
    const env = { LAYOUT: `${dir}/repart.d`, BOOTLOADER: "none", EFI_MB: "", BOOT_MB: "" };
    await buildSplit(dir, env);
    const { partitions } = JSON.parse(await quiet`sfdisk --json ${dir}/disk.img`).partitiontable;
    const file = `disk_1.0.system.${partitions[1].uuid.toLowerCase()}.raw`;
    assert.deepEqual((await namesIn(`${dir}/split`)).filter((name) => name.endsWith(".raw")), [file]);

    await Deno.writeTextFile(
      `${dir}/repart.d/20-a.conf`,
      "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/\nSplitName=../x\n",
    );
    await assert.rejects(
      buildSplit(dir, env),
      /SplitName=\\?"\.\.\/x\\?" of the layout is no part of a file name/,
    );
  }));

Deno.test("SPLIT_DIR keeps other versions, replaces its own, and touches nothing that no build has listed", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    await buildSplit(dir);
    const first = await sha256(`${dir}/split/disk_1.0.root-x86-64.raw`);
    await buildSplit(dir, { IMAGE_VERSION: "1.1", SEED: "x", BOOTLOADER: "none" });
    assert.equal(await sha256(`${dir}/split/disk_1.0.root-x86-64.raw`), first);
    await buildSplit(dir, { SEED: "y", COMPRESS: "gz", BOOTLOADER: "none" });
    const names = await namesIn(`${dir}/split`);
    assert.deepEqual(names.filter((name) => name.startsWith("disk_1.0.root")), [
      "disk_1.0.root-x86-64.raw.gz",
    ]);
    assert.ok(names.includes("disk_1.1.root-x86-64.raw"));

    const run = (env: Record<string, string>) =>
      runBuilder("disk-image", {
        args: ["--input", `${dir}/tree`, "--output", `${dir}/other.img`],
        env: { ...SMALL, SPLIT_DIR: `${dir}/split`, ...env },
      });
    await copyTree(await tinyTree(), `${dir}/tree`);
    await Deno.writeTextFile(`${dir}/split/other_2.notes`, "");
    await Deno.writeTextFile(`${dir}/split/other_1.0.root-x86-64.raw`, "somebody's own");
    const before = await namesIn(`${dir}/split`);
    const foreign = await run({});
    assert.equal(foreign.code, 2, foreign.stderr);
    assert.match(foreign.stderr, /SHA256SUMS does not list .*other_1\.0\.root-x86-64\.raw/);
    assert.match(
      (await run({ SPLIT_DIR: `${dir}/none` })).stderr,
      /Cannot use SPLIT_DIR=.*none": files cannot be made/,
    );
    await Deno.writeTextFile(`${dir}/tree/usr/lib/os-release`, "ID=tiny\n");
    await Deno.remove(`${dir}/tree/etc/os-release`).catch(() => {});
    assert.match((await run({})).stderr, /os-release has no version\n.*Set IMAGE_VERSION/);
    assert.deepEqual(await namesIn(`${dir}/split`), before);

    // A build that fails late leaves nothing behind.
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(
      `${dir}/bin`,
      "qemu-img",
      '[ "$1" = --version ] && echo qemu-img version 7.2.0 || exit 3',
    );
    const failed = await run({
      IMAGE_VERSION: "3",
      OUTPUT_FORMAT: "vdi",
      PATH: `${dir}/bin:${Deno.env.get("PATH")}`,
    });
    assert.equal(failed.code, 1, failed.stderr);
    assert.match(failed.stderr, /Writing the parts of the disk/);
    assert.deepEqual(await namesIn(`${dir}/split`), before);
  }));
