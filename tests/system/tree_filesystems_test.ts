import assert from "node:assert/strict";
import { KiB, MiB } from "../../lib/core/units.ts";
import { openInput } from "../../lib/make/input.ts";
import { inspectTree, type OpenTree } from "../../lib/tree/inspect.ts";
import { lookup, xattrsOf } from "../../lib/tree/nodes.ts";
import { closeRoot } from "../../lib/tree/root.ts";
import { build, runBuilder } from "../lab/builds.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { onFilesystem as onLoopFilesystem } from "../lab/loop_filesystem.ts";
import { newRandom } from "../lab/random_tree.ts";

const ignore = missing("mke2fs", "debugfs", "setfattr", "setfacl", "chattr") || unprivileged();

/** A tree in which filesystems differ: ACLs, xattrs, holes, hard links, a label of the host. */
async function makeTree(tree: string, label?: string): Promise<void> {
  await Deno.mkdir(`${tree}/etc/ssh`, { recursive: true });
  await Deno.mkdir(`${tree}/usr/bin`, { recursive: true });
  await Deno.writeTextFile(`${tree}/etc/os-release`, "ID=test\n");
  await Deno.writeTextFile(`${tree}/etc/acl`, "x");
  await quiet`setfacl -m u:12345:rw ${tree}/etc/acl`;
  await quiet`setfacl -d -m g:54321:r ${tree}/etc/ssh`;
  await Deno.writeTextFile(`${tree}/usr/bin/ping`, "program");
  await quiet`setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 ${tree}/usr/bin/ping`;
  await quiet`setfattr -n trusted.note -v kept ${tree}/usr/bin`;
  await Deno.link(`${tree}/usr/bin/ping`, `${tree}/usr/bin/ping6`);
  await Deno.symlink("ping", `${tree}/usr/bin/link`);
  await quiet`truncate -s 1M ${tree}/sparse`;
  await quiet`dd if=/bin/sh of=${tree}/sparse bs=64k count=1 seek=4 conv=notrunc status=none`;
  await quiet`chmod -R u=rwX,go=rX ${tree}`;
  if (label) {
    for (const path of ["", "/etc", "/usr", "/usr/bin", "/usr/bin/ping", "/etc/acl"]) {
      await quiet`setfattr -n security.selinux -v ${label} ${tree}${path}`;
    }
  }
  await quiet`find ${tree} -depth -exec touch -h -d @1600000000 ${"{}"} +`;
}

/** Gives `fn` a directory on a filesystem of that kind. */
async function onFilesystem(kind: string, dir: string, fn: (at: string) => Promise<void>): Promise<void> {
  if (kind === "xfs" || kind === "btrfs") return await onLoopFilesystem(kind, dir, fn, 320 * MiB);
  const at = `${dir}/${kind}`;
  await Deno.mkdir(at);
  if (kind === "tmpfs") await quiet`mount -t tmpfs tmpfs ${at}`;
  else if (kind === "overlay") {
    for (const name of ["lower", "upper", "work"]) await Deno.mkdir(`${dir}/${name}`);
    await quiet`mount -t overlay overlay -o lowerdir=${dir}/lower,upperdir=${dir}/upper,workdir=${dir}/work ${at}`;
  } else {
    const image = `${dir}/${kind}.img`;
    await quiet`truncate -s 64M ${image}`;
    await quiet`mke2fs -q -t ext4 ${image}`;
    await quiet`mount -o loop ${image} ${at}`;
  }
  try {
    await fn(at);
  } finally {
    await quiet`umount ${at}`;
  }
}

Deno.test(
  "the same tree on ext4, xfs, btrfs, tmpfs and overlay, on hosts with and without SELinux, gives the same image",
  {
    ignore: ignore || missing("mkfs.xfs", "mkfs.btrfs"),
  },
  async () => {
    await tempDir(async (dir) => {
      const sums = new Map<string, string>();
      for (
        const [kind, label] of [
          ["ext4", undefined],
          ["xfs", "system_u:object_r:container_file_t:s0:c1,c2"],
          ["btrfs", "system_u:object_r:container_file_t:s0:c3,c900"],
          ["tmpfs", undefined],
          ["overlay", "unconfined_u:object_r:user_home_t:s0"],
        ] as const
      ) {
        await onFilesystem(kind, dir, async (at) => {
          await makeTree(`${at}/tree`, label);
          if (kind === "btrfs") await quiet`setfattr -n btrfs.compression -v zstd ${at}/tree/etc/acl`;
          await build("part-image", `${at}/tree`, `${dir}/image`, { FREE_MB: "1" });
          sums.set(kind, await sha256(`${dir}/image`));
        });
      }
      assert.equal(new Set(sums.values()).size, 1, JSON.stringify([...sums]));
    });
  },
);

