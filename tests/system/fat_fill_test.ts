/**
 * FAT filesystems of random trees and of what is special, read back by fsck.vfat, mtools and Linux.
 * `FAT_SEED=NUMBER` makes other ones, `FAT_SEED=random` new ones.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { BuildError } from "../../lib/core/error.ts";
import { MiB } from "../../lib/core/units.ts";
import { fillFat } from "../../lib/filesystem/fat/fill.ts";
import { fatGeometry } from "../../lib/filesystem/fat/geometry.ts";
import { fatFault } from "../../lib/filesystem/fat/verify.ts";
import { openImageFile } from "../../lib/image/image.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { buildNodes } from "../../lib/tree/builder.ts";
import { build } from "../lab/builds.ts";
import { checkFat, makeFat, mtools, OFFSET, TIME } from "../lab/fat_image.ts";
import { bootQemu, report } from "../lab/guests.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { newRandom, type Random, seedFrom } from "../lab/random_tree.ts";
import { tinyTree } from "../lab/trees.ts";

const tools = { ignore: missing("mkfs.vfat", "mcopy", "mdir", "fsck.vfat") };
const SEED = seedFrom("FAT_SEED");

const ALPHABETS = [
  "abcdefghijklmnopqrstuvwxyz0123456789-_",
  "abcdefghijklmnopqrstuvwxyz0123456789-_.",
  "ABCxyz09 .+,;=[]~'!#$%&()@^`{}",
  "éåÅσß日本語¥ü",
];

function randomName(random: Random): string {
  const alphabet = Array.from(random.pick(ALPHABETS));
  const length = random.pick([1, 3, 7, 8, 9, 11, 12, 13, 14, 25, 26, 27, 39, 60, 130, 255]);
  let name = Array.from({ length }, () => random.pick(alphabet)).join("");
  while (new TextEncoder().encode(name).length > 255) name = name.slice(0, -1);
  return name.replace(/^ +|[. ]+$/g, "") || "x";
}

/** Fills an empty directory with about `count` files, of up to `largest` bytes, and directories. */
async function makeRandomTree(tree: string, seed: number, count: number, largest: number): Promise<void> {
  const random = newRandom(seed);
  const directories = [tree], full = `${tree}/a directory of several clusters`;
  const taken = new Set<string>();
  await Deno.mkdir(full);
  for (let i = 0; i < count; i++) {
    const parent = random.chance(40)
      ? full
      : random.chance(30)
      ? directories.at(-1)!
      : random.pick(directories);
    const path = `${parent}/${randomName(random)}`, key = path.toUpperCase();
    if (taken.has(key) || path.length > 1500) continue;
    taken.add(key);
    if (random.chance(12)) {
      await Deno.mkdir(path);
      directories.push(path);
      continue;
    }
    const size = random.pick([0, 1, 511, 512, 513, 1024, 4095, 4096, 4097, random.below(largest)]);
    await Deno.writeFile(path, random.bytes(Math.min(size, largest)));
    // Before FAT's time, odd seconds, and after the build.
    const time = random.pick([1e8, 315532799, 315532800, 1234567891, TIME - 1, TIME, TIME + 1, 5e9]);
    await Deno.utime(path, time, time);
  }
}

interface Found {
  readonly type: "directory" | "file";
  readonly sha256?: string;
  /** Seconds since 1970. */
  readonly mtime?: number;
}

/** The files below a directory, by their paths. */
async function listTree(top: string): Promise<Map<string, Found>> {
  const found = new Map<string, Found>();
  const list = async (dir: string) => {
    for await (const { name, isDirectory } of Deno.readDir(top + dir)) {
      const path = `${dir}/${name}`;
      if (isDirectory) {
        found.set(path, { type: "directory" });
        await list(path);
      } else {
        const { mtime } = await Deno.stat(top + path);
        found.set(path, {
          type: "file",
          sha256: await sha256(top + path),
          mtime: mtime!.getTime() / 1000,
        });
      }
    }
  };
  await list("");
  return new Map([...found].sort(([a], [b]) => a < b ? -1 : 1));
}

/** What becomes of the tree's files in FAT: their times. */
function stored(tree: ReadonlyMap<string, Found>): Map<string, Found> {
  return new Map([...tree].map(([path, { mtime, ...rest }]) => {
    if (mtime === undefined) return [path, rest];
    const kept = mtime >= 315532800 && mtime <= TIME ? mtime : TIME;
    return [path, { ...rest, mtime: kept - kept % 2 }];
  }));
}

/** The filesystem as mtools copy it out. */
async function readBack(dir: string, image: string): Promise<Map<string, Found>> {
  await Deno.mkdir(`${dir}/out`);
  await mtools`mcopy -s -m -n -Q -i ${`${image}@@${OFFSET}`} :: ${dir}/out`;
  return await listTree(`${dir}/out`);
}

