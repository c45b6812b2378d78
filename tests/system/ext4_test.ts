import * as assert from "node:assert/strict";
import { BuildError } from "../../lib/core/error.ts";
import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { planExt4 } from "../../lib/filesystem/ext4/plan.ts";
import { makeExt4 } from "../../lib/make/filesystems.ts";
import { buildNodes, type NodeInput } from "../../lib/tree/builder.ts";
import type { Nodes } from "../../lib/tree/nodes.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { assertEqualTrees } from "../lab/compare.ts";
import { assertClean, makeImage, mounted, REQUEST, superblock, WHOLE } from "../lab/ext4_image.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { makeRandomTree } from "../lab/random_tree.ts";

const ignore = missing("mke2fs", "e2fsck", "debugfs", "dumpe2fs", "mount", "find", "getfattr") ||
  unprivileged();

/** Makes an image of a tree that exists only as a table, so of entries without contents. */
async function makeFromTable(nodes: Nodes, image: string, free = 0): Promise<void> {
  const plan = planExt4(select(nodes, WHOLE), { ...REQUEST, free })!;
  const root = openRoot("/");
  try {
    await Deno.writeFile(image, new Uint8Array());
    await Deno.truncate(image, plan.size);
    await makeExt4({ path: image, offset: 0, size: plan.size }, plan, root);
  } finally {
    closeRoot(root);
  }
}

async function list(directory: string): Promise<string[]> {
  return await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
}

function pipes(count: number, path: (i: number) => string): NodeInput[] {
  return Array.from({ length: count }, (_, i) => ({ path: path(i), type: "fifo" as const }));
}

Deno.test.each([
  { name: "50,000 entries", count: 50_000, path: (i: number) => `/many/entry-${i}` },
  {
    name: "an index of two levels",
    count: 130_000,
    path: (i: number) => `/many/${String(i).padStart(60, "x")}`,
  },
])("a directory of $name is found by its index", { ignore }, async ({ count, path }) => {
  await tempDir(async (dir) => {
    const image = `${dir}/image`;
    await makeFromTable(buildNodes(pipes(count, path)), image);
    await assertClean(image);
    const htree = await quiet`debugfs -R ${"htree_dump /many"} ${image}`;
    assert.match(htree, /Hash Version: 1/);
    assert.match(htree, count > 100_000 ? /Indirect levels: 1/ : /Indirect levels: 0/);
    await mounted(image, async (directory) => {
      // Lookups go through the index, a listing through all leaves.
      for (let i = 0; i < count; i += 997) assert.ok((await Deno.lstat(directory + path(i))).isFifo);
      await assert.rejects(Deno.lstat(`${directory}/many/none`), Deno.errors.NotFound);
      assert.equal(new Set(await list(`${directory}/many`)).size, count);
    });
  });
});

Deno.test(
  "a directory may have more than 65,000 subdirectories, an inode not more names",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/image`;
      const list: NodeInput[] = Array.from(
        { length: 65_010 },
        (_, i) => ({ path: `/d/${i}`, type: "directory" }),
      );
      list.push({ path: "/pipe", type: "fifo" });
      for (let i = 1; i < 65_000; i++) list.push({ path: `/links/${i}`, type: "fifo", linkTo: "/pipe" });
      await makeFromTable(buildNodes(list), image);
      await assertClean(image);
      await mounted(image, async (directory) => {
        assert.equal((await Deno.lstat(`${directory}/d`)).nlink, 1);
        assert.equal((await Deno.lstat(`${directory}/links/64999`)).nlink, 65_000);
      });
      list.push({ path: "/one-more", type: "fifo", linkTo: "/pipe" });
      assert.throws(
        () => planExt4(select(buildNodes(list), WHOLE), { ...REQUEST }),
        (error) => error instanceof BuildError && /more than 65000 hard links/.test(error.message),
      );
    });
  },
);

Deno.test("a tree may be 400 levels deep, deeper than any path", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`, name = "twenty-letters-each-";
    await Deno.mkdir(tree);
    const script = `cd ${tree}; for i in $(seq 400); do mkdir ${name}; cd ${name}; done; echo deep > file`;
    await quiet`bash -c ${script}`;
    try {
      await makeImage(tree, `${dir}/image`);
      await assertClean(`${dir}/image`);
      await mounted(`${dir}/image`, async (directory) => {
        const deepest =
          await quiet`bash -c ${`cd ${directory}; for i in $(seq 400); do cd ${name}; done; cat file`}`;
        assert.equal(deepest, "deep\n");
      });
    } finally {
      await quiet`rm -r ${tree}`;
    }
  });
});

