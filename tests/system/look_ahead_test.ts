/**
 * Files on a slow disk: they are requested before it is their turn.
 *
 * @module
 */

import assert from "node:assert/strict";
import { KiB } from "../../lib/core/units.ts";
import { builderCommand } from "../lab/builds.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { dropFromMemory, onFilesystem } from "../lab/loop_filesystem.ts";

const FILES = 200;

/** How many files part-image requests, as strace sees it. */
async function requests(tree: string, dir: string, format: string): Promise<number> {
  const trace = `${dir}/trace`, output = `${dir}/image`;
  const strace = ["strace", "-f", "-qqq", "-e", "trace=fadvise64", "-o", trace];
  await quiet`${strace} ${await builderCommand("part-image")} --input=${tree} --output=${output} ${format}`;
  await Deno.remove(output);
  return (await Deno.readTextFile(trace)).split("\n").filter((line) => line.includes("WILLNEED")).length;
}

for (const format of ["--filesystem=ext4", "--filesystem=squashfs", "--output-format=tar"]) {
  Deno.test(`part-image ${format}: files on disk are requested early`, {
    ignore: missing("mke2fs", "mksquashfs", "mount", "dd", "strace", "tar") || unprivileged(),
  }, () =>
    tempDir((dir) =>
      onFilesystem("ext4 with 1 KiB blocks", dir, async (tree) => {
        const files = Array.from({ length: FILES }, (_, i) => `${tree}/${i}`);
        for (const file of files) await Deno.writeFile(file, new Uint8Array(100 * KiB).fill(1));
        for (const file of files) await dropFromMemory(file);
        const count = await requests(tree, dir, format);
        assert(count > FILES / 2 && count <= FILES, `${count}`);
      })
    ));
}
