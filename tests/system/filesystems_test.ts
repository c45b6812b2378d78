import assert from "node:assert/strict";
import { deriveUuid } from "../../lib/core/identity.ts";
import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import type { Contents } from "../../lib/filesystem/entries.ts";
import { type FilesystemName, FILESYSTEMS } from "../../lib/filesystem/filesystems.ts";
import type { FilesystemRequest } from "../../lib/filesystem/types.ts";
import { makerOf, MAKERS } from "../../lib/make/filesystems.ts";

import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { useErofs } from "../lab/erofs.ts";
import { missing, quiet, sha256, tempDir } from "../lab/helpers.ts";

const OFFSET = 5 * MiB;

const REQUEST: FilesystemRequest = {
  label: "TEST",
  uuid: deriveUuid("test", "filesystem"),
  hashSeed: deriveUuid("test", "hash"),
  seed: "test",
  time: 1_700_000_000,
};

/** How other programs look at a filesystem: what finds faults in it, and what lists and reads it. */
const READERS: Record<FilesystemName, {
  readonly tools: readonly string[];
  readonly check: (image: string) => Promise<unknown>;
  readonly list: (image: string) => Promise<string>;
  readonly read: (image: string, path: string) => Promise<string>;
}> = {
  "ext4": {
    tools: ["blkid", "e2fsck", "debugfs"],
    check: (image) => quiet`e2fsck -fn ${image}`,
    list: (image) => quiet`debugfs -R ${"ls -p /dir"} ${image}`,
    read: (image, path) => quiet`debugfs -R ${`cat ${path}`} ${image}`,
  },
  "squashfs": {
    tools: ["blkid", "unsquashfs"],
    check: (image) => quiet`unsquashfs -stat ${image}`,
    list: (image) => quiet`unsquashfs -ls ${image} dir`,
    read: (image, path) => quiet`unsquashfs -cat ${image} ${path}`,
  },
  "erofs": {
    tools: ["blkid", "dump.erofs"],
    check: (image) => quiet`fsck.erofs ${image}`,
    list: (image) => quiet`dump.erofs --ls --path=/dir ${image}`,
    read: (image, path) => quiet`dump.erofs --cat ${`--path=${path}`} ${image}`,
  },
  "vfat": {
    tools: ["blkid", "fsck.vfat", "mdir", "mtype"],
    check: (image) => quiet`fsck.vfat -n ${image}`,
    list: (image) => quiet`mdir -b -i ${image} ::/dir`,
    read: (image, path) => quiet`mtype -i ${image} ${`::${path}`}`,
  },
};

/** Makes a small tree, and of it a filesystem within a larger file, which is then cut out. */
async function make(
  dir: string,
  type: FilesystemName,
  request: FilesystemRequest,
  contents: Contents,
  prepare: (tree: string) => Promise<void>,
): Promise<{ plan: NonNullable<ReturnType<typeof FILESYSTEMS[FilesystemName]["plan"]>>; image: string }> {
  await useErofs();
  const tree = `${dir}/tree`, disk = `${dir}/disk`, image = `${dir}/image`;
  await Deno.mkdir(`${tree}/dir`, { recursive: true });
  await Deno.mkdir(`${dir}/scratch`);
  await prepare(tree);
  const root = openRoot(tree);
  try {
    const nodes = await walk(root);
    const plan = FILESYSTEMS[type].plan(select(nodes, contents), request);
    assert(plan);
    let done = 0;
    const { make, verify, check } = makerOf(type);
    const context = {
      root,
      nodes,
      scratch: `${dir}/scratch`,
      onProgress: (bytes: number) => done = bytes,
      signal: new AbortController().signal,
    };
    if (plan.estimate) {
      await Deno.writeFile(image, new Uint8Array());
      await make({ path: image, offset: 0, size: plan.size }, plan.writer, context);
      assert.equal(done, plan.bytes);
      const { size } = await Deno.stat(image);
      assert.equal(size % 4096, 0);
      assert(size <= plan.size, `${size} of ${plan.size} bytes`);
      verify!({ path: image, offset: 0, size }, plan.writer);
      await check!({ path: image, offset: 0, size }, `${dir}/scratch`);
      return { plan, image };
    }
    await Deno.writeFile(disk, new Uint8Array());
    await Deno.truncate(disk, OFFSET + plan.size + MiB);
    await make({ path: disk, offset: OFFSET, size: plan.size }, plan.writer, context);
    assert.equal(done, plan.bytes);
    await quiet`dd if=${disk} of=${image} bs=1M skip=${OFFSET / MiB} count=${
      plan.size / MiB
    } conv=sparse status=none`;
    await quiet`cmp --bytes=${OFFSET} ${disk} /dev/zero`;
    await quiet`cmp --bytes=${MiB} --ignore-initial=${`${OFFSET + plan.size}:0`} ${disk} /dev/zero`;
    return { plan, image };
  } finally {
    closeRoot(root);
  }
}

