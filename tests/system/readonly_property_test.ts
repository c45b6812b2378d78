/**
 * Random trees as squashfs and erofs, compared entry by entry once they are mounted. `READ_ONLY_SEED=NUMBER` makes other
 * trees, `READ_ONLY_SEED=random` new ones, and `READ_ONLY_TREES=…` more. The programs are the first on `PATH`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import {
  planReadOnly,
  READ_ONLY,
  type ReadOnlyFilesystem,
  type ReadOnlyName,
} from "../../lib/filesystem/squashfs-erofs.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { assertEqualTrees, type CompareOptions, KEPT_TIMES } from "../lab/compare.ts";
import { useErofs } from "../lab/erofs.ts";
import { mounted, REQUEST, WHOLE } from "../lab/ext4_image.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { makeRandomTree, newRandom, seedFrom } from "../lab/random_tree.ts";

const FIRST_SEED = seedFrom("READ_ONLY_SEED");
const TREES = Number(Deno.env.get("READ_ONLY_TREES") ?? 3);
const { time: TIME } = REQUEST;

/** As these filesystems keep times, none of them later than the build's. */
function keptTime(type: ReadOnlyName): NonNullable<CompareOptions["time"]> {
  return (seconds, fraction) =>
    seconds >= TIME ? KEPT_TIMES[type](TIME, "0") : KEPT_TIMES[type](seconds, fraction);
}

/** Makes a filesystem of a tree. @returns what it says is lost. */
async function makeImage(type: ReadOnlyName, tree: string, path: string, scratch: string) {
  const root = openRoot(tree);
  try {
    const nodes = await walk(root);
    const plan = planReadOnly(type, select(nodes, WHOLE), {
      ...REQUEST,
      seed: "",
      compression: { name: "lz4" },
    });
    assert(plan.type === type);
    await Deno.writeFile(path, new Uint8Array());
    await Deno.mkdir(scratch);
    const context = { root, nodes, scratch, onProgress: () => {}, signal: new AbortController().signal };
    const target = { path, offset: 0, size: plan.size };
    await MAKERS[type].make(target, plan.writer, context);
    MAKERS[type].verify?.({ ...target, size: (await Deno.stat(path)).size }, plan.writer);
    await Deno.remove(scratch, { recursive: true });
    return plan.findings.map(({ message }) => message);
  } finally {
    closeRoot(root);
  }
}

for (const type of Object.keys(READ_ONLY) as ReadOnlyName[]) {
  const { rootEntry, old, pax: { acls } }: ReadOnlyFilesystem = READ_ONLY[type];
  for (let tree = 0; tree < TREES; tree++) {
    const seed = (FIRST_SEED + tree) >>> 0;
    Deno.test(`a random tree becomes a ${type} that is equal to it: READ_ONLY_SEED=${seed}`, {
      ignore:
        missing(...MAKERS[type].programs, "mmdebstrap", "find", "stat", "getfattr", "mount", "setfacl") ||
        unprivileged(),
    }, async () => {
      await useErofs();
      await tempDir(async (dir) => {
        const random = newRandom(seed);
        const input = `${dir}/tree`, image = `${dir}/image`;
        await Deno.mkdir(input);
        makeRandomTree(input, seed, random.pick([20, 200, 1000]), {
          largest: 4 * MiB,
          plainRoot: !rootEntry,
          ...old && { maxMinor: old.maxMinor },
        });
        const notices = await makeImage(type, input, image, `${dir}/scratch`);
        await makeImage(type, input, `${dir}/again`, `${dir}/scratch`);
        assert.equal(await sha256(`${dir}/again`), await sha256(image));
        if (!acls) await quiet`setfacl --recursive --physical --remove-all ${input}`;
        await mounted(
          image,
          (mount) =>
            assertEqualTrees(input, mount, { time: keptTime(type), anyHoles: true, noSockets: true }),
        );
        const times = await quiet`find ${input} ! -type s -printf ${"%T@\\n"}`;
        const early = times.match(type === "erofs" ? /^-\d+\.0*[1-9]/m : /^-/m);
        assert.equal(
          notices.some((notice) => notice.startsWith("Dating ")),
          early !== null,
          notices.join("\n"),
        );
      });
    });
  }
}