/** Bytes of a file that it shares with others, as the kernel tells filefrag. */
async function sharedBytes(path: string): Promise<number> {
  const lines = (await quiet`filefrag -v -b4096 ${path}`).split("\n").filter((line) =>
    /\bshared\b/.test(line)
  );
  return lines.reduce((sum, line) => sum + Number(line.split(":")[3]) * 4096, 0);
}

for (const kind of ["xfs", "btrfs"] as const) {
  Deno.test(`an image shares blocks with a tree on the same ${kind}, and has the same bytes as another`, {
    ignore: ignore || missing(`mkfs.${kind}`, "filefrag", "e2fsck"),
  }, () =>
    tempDir((dir) =>
      onFilesystem(kind, dir, async (at) => {
        await makeTree(`${at}/tree`, undefined);
        const random = newRandom(1);
        const bytes = new Uint8Array(70 * MiB).map(() => random.below(256));
        const SIZES = [1, 4096, 16 * KiB - 1, 16 * KiB, 3 * MiB + 5, 70 * MiB - 1];
        for (const size of SIZES) await Deno.writeFile(`${at}/tree/${size}`, bytes.subarray(0, size));
        await Deno.writeFile(`${at}/tree/holes`, bytes.subarray(0, 100_000));
        await Deno.truncate(`${at}/tree/holes`, 5 * MiB);
        await quiet`sync`;
        await build("part-image", `${at}/tree`, `${at}/image`, { FREE_MB: "1", VERIFY: "full" });
        await build("part-image", `${at}/tree`, `${dir}/image`, { FREE_MB: "1" });
        assert.equal(await sha256(`${at}/image`), await sha256(`${dir}/image`));
        await quiet`sync`;
        const whole = SIZES.filter((size) => size >= 16 * KiB).reduce(
          (sum, size) => sum + size - size % 4096,
          0,
        );
        // Two files with holes have 25 and 16 blocks.
        assert.equal(await sharedBytes(`${at}/image`), whole + (25 + 16) * 4096);
      })
    ));
}

Deno.test("an image that shares blocks is made where it does not fit otherwise", {
  ignore: ignore || missing("mkfs.xfs"),
}, () =>
  tempDir((dir) =>
    onFilesystem("xfs", dir, async (at) => {
      await makeTree(`${at}/tree`, undefined);
      await quiet`sh -c ${"head -c 170000000 /dev/urandom >$1"} sh ${`${at}/tree/large`}`;
      await quiet`cp -a ${at}/tree ${dir}/elsewhere`;
      const output = `${at}/image`;
      const from = (input: string) =>
        runBuilder("part-image", { args: ["--input", input, "--output", output], env: { FREE_MB: "1" } });
      const other = await from(`${dir}/elsewhere`);
      assert.equal(other.code, 1);
      assert.match(other.stderr, /\n\[E\] Cannot write the image: it needs 16\d\.\d MiB, and .* left/);
      const shared = await from(`${at}/tree`);
      assert.equal(shared.code, 0, shared.stderr);
      assert.match(shared.stderr, /\n\[W\] The image may not fit: 16\d\.\d MiB of contents, .* left\n/);
      assert((await Deno.stat(output)).size > 170_000_000);
      assert.deepEqual((await Array.fromAsync(Deno.readDir(at))).map(({ name }) => name).sort(), [
        "image",
        "tree",
      ]);
    })
  ));

