import assert from "node:assert/strict";
import { KiB, MiB } from "../../../lib/core/units.ts";
import { select } from "../../../lib/filesystem/contents.ts";
import { paxStream } from "../../../lib/filesystem/pax.ts";
import { planTar } from "../../../lib/filesystem/tar.ts";
import { closeRoot, openRoot } from "../../../lib/tree/root.ts";
import { walk } from "../../../lib/tree/walk.ts";
import { missing, quiet, tempDir } from "../../lab/helpers.ts";
import { newRandom } from "../../lab/random_tree.ts";

const CHUNK = 772 * KiB;

/** Below and above what is read in one piece, up to several chunks. */
const SIZES = [
  ...[0, 1, 511, 512, 513, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1],
  ...[CHUNK - 512, CHUNK, MiB - 512, MiB, 3 * MiB + 7],
];

Deno.test(
  "paxStream() yields whole chunks that stay while the next one is made",
  { ignore: missing("tar") },
  () =>
    tempDir(async (dir) => {
      const random = newRandom(1), pool = random.bytes(4 * MiB);
      await Deno.mkdir(`${dir}/tree`);
      for (let i = 0; i < 40; i++) {
        const at = random.below(KiB);
        const bytes = pool.subarray(at, at + SIZES[i % SIZES.length]!);
        await Deno.writeFile(`${dir}/tree/${i}`, bytes);
      }
      const text = "x".repeat(2 * MiB + 100);
      const root = openRoot(`${dir}/tree`);
      try {
        const selection = select(await walk(root), {
          from: "/",
          omit: [],
          add: [{ path: "/added", type: "file", text }],
        });
        const plan = planTar(selection, 2 ** 32);
        assert(plan.type === "tar");
        using archive = await Deno.open(`${dir}/archive`, { write: true, createNew: true });
        const lengths: number[] = [];
        let last: Uint8Array | undefined;
        const write = async () => {
          for (let done = 0; last && done < last.length;) done += await archive.write(last.subarray(done));
        };
        for (const chunk of paxStream(selection, root, plan.writer.pax)) {
          await write();
          lengths.push(chunk.length);
          last = chunk;
        }
        await write();
        assert(lengths.length > 10);
        assert(lengths.slice(0, -1).every((length) => length === CHUNK), lengths.join(" "));
      } finally {
        closeRoot(root);
      }
      await Deno.mkdir(`${dir}/unpacked`);
      await quiet`tar --extract --file=${dir}/archive --directory=${dir}/unpacked`;
      await Deno.writeTextFile(`${dir}/tree/added`, text);
      await quiet`diff --recursive ${dir}/tree ${dir}/unpacked`;
    }),
);
