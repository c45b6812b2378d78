import * as assert from "node:assert/strict";
import { KiB, MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { planExt4 } from "../../lib/filesystem/ext4/plan.ts";
import { makeExt4 } from "../../lib/make/filesystems.ts";
import { buildNodes } from "../../lib/tree/builder.ts";
import type { Nodes } from "../../lib/tree/nodes.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { assertClean, REQUEST, superblock, WHOLE } from "../lab/ext4_image.ts";
import { missing, tempDir } from "../lab/helpers.ts";

/** Entries that occupy an inode and nothing else. */
function pipes(count: number): Nodes {
  return buildNodes(
    Array.from({ length: count }, (_, i) => ({ path: `/${i % 100}/${i}`, type: "fifo" as const })),
  );
}

/** Makes a filesystem of that size; the fill itself compares every table with what mke2fs placed. */
async function assertAsPlanned(nodes: Nodes, size: number, image: string): Promise<void> {
  const plan = planExt4(select(nodes, WHOLE), { ...REQUEST, size });
  assert.ok(plan, `${size} bytes are enough`);
  const root = openRoot("/");
  try {
    await Deno.writeFile(image, new Uint8Array());
    await Deno.truncate(image, size);
    await makeExt4({ path: image, offset: 0, size }, plan, root);
  } finally {
    closeRoot(root);
  }
  const said = await superblock(image);
  assert.equal(Number(said["Block count"]), plan.layout.blocks);
  assert.equal(Number(said["Free blocks"]), plan.freeBlocks);
  assert.equal(Number(said["Free inodes"]), plan.freeInodes);
  assert.equal(
    Number(said["Overhead clusters"]),
    plan.layout.blocks - plan.layout.freeBlocks + plan.journalBlocks,
  );
}

const TOOLS = missing("mke2fs", "dumpe2fs", "e2fsck");

Deno.test("layoutOf() is what mke2fs makes, at sizes around every border", { ignore: TOOLS }, async () => {
  // Borders of groups, of groups with a copy of the superblock, of journal sizes, of descriptor blocks.
  const groups = [1, 2, 3, 4, 5, 6, 8, 10, 26, 64, 65, 82];
  const sizes = [3, 4, 7, 8, 9, 15, 31, 33, 64, 100, 511, 1000, 1024, 4097].map((size) => size * MiB);
  for (const count of groups) {
    for (const more of [-4 * KiB, 0, 4 * KiB, 3 * MiB, 6 * MiB]) sizes.push(count * 128 * MiB + more);
  }
  await tempDir(async (dir) => {
    const empty = buildNodes([]);
    for (const size of sizes) await assertAsPlanned(empty, size, `${dir}/image`);
  });
});

Deno.test("layoutOf() is what mke2fs makes, with many inodes", { ignore: TOOLS }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/image`;
    // More inodes than the groups of that size usually hold: the groups become smaller.
    for (
      const [count, size] of [[40_000, 30], [40_000, 131], [100_000, 50], [100_000, 70], [
        100_000,
        400,
      ]] as const
    ) {
      await assertAsPlanned(pipes(count), size * MiB, image);
      await assertClean(image);
    }
  });
});
