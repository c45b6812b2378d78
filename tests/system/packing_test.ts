/**
 * What is put around an image: the programs of each compression and archive unpack it again.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { compressStream, copyStream } from "../../lib/image/compress.ts";
import {
  compressibleFormats,
  type Compressor,
  COMPRESSORS,
  formatOf,
  isDisk,
} from "../../lib/image/formats.ts";
import { openImageFile } from "../../lib/image/image.ts";
import { type Part, streamSize } from "../../lib/image/parts.ts";
import * as commands from "../../lib/make/commands.ts";
import { runXz } from "../../lib/make/pack.ts";
import { $ } from "../../lib/system/sh.ts";
import { build, runBuilder } from "../lab/builds.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { newRandom } from "../lab/random_tree.ts";
import { tinyTree } from "../lab/trees.ts";

const packers = { ignore: missing("zstd", "xz", "gzip") };
const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "qemu-img", "mmdebstrap", "zstd", "xz", "gzip") ||
  unprivileged();
const SMALL = { EFI_MB: "33", BOOT_MB: "48", FREE_MB: "8" };
const small = (builder: string) => builder === "disk-image" ? SMALL : { FREE_MB: SMALL.FREE_MB };

/** Writes bytes at their offsets to a file of `size` bytes, with holes or zeros between them. */
async function writeFile(
  path: string,
  size: number,
  data: readonly (readonly [at: number, bytes: Uint8Array<ArrayBuffer>])[],
  { holes }: { readonly holes: boolean },
): Promise<void> {
  await Deno.writeFile(path, new Uint8Array(holes ? 0 : size));
  using file = await Deno.open(path, { write: true });
  await file.truncate(size);
  for (const [at, bytes] of data) {
    await file.seek(at, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
  }
}

/** Data at both ends, around the borders of chunks, and random bytes, which do not get smaller. */
function someData(size: number): [number, Uint8Array<ArrayBuffer>][] {
  const random = newRandom(1);
  const bytes = (length: number) => Uint8Array.from({ length }, () => random.below(256));
  const text = new TextEncoder().encode("all work and no play makes jack a dull boy\n".repeat(5000));
  return [
    [0, text],
    [4 * MiB - 700, text],
    [16 * MiB - 1, bytes(MiB)],
    [33 * MiB + 512, text],
    [size - 5, bytes(5)],
  ];
}

/** Compresses a stream, and returns how often xz ran. */
async function compress(method: Compressor, parts: readonly Part[], to: string): Promise<number> {
  await Deno.writeFile(to, new Uint8Array());
  using image = openImageFile(to);
  const done: number[] = [];
  let runs = 0;
  await compressStream(method, parts, image, {
    onProgress: (bytes) => done.push(bytes),
    runXz(block) {
      runs++;
      return runXz(block);
    },
  });
  assert.deepEqual(done, done.toSorted((a, b) => a - b));
  assert.equal(done.at(-1), streamSize(parts));
  return runs;
}

/** Unpacks a file with the program for it, after its own test. */
async function unpack(method: Compressor, from: string, to: string): Promise<void> {
  const script = '"$0" --test --quiet <"$1" && "$0" --decompress --stdout --quiet <"$1" >"$2"';
  await quiet`sh -c ${script} ${commands.PROGRAM_OF[method]} ${from} ${to}`;
}

const file = (path: string, length: number): Part => ({ path, offset: 0, length });

for (const method of COMPRESSORS) {
  Deno.test(
    `COMPRESS=${method}: its program tests and unpacks a file, with holes or zeros in it`,
    packers,
    () =>
      tempDir(async (dir) => {
        const size = 75 * MiB + 3;
        for (const name of ["holes", "zeros"]) {
          await writeFile(`${dir}/${name}`, size, someData(size), { holes: name === "holes" });
          await compress(method, [file(`${dir}/${name}`, size)], `${dir}/${name}.${method}`);
        }
        const packed = `${dir}/holes.${method}`;
        assert.equal(await sha256(packed), await sha256(`${dir}/zeros.${method}`));
        await unpack(method, packed, `${dir}/unpacked`);
        await quiet`cmp ${dir}/holes ${dir}/unpacked`;
        // It says the size of what is in it, as programs do that show their progress.
        const listed = await quiet`${commands.PROGRAM_OF[method]} --list ${packed}`;
        assert.match(listed, /\b(75\.0 MiB|78643203)\b/);
      }),
  );

  Deno.test(
    `COMPRESS=${method} gives the same bytes on one processor`,
    packers,
    () =>
      tempDir(async (dir) => {
        const size = 24 * MiB;
        await writeFile(`${dir}/raw`, size, someData(40 * MiB).slice(0, 3), { holes: true });
        await compress(method, [file(`${dir}/raw`, size)], `${dir}/many`);
        await Deno.writeFile(`${dir}/one`, new Uint8Array());
        const module = new URL("../../lib/make/pack.ts", import.meta.url);
        const config = new URL("../../deno.json", import.meta.url).pathname;
        const script = `const lib = await import("${module}");
        await lib.writePacked("${method}", [{ path: "${dir}/raw", offset: 0, length: ${size} }], "${dir}/one");`;
        await $`taskset --cpu-list 0 ${Deno.execPath()} eval --quiet --config ${config} ${script}`.quiet()
          .env(Deno.env.toObject());
        assert.equal(await sha256(`${dir}/one`), await sha256(`${dir}/many`));
      }),
  );

  Deno.test(
    `COMPRESS=${method} compresses the zeros of holes once, however many there are`,
    packers,
    () =>
      tempDir(async (dir) => {
        const size = 200 * MiB;
        await writeFile(`${dir}/raw`, size, [[5 * MiB, Uint8Array.of(1)], [size - 1, Uint8Array.of(1)]], {
          holes: true,
        });
        const runs = await compress(method, [file(`${dir}/raw`, size)], `${dir}/packed`);
        // Two blocks have data.
        assert.equal(runs, method === "xz" ? 3 : 0);
        await unpack(method, `${dir}/packed`, `${dir}/unpacked`);
        await quiet`cmp ${dir}/raw ${dir}/unpacked`;
      }),
  );
}

Deno.test(
  "a stream has its parts one behind the other, compressed or not",
  packers,
  () =>
    tempDir(async (dir) => {
      const size = 9 * MiB;
      await writeFile(`${dir}/raw`, size, someData(40 * MiB).slice(0, 2), { holes: true });
      const head = new TextEncoder().encode("head");
      const parts: Part[] = [
        { bytes: head },
        { path: `${dir}/raw`, offset: 4 * MiB - 800, length: 3 * MiB },
        { bytes: new Uint8Array(7) },
        file(`${dir}/raw`, size),
      ];
      const raw = await Deno.readFile(`${dir}/raw`);
      const wanted = new Blob([head, raw.subarray(4 * MiB - 800, 7 * MiB - 800), new Uint8Array(7), raw]);
      await Deno.writeFile(`${dir}/wanted`, wanted.stream());
      {
        await Deno.writeFile(`${dir}/none`, new Uint8Array());
        using image = openImageFile(`${dir}/none`);
        await copyStream(parts, image, () => {});
      }
      await quiet`cmp ${dir}/none ${dir}/wanted`;
      assert.ok((await Deno.stat(`${dir}/none`)).blocks! * 512 < 5 * MiB);
      for (const method of COMPRESSORS) {
        await compress(method, parts, `${dir}/packed`);
        await unpack(method, `${dir}/packed`, `${dir}/unpacked`);
        await quiet`cmp ${dir}/unpacked ${dir}/wanted`;
      }
    }),
);

/** Each format with one method, and one format with each. */
const CASES = [
  ...COMPRESSORS.map((method) => ["part-image", "raw", method] as const),
  ...compressibleFormats().map((format) => [formatOf(format).builders[0]!, format, "zst"] as const),
];

for (const [builder, format, method] of CASES) {
  Deno.test(
    `${builder}: COMPRESS=${method} makes the whole ${format} image another file`,
    { ignore },
    () =>
      tempDir(async (dir) => {
        const suffix = formatOf(format).suffixes[0];
        const tree = await tinyTree();
        const image = `${dir}/image.${suffix}`;
        // xz takes a second for two megabytes.
        const env = { ...isDisk(format) && small(builder), ...method === "xz" && { DIRECTORY: "/etc" } };
        await build(builder, tree, image, env);
        const { stderr } = await build(builder, tree, `${image}.${method}`, { ...env, VERIFY: "full" });
        assert.match(stderr, new RegExp(`Done: \\S+, ${format}\\.${method}, `));
        await unpack(method, `${image}.${method}`, `${dir}/unpacked`);
        await quiet`cmp ${image} ${dir}/unpacked`;
      }),
  );
}

for (const builder of ["disk-image", "part-image"] as const) {
  Deno.test(`${builder}: bmaptool writes an image, compressed or not, with BMAP onto what held other data`, {
    ignore: ignore || missing("bmaptool", "e2fsck", "fsck.vfat", "sgdisk", "mcopy"),
  }, () =>
    tempDir(async (dir) => {
      const tree = await tinyTree();
      const settings = { ...small(builder), BMAP: `${dir}/image.bmap`, MANIFEST: `${dir}/manifest` };
      const maps: string[] = [];
      for (const image of [`${dir}/image.img`, `${dir}/image.img.zst`]) {
        await build(builder, tree, image, settings);
        maps.push(await Deno.readTextFile(`${dir}/image.bmap`));
        // bmaptool finds the map by its name.
        await quiet`bmaptool copy ${image} ${dir}/new`;
        await quiet`cmp ${dir}/image.img ${dir}/new`;
        await Deno.remove(`${dir}/new`);
      }
      assert.equal(maps[0], maps[1]);
      // The map is the one that bmaptool itself makes of it.
      const ranges = (map: string) => [...map.matchAll(/<Range.*>/g)].map(([text]) => text);
      const own = await quiet`bmaptool create ${dir}/image.img`;
      assert.deepEqual(ranges(maps[0]!), ranges(own));
      const { subject } = JSON.parse(await Deno.readTextFile(`${dir}/manifest`));
      assert.deepEqual(subject.at(-1), {
        name: "image.bmap",
        digest: { sha256: await sha256(`${dir}/image.bmap`) },
      });

      // As on a disk that was used before: what was not written may be anything.
      const { size } = await Deno.stat(`${dir}/image.img`);
      await Deno.writeFile(`${dir}/used`, new Uint8Array(size).fill(0xee));
      await quiet`bmaptool copy --no-verify --bmap ${dir}/image.bmap ${dir}/image.img.zst ${dir}/used`;
      const partitions = builder === "disk-image"
        ? JSON.parse(await quiet`sfdisk --json ${dir}/used`).partitiontable.partitions
        : [{ start: 0, size: size / 512, name: "root" }];
      if (builder === "disk-image") await quiet`sgdisk --verify ${dir}/used`;
      for (const { start, size, name } of partitions) {
        await quiet`dd if=${dir}/used of=${dir}/part bs=512 skip=${start} count=${size} status=none`;
        const check = name === "root" ? ["e2fsck", "-fn"] : ["fsck.vfat", "-n"];
        await quiet`${check} ${dir}/part`;
        await listAll(`${dir}/part`, `${dir}/${name}.used`);
        await quiet`dd if=${dir}/image.img of=${dir}/part bs=512 skip=${start} count=${size} status=none`;
        await listAll(`${dir}/part`, `${dir}/${name}.image`);
        await quiet`cmp ${dir}/${name}.used ${dir}/${name}.image`;
      }
    }));
}

/** Writes names and contents of everything in a filesystem to a file. */
async function listAll(filesystem: string, to: string): Promise<void> {
  const list = (dir: string) => quiet`tar --create --file=${to} --sort=name --mtime=@0 --directory=${dir} .`;
  await tempDir(async (dir) => {
    if (to.includes("/root.")) {
      await quiet`mount -o loop,ro ${filesystem} ${dir}`;
      await list(dir).finally(() => quiet`umount ${dir}`);
    } else {
      // Not every kernel mounts FAT.
      await quiet`mcopy -s -n -i ${filesystem} ::/ ${dir}`;
      await list(dir);
    }
  });
}

Deno.test(
  "what cannot be compressed, or has no block map, is refused before anything is read",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await tinyTree();
      const refused = async (output: string, env: Record<string, string>) => {
        const { code, stderr } = await runBuilder("part-image", {
          args: ["--input", tree, "--output", `${dir}/${output}`],
          env,
        });
        assert.equal(code, 2, stderr);
        await assert.rejects(Deno.stat(`${dir}/${output}`), Deno.errors.NotFound);
        return stderr;
      };
      assert.match(
        await refused("a.qcow2", { COMPRESS: "zst", OUTPUT_FORMAT: "qcow2" }),
        /\.qcow2 says that the image is not compressed, but COMPRESS is zst/,
      );
      assert.match(
        await refused("a.img", { COMPRESS: "zst", OUTPUT_FORMAT: "qcow2" }),
        /Cannot use COMPRESS=zst with OUTPUT_FORMAT=qcow2\n.*set OUTPUT_FORMAT to raw or vpc/,
      );
      assert.match(
        await refused("a.qcow2", { BMAP: `${dir}/bmap` }),
        /Cannot write BMAP for OUTPUT_FORMAT=qcow2/,
      );
      assert.match(await refused("a.img.zst", { COMPRESS: "gz" }), /compressed with zst, but COMPRESS is gz/);
    }),
);

Deno.test("a compression that fails leaves no half of an image", { ignore }, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(`${dir}/bin`, "xz", "head -c 1000 >/dev/null; echo out of memory >&2; exit 1");
    await Deno.writeTextFile(`${dir}/old.img.xz`, "an older image");
    const env = { ...small("part-image"), PATH: `${dir}/bin:${Deno.env.get("PATH")}`, BMAP: `${dir}/bmap` };
    for (const name of ["new", "old"]) {
      const { code, stderr } = await runBuilder("part-image", {
        args: ["--input", await tinyTree(), "--output", `${dir}/${name}.img.xz`],
        env,
      });
      assert.equal(code, 1, stderr);
      assert.match(stderr, /^\[E\] xz failed with exit code 1: out of memory$/m);
    }
    const { size, mtime } = await Deno.stat(`${dir}/old.img.xz`);
    assert.deepEqual([size, mtime!.getTime()], [0, 0]);
    const names = (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort();
    assert.deepEqual(names, ["bin", "old.img.xz"]);
  }));
