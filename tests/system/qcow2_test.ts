import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { openImageFile } from "../../lib/image/image.ts";
import type { Piece } from "../../lib/image/qcow2/clusters.ts";
import { compressQcow2 } from "../../lib/image/qcow2/compress.ts";
import { CLUSTER, writeTables } from "../../lib/image/qcow2/header.ts";
import { wrapQcow2 } from "../../lib/image/qcow2/wrap.ts";
import { missing, quiet, sha256, tempDir } from "../lab/helpers.ts";
import { newRandom } from "../lab/random_tree.ts";

const qemu = { ignore: missing("qemu-img") };
const GiB = 1024 ** 3;

/** A file of `size` bytes with data at some offsets, and holes. */
function writeFile(path: string, size: number, data: Readonly<Record<number, Uint8Array>>): void {
  using file = Deno.openSync(path, { create: true, truncate: true, write: true });
  for (const [at, bytes] of Object.entries(data)) {
    file.seekSync(Number(at), Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
  }
  file.truncateSync(size);
}

/** Fails unless qemu-img finds nothing wrong with the image and the same bytes in it as in `raw`. */
async function assertEqual(image: string, raw: string): Promise<void> {
  await quiet`qemu-img compare -f raw -F qcow2 ${raw} ${image}`;
  const info = JSON.parse(await quiet`qemu-img info --output=json -f qcow2 ${image}`);
  assert.equal(info["virtual-size"], (await Deno.stat(raw)).size);
  const check = JSON.parse(await quiet`qemu-img check --output=json -f qcow2 ${image}`);
  assert.equal(check["check-errors"], 0);
  assert.equal(check["leaks"] ?? 0, 0);
  assert.equal(check["image-end-offset"], (await Deno.stat(image)).size, "nothing lies behind the image");
}

const random = newRandom(8);
const noise = (length: number) => random.bytes(length);

/** Parts of a disk, as a build makes them: the table in a file of its own, the parts in the order of their size. */
const PARTS: readonly { guest: number; size: number; data: Readonly<Record<number, Uint8Array>> }[] = [
  // The larger has gaps of less and of more than a cluster, and data at its very end.
  {
    guest: 5 * MiB,
    size: 20 * MiB,
    data: {
      0: noise(3 * CLUSTER),
      [5 * CLUSTER + 5000]: noise(10),
      [9 * MiB]: noise(MiB),
      [20 * MiB - 1]: noise(1),
    },
  },
  { guest: MiB, size: 4 * MiB, data: { 100: noise(200_000), [3 * MiB + 7]: noise(3) } },
];
const DISK = 26 * MiB;
const TABLE = { 446: noise(66), 512: noise(17_000), [DISK - 17_000]: noise(17_000) };

async function seal(dir: string, name: string, zeros: boolean): Promise<{ image: string; raw: string }> {
  const image = `${dir}/${name}`, raw = `${dir}/${name}.raw`, table = `${dir}/${name}.table`;
  // The one behind the other.
  const hosts = [CLUSTER, CLUSTER + 20 * MiB];
  const shifted = (at: number, data: Readonly<Record<number, Uint8Array>>) =>
    Object.fromEntries(Object.entries(data).map(([offset, bytes]) => [at + Number(offset), bytes]));
  writeFile(table, DISK, TABLE);
  writeFile(image, 26 * MiB, {
    // Whether zeros are written or left out must make no difference.
    ...zeros ? { [CLUSTER]: new Uint8Array(24 * MiB) } : {},
    ...Object.assign({}, ...PARTS.map(({ data }, i) => shifted(hosts[i]!, data))),
  });
  writeFile(raw, DISK, {
    ...TABLE,
    ...Object.assign({}, ...PARTS.map(({ guest, data }) => shifted(guest, data))),
  });
  using file = openImageFile(image), rest = openImageFile(table);
  const pieces: Piece[] = PARTS.map(({ guest, size }, i) => ({ image: file, host: hosts[i]!, guest, size }));
  await wrapQcow2(file, DISK, [{ image: rest, host: 0, guest: 0, size: DISK }, ...pieces]);
  return { image, raw };
}

Deno.test(
  "wrapQcow2() makes a dense image of parts that lie in any order, and of a table beside them",
  qemu,
  () =>
    tempDir(async (dir) => {
      const { image, raw } = await seal(dir, "holes", false);
      await assertEqual(image, raw);
      // Data in 3 + 1 + 16 + 1 clusters of one part, 4 + 1 of the other, 2 of the table; header, L1, L2, refcounts.
      assert.equal((await Deno.stat(image)).size / CLUSTER, 28 + 5);
    }),
);

Deno.test(
  "wrapQcow2() makes the same bytes whether zeros are stored or not",
  qemu,
  () =>
    tempDir(async (dir) => {
      const holes = await seal(dir, "holes", false), zeros = await seal(dir, "zeros", true);
      await assertEqual(zeros.image, zeros.raw);
      assert.equal(await sha256(zeros.image), await sha256(holes.image));
    }),
);

Deno.test("wrapQcow2() makes images of gigabytes, and of nothing", qemu, () =>
  tempDir(async (dir) => {
    const image = `${dir}/image`, raw = `${dir}/raw`;
    for (const [size, data] of [[3 * GiB, [0, 2 * GiB + 5, 3 * GiB - 10]], [MiB, []]] as const) {
      writeFile(raw, size, Object.fromEntries(data.map((at) => [at, noise(10)])));
      writeFile(image, CLUSTER, {});
      await quiet`dd if=${raw} of=${image} bs=${CLUSTER} seek=1 conv=${"sparse,notrunc"} status=none`;
      await Deno.truncate(image, CLUSTER + size);
      {
        using file = openImageFile(image);
        await wrapQcow2(file, size, [{ image: file, host: CLUSTER, guest: 0, size }]);
      }
      await assertEqual(image, raw);
    }
  }));

Deno.test(
  "writeTables() counts more clusters than one refcount block has room for",
  qemu,
  () =>
    tempDir(async (dir) => {
      const image = `${dir}/image`, count = 70_000;
      const guests = Array.from({ length: count }, (_, i) => i * 3);
      const hosts = guests.map((_, i) => (count - i) * CLUSTER);
      writeFile(image, (count + 1) * CLUSTER, {});
      using file = openImageFile(image);
      writeTables(file, count * 3 * CLUSTER, (count + 1) * CLUSTER, { guests, hosts });
      const check = JSON.parse(await quiet`qemu-img check --output=json -f qcow2 ${image}`);
      assert.equal(check["allocated-clusters"], count);
      assert.equal(check["image-end-offset"], (await Deno.stat(image)).size);
    }),
);

Deno.test(
  "compressQcow2() makes an image that qemu-img reads, smaller, and the same each time",
  qemu,
  () =>
    tempDir(async (dir) => {
      const raw = `${dir}/raw`;
      const text = (length: number) => new Uint8Array(length).map((_, i) => i % 251 + (i >> 12));
      // Some that compresses, some that does not, both across clusters, and half a cluster at the end.
      const size = 40 * MiB + CLUSTER / 2;
      writeFile(raw, size, {
        0: text(9 * MiB + 3),
        [10 * MiB + 1]: noise(MiB),
        [12 * MiB]: text(3),
        [30 * MiB]: noise(3 * CLUSTER + 5),
        [size - 6000]: text(6000),
      });
      const shares: number[] = [];
      const compress = async (path: string) => {
        await Deno.writeFile(path, new Uint8Array());
        using from = openImageFile(raw), to = openImageFile(path);
        await compressQcow2({ image: from, host: 0, guest: 0, size }, to, (share) => shares.push(share));
      };
      await compress(`${dir}/one`);
      await assertEqual(`${dir}/one`, raw);
      const info = JSON.parse(await quiet`qemu-img info --output=json ${dir}/one`);
      assert.equal(info["format-specific"].data["compression-type"], "zstd");
      assert((await Deno.stat(`${dir}/one`)).size < 3 * MiB);
      assert.equal(shares.at(-1), 1);
      assert.deepEqual(shares, shares.toSorted((a, b) => a - b));
      await compress(`${dir}/two`);
      assert.equal(await sha256(`${dir}/one`), await sha256(`${dir}/two`));
    }),
);

Deno.test(
  "compressQcow2() compresses as well as qemu-img",
  qemu,
  () =>
    tempDir(async (dir) => {
      const [raw, ours, theirs] = [`${dir}/raw`, `${dir}/ours`, `${dir}/theirs`] as const;
      const size = 16 * MiB;
      // Machine code, as most of a system is.
      await quiet`dd if=${Deno.execPath()} of=${raw} bs=1M count=16 skip=32 status=none`;
      await Deno.writeFile(ours, new Uint8Array());
      {
        using from = openImageFile(raw), to = openImageFile(ours);
        await compressQcow2({ image: from, host: 0, guest: 0, size }, to, () => {});
      }
      await quiet`qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd ${raw} ${theirs}`;
      const [{ size: our }, { size: their }] = [await Deno.stat(ours), await Deno.stat(theirs)];
      assert(our <= their * 1.01, `${our} bytes, qemu-img ${their}`);
    }),
);
