/**
 * The same tree and settings give the same bytes, wherever and whenever they are built.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { FILESYSTEMS } from "../../lib/filesystem/filesystems.ts";
import { type FormatName, formatNames, isDisk } from "../../lib/image/formats.ts";
import { isInstalled, searchPath, startedPrograms } from "../../lib/system/programs.ts";
import { build, builderCommand, runBuilder } from "../lab/builds.ts";
import { findDifference, placeIn } from "../lab/differences.ts";
import { useErofs } from "../lab/erofs.ts";
import { pooled } from "../lab/faults.ts";
import { mountLoop } from "../lab/guests.ts";
import { missing, quiet, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { newRandom } from "../lab/random_tree.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const ignore = missing(
  "sfdisk",
  "mke2fs",
  "mkfs.vfat",
  "qemu-img",
  "mmdebstrap",
  "faketime",
  "debugfs",
  "mksquashfs",
  "mkfs.erofs",
  "veritysetup",
) ||
  unprivileged();
const BUILDERS = ["disk-image", "part-image"] as const;
const SMALL = { EFI_MB: "33", BOOT_MB: "48", FREE_MB: "8" };

/** What is built: every format, and every filesystem that can hold a system. */
interface Case {
  readonly builder: (typeof BUILDERS)[number];
  readonly format: FormatName;
  readonly env: Readonly<Record<string, string>>;
}

const CASES: readonly Case[] = BUILDERS.flatMap((builder) => {
  const small = builder === "disk-image" ? SMALL : { FREE_MB: SMALL.FREE_MB };
  const filesystems = Object.entries(FILESYSTEMS).filter(([name, row]) => row.holdsSystem && name !== "ext4");
  return [
    ...formatNames(builder).map((format) => ({
      builder,
      format,
      env: { ...isDisk(format) ? small : {}, OUTPUT_FORMAT: format },
    })),
    ...filesystems.map(([name]) => ({
      builder,
      format: "raw" as const,
      env: { ...small, FILESYSTEM: name, VERITY: "hash" },
    })),
    // xz takes much longer, and all three cut the image into chunks in the same way.
    ...(["zst", "gz"] as const).map((method) => ({
      builder,
      format: "raw" as const,
      env: { ...small, COMPRESS: method },
    })),
  ];
});

/** A tree with what depends on the order in which a tree is read: a large directory, hard links, xattrs. */
async function makeTree(dir: string): Promise<string> {
  const tree = await copyTree(await tinyTree(), `${dir}/tree`);
  await Deno.mkdir(`${tree}/srv`);
  for (let i = 0; i < 300; i++) await Deno.writeTextFile(`${tree}/srv/a file with number ${i}`, `${i}`);
  for (const name of ["z", "a", "k"]) {
    await Deno.link(`${tree}/srv/a file with number 7`, `${tree}/srv/${name}`);
  }
  await Deno.writeTextFile(`${tree}/srv/sparse`, "x");
  await Deno.truncate(`${tree}/srv/sparse`, 3 * MiB);
  for (const name of ["security.b", "security.a", "trusted.c"]) {
    await quiet`setfattr --name ${name} --value ${name} ${tree}/srv/a`;
  }
  await quiet`setfacl --modify user:1000:r ${tree}/srv/sparse`;
  await Deno.writeTextFile(`${tree}/boot/extra`, "more for XBOOTLDR");
  return tree;
}

