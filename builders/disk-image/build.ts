#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-ffi --allow-run=sfdisk,mke2fs,e2fsck,mkfs.vfat,fsck.vfat,mksquashfs,unsquashfs,mkfs.erofs,fsck.erofs,veritysetup,openssl,grub-mkimage,qemu-img,tar,gzip,zstd,xz,find,mknod,/bin/sh
/**
 * `disk-image`: builds a disk image from an OS tree.
 *
 * It has a GPT according to the Discoverable Partitions Specification with an ESP (`/boot/efi`), XBOOTLDR (`/boot`)
 * and the root filesystem. Write it to a disk, or start it in a virtual machine or with `systemd-nspawn --image=`.
 *
 * @module
 */

import { type Builder, main } from "../../lib/cli/cli.ts";
import { convert } from "../../lib/make/convert.ts";
import { makeFilesystems, verify } from "../../lib/make/filesystems.ts";
import { openImage } from "../../lib/make/image.ts";
import { writeSideFiles } from "../../lib/make/manifest.ts";
import { measure } from "../../lib/make/measure.ts";
import { pack } from "../../lib/make/pack.ts";
import { split } from "../../lib/make/split.ts";
import { draftTable, partition } from "../../lib/make/table.ts";
import { type DiskPlan, planDisk } from "../../lib/plan/plan.ts";

export const diskImage: Builder<DiskPlan> = {
  name: "disk-image",
  summary: "Build a bootable disk image from an OS tree",
  output: "/output/disk.img",
  settings: [
    "outputFormat",
    "compress",
    "outputName",
    "filesystem",
    "compression",
    "layout",
    "efiMb",
    "bootMb",
    "freeMb",
    "usedMb",
    "sizeMb",
    "verity",
    "verityKey",
    "verityCert",
    "bootloader",
    "firmware",
    "sectorSize",
    "secureBootKey",
    "secureBootCert",
    "kernelCmdline",
    "keep",
    "selinux",
    "verify",
    "strict",
    "manifest",
    "sbom",
    "bmap",
    "incusMetadata",
    "splitDirectory",
    "imageVersion",
    "seed",
    "sourceDateEpoch",
  ],
  plan: planDisk,
  async build(preliminary, tree, output) {
    // The output is empty and dated 1970 from here on, and again after any error.
    await using image = await openImage(output, preliminary, tree);
    // mksquashfs, mkfs.erofs: the size is not known in advance, so make it first and plan again.
    const plan = await measure(preliminary, planDisk, tree, image);
    // mke2fs, mkfs.vfat: format, then write the files. sfdisk, meanwhile: write the partition table into a file of its own.
    await makeFilesystems(plan, tree, image, () => draftTable(plan, image));
    // The table goes in last: half an image must have none.
    await partition(plan, image);
    await verify(plan, tree, image);
    // The partitions as files of their own, while they are still where they were made.
    await split(plan, tree, image);
    // qemu-img
    await convert(plan, image);
    // zstd, gzip, xz, tar: the archive or compressed file around the image, if any.
    await pack(plan, tree, image);
    await writeSideFiles(plan, tree, image);
    // The output is dated now.
    await image.commit();
  },
};

if (import.meta.main) await main(diskImage);