Deno.test("a file is one extent, also beside the copies of the superblock", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(tree);
    await Deno.writeFile(`${tree}/dense`, new Uint8Array(30 * MiB).fill(1));
    await Deno.writeFile(`${tree}/next`, new Uint8Array(100 * MiB).fill(2));
    await makeImage(tree, `${dir}/image`, { free: 0 });
    await assertClean(`${dir}/image`);
    const extents = async (path: string) =>
      (await quiet`debugfs -R ${`dump_extents -l ${path}`} ${`${dir}/image`}`).trim().split("\n").length - 1;
    assert.equal(await extents("/dense"), 1);
    // The group border at 128 MiB has a copy of the superblock: before and behind it.
    assert.equal(await extents("/next"), 2);
  });
});

Deno.test(
  "what the plan omits, adds and replaces is all that differs from the tree",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const tree = `${dir}/tree`, image = `${dir}/image`;
      await Deno.mkdir(`${tree}/boot/grub`, { recursive: true });
      await Deno.mkdir(`${tree}/etc`);
      await Deno.writeTextFile(`${tree}/same`, "as it was");
      await Deno.writeTextFile(`${tree}/boot/vmlinuz`, "kernel");
      await Deno.writeTextFile(`${tree}/etc/fstab`, "old", { mode: 0o600 });
      await Deno.chown(`${tree}/etc/fstab`, 7, 70_000);
      await Deno.symlink("/nowhere", `${tree}/efi`);
      await quiet`setfattr -n user.kept -v yes ${`${tree}/etc/fstab`}`;
      await makeImage(tree, image, {
        contents: {
          from: "/",
          omit: ["/boot/"],
          add: [
            { path: "/etc/fstab", type: "file", text: "new\n" },
            { path: "/efi", type: "directory", mode: 0o700 },
            { path: "/etc/machine-id", type: "file", text: "", mode: 0o444 },
            { path: "/usr/lib/kernel", type: "copy", from: "/boot/vmlinuz" },
          ],
        },
      });
      await assertClean(image);
      await mounted(image, async (directory) => {
        assertEqualTrees(tree, directory, {
          omit: ["", "boot", "etc", "efi", "usr", "lost+found"],
        });
        assert.deepEqual(await list(`${directory}/boot`), []);
        assert.equal(await Deno.readTextFile(`${directory}/etc/fstab`), "new\n");
        const fstab = await Deno.lstat(`${directory}/etc/fstab`);
        assert.deepEqual([fstab.uid, fstab.gid, fstab.mode! & 0o7777], [7, 70_000, 0o600]);
        assert.equal(fstab.mtime!.getTime(), REQUEST.time * 1000);
        assert.match(await quiet`getfattr -d ${`${directory}/etc/fstab`}`, /user\.kept="yes"/);
        const efi = await Deno.lstat(`${directory}/efi`);
        assert.deepEqual([efi.isDirectory, efi.mode! & 0o7777], [true, 0o700]);
        assert.equal((await Deno.lstat(`${directory}/etc/machine-id`)).mode! & 0o7777, 0o444);
        assert.equal(await Deno.readTextFile(`${directory}/usr/lib/kernel`), "kernel");
        assert.equal((await Deno.lstat(`${directory}/usr/lib`)).mode! & 0o7777, 0o755);
      });
    });
  },
);

Deno.test("equal trees become equal bytes, wherever they are", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(tree);
    makeRandomTree(tree, 42, 800);
    await makeImage(tree, `${dir}/a`, { free: 20 * MiB });
    await makeImage(tree, `${dir}/b`, { free: 20 * MiB });
    assert.equal(await sha256(`${dir}/a`), await sha256(`${dir}/b`));
    // In the image the same tree has other inode numbers, other orders of listing, other orders of xattrs.
    await mounted(`${dir}/a`, (directory) => makeImage(directory, `${dir}/c`, { free: 20 * MiB }));
    assert.equal(await sha256(`${dir}/a`), await sha256(`${dir}/c`));
  });
});

Deno.test("what is free reads as zeros", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(tree);
    // Nearly empty, so that nothing covers what mke2fs wrote.
    for (const journal of [0, 4 * MiB]) {
      await makeImage(tree, `${dir}/image`, { free: 30 * MiB, journal });
      const groups = await quiet`dumpe2fs ${`${dir}/image`}`;
      const image = await Deno.readFile(`${dir}/image`);
      const ranges = [...groups.matchAll(/^ {2}Free blocks: (.+)$/gm)].flatMap(([, list]) =>
        list!.split(", ")
      );
      assert.ok(ranges.length > 0);
      for (const range of ranges) {
        const [first, last = first] = range.split("-").map(Number);
        const bytes = image.subarray(first! * 4096, (last! + 1) * 4096);
        assert.ok(bytes.every((byte) => byte === 0), `blocks ${range}`);
      }
    }
  });
});

