import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { MiB } from "../../../lib/core/units.ts";
import { hashImage } from "../../../lib/image/hash.ts";
import { copyTarget, readPieces } from "../../../lib/image/image.ts";
import { $ } from "../../../lib/system/sh.ts";
import { tempDir } from "../../lab/helpers.ts";
import { writeSparse } from "../../lab/libc.ts";
import { newRandom } from "../../lab/random_tree.ts";

const SIZE = 6 * MiB + 123;

/** Data at the start, across a piece, and in the middle of holes; written zeros; and a hole at the end. */
function writeHoles(path: string): void {
  const { bytes } = newRandom(5);
  writeSparse(path, SIZE, [
    [0, bytes(10)],
    [MiB - 3, bytes(5000)],
    [2 * MiB + 77, bytes(1)],
    [3 * MiB, new Uint8Array(MiB)],
    [5 * MiB - 4096, bytes(8192)],
  ]);
}

Deno.test("readPieces() and hashImage() read every range of a file with holes as it is", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`;
    writeHoles(path);
    const whole = await Deno.readFile(path);
    assert.equal(whole.length, SIZE);
    const places = [0, 1, 10, 4096, MiB - 1, MiB + 5, 2 * MiB, 3 * MiB + 7, 5 * MiB - 4097, SIZE - 1, SIZE];
    for (const start of places) {
      for (const end of [...places, SIZE + 5, Infinity]) {
        if (end < start) continue;
        const pieces: Uint8Array[] = [];
        for await (const piece of readPieces(path, start, end - start)) {
          assert.ok(piece.length > 0 && piece.length <= MiB);
          pieces.push(piece.slice());
        }
        const wanted = whole.subarray(start, end);
        assert.ok(Buffer.compare(Buffer.concat(pieces), wanted) === 0, `${start} to ${end}`);
        assert.equal(
          await hashImage(path, start, end - start),
          createHash("sha256").update(wanted).digest("hex"),
        );
      }
    }
  }));

Deno.test("hashImage() computes many checksums at once, each the one of sha256sum, and says what it cannot read", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`, { bytes } = newRandom(6), size = 170 * MiB;
    writeSparse(path, size, [[0, bytes(5000)], [60 * MiB - 7, bytes(20_000)], [size - 9, bytes(9)]]);
    const whole = hashImage(path);
    // The first thread is busy, so another one tries.
    const none = hashImage(`${dir}/none`, 0, 60 * MiB);
    const ranges = [[60 * MiB, 55 * MiB], [5, 70 * MiB], [size - 9, 9], [110 * MiB, 60 * MiB], [0, 0], [
      0,
      size,
    ]];
    const sums = ranges.map(([offset, length]) => hashImage(path, offset, length));
    await assert.rejects(none, { name: "BuildError", message: /^Cannot read ".*none": No such file/ });
    for (const [i, [offset, length]] of ranges.entries()) {
      const line = await $`sh -c ${`tail -c +${offset! + 1} "$0" | head -c ${length!} | sha256sum`} ${path}`
        .quiet()
        .text();
      assert.equal(await sums[i], line.split(" ")[0], `${length} bytes at ${offset}`);
    }
    assert.equal(await whole, await sums.at(-1));
    assert.equal(await hashImage(path), await whole);
  }));

Deno.test("copyTarget() makes a sparse copy, also of zeros that were written", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`, to = `${dir}/copy`;
    writeHoles(path);
    await copyTarget({ path, offset: 5, size: SIZE - 100 }, to);
    assert.ok(
      Buffer.compare(await Deno.readFile(to), (await Deno.readFile(path)).subarray(5, SIZE - 95)) === 0,
    );
    // Three of six MiB have data, one of them only zeros.
    assert.ok((await Deno.stat(to)).blocks! * 512 <= 4.5 * MiB);
  }));
