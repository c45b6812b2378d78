/**
 * Random trees through the whole judgement: e2fsck, dumpe2fs, the kernel, an entry-by-entry comparison,
 * writing, growing and shrinking. `EXT4_SEED=NUMBER` makes other trees, `EXT4_SEED=random` new ones, and `EXT4_TREES=…` more.
 *
 * @module
 */

import * as assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { assertEqualTrees } from "../lab/compare.ts";
import { assertClean, available, makeImage, mounted, superblock } from "../lab/ext4_image.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { makeRandomTree, newRandom, seedFrom } from "../lab/random_tree.ts";

const FIRST_SEED = seedFrom("EXT4_SEED");
const TREES = Number(Deno.env.get("EXT4_TREES") ?? 3);
const TOOLS = ["mke2fs", "e2fsck", "dumpe2fs", "resize2fs", "mount", "find", "stat", "getfattr"];

for (let tree = 0; tree < TREES; tree++) {
  const seed = (FIRST_SEED + tree) >>> 0;
  Deno.test(`a random tree becomes an ext4 that is equal to it: EXT4_SEED=${seed}`, {
    ignore: missing(...TOOLS) || unprivileged(),
  }, async () => {
    await tempDir(async (dir) => {
      const random = newRandom(seed);
      const input = `${dir}/tree`, image = `${dir}/image`;
      await Deno.mkdir(input);
      makeRandomTree(input, seed, 500 + random.below(3000));
      const offset = random.pick([0, MiB, 77 * MiB]);
      const free = random.pick([undefined, 0, 7 * MiB, 100 * MiB, 1000 * MiB]);
      const journal = random.pick([undefined, undefined, 0, 8 * MiB]);
      const plan = await makeImage(input, image, {
        offset,
        ...(free === undefined ? {} : { free }),
        ...(journal === undefined ? {} : { journal }),
      });
      await assertClean(image, offset);
      await mounted(image, async (directory) => {
        assertEqualTrees(input, directory, { omit: ["lost+found"] });
        assert.equal(await available(directory), plan.available);
      }, { offset, size: plan.size });
      if (free !== undefined) {
        assert.ok(plan.available >= free && plan.available <= free + Math.max(0.02 * free, 2 * MiB));
      }

      const alone = `${dir}/alone`;
      await quiet`dd if=${image} of=${alone} bs=1M skip=${offset / MiB} conv=sparse status=none`;
      const said = await superblock(alone);
      assert.equal(Number(said["Free blocks"]), plan.freeBlocks);
      assert.equal(Number(said["Free inodes"]), plan.freeInodes);
      await assertGrowsAndShrinks(alone, plan.size);
    });
  });
}

/** Whether the kernel lets this process grow a mounted filesystem: root in a container often may not. */
function mayGrowMounted(): boolean {
  const CAP_SYS_RESOURCE = 24n;
  const [, capabilities] = Deno.readTextFileSync("/proc/self/status").match(/^CapEff:\t(\w+)$/m)!;
  return (BigInt(`0x${capabilities}`) >> CAP_SYS_RESOURCE & 1n) === 1n;
}

/** Offline and online growth, writing while mounted, and shrinking: e2fsck agrees with each. */
async function assertGrowsAndShrinks(image: string, size: number): Promise<void> {
  await Deno.truncate(image, size + 300 * MiB);
  await quiet`resize2fs ${image} ${`${(size + 100 * MiB) / MiB}M`}`;
  await assertClean(image);
  await Deno.truncate(image, size + 300 * MiB);
  await mounted(image, async (directory) => {
    if (mayGrowMounted()) await quiet`resize2fs ${(await quiet`findmnt -n -o SOURCE ${directory}`).trim()}`;
    const inodes = Number((await quiet`df --output=iavail ${directory}`).split("\n")[1]);
    assert.ok(inodes > 10);
    for (let i = 0; i < Math.min(400, inodes); i++) {
      await Deno.writeTextFile(`${directory}/large/new file ${i}`, "x".repeat(i * 20));
    }
    await Deno.remove(`${directory}/large/new file 7`);
    await Deno.rename(`${directory}/large/new file 8`, `${directory}/moved`);
  }, { options: "rw" });
  await assertClean(image);
  // resize2fs wants a check that is younger than the last mount; exit code 0: nothing was corrected.
  await quiet`e2fsck -fp ${image}`;
  await quiet`resize2fs -M ${image}`;
  await assertClean(image);
}
