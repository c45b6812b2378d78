/**
 * Random trees through the whole judgement: e2fsck, dumpe2fs, the kernel, an entry-by-entry comparison,
 * writing, growing and shrinking; trees on other filesystems, names with equal hashes, and sizes that are filled to the last
 * block. `EXT4_SEED=NUMBER` makes other trees, `EXT4_SEED=random` new ones, `EXT4_TREES=…` more, and `EXT4_SIZES=all` every
 * size from 1 to 1024 MiB.
 *
 * @module
 */

import * as assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { planDirectory } from "../../lib/filesystem/ext4/directory.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { assertEqualTrees } from "../lab/compare.ts";
import { assertClean, available, makeImage, mounted, REQUEST, superblock, WHOLE } from "../lab/ext4_image.ts";
import { collidingNames, hashSeed } from "../lab/hash_collisions.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import {
  LOOP_FILESYSTEMS,
  type LoopFilesystem,
  type LoopFilesystemRow,
  onFilesystem,
} from "../lab/loop_filesystem.ts";
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

const SIZES = Deno.env.get("EXT4_SIZES") === "all"
  ? Array.from({ length: 1024 }, (_, i) => i + 1)
  // Around the sizes at which mke2fs and our layout change their minds: the smallest, a journal, a second group, many.
  : [1, 2, 3, 4, 7, 8, 16, 63, 128, 129, 257, 512, 1024];

for (const type of Object.keys(LOOP_FILESYSTEMS) as LoopFilesystem[]) {
  Deno.test(`a random tree on ${type} becomes an ext4 that is equal to it: EXT4_SEED=${FIRST_SEED}`, {
    ignore: missing(...TOOLS, "mkfs.xfs", "mkfs.btrfs") || unprivileged(),
  }, () =>
    tempDir((dir) =>
      onFilesystem(type, dir, async (input) => {
        const { limits, anyHoles = false }: LoopFilesystemRow = LOOP_FILESYSTEMS[type];
        makeRandomTree(input, FIRST_SEED, 700, limits);
        // Until data are on the disk, it is for the filesystem to say what around them is a hole.
        await quiet`sync --file-system ${input}`;
        await makeImage(input, `${dir}/image`);
        await assertClean(`${dir}/image`);
        await mounted(
          `${dir}/image`,
          (directory) => assertEqualTrees(input, directory, { omit: ["lost+found"], anyHoles }),
        );
      })
    ));
}

Deno.test("names whose hashes are equal are found on both sides of the border of two leaves", {
  ignore: missing(...TOOLS) || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const input = `${dir}/tree`, image = `${dir}/image`;
    const seed = hashSeed(REQUEST.hashSeed);
    const { names, borders } = collidingNames(seed);
    await Deno.mkdir(input);
    for (const name of names) await Deno.writeTextFile(`${input}/${name}`, name);
    const root = openRoot(input);
    try {
      const { leaves, hashes } = planDirectory(select(await walk(root), WHOLE), 0, seed);
      const divided = leaves.filter((first) => first > 0 && hashes![first] === hashes![first - 1]);
      assert.ok(divided.length >= borders - 1, `${divided.length} of ${borders}`);
    } finally {
      closeRoot(root);
    }
    await makeImage(input, image, { free: 8 * MiB });
    await assertClean(image);
    await mounted(image, async (directory) => {
      assertEqualTrees(input, directory, { omit: ["lost+found"] });
      // The kernel finds each to remove it, and makes it again where there is room.
      for (const name of names) await Deno.remove(`${directory}/${name}`);
      for (const name of names) await Deno.writeTextFile(`${directory}/${name}`, "", { createNew: true });
    }, { options: "rw" });
    await assertClean(image);
  }));

Deno.test(`an ext4 of each size can be filled to the last block, and grown: ${SIZES.length} sizes`, {
  ignore: missing(...TOOLS, "fallocate") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const input = `${dir}/tree`, image = `${dir}/image`;
    await Deno.mkdir(`${input}/etc`, { recursive: true });
    await Deno.writeTextFile(`${input}/etc/hostname`, "box\n");
    const random = newRandom(FIRST_SEED);
    for (const sizeMb of SIZES) {
      const plan = await makeImage(input, image, { size: sizeMb * MiB });
      await assertClean(image);
      await mounted(image, async (directory) => {
        assert.equal(await available(directory), plan.available, `${sizeMb} MiB`);
        await fill(directory);
      }, { options: "rw" });
      await assertClean(image);
      const more = random.pick([1, 5, 130, 1000, 4000]);
      await Deno.truncate(image, (sizeMb + more) * MiB);
      await quiet`e2fsck -fp ${image}`;
      await quiet`resize2fs ${image}`;
      await assertClean(image);
      await mounted(image, async (directory) => {
        // A few MiB may be too few for a group of their own.
        if (more > 5) await Deno.writeFile(`${directory}/after`, new Uint8Array(more * MiB / 2));
      }, { options: "rw" });
      await assertClean(image);
    }
  }));

/** Takes all free blocks, in ever smaller files, and checks that the kernel then says that there are none. */
async function fill(directory: string): Promise<void> {
  const SMALL = 64 * 1024;
  for (let files = 0, size = await available(directory); size >= 4096;) {
    const { success } = await new Deno.Command("fallocate", {
      args: ["--length", String(size), `${directory}/fill-${files++}`],
      stderr: "null",
    }).output();
    if (!success) size = Math.floor(size / 2 / 4096) * 4096;
  }
  await assert.rejects(Deno.writeFile(`${directory}/full`, new Uint8Array(SMALL)), /os error 28/);
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