/** How fsck.vfat ends when it has nothing to remark on. */
const CLEAN =
  /\d sectors total\nChecking for unused clusters\.\n(Checking free cluster summary\.\n)?\S+: \d+ files, \S+ clusters\n$/;

const VARIANTS = [
  { bits: 12, sector: 512, size: 2 * MiB, count: 40, largest: 20_000 },
  { bits: 16, sector: 512, size: 32 * MiB, count: 700, largest: 60_000 },
  { bits: 32, sector: 512, size: 40 * MiB, count: 700, largest: 60_000 },
  { bits: 32, sector: 512, size: 300 * MiB, count: 300, largest: 3 * MiB },
  { bits: 12, sector: 4096, size: 8 * MiB, count: 100, largest: 60_000 },
  { bits: 16, sector: 4096, size: 32 * MiB, count: 300, largest: 60_000 },
  { bits: 32, sector: 4096, size: 300 * MiB, count: 300, largest: 3 * MiB },
] as const;

for (const { bits, sector, size, count, largest } of VARIANTS) {
  const name = `FAT${bits} of ${size / MiB} MiB with sectors of ${sector} bytes`;
  Deno.test(
    `fillVfat() makes a ${name} from a random tree, the same twice: FAT_SEED=${SEED}`,
    tools,
    () =>
      tempDir(async (dir) => {
        const tree = `${dir}/tree`;
        await Deno.mkdir(tree);
        await makeRandomTree(tree, SEED, count, largest);
        const image = await makeFat(dir, tree, { size, sector });
        const said = await checkFat(dir, image);
        assert.match(said, new RegExp(`^ *2 FATs, ${bits} bit entries$`, "m"));
        assert.match(said, CLEAN);
        const [expected, found] = [stored(await listTree(tree)), await readBack(dir, image)];
        assert.deepEqual([...found.keys()], [...expected.keys()]);
        assert.deepEqual(found, expected);
        const [, files] = /: (\d+) files,/.exec(said)!;
        // The label, and the root directory in FAT32, are counted as files, too.
        assert(Number(files) - expected.size <= 2, said);
        const digest = await sha256(image);
        await Deno.remove(image);
        assert.equal(await sha256(await makeFat(dir, tree, { size, sector })), digest);
      }),
  );
}

/** Names at the border of what is allowed. */
function oddNames(): string[] {
  const marks = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i))
    .filter((mark) => !'/"*:<>?|\\ '.includes(mark) && !/[A-Z]/.test(mark));
  return [
    ...marks.flatMap((mark) => [`x${mark}y`, `${mark}z`, `a long name ${mark} here.text`])
      .filter((name) => !name.startsWith(".")),
    ...["-rf", "--help", ".hidden", "..x", "$(reboot)", "`reboot`", "T.ABC", "lower.abc", "MiXed.Abc"],
    ...["n".repeat(255), `${"m".repeat(250)}.conf`, "ABCDEFGH.IJK", "ABCDEFGHI", "Aux.txt", "con", "nul.c"],
    ...["é", "日本語", "日".repeat(85), "😀.txt", "åbc", "σ", "x\x7f", "ALONGN~1", "longer~1.txt", "TEST"],
  ];
}

Deno.test(
  "fillVfat() stores every name that fatEntries() allows, and the same name as the label's",
  tools,
  () =>
    tempDir(async (dir) => {
      const tree = `${dir}/tree`;
      await Deno.mkdir(`${tree}/sub`, { recursive: true });
      for (const name of oddNames()) await Deno.writeTextFile(`${tree}/sub/${name}`, name);
      for (const name of ["test", "empty"]) await Deno.writeTextFile(`${tree}/${name}`, "");
      const image = await makeFat(dir, tree);
      assert.match(await checkFat(dir, image), CLEAN);
      const found = await readBack(dir, image);
      assert.equal(found.size, 3 + oddNames().length);
      for (const name of oddNames()) {
        // mtools know no characters of more than 16 bits; Linux does, below.
        const shown = name.replace(/[\u{10000}-\u{10ffff}]/u, "__");
        assert.equal(await Deno.readTextFile(`${dir}/out/sub/${shown}`), name);
      }
      assert.match(await mtools`mdir -i ${`${image}@@${OFFSET}`} ::`, /^ Volume in drive : is TEST/m);
    }),
);

Deno.test("fillVfat() makes the deepest directories that are allowed", tools, () =>
  tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    // With the slash at the front, 4095 bytes.
    const path = "d/".repeat(2047).slice(0, -1) + "d";
    await quiet`mkdir ${tree}`;
    await quiet`env --chdir=${tree} mkdir -p ${path}`;
    const image = await makeFat(dir, tree);
    assert.match(await checkFat(dir, image), /: 2048 files, 2047\/\d+ clusters/);
  }));

