#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-ffi --allow-run=sfdisk,mke2fs,mksquashfs,unsquashfs,mkfs.erofs,fsck.erofs,veritysetup,openssl,mkfs.vfat,grub-mkimage,qemu-img,tar,e2fsck,fsck.vfat,find,mknod,/bin/sh
/**
 * `disk-image`: builds the image of a whole disk from an OS tree.
 *
 * A GPT after the Discoverable Partitions Specification with an ESP (`/boot/efi`), XBOOTLDR (`/boot`) and the
 * root filesystem: write it to a disk, start it in a virtual machine or with `systemd-nspawn --image=`.
 *
 * @module
 */

import { buildDisk } from "../../lib/make/build.ts";
import { type Builder, main } from "../../lib/cli/cli.ts";
import { describeDisk } from "../../lib/plan/describe.ts";
import { type DiskPlan, planDisk } from "../../lib/plan/plan.ts";

export const diskImage: Builder<DiskPlan> = {
  name: "disk-image",
  summary: "Build the image of a disk that boots, from an OS tree",
  output: "/output/disk.img",
  settings: [
    "outputFormat",
    "outputName",
    "filesystem",
    "compression",
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
    "verify",
    "manifest",
    "sbom",
    "seed",
    "sourceDateEpoch",
  ],
  tools: ["sfdisk", "mke2fs", "mkfs.vfat"],
  plan: planDisk,
  describe: describeDisk,
  build: buildDisk,
};

if (import.meta.main) await main(diskImage);
