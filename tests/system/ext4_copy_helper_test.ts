/**
 * The second thread that copies files: the same bytes as without it, and nothing of it is left after a failure.
 *
 * @module
 */

import assert from "node:assert/strict";
import { select } from "../../lib/filesystem/contents.ts";
import { startCopyHelper } from "../../lib/filesystem/ext4/copy-helper.ts";
import { fillExt4 } from "../../lib/filesystem/ext4/make.ts";
import { type Ext4Plan, planExt4 } from "../../lib/filesystem/ext4/plan.ts";
import { MiB } from "../../lib/core/units.ts";
import * as commands from "../../lib/make/commands.ts";
import { closeRoot, openRoot, type Root } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { assertClean, REQUEST, WHOLE } from "../lab/ext4_image.ts";
import { missing, quiet, tempDir } from "../lab/helpers.ts";
import { writeSparse } from "../lab/libc.ts";
import { newRandom } from "../lab/random_tree.ts";

const IGNORE = missing("mke2fs", "e2fsck", "debugfs") || navigator.hardwareConcurrency < 2;

/** A tree of some 50 MB: large, small, empty, sparse and linked files, also in deep directories. */
async function makeTree(tree: string): Promise<void> {
  const pool = newRandom(3).bytes(MiB);
  const bytes = (from: number, size: number) => {
    const out = new Uint8Array(size);
    for (let at = 0; at < size; at += MiB) {
      out.set(pool.subarray(at ? 0 : from, Math.min(MiB, size - at)), at);
    }
    return out;
  };
  const deep = `${tree}/deep/${Array.from({ length: 12 }, (_, i) => `${i}`.repeat(30)).join("/")}`;
  await Deno.mkdir(deep, { recursive: true });
  for (
    const [directory, count, size] of [["few", 3, 12e6], ["many", 900, 9000], ["deep", 30, 5000]] as const
  ) {
    await Deno.mkdir(`${tree}/${directory}`, { recursive: true });
    for (let i = 0; i < count; i++) {
      const path = `${directory === "deep" ? deep : `${tree}/${directory}`}/${i}`;
      await Deno.writeFile(path, bytes(i, i % 50 === 7 ? 0 : size - i));
      if (i % 10 === 0) await Deno.link(path, `${tree}/${directory}-${i}`);
    }
  }
  writeSparse(
    `${tree}/sparse`,
    40e6,
    Array.from({ length: 400 }, (_, i) => [i * 100_000, bytes(i, 5000)] as const),
  );
}

/** Runs `fn` on a tree that is planned, and an image of it that is formatted. */
function withFormatted(
  fn: (tree: string, image: string, plan: Ext4Plan, root: Root) => Promise<void>,
): Promise<void> {
  return tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree`);
    await makeTree(`${dir}/tree`);
    const root = openRoot(`${dir}/tree`);
    try {
      const plan = planExt4(select(await walk(root), WHOLE), REQUEST)!;
      await format(`${dir}/image`, plan);
      await fn(`${dir}/tree`, `${dir}/image`, plan, root);
    } finally {
      closeRoot(root);
    }
  });
}

async function format(path: string, plan: Ext4Plan): Promise<void> {
  await Deno.writeFile(path, new Uint8Array());
  await Deno.truncate(path, plan.size);
  await commands.mke2fs({ path, offset: 0, size: plan.size }, plan);
}

Deno.test("fillExt4() writes the same bytes with a second thread, which does a part of the work", {
  ignore: IGNORE,
}, () =>
  withFormatted(async (_, path, plan, root) => {
    await using helper = startCopyHelper(plan.bytes);
    assert.ok(helper);
    await fillExt4({ path, offset: 0, size: plan.size }, plan, root, { helper });
    assert.ok(helper.written > 0);
    await assertClean(path);
    await format(`${path}-alone`, plan);
    await fillExt4({ path: `${path}-alone`, offset: 0, size: plan.size }, plan, root);
    await quiet`cmp ${path} ${`${path}-alone`}`;
  }));

Deno.test("startCopyHelper() starts no thread for a few bytes", { ignore: IGNORE }, () => {
  assert.equal(startCopyHelper(1e6), undefined);
});

Deno.test("flags of files that the second thread copied are in the image", {
  ignore: IGNORE || missing("chattr"),
}, () =>
  withFormatted(async (tree, path, plan, root) => {
    // What statx does not tell: asked for when a file is copied, whoever does it.
    await quiet`find ${tree}/few ${tree}/many -type f -exec chattr +A {} +`;
    await using helper = startCopyHelper(plan.bytes);
    await fillExt4({ path, offset: 0, size: plan.size }, plan, root, { helper });
    assert.ok(helper!.written > 0);
    await assertClean(path);
    for (const file of ["/few/0", "/few/2", "/many/1", "/many/450", "/many/899"]) {
      assert.match(await quiet`debugfs -R ${`stat ${file}`} ${path}`, /Flags: 0x80080/, file);
    }
    assert.match(await quiet`debugfs -R ${"stat /sparse"} ${path}`, /Flags: 0x80000/);
  }));

Deno.test(
  "an error of the second thread is that of the fill",
  { ignore: IGNORE },
  () =>
    withFormatted(async (tree, path, plan, root) => {
      // All of them, since either thread may come to any file.
      for (let i = 0; i < 900; i++) await Deno.writeTextFile(`${tree}/many/${i}`, "changed");
      for (let i = 0; i < 3; i++) await Deno.writeTextFile(`${tree}/few/${i}`, "changed");
      await using helper = startCopyHelper(plan.bytes);
      await assert.rejects(fillExt4({ path, offset: 0, size: plan.size }, plan, root, { helper }), {
        name: "BuildError",
        message: /^Cannot read "\/(few|many|deep)[^"]*": it changed during the build$/,
        hint: "Do not change the tree during a build",
      });
    }),
);

Deno.test(
  "nothing is written any more once an interrupted fill has ended",
  { ignore: IGNORE },
  () =>
    withFormatted(async (_, path, plan, root) => {
      const abort = new AbortController();
      await using helper = startCopyHelper(plan.bytes);
      const onProgress = () => abort.abort(new Error("interrupted"));
      await assert.rejects(
        fillExt4({ path, offset: 0, size: plan.size }, plan, root, {
          helper,
          signal: abort.signal,
          onProgress,
        }),
        { message: "interrupted" },
      );
      const { written } = helper!;
      await Deno.truncate(path, 0);
      await helper![Symbol.asyncDispose]();
      assert.equal(helper!.written, written);
      assert.equal((await Deno.stat(path)).size, 0);
    }),
);