Deno.test("fillVfat() makes a filesystem of nothing", tools, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree`);
    for (const size of [1, 20, 40]) {
      const image = await makeFat(dir, `${dir}/tree`, { size: size * MiB });
      assert.match(await checkFat(dir, image), CLEAN);
      assert.match(await mtools`mdir -i ${`${image}@@${OFFSET}`} ::`, /^No files$/m);
      await Deno.remove(image);
    }
  }));

Deno.test("fillVfat() notices a file that changed since the walk", tools, async (t) => {
  const changes: Record<string, (path: string) => void> = {
    "longer": (path) => Deno.writeTextFileSync(path, "more", { append: true }),
    "shorter": (path) => Deno.truncateSync(path, 5),
    "replaced": (path) => (Deno.removeSync(path), Deno.writeTextFileSync(path, "0123456789")),
    "gone": (path) => Deno.removeSync(path),
    "a link": (path) => (Deno.removeSync(path), Deno.symlinkSync("/etc/passwd", path)),
    "no longer empty": (path) => Deno.writeTextFileSync(`${dirname(path)}/empty`, "x"),
  };
  for (const [name, change] of Object.entries(changes)) {
    await t.step(name, () =>
      tempDir(async (dir) => {
        await Deno.mkdir(`${dir}/tree`);
        await Deno.writeTextFile(`${dir}/tree/file`, "0123456789");
        await Deno.writeTextFile(`${dir}/tree/empty`, "");
        const between = () => change(`${dir}/tree/file`);
        await assert.rejects(makeFat(dir, `${dir}/tree`, { between }), (error) => {
          assert(error instanceof BuildError, String(error));
          assert.match(error.message, /^Cannot read "\/(file|empty)": it changed during the build$/);
          return true;
        });
        // Nobody takes what is left for a filesystem.
        await assert.rejects(quiet`blkid -p -O ${OFFSET} ${dir}/image`, /exit code 2/);
      }));
  }
});

Deno.test("fillVfat() gives timers a turn, and ends when it is told to", tools, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree`);
    await Deno.writeFile(`${dir}/tree/file`, new Uint8Array(200 * MiB));
    const controller = new AbortController();
    let reported = 0;
    const onProgress = (done: number) => {
      assert(done >= reported);
      reported = done;
      controller.abort(new Error("enough"));
    };
    await assert.rejects(makeFat(dir, `${dir}/tree`, { onProgress, signal: controller.signal }), /enough/);
    assert(reported > 0 && reported < 200 * MiB, `${reported} bytes`);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    await makeFat(dir, `${dir}/tree`);
    clearInterval(timer);
    assert(ticks >= 3, `${ticks} turns`);
  }));

Deno.test(
  "fillFat() refuses a filesystem that mkfs.vfat made otherwise than planned",
  tools,
  () =>
    tempDir(async (dir) => {
      await Deno.mkdir(`${dir}/tree`);
      const image = await makeFat(dir, `${dir}/tree`, { size: 40 * MiB });
      const geometry = fatGeometry(40 * MiB, [])!;
      const before = await sha256(image);
      using file = openImageFile(image);
      const nodes = buildNodes([]);
      const root = { path: "/", fd: -1, places: new Map() };
      const fill = (offset: number, size: number, change: Partial<typeof geometry>) => [...fillFat(
        { ...file, offset },
        size,
        { geometry: { ...geometry, ...change }, entries: [], time: TIME },
        { root, nodes },
      )];
      const wrong = /^BuildError: Cannot fill the filesystem: mkfs.vfat did not make it as planned/;
      for (
        const change of [{ sector: 4096 }, { perCluster: 8 }, { reserved: 4 }, { bits: 16 }, {
          clusters: 1e6,
        }]
      ) {
        assert.throws(() => fill(OFFSET, 40 * MiB, change as Partial<typeof geometry>), wrong);
      }
      assert.throws(() => fill(OFFSET, 41 * MiB, {}), wrong);
      assert.throws(() => fill(0, 40 * MiB, {}), wrong);
      assert.equal(await sha256(image), before);
      fill(OFFSET, 40 * MiB, {});
      assert.equal(await sha256(image), before);
    }),
);

/** Has the guest list its /boot, write to it, and unmount it. */
const LISTING = `echo "=== boot"
cd /boot
busybox find . ! -path "./efi/*" -exec busybox stat -c "%F|%s|%Y|%n" {} + | sort
echo "=== sums"
busybox find . -type f ! -path "./efi/*" -exec busybox sha256sum {} + | sort
echo "a new file" >"a new file, with a long name"
rm -f "./random/a file to be removed"
cd /
busybox umount /boot/efi
busybox umount /boot
`;

