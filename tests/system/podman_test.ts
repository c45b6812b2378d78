import assert from "node:assert/strict";
import { files } from "../bench/inputs.ts";
import { builderImage, IMAGE, importTree, podman, rootless } from "../lab/containers.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const ignore = missing("podman", "runc", "mmdebstrap", "e2fsck", "mount") || unprivileged();

/** No network, nothing to write to but scratch space and the output, and the one capability that it takes. */
const LEAST = [
  "--network=none",
  "--read-only",
  "--security-opt=no-new-privileges",
  "--cap-drop=all",
  "--cap-add=DAC_READ_SEARCH",
];

/** A tree with files that only root may read, or not even root without a capability. */
async function privateTree(dir: string): Promise<string> {
  const tree = await copyTree(await tinyTree(), `${dir}/tree`);
  await Deno.writeTextFile(`${tree}/etc/gshadow-`, "secret\n");
  await Deno.chmod(`${tree}/etc/gshadow-`, 0o000);
  await Deno.mkdir(`${tree}/var/lib/private`);
  await Deno.writeTextFile(`${tree}/var/lib/private/key`, "key\n");
  for (const path of ["var/lib/private", "var/lib/private/key"]) {
    await Deno.chown(`${tree}/${path}`, 101, 102);
  }
  await Deno.chmod(`${tree}/var/lib/private`, 0o700);
  await quiet`setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 ${tree}/usr/bin/busybox`;
  return tree;
}

/** Runs the container on an output file, which it has as a bind mount, as in Raptor. */
async function build(builder: string, output: string, args: readonly string[]) {
  await (await Deno.open(output, { create: true, write: true })).close();
  const mount = builder === "disk-image" ? "/output/disk.img" : "/output/part.img";
  return await podman(["run", "--rm", `--volume=${output}:${mount}`, ...args, IMAGE, builder]);
}