/** Copies a tree with everything but the order of its entries, which tar gets in a random one. */
async function copyShuffled(tree: string, to: string, seed: number): Promise<string> {
  await Deno.mkdir(to);
  const names = (await quiet`find ${tree} -mindepth 1 -printf ${"%P\\0"}`).split("\0").slice(0, -1);
  const random = newRandom(seed);
  for (let i = names.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [names[i], names[j]] = [names[j]!, names[i]!];
  }
  await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/list`, [".", ...names].join("\0"));
    const metadata = [
      "--format=posix",
      "--sparse",
      "--acls",
      "--xattrs",
      "--xattrs-include=*",
      "--numeric-owner",
    ];
    await quiet`tar --create --file=${dir}/tar ${metadata} --directory=${tree} --no-recursion --null
      --files-from=${dir}/list`;
    await quiet`tar --extract --file=${dir}/tar ${metadata} --directory=${to} --same-permissions
      --delay-directory-restore`;
  });
  return to;
}

const LATER = "@2033-01-01 00:00:00";

/** Runs a builder, programs included, with another umask, time zone and locale, on one CPU, in the future. */
async function buildElsewhere(
  builder: string,
  tree: string,
  output: string,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const command = await builderCommand(builder);
  // faketime works through variables of its own, which programs are not given: each of them gets them once more.
  const stubs = `${output}.stubs`;
  await Deno.mkdir(stubs);
  for (const program of startedPrograms().filter((name) => !name.startsWith("/"))) {
    const real = searchPath().split(":").map((dir) => `${dir}/${program}`).find(isInstalled);
    await stubProgram(stubs, program, `NO_FAKE_STAT=1 exec faketime -f "${LATER}" ${real} "$@"`);
  }
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'umask 0077; exec taskset --cpu-list 0 faketime -f "$0" "$@"', LATER]
      .concat(command, "--input", tree, "--output", output),
    cwd: "/",
    env: {
      ...env,
      // The time goes on elsewhere; what the files of the tree have stays.
      NO_FAKE_STAT: "1",
      TZ: "Asia/Kathmandu",
      LANG: "de_DE.UTF-8",
      LC_ALL: "C",
      MKE2FS_CONFIG: "/dev/null",
      PATH: `${stubs}:${searchPath()}`,
    },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
}

Deno.test("the same bytes from copies in another order, on another filesystem, elsewhere and later", {
  ignore,
}, async (t) => {
  await tempDir(async (dir) => {
    const tree = await makeTree(dir);
    const shuffled = await copyShuffled(tree, `${dir}/shuffled`, 1);
    await Deno.mkdir(`${dir}/memory`);
    await quiet`mount -t tmpfs tmpfs ${dir}/memory`;
    try {
      const inMemory = await copyShuffled(tree, `${dir}/memory/tree`, 2);
      await useErofs();
      const faults = await pooled(CASES, ({ builder, format, env }) =>
        tempDir(async (own) => {
          // VMDK has the name of its file in it.
          const paths = ["a", "b", "c"].map((name) => `${own}/${name}/image`) as [string, string, string];
          for (const path of paths) await Deno.mkdir(path.replace("/image", ""));
          await build(builder, tree, paths[0], env);
          await Deno.writeFile(paths[1], new Uint8Array(150 * MiB).fill(0xee));
          await buildElsewhere(builder, shuffled, paths[1], env);
          await build(builder, inMemory, paths[2], env);
          const found = [];
          for (const path of paths.slice(1)) {
            const difference = await findDifference(paths[0], path, format);
            if (difference) found.push(`${builder} ${JSON.stringify(env)}: ${difference}`);
          }
          return found;
        }));
      assert.deepEqual(faults.flat(), []);
      await t.step(`${CASES.length} kinds of images: 3 builds each are equal`, () => {});
    } finally {
      await quiet`umount --lazy ${dir}/memory`;
    }
  });
});

Deno.test("SEED and SOURCE_DATE_EPOCH decide on the bytes, and SEED=random makes each image different", {
  ignore,
}, async () => {
  await tempDir(async (dir) => {
    const tree = await tinyTree();
    const image = async (name: string, env: Record<string, string>) => {
      await build("disk-image", tree, `${dir}/${name}`, { ...SMALL, ...env });
      return `${dir}/${name}`;
    };
    const a = await image("a", {});
    for (const env of [{ SEED: "x" }, { SEED: "random" }, { SOURCE_DATE_EPOCH: "1000000000" }]) {
      const b = await image("b", env);
      assert(await findDifference(a, b, "raw"), JSON.stringify(env));
      const again = await findDifference(b, await image("c", env), "raw");
      assert.equal(again === undefined, env.SEED !== "random", `${JSON.stringify(env)}: ${again}`);
    }
    // A later time than any in the tree changes nothing but what the build adds.
    const { stdout } = await runBuilder("disk-image", {
      args: ["--input", tree, "--dry-run", "--json"],
      env: { SEED: "x" },
    });
    const { partitions, id } = JSON.parse(stdout);
    const ids = partitions.flatMap((one: { uuid: string; filesystem: { uuid: string } }) => [
      one.uuid,
      one.filesystem.uuid,
    ]);
    assert.equal(new Set([id, ...ids]).size, 7);
  });
});

for (const [filesystem, row] of Object.entries(FILESYSTEMS)) {
  if (!row.holdsSystem) continue;
  Deno.test(`SOURCE_DATE_EPOCH makes later times of ${filesystem} earlier, and leaves the others`, {
    ignore: ignore || missing("mount"),
  }, () =>
    tempDir(async (dir) => {
      await useErofs();
      const tree = await copyTree(await tinyTree(), `${dir}/tree`);
      const EPOCH = 1_600_000_000;
      // Half a second before, exactly then, half a second later, and a year later.
      const times = ["1599999999.5", "1600000000", "1600000000.5", "1630000000"];
      for (const [i, time] of times.entries()) {
        await Deno.writeTextFile(`${tree}/srv-${i}`, "");
        await quiet`touch --date=@${time} ${tree}/srv-${i}`;
      }
      const image = `${dir}/image`;
      await build("part-image", tree, image, { FILESYSTEM: filesystem, SOURCE_DATE_EPOCH: String(EPOCH) });
      await mountLoop(image, {}, async (mount) => {
        const found = await quiet`stat --format=%.1Y ${times.map((_, i) => `${mount}/srv-${i}`)}`;
        // Squashfs has whole seconds.
        const before = filesystem === "squashfs" ? "1599999999.0" : "1599999999.5";
        assert.deepEqual(found.trim().split("\n"), [before, ...Array(3).fill("1600000000.0")]);
      });
    }));
}

Deno.test("a difference is named by its offset, partition and structure", { ignore }, async () => {
  await tempDir(async (dir) => {
    const [a, b] = [`${dir}/a`, `${dir}/b`];
    const tree = await copyTree(await tinyTree(), `${dir}/tree`);
    await Deno.writeTextFile(`${tree}/etc/marked`, "MARK".repeat(2000));
    await build("disk-image", tree, a, SMALL);
    const { partitions } = JSON.parse(await quiet`sfdisk --json ${a}`).partitiontable;
    const [esp, , root] = partitions.map(({ start }: { start: number }) => start * 512);
    const { size } = await Deno.stat(a);
    const marked = Number(
      /(\d+)/.exec(
        await quiet`grep --only-matching --byte-offset --max-count=1 --text ${"MARKMARKMARK"} ${a}`,
      )![1],
    );
    const places: [number, RegExp][] = [
      [100, /^the protective MBR$/],
      [512 + 20, /^the header of the GPT$/],
      [1024 + 130, /^entry 2 of the GPT$/],
      [size - 100, /^the header of the backup GPT$/],
      [esp + 3, /^partition 1 \(esp\), FAT: reserved sector 0$/],
      [esp + 32 * 512 + 9, /^partition 1 \(esp\), FAT: allocation table 1$/],
      [root + 1024 + 0x30, /^partition 3 \(root\), ext4: the superblock$/],
      [marked, /^partition 3 \(root\), ext4: block \d+ of inode \d+, \/etc\/marked$/],
    ];
    for (const [at, place] of places) assert.match(await placeIn(a, at), place);

    await quiet`cp --sparse=always ${a} ${b}`;
    assert.equal(await findDifference(a, b, "raw"), undefined);
    using file = await Deno.open(b, { write: true });
    await file.seek(marked + 1, Deno.SeekMode.Start);
    await file.write(new TextEncoder().encode("x"));
    assert.match(
      (await findDifference(a, b, "raw"))!,
      new RegExp(`^1 bytes, the first at ${marked + 1}: .*/etc/marked$`),
    );
  });
});