Deno.test("all times of the filesystem itself are the given one", { ignore }, async () => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree`);
    await makeImage(`${dir}/tree`, `${dir}/image`, { free: 10 * MiB });
    const said = await superblock(`${dir}/image`);
    const time = new Date(REQUEST.time * 1000).toUTCString();
    for (const field of ["Filesystem created", "Last write time", "Last checked"]) {
      assert.equal(new Date(`${said[field]} UTC`).toUTCString(), time, field);
    }
    assert.equal(said["Last mount time"], "n/a");
    assert.equal(said["Mount count"], "0");
    assert.equal(said["Filesystem volume name"], REQUEST.label);
    assert.equal(said["Filesystem UUID"], REQUEST.uuid);
    assert.equal(said["Directory Hash Seed"], REQUEST.hashSeed);
    assert.equal(said["Filesystem flags"], "signed_directory_hash");
    assert.doesNotMatch(said["Filesystem features"]!, /orphan_file|metadata_csum_seed|needs_recovery/);
  });
});

Deno.test("SIZE: the smallest fits, less than it does not", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(tree);
    makeRandomTree(tree, 7, 700);
    const root = openRoot(tree);
    try {
      const selection = select(await walk(root), WHOLE);
      const smallest = planExt4(selection, { ...REQUEST })!.size;
      assert.equal(planExt4(selection, { ...REQUEST, size: smallest - MiB }), undefined);
      for (let size = smallest; size < smallest + 150 * MiB; size += MiB) {
        assert.ok(planExt4(selection, { ...REQUEST, size }), `${size} is enough, since ${smallest} is`);
      }
    } finally {
      closeRoot(root);
    }
    await makeImage(tree, `${dir}/image`, {});
    await assertClean(`${dir}/image`);
  });
});

Deno.test.each([
  { name: "grew", change: (path: string) => Deno.writeTextFile(path, "more", { append: true }) },
  { name: "vanished", change: (path: string) => Deno.remove(path) },
  { name: "was written", change: (path: string) => Deno.writeTextFile(path, "other contents ") },
  {
    name: "became a symlink",
    change: async (path: string) => {
      await Deno.remove(path);
      await Deno.symlink("/etc/passwd", path);
    },
  },
])("a file that $name after the walk ends the build with its name", { ignore }, async ({ change }) => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`, image = `${dir}/image`;
    await Deno.mkdir(tree);
    await Deno.writeTextFile(`${tree}/restless`, "fifteen letters");
    const root = openRoot(tree);
    try {
      const plan = planExt4(select(await walk(root), WHOLE), { ...REQUEST })!;
      await Deno.writeFile(image, new Uint8Array());
      await Deno.truncate(image, plan.size);
      await change(`${tree}/restless`);
      await assert.rejects(
        makeExt4({ path: image, offset: 0, size: plan.size }, plan, root),
        (error) =>
          error instanceof BuildError && /"\/restless": it changed during the build/.test(error.message),
      );
    } finally {
      closeRoot(root);
    }
  });
});

Deno.test.each([
  {
    what: "a large file",
    // Bytes that each step adds at least.
    least: 1,
    fill: (tree: string) => Deno.writeFile(`${tree}/large`, new Uint8Array(400 * MiB).fill(1)),
  },
  {
    what: "small files",
    // They are written when a buffer is full.
    least: 0,
    fill: async (tree: string) => {
      for (let i = 0; i < 20_000; i++) await Deno.writeTextFile(`${tree}/${i}`, "small");
    },
  },
])(
  "a fill with $what reports its progress, leaves room for others, and can be aborted",
  { ignore },
  async ({ fill, least }) => {
    await tempDir(async (dir) => {
      const tree = `${dir}/tree`, image = `${dir}/image`;
      await Deno.mkdir(tree);
      await fill(tree);
      const root = openRoot(tree);
      const abort = new AbortController();
      try {
        const plan = planExt4(select(await walk(root), WHOLE), { ...REQUEST })!;
        await Deno.writeFile(image, new Uint8Array());
        await Deno.truncate(image, plan.size);
        const steps: number[] = [];
        const making = makeExt4({ path: image, offset: 0, size: plan.size }, plan, root, {
          signal: abort.signal,
          onProgress(done) {
            steps.push(done);
            if (steps.length === 3) abort.abort(new BuildError("Interrupted"));
          },
        });
        await assert.rejects(making, /Interrupted/);
        assert.equal(steps.length, 3);
        assert.ok(steps[0]! + least <= steps[1]! && steps[1]! <= steps[2]! && steps[2]! < plan.bytes);
      } finally {
        closeRoot(root);
      }
    });
  },
);