Deno.test("Linux reads from a FAT boot partition what the tree has there, and writes to it", {
  ignore: tools.ignore || unprivileged() || missing("qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
}, () =>
  tempDir(async (dir) => {
    const tree = `${dir}/tree`, image = `${dir}/disk.img`;
    await quiet`cp --archive ${await tinyTree()} ${tree}`;
    const random = `${tree}/boot/random`;
    await Deno.mkdir(random);
    await makeRandomTree(random, SEED, 200, 20_000);
    await Deno.mkdir(`${random}/names`);
    for (const name of oddNames()) await Deno.writeTextFile(`${random}/names/${name}`, name);
    await Deno.writeTextFile(`${random}/a file to be removed`, "x".repeat(5000));
    const init = await Deno.readTextFile(`${tree}/usr/sbin/init`);
    await Deno.writeTextFile(
      `${tree}/usr/sbin/init`,
      init.replace('echo "=== end"', () => LISTING + 'echo "=== end"'),
    );
    const env = { FREE_MB: "16", BOOT_MB: "128", SOURCE_DATE_EPOCH: String(TIME) };
    await build("disk-image", tree, image, env);
    const seen = report(await bootQemu(image, { architecture: "x86-64", format: "raw", snapshot: false }));

    const expected = stored(await listTree(`${tree}/boot`));
    const inRandom = (line: string) => line.includes("./random");
    const lines = [...expected].filter(([path]) => path.startsWith("/random/")).map(
      ([path, { type, mtime }]) => {
        const { size } = Deno.lstatSync(`${tree}/boot${path}`);
        return type === "file"
          ? `${size ? "regular file" : "regular empty file"}|${size}|${mtime}|.${path}`
          : path;
      },
    );
    const listed = seen.get("boot")!.split("\n").filter(inRandom).filter((line) =>
      line.startsWith("regular")
    );
    assert.deepEqual(listed.sort(), lines.filter((line) => line.startsWith("regular")).sort());
    const directories = seen.get("boot")!.split("\n").filter((line) =>
      line.startsWith("directory|") && inRandom(line)
    );
    assert.deepEqual(
      directories.map((line) => line.split("|")[3]!.slice(1)).filter((path) => path !== "/random").sort(),
      lines.filter((line) => !line.startsWith("regular")).sort(),
    );
    assert.deepEqual(new Set(directories.map((line) => line.split("|")[2])), new Set([String(TIME)]));
    assert.deepEqual(
      seen.get("sums")!.split("\n").filter(inRandom).sort(),
      [...expected].filter(([path, { sha256 }]) => sha256 && path.startsWith("/random/"))
        .map(([path, { sha256 }]) => `${sha256}  .${path}`).sort(),
    );

    // What Linux wrote fits to what was there.
    const [, xbootldr] = JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable.partitions;
    const at = xbootldr.start * 512;
    await quiet`dd ${`if=${image}`} ${`of=${dir}/cut`} ${`skip=${
      at / MiB
    }`} ${`count=128`} bs=1M status=none conv=sparse`;
    assert.match(await quiet`fsck.vfat -n -v ${dir}/cut`, CLEAN);
    assert.equal(
      await mtools`mtype -i ${`${image}@@${at}`} ${"::/a new file, with a long name"}`,
      "a new file\n",
    );
    assert.doesNotMatch(await mtools`mdir -b -i ${`${image}@@${at}`} ::/random`, /to be removed/);
  }));

Deno.test(
  "fatFault() finds a boot sector, table or count that is damaged",
  tools,
  () =>
    tempDir(async (dir) => {
      await Deno.mkdir(`${dir}/tree`);
      await Deno.writeTextFile(`${dir}/tree/file`, "text");
      const size = 40 * MiB;
      const path = await makeFat(dir, `${dir}/tree`, { size });
      const geometry = fatGeometry(size, [{ path: "/file", type: "file", size: 4 }])!;
      const target = { path, offset: OFFSET, size };
      assert.equal(fatFault(target, geometry), undefined);
      await MAKERS.vfat.check!(target, dir);
      using file = await Deno.open(path, { read: true, write: true });
      // Signature, sectors per cluster, an entry of the first table, one of the second, free clusters, their backup.
      for (const at of [510, 13, 32 * 512 + 8, (32 + 630) * 512 + 8, 512 + 488, 7 * 512 + 488]) {
        const byte = new Uint8Array(1);
        await file.seek(OFFSET + at, Deno.SeekMode.Start);
        await file.read(byte);
        const flip = async () => {
          byte[0]! ^= 1;
          await file.seek(OFFSET + at, Deno.SeekMode.Start);
          await file.write(byte);
        };
        await flip();
        assert.equal(typeof fatFault(target, geometry), "string", String(at));
        await flip();
      }
      assert.equal(fatFault(target, geometry), undefined);
    }),
);
