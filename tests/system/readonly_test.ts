/**
 * Read-only filesystems: everything of a tree comes through the stream, whatever the compression.
 *
 * @module
 */

import assert from "node:assert/strict";
import { $ } from "../../lib/system/sh.ts";
import { MiB } from "../../lib/core/units.ts";
import type { Compressors } from "../../lib/filesystem/compression.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { paxStream } from "../../lib/filesystem/pax.ts";
import { READ_ONLY, type ReadOnlyName } from "../../lib/filesystem/squashfs-erofs.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { build, runBuilder } from "../lab/builds.ts";
import { assertEqualTrees, KEPT_TIMES } from "../lab/compare.ts";
import { useErofs } from "../lab/erofs.ts";
import { mountLoop } from "../lab/guests.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import {
  bytesOf,
  makeDirectory,
  makeLink,
  makeNode,
  makeSymlink,
  setXattr,
  writeSparse,
} from "../lab/libc.ts";

const NAMES = Object.keys(READ_ONLY) as ReadOnlyName[];
const COMPARE = ["find", "stat", "getfattr", "mount", "losetup"];

/** No later than now, so that programs that cut times at now change none. */
const TIME = 1_750_000_000;

/** One of everything that a tree can hold and that both filesystems keep. */
async function makeTree(root: string, { acl = false, socket = false } = {}): Promise<void> {
  await Deno.mkdir(root);
  const long = `${root}/${"d".repeat(200)}/${"e".repeat(200)}`;
  await Deno.mkdir(long, { recursive: true });
  await Deno.writeTextFile(`${long}/${"f".repeat(255)}`, "deep");
  writeSparse(`${root}/bad\xff\xfe name\n\t\\`, 5000, [[0, bytesOf("x".repeat(5000))]]);
  makeSymlink("t".repeat(3000), `${root}/long-link`);
  makeSymlink("\xff\xfe", `${root}/bad-link`);
  makeNode(`${root}/fifo`, 0o010644);
  makeNode(`${root}/char`, 0o020600, 240, 300_000);
  makeNode(`${root}/block`, 0o060640, 8, 1);
  if (socket) makeNode(`${root}/socket`, 0o140755);
  const words = bytesOf("words and words. ".repeat(1000));
  writeSparse(`${root}/sparse`, 50 * MiB, [[10 * MiB, words], [30 * MiB + 3, bytesOf("q")]]);
  writeSparse(`${root}/hole`, 3 * MiB, []);
  writeSparse(`${root}/hole-at-the-end`, MiB, [[0, words]]);
  await Deno.writeFile(`${root}/words`, words);
  await Deno.writeFile(`${root}/random`, crypto.getRandomValues(new Uint8Array(60_000)));
  await Deno.writeTextFile(`${root}/empty`, "");
  makeDirectory(`${root}/z`);
  for (const name of ["words-too", "z/words-too"]) makeLink(`${root}/words`, `${root}/${name}`);
  await Deno.writeTextFile(`${root}/owned`, "o");
  await Deno.chown(`${root}/owned`, 3_000_000_000, 2_500_000);
  await Deno.chmod(`${root}/owned`, 0o4755);
  await Deno.chmod(`${root}/z`, 0o1777);
  const capability = Uint8Array.of(1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  setXattr(`${root}/empty`, "security.capability", capability);
  setXattr(`${root}/empty`, "user.binary", Uint8Array.of(0, 10, 61, 255));
  setXattr(`${root}/empty`, "trusted.t", bytesOf("trusted"));
  setXattr(`${root}/z`, "user.directory", bytesOf("1"));
  if (acl) await quiet`setfacl -m u:1000:r,g:7:rw ${root}/random`;
  if (acl) await quiet`setfacl -d -m u:1000:rwx ${root}/z`;
  await quiet`find ${root} -exec touch --no-dereference --date=@1700000000.123456789 ${"{}"} +`;
  await quiet`touch --date=@0 ${root}/random`;
  // The newest: mksquashfs 4.5 gives the root no other time than SOURCE_DATE_EPOCH.
  await quiet`touch --date=@1700000001 ${root}`;
}

async function withTree<T>(
  options: Parameters<typeof makeTree>[1],
  fn: (dir: string, tree: string) => Promise<T>,
) {
  await useErofs();
  return await tempDir(async (dir) => {
    await makeTree(`${dir}/tree`, options);
    return await fn(dir, `${dir}/tree`);
  });
}

Deno.test("paxStream() is what GNU tar unpacks to the same tree", {
  ignore: unprivileged() || missing("tar", ...COMPARE, "setfacl"),
}, () =>
  withTree({}, async (dir, tree) => {
    const root = openRoot(tree);
    try {
      const selection = select(await walk(root), { from: "/", omit: [], add: [] });
      const to = `${dir}/unpacked`;
      await Deno.mkdir(to);
      const { pax } = READ_ONLY.erofs;
      const options = { ...pax, time: TIME, root: true };
      await $`tar --extract --directory=${to} --xattrs --xattrs-include=${"*"} --numeric-owner
        --preserve-permissions --delay-directory-restore`.quiet().stdin(paxStream(selection, root, options));
      assertEqualTrees(tree, to, { anyHoles: true });
    } finally {
      closeRoot(root);
    }
  }));

for (const type of NAMES) {
  const { compressors, pax } = READ_ONLY[type];
  const ignore = unprivileged() || missing(...MAKERS[type].programs, "mmdebstrap", ...COMPARE, "setfacl");
  const equality = { time: KEPT_TIMES[type], anyHoles: true, noSockets: true };

  for (const [name, { levels }] of Object.entries(compressors as Compressors)) {
    Deno.test(
      `READ_ONLY.${type} with ${name} keeps everything of a tree, and gives the same bytes each time`,
      {
        ignore,
      },
      () =>
        withTree({ acl: pax.acls !== false, socket: true }, async (dir, tree) => {
          const image = `${dir}/part.raw`;
          const COMPRESSION = levels ? `${name}:${levels[0] + 1}` : name;
          const { stderr } = await build("part-image", tree, image, {
            FILESYSTEM: type,
            COMPRESSION,
            VERIFY: "full",
          });
          assert.match(stderr, /Leaving out the socket "\/socket"/);
          assert.match(stderr, /FREE_MB is ignored/);
          const { size } = await Deno.stat(image);
          if (name !== "none") assert(size < 2 * MiB, `${size} bytes`);
          const sum = await sha256(image);
          await build("part-image", tree, image, { FILESYSTEM: type, COMPRESSION });
          assert.equal(await sha256(image), sum);
          if (await canMount(type, name)) {
            await mountLoop(image, {}, (mount) => assertEqualTrees(tree, mount, equality));
          }
        }),
    );
  }

  Deno.test(
    `READ_ONLY.${type} has the size of SIZE_MB, and says which is enough`,
    { ignore },
    () =>
      withTree({}, async (dir, tree) => {
        const image = `${dir}/part.raw`;
        await build("part-image", tree, image, { FILESYSTEM: type, SIZE_MB: "7" });
        assert.equal((await Deno.stat(image)).size, 7 * MiB);
        await mountLoop(image, {}, (mount) => assertEqualTrees(tree, mount, equality));
        for (let i = 0; i < 50; i++) {
          await Deno.writeFile(`${tree}/incompressible`, crypto.getRandomValues(new Uint8Array(65536)), {
            append: true,
          });
        }
        const small = await run(tree, image, { FILESYSTEM: type, SIZE_MB: "2" });
        assert.equal(small.code, 2);
        const [, enough] = /Set SIZE_MB to (\d+) or more/.exec(small.stderr)!;
        assert.equal((await Deno.stat(image)).size, 0);
        await build("part-image", tree, image, { FILESYSTEM: type, SIZE_MB: enough! });
        assert.equal((await Deno.stat(image)).size, Number(enough) * MiB);
      }),
  );
}

Deno.test("READ_ONLY.squashfs leaves out ACLs as setfacl --remove-all does, and says of which files", {
  ignore: unprivileged() || missing("mksquashfs", ...COMPARE, "setfacl"),
}, () =>
  withTree({ acl: true }, async (dir, tree) => {
    const image = `${dir}/part.raw`;
    // Each permission of the group, below each mask.
    for (let i = 0; i < 64; i++) {
      await Deno.writeTextFile(`${tree}/z/${i}`, "");
      await quiet`setfacl -m ${`u:1000:rwx,g::${i >> 3},m::${i & 7}`} ${tree}/z/${i}`;
    }
    await quiet`setfacl -m u:1000:rwx,g::rx,m::r ${tree}`;
    await quiet`find ${tree}/z ${tree} -newermt ${"2024-01-01"} -exec touch --date=@1700000001 ${"{}"} +`;
    const { stderr } = await build("part-image", tree, image, { FILESYSTEM: "squashfs" });
    assert.match(
      stderr,
      /Leaving out the ACLs of "\/", "\/random", "\/z", "\/z\/0", "\/z\/1" and 62 others: squashfs has none/,
    );
    await quiet`setfacl --recursive --physical --remove-all ${tree}`;
    await mountLoop(image, {}, (mount) =>
      assertEqualTrees(tree, mount, { time: KEPT_TIMES.squashfs, anyHoles: true }));
  }));

Deno.test("READ_ONLY.squashfs gives no file the contents of another that ends alike", {
  ignore: unprivileged() || missing("mksquashfs", "mount"),
}, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree`);
    const block = bytesOf("0123456789abcdef".repeat(8192));
    await Deno.writeFile(`${dir}/tree/a`, new Uint8Array([...block, 1]));
    await Deno.writeFile(`${dir}/tree/b`, block);
    await Deno.writeFile(`${dir}/tree/c`, Uint8Array.of(1));
    await build("part-image", `${dir}/tree`, `${dir}/image`, { FILESYSTEM: "squashfs" });
    await mountLoop(`${dir}/image`, {}, async (mount) => {
      assert.deepEqual(await Deno.readFile(`${mount}/c`), Uint8Array.of(1));
    });
  }));

function run(tree: string, image: string, env: Record<string, string>) {
  return runBuilder("part-image", { args: ["--input", tree, "--output", image], env });
}

/** Whether the kernel of this machine reads it: what it was built with is nobody's choice here. */
async function canMount(type: string, compressor: string): Promise<boolean> {
  const config = await quiet`zcat /proc/config.gz`.catch(() => "");
  const option = { lz4hc: "LZ4", gzip: "ZLIB", none: "" }[compressor] ?? compressor.toUpperCase();
  const name = type === "squashfs"
    ? `CONFIG_SQUASHFS_${option}`
    : option === "LZ4"
    ? "CONFIG_EROFS_FS_ZIP"
    : `CONFIG_EROFS_FS_ZIP_${option}`;
  return option === "" || !config || new RegExp(`^${name}=[ym]$`, "m").test(config);
}

Deno.test.each([
  {
    env: { FILESYSTEM: "squashfs", USED_MB: "9" },
    message: /USED_MB=9 with FILESYSTEM=squashfs/,
    hint: /SIZE_MB/,
  },
  { env: { FILESYSTEM: "squashfs", LABEL: "x" }, message: /LABEL="x"/, hint: /squashfs has no label/ },
  { env: { FILESYSTEM: "erofs", LABEL: "0123456789abcdef" }, message: /LABEL/, hint: /1 to 15/ },
  { env: { FILESYSTEM: "vfat", LABEL: "lower" }, message: /LABEL/, hint: /A to Z/ },
  { env: { FILESYSTEM: "erofs", COMPRESSION: "xz" }, message: /COMPRESSION=xz/, hint: /lz4hc\[:0-12\]/ },
  {
    env: { FILESYSTEM: "squashfs", COMPRESSION: "zstd:23" },
    message: /COMPRESSION=zstd:23/,
    hint: /zstd\[:1-22\]/,
  },
  { env: { COMPRESSION: "zstd" }, message: /ext4 with COMPRESSION=zstd/, hint: /ext4 has no compression/ },
  { env: { VERITY: "hash" }, message: /VERITY=hash with FILESYSTEM=ext4/, hint: /squashfs or erofs/ },
  {
    env: { FILESYSTEM: "erofs", VERITY: "signed" },
    message: /Cannot sign the root hash without a key and its certificate/,
    hint: /VERITY_KEY and VERITY_CERT/,
  },
])("part-image refuses $env before it touches the output", async ({ env, message, hint }) => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree/usr`, { recursive: true });
    await Deno.writeTextFile(`${dir}/image`, "old");
    const { code, stderr } = await run(`${dir}/tree`, `${dir}/image`, env as Record<string, string>);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
    assert.match(stderr, hint);
    assert.equal(await Deno.readTextFile(`${dir}/image`), "old");
  });
});

Deno.test("part-image refuses a mkfs.erofs that fills none from a stream, before it touches the output", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(`${dir}/bin`, "mkfs.erofs", `echo "mkfs.erofs 1.5"; echo "invalid option" >&2; exit 1`);
    await Deno.mkdir(`${dir}/tree/usr`, { recursive: true });
    await Deno.writeTextFile(`${dir}/image`, "old");
    const { code, stderr } = await run(`${dir}/tree`, `${dir}/image`, {
      FILESYSTEM: "erofs",
      PATH: `${dir}/bin:${Deno.env.get("PATH")}`,
    });
    assert.equal(code, 1);
    assert.match(stderr, /Cannot use mkfs\.erofs 1\.5: 1\.7 or later is needed/);
    assert.match(stderr, /Debian 13/);
    assert.equal(await Deno.readTextFile(`${dir}/image`), "old");
  }));