Deno.test(
  "where not even an empty file can be made beside it, an image that does not fit is refused as anywhere",
  {
    ignore,
  },
  () =>
    tempDir(async (dir) => {
      await makeTree(`${dir}/tree`);
      await Deno.writeFile(`${dir}/tree/large`, new Uint8Array(4 * MiB).fill(1));
      await Deno.mkdir(`${dir}/full`);
      // The two inodes are those of the directory and the image.
      await quiet`mount -t tmpfs -o size=1M,nr_inodes=2 tmpfs ${dir}/full`;
      try {
        await Deno.writeTextFile(`${dir}/full/image`, "old");
        const { code, stderr } = await runBuilder("part-image", {
          args: ["--input", `${dir}/tree`, "--output", `${dir}/full/image`],
          env: { FREE_MB: "1" },
        });
        assert.equal(code, 1);
        assert.match(stderr, /\n\[E\] Cannot write the image: it needs 4\.\d MiB, and .* left/);
        assert.equal(await Deno.readTextFile(`${dir}/full/image`), "old");
      } finally {
        await quiet`umount ${dir}/full`;
      }
    }),
);

/** What was found in a tree. */
async function inspected<T>(path: string, fn: (tree: OpenTree) => T): Promise<T> {
  const tree = await inspectTree(path, new Date(1_700_000_000_000));
  try {
    return fn(tree);
  } finally {
    closeRoot(tree.root);
  }
}

