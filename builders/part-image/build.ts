#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-ffi --allow-run=sfdisk,mke2fs,mksquashfs,unsquashfs,mkfs.erofs,fsck.erofs,veritysetup,openssl,mkfs.vfat,grub-mkimage,qemu-img,tar,e2fsck,fsck.vfat,find,mknod,/bin/sh
/**
 * `part-image`: builds the image of a single filesystem from an OS tree.
 *
 * The image has no partition table: start it with `systemd-nspawn --image=part.raw`, attach it with
 * `portablectl`, or write it into a partition.
 *
 * @module
 */

import { buildPart } from "../../lib/make/build.ts";
import { type Builder, main } from "../../lib/cli/cli.ts";
import { describePart } from "../../lib/plan/describe.ts";
import { type PartPlan, planPart } from "../../lib/plan/plan.ts";

export const partImage: Builder<PartPlan> = {
  name: "part-image",
  summary: "Build the image of a single filesystem from an OS tree",
  output: "/output/part.img",
  settings: [
    "outputFormat",
    "outputName",
    "filesystem",
    "compression",
    "label",
    "directory",
    "freeMb",
    "usedMb",
    "sizeMb",
    "portable",
    "verity",
    "verityKey",
    "verityCert",
    "verityDirectory",
    "keep",
    "verify",
    "manifest",
    "sbom",
    "seed",
    "sourceDateEpoch",
  ],
  tools: ["mke2fs"],
  plan: planPart,
  describe: describePart,
  build: buildPart,
};

if (import.meta.main) await main(partImage);
