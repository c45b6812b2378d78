#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-ffi --allow-run=sfdisk,mke2fs,e2fsck,mkfs.vfat,fsck.vfat,mksquashfs,unsquashfs,mkfs.erofs,fsck.erofs,veritysetup,openssl,grub-mkimage,qemu-img,tar,gzip,zstd,xz,find,mknod,/bin/sh
/**
 * `part-image`: builds an image of a single filesystem from an OS tree.
 *
 * It has no partition table. Start it with `systemd-nspawn --image=part.raw`, attach it with `portablectl`, or
 * write it to a partition.
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
import { writeVerity } from "../../lib/make/verity.ts";
import { type PartPlan, planPart } from "../../lib/plan/plan.ts";

export const partImage: Builder<PartPlan> = {
  name: "part-image",
  summary: "Build an image of a single filesystem from an OS tree",
  output: "/output/part.img",
  settings: [
    "outputFormat",
    "compress",
    "outputName",
    "filesystem",
    "compression",
    "label",
    "directory",
    "freeMb",
    "usedMb",
    "sizeMb",
    "portable",
    "ociTag",
    "ociCommand",
    "ociEnv",
    "ociLabels",
    "verity",
    "verityKey",
    "verityCert",
    "verityDirectory",
    "keep",
    "selinux",
    "verify",
    "strict",
    "manifest",
    "sbom",
    "bmap",
    "incusMetadata",
    "seed",
    "sourceDateEpoch",
  ],
  plan: planPart,
  async build(preliminary, tree, output) {
    // The output is empty and dated 1970 from here on, and again after any error.
    await using image = await openImage(output, preliminary, tree);
    // mksquashfs, mkfs.erofs: the size is not known in advance, so make it first and plan again.
    const plan = await measure(preliminary, planPart, tree, image);
    // mke2fs, mkfs.vfat: format, then write the files.
    await makeFilesystems(plan, tree, image);
    await writeVerity(plan, image);
    await verify(plan, tree, image);
    // qemu-img
    await convert(plan, image);
    // zstd, gzip, xz: the compressed file around the image, if any.
    await pack(plan, tree, image);
    await writeSideFiles(plan, tree, image);
    // The output is dated now.
    await image.commit();
  },
};

if (import.meta.main) await main(partImage);