Deno.test("overlayfs, rootless containers and xfs leave no xattrs in a tree", { ignore }, async () => {
  await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/file`, "");
    const names = ["trusted.overlay.origin", "user.overlay.opaque", "user.fuseoverlayfs.origin"];
    const others = [
      "user.containers.override_stat",
      "trusted.SGI_ACL_FILE",
      "trusted.glusterfs.dht",
      "security.evm",
    ];
    for (const name of [...names, ...others.slice(0, 3), "user.kept", "trusted.kept"]) {
      await quiet`setfattr -n ${name} -v x ${dir}/file`;
    }
    const kept = await inspected(
      dir,
      ({ nodes }) => xattrsOf(nodes, lookup(nodes, "/file")!).map(({ name }) => name),
    );
    assert.deepEqual(kept, ["trusted.kept", "user.kept"]);
  });
});

Deno.test("SELinux labels of the tree's policy are kept, those of the build host are left out", {
  ignore,
}, async () => {
  await tempDir(async (dir) => {
    await makeTree(dir);
    await quiet`touch -d @1600000000 ${dir}`;
    const label = (path: string, type: string) =>
      quiet`setfattr -h -n security.selinux -v system_u:object_r:${type} ${dir}${path}`;
    const state = () =>
      inspected(dir, ({ nodes, hostLabels }) => ({
        labels: ["/etc", "/etc/acl", "/usr/bin/ping"].map((path) =>
          xattrsOf(nodes, lookup(nodes, path)!).filter(({ name }) => name === "security.selinux").length
        ),
        capability: xattrsOf(nodes, lookup(nodes, "/usr/bin/ping")!).some(({ name }) =>
          name === "security.capability"
        ),
        dropped: hostLabels && [hostLabels.path, hostLabels.hasPolicy],
      }));
    await label("/etc", "etc_t:s0");
    await label("/etc/acl", "etc_t:s0");
    await label("/usr/bin/ping", "ping_exec_t:s0");
    // No policy: nobody would read them.
    assert.deepEqual(await state(), { labels: [0, 0, 0], capability: true, dropped: ["/etc", false] });
    await Deno.mkdir(`${dir}/etc/selinux`);
    await Deno.writeTextFile(`${dir}/etc/selinux/config`, "SELINUX=enforcing\n");
    assert.deepEqual(await state(), { labels: [1, 1, 1], capability: true, dropped: undefined });
    await label("/etc/acl", "container_file_t:s0:c1,c2");
    assert.deepEqual(await state(), { labels: [1, 0, 1], capability: true, dropped: ["/etc/acl", true] });
    await label("/etc", "user_home_t:s0");
    assert.deepEqual(await state(), { labels: [0, 0, 0], capability: true, dropped: ["/etc", true] });
  });
});

Deno.test("what chattr sets is kept by ext4, and said to be lost by squashfs", { ignore }, async () => {
  await tempDir((dir) =>
    onFilesystem("ext4", dir, async (at) => {
      const tree = `${at}/tree`;
      await Deno.mkdir(`${tree}/sync`, { recursive: true });
      const flags = {
        "immutable": "i",
        "append": "a",
        "nodump": "d",
        "noatime": "A",
        "synchronous": "S",
        "plain": "",
      };
      for (const [name, flag] of Object.entries(flags)) {
        await Deno.writeTextFile(`${tree}/${name}`, name);
        if (flag) await quiet`chattr +${flag} ${tree}/${name}`;
      }
      await quiet`chattr +D ${tree}/sync`;
      try {
        await build("part-image", tree, `${dir}/image`, { VERIFY: "full" });
        const shown = async (path: string) => {
          const text = await quiet`debugfs -R ${`stat ${path}`} ${dir}/image`;
          return parseInt(/Flags: (0x[0-9a-f]+)/.exec(text)![1]!, 16) & ~0x80000;
        };
        const found: Record<string, number> = {};
        for (const name of [...Object.keys(flags), "sync"]) found[name] = await shown(`/${name}`);
        assert.deepEqual(found, {
          immutable: 0x10,
          append: 0x20,
          nodump: 0x40,
          noatime: 0x80,
          synchronous: 0x8,
          plain: 0,
          sync: 0x10000,
        });
        const args = ["--input", tree, "--dry-run", "--json", "--filesystem=squashfs"];
        const { stdout } = await runBuilder("part-image", { args });
        const lost = JSON.parse(stdout).findings.find(({ name }: { name: string }) => name === "flags-lost");
        assert.match(lost.message, /"\/immutable".*immutable, append-only, nodump/);
      } finally {
        await quiet`chattr -R -i -a ${tree}`;
      }
    })
  );
});

Deno.test("a swap file that fallocate made is written without holes, and other files with theirs", {
  ignore: ignore || missing("mkswap"),
}, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(tree);
    await quiet`fallocate -l 4M ${tree}/swap`;
    await quiet`truncate -s 4M ${tree}/other`;
    await quiet`mkswap -q ${tree}/swap`;
    await build("part-image", tree, `${dir}/image`);
    const blocks = async (path: string) =>
      Number(/Blockcount: (\d+)/.exec(await quiet`debugfs -R ${`stat ${path}`} ${dir}/image`)![1]) * 512;
    assert.equal(await blocks("/swap"), 4 << 20);
    assert.equal(await blocks("/other"), 0);
  });
});

Deno.test("/proc, /sys and /dev that are still mounted are taken as empty directories, with a word", {
  ignore,
}, async () => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    for (const name of ["proc", "sys", "dev", "srv"]) {
      await Deno.mkdir(`${tree}/${name}`, { recursive: true });
    }
    await quiet`mount -t proc proc ${tree}/proc`;
    await quiet`mount --bind /sys ${tree}/sys`;
    await quiet`mount -t tmpfs tmpfs ${tree}/dev`;
    await quiet`mount -t tmpfs tmpfs ${tree}/srv`;
    try {
      await Deno.writeTextFile(`${tree}/dev/device`, "");
      await Deno.writeTextFile(`${tree}/srv/data`, "");
      await inspected(tree, ({ nodes, findings }) => {
        // Another filesystem in the tree is part of it.
        assert.equal(nodes.count, 6);
        assert(lookup(nodes, "/srv/data"));
        const [found] = findings.filter(({ name }) => name === "mounted");
        assert.match(found!.message, /"\/dev", "\/proc", "\/sys"/);
        assert.equal(nodes.mode[lookup(nodes, "/proc")!]! & 0o7777, 0o755);
      });
    } finally {
      for (const name of ["proc", "sys", "dev", "srv"]) await quiet`umount ${tree}/${name}`;
    }
  });
});

Deno.test("a file from the future is named, and does not date the image", { ignore }, async () => {
  await tempDir(async (dir) => {
    for (
      const [name, seconds] of [["old", 1_600_000_000], ["skew", 1_700_003_600], [
        "future",
        2_000_000_000,
      ]] as const
    ) {
      await Deno.writeTextFile(`${dir}/${name}`, "");
      await Deno.utime(`${dir}/${name}`, seconds, seconds);
    }
    await Deno.utime(dir, 1_600_000_000, 1_600_000_000);
    await inspected(dir, ({ newest, findings }) => {
      assert.equal(newest, 1_700_003_600);
      assert.deepEqual(findings.map(({ name, path }) => [name, path]), [["future-time", "/future"]]);
    });
    // All of it: then the clock is wrong.
    await Deno.remove(`${dir}/old`);
    await Deno.utime(`${dir}/skew`, 2_000_000_001, 2_000_000_001);
    await Deno.utime(dir, 2_000_000_000, 2_000_000_000);
    await inspected(dir, ({ newest, findings }) => assert.deepEqual([newest, findings], [2_000_000_001, []]));
  });
});

/** A member of a pax archive with extended headers. */
function paxMember(name: string, text: string, headers: Record<string, string>): Uint8Array<ArrayBuffer>[] {
  const encoder = new TextEncoder();
  const block = (name: string, type: string, data: Uint8Array) => {
    const bytes = new Uint8Array(512 + Math.ceil(data.length / 512) * 512);
    const put = (at: number, text: string) => bytes.set(encoder.encode(text), at);
    put(0, name);
    put(100, "0000755\0" + "0000000\0" + "0000000\0");
    put(124, `${data.length.toString(8).padStart(11, "0")}\0`);
    put(136, "14000000000\0" + " ".repeat(8) + type);
    put(257, "ustar\x0000");
    const sum = bytes.subarray(0, 512).reduce((sum, byte) => sum + byte, 0);
    put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
    bytes.set(data, 512);
    return bytes;
  };
  const records = Object.entries(headers).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length + 2;
    while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
    return `${length}${rest}`;
  });
  return [block("pax", "x", encoder.encode(records.join(""))), block(name, "0", encoder.encode(text))];
}

const CAPABILITY = "LIBARCHIVE.xattr.security.capability";

Deno.test(
  "an archive whose capabilities only libarchive reads is refused; xattrs of macOS are left out, with a word",
  {
    ignore,
  },
  async () => {
    await tempDir(async (dir) => {
      const archive = `${dir}/a.tar`;
      const write = async (headers: Record<string, string>) => {
        const members = [...paxMember("etc/tool", "x", headers), new Uint8Array(1024)];
        await Deno.writeFile(archive, await new Blob(members).bytes());
      };
      await write({ [CAPABILITY]: "AQAAAgAgAAAAAAAAAAAAAAAAAAA=" });
      await assert.rejects(
        () => openInput(archive, dir),
        /"security.capability" only as libarchive writes it/,
      );
      // bsdtar writes both by default.
      await write({
        [CAPABILITY]: "dXNlcg==",
        "SCHILY.xattr.user.note": "x",
        "LIBARCHIVE.xattr.user.note": "eA==",
      });
      await assert.rejects(() => openInput(archive, dir), /security.capability/);
      await write({ "SCHILY.xattr.user.note": "x", "LIBARCHIVE.xattr.user.note": "eA==" });
      {
        await using input = await openInput(archive, dir);
        assert.equal(await quiet`getfattr --only-values -n user.note ${input.directory}/etc/tool`, "x");
        assert.deepEqual(input.findings, []);
      }
      await write({
        "LIBARCHIVE.xattr.com.apple.provenance": "AQAA",
        "SCHILY.xattr.com.apple.lastuseddate": "x",
      });
      await using input = await openInput(archive, dir);
      assert.deepEqual(input.findings.map(({ name }) => name), ["xattrs-foreign"]);
      assert.match(input.findings[0]!.message, /"com.apple.lastuseddate", "com.apple.provenance"/);
    });
  },
);

Deno.test(
  "an archive that zstd compressed with a long window is read",
  { ignore: ignore || missing("zstd") },
  async () => {
    await tempDir(async (dir) => {
      await makeTree(`${dir}/tree`);
      await quiet`tar -C ${dir}/tree -cf ${dir}/tree.tar .`;
      await quiet`zstd -q --long=28 ${dir}/tree.tar -o ${dir}/tree.tar.zst`;
      await using input = await openInput(`${dir}/tree.tar.zst`, dir);
      assert.equal(await Deno.readTextFile(`${input.directory}/etc/os-release`), "ID=test\n");
    });
  },
);

Deno.test(
  "`._*` files of macOS are left out, and those with other contents are not",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      for (const name of ["tool", "other", "alone"]) await Deno.writeTextFile(`${dir}/${name}`, "");
      await Deno.remove(`${dir}/alone`);
      for (const name of ["._tool", "._alone"]) {
        await Deno.writeFile(`${dir}/${name}`, Uint8Array.of(0, 5, 0x16, 7, 0, 2, 0, 0));
      }
      await Deno.writeTextFile(`${dir}/._other`, "mine");
      const args = ["--input", dir, "--dry-run", "--json"];
      const { stdout } = await runBuilder("part-image", { args });
      assert.deepEqual(JSON.parse(stdout).leftovers, [{ kind: "apple-double", paths: ["/._tool"] }]);
    });
  },
);