/** The same without a container. */
async function buildHere(builder: string, tree: string, output: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${ROOT}builders/mod.ts`, builder, "--input", tree, "--output", output],
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}

/** What find sees below a directory: type, mode, owner, size and time of each entry. */
async function facts(dir: string): Promise<string[]> {
  // Of the root directory podman changes the mode, and lost+found is not of the tree.
  const format = "%P %y %m %U:%G %s %Ts %l\\n";
  const text = await quiet`find ${dir} -mindepth 1 -name lost+found -prune -o -mindepth 1 -printf ${format}`;
  // The size of a directory is the filesystem's affair.
  return text.split("\n").filter(Boolean).map((line) => line.replace(/^(.* d \d+ \S+) \d+ /, "$1 ")).sort();
}

/** Mounts the image of a filesystem, and gives its directory to `fn`. */
async function mounted<T>(image: string, fn: (dir: string) => Promise<T>): Promise<T> {
  return await tempDir(async (dir) => {
    await quiet`e2fsck -fn ${image}`;
    await quiet`mount -o loop,ro ${image} ${dir}`;
    try {
      return await fn(dir);
    } finally {
      await quiet`umount ${dir}`;
    }
  });
}

Deno.test("The container explains itself", { ignore }, async () => {
  const image = await builderImage();
  const help = await podman(["run", "--rm", ...LEAST, image]);
  assert.equal(help.code, 0, help.err);
  assert.match(help.out, /^ {2}disk-image +\S/m);
  const { version } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  assert.equal(
    (await podman(["run", "--rm", ...LEAST, image, "--version"])).out,
    `raptor-builders ${version}\n`,
  );
  assert.match((await podman(["run", "--rm", ...LEAST, image, "part-image", "--help"])).out, /--free-mb/);
  const labels = JSON.parse((await podman(["image", "inspect", image])).out)[0].Labels;
  assert.equal(labels["org.opencontainers.image.licenses"], "GPL-3.0-or-later");
});

Deno.test(
  "The container compiled its modules when it was made, and does not in each run",
  { ignore },
  async () => {
    const image = await builderImage();
    const [{ Config: { Entrypoint } }] = JSON.parse((await podman(["image", "inspect", image])).out);
    // Large enough for the second thread that copies, and compressed by those that compress.
    const args = ["part-image", "--input=/usr/bin", "--output=/tmp/part.img.zst"];
    const script = `list() { find "$DENO_DIR" -type f -printf '%P %s\\n' | sort; }
    list > /tmp/before && "$@" && list > /tmp/after && diff /tmp/before /tmp/after`;
    const { code, out, err } = await podman(
      [
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=/bin/sh",
        image,
        "-c",
        script,
        "sh",
        ...Entrypoint,
        ...args,
      ],
    );
    assert.equal(code, 0, out + err);
  },
);

Deno.test("The container needs one capability, and makes the same image as its program outside", {
  ignore,
}, async (t) => {
  await builderImage();
  await tempDir(async (dir) => {
    const tree = await privateTree(dir);
    const input = `--volume=${tree}:/input:ro`;
    for (const builder of ["disk-image", "part-image"]) {
      await t.step(builder, async () => {
        // An older, larger image in the same file, whose inode the container cannot replace.
        await Deno.writeFile(`${dir}/inside.img`, new Uint8Array(2 ** 20).fill(0xaa));
        await Deno.truncate(`${dir}/inside.img`, 2 ** 31);
        const { ino } = await Deno.stat(`${dir}/inside.img`);
        const { code, err } = await build(builder, `${dir}/inside.img`, [...LEAST, input]);
        assert.equal(code, 0, err);
        await buildHere(builder, tree, `${dir}/outside.img`);
        assert.equal(await sha256(`${dir}/inside.img`), await sha256(`${dir}/outside.img`));
        assert.equal((await Deno.stat(`${dir}/inside.img`)).ino, ino);
      });
    }
    await t.step("a setting of the environment", async () => {
      const { code, err } = await build("disk-image", `${dir}/disk.img`, [
        ...LEAST,
        input,
        "--env=OUTPUT_FORMAT=qcow2",
      ]);
      assert.equal(code, 0, err);
      const { format } = JSON.parse(await quiet`qemu-img info --output=json ${dir}/disk.img`);
      assert.equal(format, "qcow2");
    });
    await t.step("a file that is mounted where the other builder writes", async () => {
      await Deno.writeTextFile(`${dir}/mistaken.img`, "");
      const volume = `--volume=${dir}/mistaken.img:/output/disk.img`;
      const { code, err } = await podman(["run", "--rm", volume, input, IMAGE, "part-image"]);
      assert.equal(code, 2, err);
      assert.match(err, /^\[E\] Cannot write the image to "\/output\/part\.img": it would be lost/m);
      assert.match(err, /^\[E\] Write to what is mounted \(--output=\/output\/disk\.img\)/m);
    });
    await t.step("an output that belongs to somebody else", async () => {
      await Deno.writeTextFile(`${dir}/other.img`, "");
      await Deno.chown(`${dir}/other.img`, 1000, 1000);
      const { code, err } = await build("part-image", `${dir}/other.img`, [...LEAST, input]);
      assert.equal(code, 2, err);
      assert.match(err, /^\[E\] In a container, the file must belong to the container's user/m);
    });
    await t.step(
      "without the capability it says which one is missing, and its output looks as old as 1970",
      async () => {
        const { code, err } = await build("part-image", `${dir}/part.img`, ["--cap-drop=all", input]);
        assert.equal(code, 1, err);
        assert.match(err, /^\[E\] Cannot read ".*": Permission denied$/m);
        assert.match(err, /^\[E\] .*--cap-add=DAC_READ_SEARCH/m);
        const { size, mtime } = await Deno.stat(`${dir}/part.img`);
        assert.deepEqual([size, mtime?.getTime()], [0, 0]);
      },
    );
  });
});

Deno.test("The container takes the tree as a directory, an overlay, an image or an archive", {
  ignore,
}, async (t) => {
  await builderImage();
  await tempDir(async (dir) => {
    const tree = await privateTree(dir);
    const archive = `${dir}/tree.tar.gz`;
    const pax = ["--format=posix", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
    await quiet`tar --create --gzip --file=${archive} --directory=${tree} ${pax} .`;
    const image = await importTree(tree, "localhost/tree");
    const wanted = await facts(tree);
    const sources = {
      "a directory": [...LEAST, `--volume=${tree}:/input:ro`],
      "an overlay": [...LEAST, `--volume=${tree}:/input:O`],
      "an image": [...LEAST, `--mount=type=image,source=${image},destination=/input`],
      // Its owners have to be set to be read, which takes podman's default capabilities.
      "an archive": ["--network=none", `--volume=${archive}:/input:ro`],
    };
    for (const [name, args] of Object.entries(sources)) {
      await t.step(name, async () => {
        const { code, err } = await build("part-image", `${dir}/part.img`, args);
        assert.equal(code, 0, err);
        await mounted(`${dir}/part.img`, async (root) => {
          assert.deepEqual(await facts(root), wanted);
          const xattr =
            await quiet`getfattr -n security.capability -e hex --only-values ${root}/usr/bin/busybox`;
          assert.notEqual(xattr, "");
        });
      });
    }
    await t.step("an archive, with too few capabilities", async () => {
      const { code, err } = await build("part-image", `${dir}/part.img`, [
        ...LEAST,
        `--volume=${archive}:/input:ro`,
      ]);
      assert.equal(code, 2, err);
      assert.match(err, /^\[E\] Cannot unpack "\/input" with its owners/m);
    });
  });
});

Deno.test(
  "The container makes images of a tree larger than its memory, with one processor",
  { ignore },
  async (t) => {
    await builderImage();
    await tempDir(async (dir) => {
      // 300 MB that cannot be compressed, in files that take long to compare with each other.
      files(`${dir}/tree`, 15_000, [20_000]);
      for (
        const args of [["--filesystem=squashfs"], ["--filesystem=erofs"], ["--filesystem=ext4"], [
          "--output-format=tar",
        ]]
      ) {
        await t.step(args.join(" "), async () => {
          const { code, err } = await podman([
            // Read-only, so that scratch files are in memory, too.
            ...["run", "--rm", ...LEAST, "--memory=256m", "--memory-swap=256m", "--cpus=1"],
            ...[
              `--volume=${dir}/tree:/input:ro`,
              `--volume=${dir}:/output`,
              IMAGE,
              "part-image",
              "--verbose",
            ],
            ...args,
          ]);
          assert.equal(code, 0, err);
          if (args.includes("--filesystem=squashfs")) assert.match(err, /mksquashfs .* -processors 1 /);
        });
      }
    });
  },
);

Deno.test("The container of any Linux becomes a disk in one command", { ignore }, async () => {
  await builderImage();
  await tempDir(async (dir) => {
    const image = await importTree(await tinyTree(), "localhost/os");
    const { code, err } = await build("disk-image", `${dir}/disk.img`, [
      ...LEAST,
      `--mount=type=image,source=${image},destination=/input`,
    ]);
    assert.equal(code, 0, err);
    const { partitions } = JSON.parse(await quiet`sfdisk --json ${dir}/disk.img`).partitiontable;
    assert.equal(partitions.length, 3);
    await quiet`sfdisk --verify ${dir}/disk.img`;
  });
});

Deno.test("The container stops when it is told to, and leaves nothing that looks like an image", {
  ignore,
}, async () => {
  await builderImage();
  await tempDir(async (dir) => {
    const marker = "hangs until it is stopped";
    await stubProgram(
      dir,
      "mke2fs",
      `test "$1" = -V && { echo 'mke2fs 1.47.2' >&2; exit; }; echo '${marker}' >&2; exec sleep 3600`,
    );
    await Deno.writeTextFile(`${dir}/part.img`, "old");
    const name = `raptor-builders-test-${crypto.randomUUID()}`;
    const volumes = [
      `${dir}/mke2fs:/usr/sbin/mke2fs:ro`,
      `${await tinyTree()}:/input:ro`,
      `${dir}/part.img:/output/part.img`,
    ].map((volume) => `--volume=${volume}`);
    const run = podman(["run", "--rm", "--name", name, ...volumes, IMAGE, "part-image", "--verbose"]);
    try {
      for (let tries = 0; !(await podman(["logs", name])).err.includes(marker); tries++) {
        assert.ok(tries < 6000, "it never came to mke2fs");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      // Were it killed at the end of this, the exit code would be 137.
      await podman(["stop", "--time=600", name]);
    } finally {
      await podman(["rm", "--force", "--ignore", name]);
    }
    const { code, err } = await run;
    assert.equal(code, 143, err);
    assert.match(err, /^\[E\] Interrupted by SIGTERM$/m);
    const { size, mtime } = await Deno.stat(`${dir}/part.img`);
    assert.deepEqual([size, mtime?.getTime()], [0, 0]);
  });
});

Deno.test("Rootless podman makes images with the right owners", {
  ignore: ignore || missing("newuidmap", "setpriv", "unshare"),
}, async (t) => {
  await tempDir(async (dir) => {
    const tree = await privateTree(dir);
    const images = [await builderImage(), await importTree(tree, "localhost/tree")];
    const wanted = await facts(tree);
    await using user = await rootless(images);
    const output = `${user.directory}/part.img`;
    const run = async (args: string[]) => {
      const volume = `--volume=${user.directory}:/output`;
      return await user.podman(["run", "--rm", volume, ...args, IMAGE, "part-image"]);
    };
    await t.step("from an image", async () => {
      const { code, err } = await run([
        ...LEAST,
        "--mount=type=image,source=localhost/tree,destination=/input",
      ]);
      assert.equal(code, 0, err);
      assert.equal((await Deno.stat(output)).uid, user.uid);
      await mounted(output, async (root) => assert.deepEqual(await facts(root), wanted));
    });
    await t.step("from an archive, less the device nodes that it may not make", async () => {
      await quiet`mknod ${tree}/dev/null c 1 3`;
      await quiet`tar --create --file=${user.directory}/tree.tar --directory=${tree} --numeric-owner .`;
      await Deno.remove(`${tree}/dev/null`);
      await quiet`touch --reference=${tree}/proc ${tree}/dev`;
      const { code, err } = await run(["--network=none", `--volume=${user.directory}/tree.tar:/input:ro`]);
      assert.equal(code, 0, err);
      assert.match(err, /^\[W\] .*Leaving out 1 device node such as "\.\/dev\/null".* \(devices\)$/m);
      const times = (line: string) => line.replace(/^(dev d \S+ \S+) .*/, "$1");
      await mounted(output, async (root) => {
        assert.deepEqual((await facts(root)).map(times), (await facts(tree)).map(times));
      });
    });
    await t.step("from the user's own directory", async () => {
      await quiet`cp --recursive ${await tinyTree()} ${user.directory}/own`;
      await quiet`chown --recursive --no-dereference ${user.uid}:${user.uid} ${user.directory}/own`;
      const { code, err } = await run([...LEAST, `--volume=${user.directory}/own:/input:ro`]);
      assert.equal(code, 0, err);
      await mounted(output, async (root) => {
        const owners = new Set(
          (await facts(root)).map((line) => line.split(" ").find((word) => word.includes(":"))),
        );
        assert.deepEqual([...owners], ["0:0"]);
      });
    });
    await t.step("not from a directory of the machine's root, and it says why", async () => {
      await Deno.chmod(dir, 0o755);
      const { code, err } = await run(["--network=none", `--volume=${tree}:/input:ro`]);
      assert.equal(code, 2, err);
      assert.match(
        err,
        /^\[E\] Cannot use the input "\/input": its owners are not mapped into this container$/m,
      );
      assert.match(err, /^\[E\] Without root, mount a container image/m);
    });
  });
});
