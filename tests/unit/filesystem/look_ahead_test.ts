import assert from "node:assert/strict";
import { KiB, MiB } from "../../../lib/core/units.ts";
import { select } from "../../../lib/filesystem/contents.ts";
import { lookingAhead } from "../../../lib/filesystem/look-ahead.ts";
import { newReader } from "../../../lib/tree/reader.ts";
import { closeRoot, openRoot } from "../../../lib/tree/root.ts";
import { walk } from "../../../lib/tree/walk.ts";
import { tempDir } from "../../lab/helpers.ts";
import { newRandom } from "../../lab/random_tree.ts";

/** Gives `fn` the entries of a tree with files of these sizes, how many of them were taken, and a switch for slow files. */
async function looking(
  sizes: readonly number[],
  fn: (entries: Iterable<number>, taken: () => number, setSlow: (slow: boolean) => void) => void,
): Promise<void> {
  await tempDir(async (dir) => {
    for (const [i, size] of sizes.entries()) {
      using file = await Deno.open(`${dir}/${String(i).padStart(6, "0")}`, { write: true, createNew: true });
      await file.truncate(size);
    }
    const root = openRoot(dir);
    try {
      const selection = select(await walk(root), { from: "/", omit: [], add: [] });
      const reader = newReader(root, selection.nodes, true);
      let taken = 0;
      const order = function* () {
        while (taken < selection.count) yield taken++;
      };
      const setSlow = (slow: boolean) => reader.readAheadCredit = slow ? 64 : 0;
      fn(lookingAhead(selection, order(), reader), () => taken, setSlow);
    } finally {
      closeRoot(root);
    }
  });
}

Deno.test("lookingAhead() takes entries ahead of their turn only while files are slow, and up to 32 MiB of them", () =>
  looking(Array.from({ length: 100 }, () => MiB), (entries, taken, setSlow) => {
    let yielded = 0;
    for (const entry of entries) {
      assert.equal(entry, yielded++);
      if (yielded <= 20) assert.equal(taken(), yielded);
      else if (yielded <= 40) assert(taken() - yielded >= 30 && taken() - yielded <= 32, `${taken()}`);
      if (yielded === 20) setSlow(true);
      if (yielded === 40) setSlow(false);
      // What was taken already comes first.
      if (yielded > 75) assert.equal(taken(), yielded);
    }
    assert.equal(yielded, 101);
  }));

Deno.test("lookingAhead() keeps the order, whenever files are slow, and takes few of the empty ones", async () => {
  const random = newRandom(1);
  const sizes = Array.from({ length: 9_000 }, (_, i) => i % 100 === 0 ? random.below(40 * MiB) : 0);
  await looking(sizes, (entries, taken, setSlow) => {
    let yielded = 0;
    for (const entry of entries) {
      assert.equal(entry, yielded++);
      assert(taken() - yielded <= 32 * MiB / (4 * KiB));
      if (random.below(50) === 0) setSlow(random.below(2) === 0);
    }
    assert.equal(yielded, sizes.length + 1);
  });
});