const ALL: Contents = { from: "/", omit: [], add: [] };

async function fill(tree: string): Promise<void> {
  await Deno.writeTextFile(`${tree}/dir/file`, "contents of the file\n");
  await Deno.writeFile(`${tree}/dir/large`, new Uint8Array(3 * MiB).fill(0x55));
  await Deno.utime(`${tree}/dir/file`, 1_600_000_000, 1_600_000_000);
}

for (const type of Object.keys(FILESYSTEMS) as FilesystemName[]) {
  const { tools, check, list, read } = READERS[type];
  const ignore = missing(...tools, ...MAKERS[type].programs);

  Deno.test(`FILESYSTEMS.${type} makes one that blkid recognises and its checker finds no fault in`, {
    ignore,
  }, () =>
    tempDir(async (dir) => {
      const contents: Contents = { ...ALL, add: [{ path: "/added/text", type: "file", text: "added\n" }] };
      const { plan, image } = await make(dir, type, { ...REQUEST, size: 40 * MiB }, contents, fill);
      assert.equal(plan.size, 40 * MiB);
      assert.equal(plan.type, type);
      const found = await quiet`blkid -p -o export ${image}`;
      assert.match(found, new RegExp(`^TYPE=${type}$`, "m"));
      if (plan.label) assert.match(found, /^LABEL=TEST$/m);
      if (plan.uuid) assert.match(found, new RegExp(`^UUID=${plan.uuid}$`, "m"));
      assert.equal(Boolean(plan.label), "label" in FILESYSTEMS[type]);
      await check(image);
      assert.match(await list(image), /large/);
      assert.equal(await read(image, "/dir/file"), "contents of the file\n");
      assert.equal(await read(image, "/added/text"), "added\n");
    }));

  // How small a read-only one becomes is known when it is made.
  if (!FILESYSTEMS[type].readOnly) {
    Deno.test(`FILESYSTEMS.${type} makes the smallest that holds everything, and none that is smaller`, {
      ignore,
    }, () =>
      tempDir(async (dir) => {
        const { plan, image } = await make(dir, type, REQUEST, ALL, fill);
        await check(image);
        assert(plan.size < 20 * MiB, `${plan.size / MiB} MiB`);
        const root = openRoot(`${dir}/tree`);
        try {
          const selection = select(await walk(root), ALL);
          assert.equal(FILESYSTEMS[type].smallest(selection, REQUEST), plan.size);
          assert.equal(FILESYSTEMS[type].plan(selection, { ...REQUEST, size: plan.size - MiB }), undefined);
          assert.equal(
            FILESYSTEMS[type].plan(selection, { ...REQUEST, size: FILESYSTEMS[type].largest + MiB }),
            undefined,
          );
        } finally {
          closeRoot(root);
        }
      }));
  }

  Deno.test(`FILESYSTEMS.${type} makes the same bytes each time`, { ignore }, () =>
    tempDir(async (dir) => {
      const sums = await Promise.all(["a", "b"].map(async (name, i) => {
        await Deno.mkdir(`${dir}/${name}`);
        // The second time the files are made in another order.
        const { image } = await make(
          `${dir}/${name}`,
          type,
          { ...REQUEST, size: 40 * MiB },
          ALL,
          async (tree) => {
            for (const file of i ? ["x", "y", "z"] : ["z", "y", "x"]) {
              await Deno.writeTextFile(`${tree}/dir/${file}`, file);
              await Deno.utime(`${tree}/dir/${file}`, 1_600_000_000, 1_600_000_000);
            }
            for (const path of [`${tree}/dir`, tree]) await Deno.utime(path, 1_600_000_000, 1_600_000_000);
          },
        );
        return await sha256(image);
      }));
      assert.equal(sums[0], sums[1]);
    }));

  Deno.test(`FILESYSTEMS.${type} makes one of an empty directory`, { ignore }, () =>
    tempDir(async (dir) => {
      const { image } = await make(dir, type, REQUEST, { omit: [], add: [] }, fill);
      await check(image);
    }));
}
