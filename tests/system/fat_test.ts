import assert from "node:assert/strict";
import { KiB, MiB } from "../../lib/core/units.ts";
import {
  FAT_ROOT_ENTRIES,
  type FatEntry,
  fatGeometry,
  smallestFat,
} from "../../lib/filesystem/fat/geometry.ts";
import { checkFat, makeFat, mtools, OFFSET } from "../lab/fat_image.ts";
import { $ } from "../../lib/system/sh.ts";
import { missing, quiet, tempDir } from "../lab/helpers.ts";
const tools = { ignore: missing("mkfs.vfat", "mcopy", "mdir", "fsck.vfat") };

const file = (path: string, size: number): FatEntry => ({ path, type: "file", size });

// With the real tools -------------------------------------------------------------------------------------

Deno.test(
  "fatGeometry() never promises more clusters than mkfs.vfat makes",
  tools,
  () =>
    tempDir(async (dir) => {
      for (const mib of [1, 2, 3, 4, 8, 31, 32, 33, 34, 64, 255, 260, 261, 512, 2048, 8193]) {
        const { bits, perCluster, reserved, clusters } = fatGeometry(mib * MiB, [])!;
        const image = `${dir}/${mib}`;
        const root = bits === 32 ? [] : ["-r", FAT_ROOT_ENTRIES];
        await $`mkfs.vfat -F ${bits} -S 512 -s ${perCluster} -R ${reserved} -f 2 ${root}
        -a -C ${image} ${mib * KiB}`.quiet();
        const made = Number(
          /(\d+) clusters/.exec(await $`fsck.vfat -n ${image}`.quiet().text())![0].split(" ")[0],
        );
        assert(
          clusters <= made && made - clusters <= 16 + made / 1000,
          `${mib} MiB: ${clusters} promised, ${made} made`,
        );
      }
    }),
);

Deno.test(
  "fillVfat() fills what smallestFat() says to the last cluster",
  tools,
  () =>
    tempDir(async (dir) => {
      const tree = `${dir}/tree`;
      await Deno.mkdir(tree);
      // One more cluster of 512 bytes would need another MiB.
      let clusters = 4 * 2048;
      while (smallestFat([file("/f", clusters * 512)]) > 4 * MiB) clusters--;
      assert.equal(smallestFat([file("/f", clusters * 512 + 1)]), 5 * MiB);
      await Deno.writeFile(`${tree}/f`, new Uint8Array(clusters * 512).fill(1));
      const image = await makeFat(dir, tree, { size: 4 * MiB });
      const [, used, all] = /(\d+)\/(\d+) clusters/.exec(await checkFat(dir, image))!;
      assert(Number(all) - Number(used) < 32, `${used} of ${all} clusters`);
    }),
);

Deno.test(
  "fillVfat() writes label, serial number and the times of the tree, and nothing beyond its place",
  tools,
  () =>
    tempDir(async (dir) => {
      const tree = `${dir}/tree`;
      await Deno.mkdir(tree);
      await Deno.writeTextFile(`${tree}/f`, "x");
      await Deno.utime(`${tree}/f`, 1_234_567_890, 1_234_567_890);
      const image = await makeFat(dir, tree, { size: 33 * MiB });
      const listing = await mtools`mdir -i ${`${image}@@${OFFSET}`} ::`;
      assert.match(listing, /^ Volume in drive : is TEST/m);
      assert.match(listing, /Serial Number is 0123-ABCD/i);
      assert.match(listing, /^f +1 2009-02-13 +23:31/m);
      const bytes = await Deno.readFile(image);
      assert(bytes.subarray(0, OFFSET).every((byte) => byte === 0), "bytes before it");
      assert(bytes.subarray(OFFSET + 33 * MiB).every((byte) => byte === 0), "bytes behind it");
      assert.match(
        await quiet`blkid -p -O ${OFFSET} -S ${33 * MiB} -o export ${image}`,
        /UUID=0123-ABCD[^]*VERSION=FAT32[^]*TYPE=vfat/,
      );
    }),
);
