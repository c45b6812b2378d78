/**
 * Archives, read by the programs that they are for. `ARCHIVE_SEED=NUMBER` makes other random trees, `ARCHIVE_SEED=random`
 * new ones.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { planTar } from "../../lib/filesystem/tar.ts";
import { formatNames, isDisk } from "../../lib/image/formats.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { $, type Command } from "../../lib/system/sh.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { build, builderCommand, runBuilder } from "../lab/builds.ts";
import { assertEqualTrees, type CompareOptions } from "../lab/compare.ts";
import { podman } from "../lab/containers.ts";
import { REQUEST, WHOLE } from "../lab/ext4_image.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { makeRandomTree, newRandom, seedFrom } from "../lab/random_tree.ts";
import { cached, copyTree, debianTree, tinyTree } from "../lab/trees.ts";

const FIRST_SEED = seedFrom("ARCHIVE_SEED");
const { time: TIME } = REQUEST;

/** As an archive keeps times: none of them is later than the build's. */
const keptTime: NonNullable<CompareOptions["time"]> = (seconds, fraction) =>
  seconds >= TIME ? `${TIME}.${"0".repeat(fraction.length)}` : `${seconds}.${fraction}`;

interface Unpacker {
  readonly unpack: (archive: string, directory: string) => Command;
  /** How it sets times. */
  readonly time: NonNullable<CompareOptions["time"]>;
  /** The largest user or group that it sets in an ACL. */
  readonly maxAclId?: number;
  /** Whether it dates the directory that it unpacks into. */
  readonly datesRoot: boolean;
}

/** What unpacks an archive. */
const UNPACKERS: Readonly<Record<string, Unpacker>> = {
  "tar": {
    unpack: (archive, directory) =>
      $`tar --extract --file=${archive} --directory=${directory} --acls --xattrs --xattrs-include=${"*"} --numeric-owner`,
    time: keptTime,
    datesRoot: true,
  },
  "bsdtar": {
    unpack: (archive, directory) =>
      $`bsdtar --extract --file=${archive} --directory=${directory} --acls --xattrs --numeric-owner --same-owner -p`,
    maxAclId: 2 ** 31 - 1,
    // Up to libarchive 3.8 it takes the fraction of a time before 1970 for one after the second.
    time: (seconds, fraction) => seconds <= 0 ? "before 1970" : keptTime(seconds, fraction),
    datesRoot: false,
  },
};

/** Makes an archive of a tree. */
async function makeArchive(tree: string, path: string, scratch: string): Promise<void> {
  const root = openRoot(tree);
  try {
    const nodes = await walk(root);
    const plan = planTar(select(nodes, WHOLE), TIME);
    assert(plan.type === "tar");
    await Deno.writeFile(path, new Uint8Array());
    const target = { path, offset: 0, size: plan.size };
    const { signal } = new AbortController();
    await MAKERS.tar.make(target, plan.writer, { root, nodes, scratch, onProgress: () => {}, signal });
    MAKERS.tar.verify!(target, plan.writer);
    await MAKERS.tar.compare!(target, plan.writer, root);
  } finally {
    closeRoot(root);
  }
}

for (const [program, { unpack, time, datesRoot, ...limits }] of Object.entries(UNPACKERS)) {
  Deno.test(`${program} unpacks the archive of a random tree to one that is equal to it`, {
    ignore: missing(program, "find", "stat", "getfattr") || unprivileged(),
  }, async (t) => {
    for (const seed of [FIRST_SEED, FIRST_SEED + 1]) {
      await t.step(`ARCHIVE_SEED=${seed}`, () =>
        tempDir(async (dir) => {
          const tree = `${dir}/tree`, to = `${dir}/to`;
          await Deno.mkdir(tree);
          await Deno.mkdir(to);
          const count = newRandom(seed).pick([200, 500]);
          makeRandomTree(tree, seed, count, { largest: 64 * MiB, ...limits });
          await makeArchive(tree, `${dir}/tar`, dir);
          await unpack(`${dir}/tar`, to);
          if (!datesRoot) await quiet`touch --reference=${tree} ${to}`;
          assertEqualTrees(tree, to, { noSockets: true, time });
        }));
    }
  });
}

Deno.test("podman imports a tar, and runs what is in it", {
  ignore: missing("podman", "runc", "mmdebstrap") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tree = await copyTree(await tinyTree({ kernel: false, loader: false }), `${dir}/tree`);
    await quiet`setfattr --name security.capability --value 0x0100000200200000000000000000000000000000
      ${tree}/usr/bin/busybox`;
    const { stderr } = await build("part-image", tree, `${dir}/image.tar`, { VERIFY: "full" });
    assert.match(stderr, /^\[\|\] part-image: tar, /m);
    const { out: image, code, err } = await podman(["import", "--quiet", `${dir}/image.tar`]);
    assert.equal(code, 0, err);
    const id = image.trim();
    try {
      const run = ["run", "--rm", "--network=none", id, "grep", "^PRETTY_NAME=", "/etc/os-release"];
      assert.equal((await podman(run)).out, 'PRETTY_NAME="Tiny 1.0 (for tests)"\n');
      const mounted = (await podman(["image", "mount", id])).out.trim();
      // Of the root directory podman changes mode and time.
      assertEqualTrees(tree, mounted, { omit: [""] });
      await podman(["image", "unmount", id]);
    } finally {
      await podman(["image", "rm", "--force", id]);
    }
  }));

/** Runs podman, which must not fail. @returns what it prints */
async function mustRun(...args: string[]): Promise<string> {
  const { code, out, err } = await podman(args);
  assert.equal(code, 0, `podman ${args.join(" ")}\n${out}${err}`);
  return out.trim();
}

Deno.test(
  "a container image is loaded and run by podman, and read by skopeo, both as OCI's and as docker's",
  {
    ignore: missing("podman", "runc", "skopeo", "mmdebstrap") || unprivileged(),
  },
  () =>
    tempDir(async (dir) => {
      const tree = await copyTree(await tinyTree({ kernel: false, loader: false }), `${dir}/tree`);
      await quiet`setfattr --name security.capability --value 0x0100000200200000000000000000000000000000
      ${tree}/usr/bin/busybox`;
      await quiet`setfacl --modify user:1000:r ${tree}/etc/hostname`;
      await Deno.writeTextFile(`${tree}/etc/sparse`, "");
      await Deno.truncate(`${tree}/etc/sparse`, 300_000);
      const tag = "localhost/raptor-builders-test:1.0_a";
      const image = `${dir}/image.oci.tar`;
      await build("part-image", tree, image, {
        OCI_TAG: tag,
        OCI_COMMAND: '["/bin/sh", "-c", "echo $WORD $PATH"]',
        OCI_ENV: "WORD=hello",
        OCI_LABELS: '["note=two words"]',
        VERIFY: "full",
      });
      const layer = (await quiet`tar --list --file=${image}`).split("\n")[0]!.replace(
        "blobs/sha256/",
        "sha256:",
      );
      for (const transport of ["oci-archive", "docker-archive"]) {
        const found = JSON.parse(await quiet`skopeo inspect ${`${transport}:${image}`}`);
        assert.deepEqual([found.Architecture, found.Os, found.Layers], ["amd64", "linux", [layer]]);
        assert.equal(found.Labels.note, "two words");
        assert.equal(found.Labels["org.opencontainers.image.version"], "1.0");
      }
      const ids = new Set<string>();
      for (
        const args of [["load", "--input", image], ["pull", `oci-archive:${image}`], [
          "pull",
          `docker-archive:${image}`,
        ]]
      ) {
        await mustRun(...args);
        try {
          const [config] = JSON.parse(await mustRun("image", "inspect", tag));
          ids.add(config.Id);
          assert.equal(config.Architecture, "amd64");
          if (args[0] !== "load") continue;
          const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
          assert.equal(await mustRun("run", "--rm", "--network=none", tag), `hello ${path}`);
          assert.equal(
            await mustRun("run", "--rm", "--network=none", tag, "cat", "/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh",
          );
          // Of the root directory podman changes mode and time.
          assertEqualTrees(tree, await mustRun("image", "mount", tag), { omit: [""], anyHoles: true });
          await mustRun("image", "unmount", tag);
        } finally {
          await podman(["image", "rm", "--force", tag]);
        }
      }
      assert.equal(ids.size, 1);
    }),
);

Deno.test("a container image starts systemd, which runs without a failed unit in podman", {
  ignore: missing("podman", "runc", "mmdebstrap") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tag = "localhost/raptor-builders-test:systemd";
    const tree = await debianTree({ suite: "trixie" });
    await build("part-image", tree, `${dir}/image.oci.tar`, { OCI_TAG: tag });
    await mustRun("load", "--input", `${dir}/image.oci.tar`);
    try {
      const [{ Config }] = JSON.parse(await mustRun("image", "inspect", tag));
      assert.deepEqual([Config.Cmd, Config.StopSignal], [["/sbin/init"], "SIGRTMIN+3"]);
      const { out } = await podman(["run", "--rm", "--tty", "--network=none", tag]);
      const part = (name: string) => new RegExp(`^=== ${name}\\r?\\n([^=]*)===`, "m").exec(out)?.[1]?.trim();
      assert.equal(part("virtualization"), "podman", out);
      assert.equal(part("failed"), "", out);
    } finally {
      await podman(["image", "rm", "--force", tag]);
    }
  }));

Deno.test("docker loads a container image, and runs it", {
  ignore: missing("dockerd", "docker", "mmdebstrap") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tag = "localhost/raptor-builders-test:docker";
    const tree = await tinyTree({ kernel: false, loader: false });
    await build("part-image", tree, `${dir}/image.oci.tar`, { OCI_TAG: tag });
    const host = `unix://${dir}/socket`;
    const daemon = new Deno.Command("dockerd", {
      args: [
        ...[
          "--iptables=false",
          "--ip6tables=false",
          "--bridge=none",
          "--storage-driver=vfs",
          `--host=${host}`,
        ],
        ...[`--data-root=${dir}/data`, `--exec-root=${dir}/exec`, `--pidfile=${dir}/pid`],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    try {
      // It says so when it listens.
      let said = "";
      for await (
        const text of daemon.stderr.pipeThrough(new TextDecoderStream()).values({ preventCancel: true })
      ) {
        said += text;
        if (said.includes("API listen on")) break;
      }
      assert.match(said, /API listen on/);
      const docker = async (...args: string[]) => await quiet`docker --host=${host} ${args}`;
      assert.equal(await docker("load", "--input", `${dir}/image.oci.tar`), `Loaded image: ${tag}\n`);
      assert.equal(
        await docker("run", "--rm", "--network=none", tag, "cat", "/etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\n",
      );
      const [image] = JSON.parse(await docker("image", "inspect", tag));
      assert.deepEqual([image.Architecture, image.Config.Cmd], ["amd64", ["/sbin/init"]]);
    } finally {
      daemon.kill("SIGTERM");
      daemon.stderr.cancel().catch(() => {});
      await daemon.status;
    }
  }));

Deno.test(
  "a distribution for WSL is a gzip that bsdtar unpacks, with the files that Microsoft's checks look for",
  {
    ignore: missing("bsdtar", "gzip", "mmdebstrap") || unprivileged(),
  },
  () =>
    tempDir(async (dir) => {
      const tree = await copyTree(await tinyTree({ kernel: false, loader: false }), `${dir}/tree`);
      const { stderr } = await build("part-image", tree, `${dir}/tiny.wsl`, { VERIFY: "full" });
      assert.match(stderr, /Leaving out \/etc\/resolv\.conf, which WSL writes/);
      await quiet`gzip --test --suffix=.wsl ${dir}/tiny.wsl`;
      await Deno.mkdir(`${dir}/to`);
      await UNPACKERS["bsdtar"]!.unpack(`${dir}/tiny.wsl`, `${dir}/to`);
      // Names, modes and owners as in https://github.com/microsoft/WSL/blob/master/distributions/validate-modern.py
      const format = ["%a %u:%g %F"];
      const stat = async (path: string) =>
        (await quiet`stat --dereference --format=${format} ${dir}/to/${path}`).trim();
      assert.equal(await stat("etc/wsl-distribution.conf"), "644 0:0 regular file");
      assert.equal(await stat("etc/passwd"), "644 0:0 regular file");
      assert.equal(await stat("etc/shadow"), "640 0:0 regular file");
      assert.equal(await stat("bin/sh"), "755 0:0 regular file");
      const conf = await Deno.readTextFile(`${dir}/to/etc/wsl-distribution.conf`);
      assert.equal(conf, "[oobe]\ndefaultName = tiny-1.0\n");
      await Deno.remove(`${dir}/to/etc/wsl-distribution.conf`);
      await Deno.remove(`${tree}/etc/resolv.conf`);
      for (const path of ["", "/etc"]) await quiet`touch --reference=${tree}${path} ${dir}/to${path}`;
      assertEqualTrees(tree, `${dir}/to`);
    }),
);

Deno.test("an image for Incus has its metadata before the tree, and beside a squashfs or a qcow2", {
  ignore: missing("tar", "mksquashfs", "qemu-img", "sfdisk", "mmdebstrap") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tree = await tinyTree({ kernel: false, loader: false });
    await build("part-image", tree, `${dir}/tiny.incus.tar`, { VERIFY: "full" });
    await Deno.mkdir(`${dir}/to`);
    // As Incus unpacks it: https://github.com/lxc/incus/blob/main/shared/archive/archive.go
    await $`tar --restrict --force-local -C ${dir}/to --numeric-owner --xattrs-include=${"*"} -xf ${dir}/tiny.incus.tar`;
    const names = (await Array.fromAsync(Deno.readDir(`${dir}/to`))).map(({ name }) => name).sort();
    assert.deepEqual(names, ["metadata.yaml", "rootfs", "templates"]);
    const metadata = await Deno.readTextFile(`${dir}/to/metadata.yaml`);
    assert.match(metadata, /^architecture: x86_64\ncreation_date: \d+\nproperties:\n/);
    assertEqualTrees(tree, `${dir}/to/rootfs`);
    const beside = async (builder: string, output: string, env: Record<string, string>) => {
      await build(builder, tree, output, { ...env, INCUS_METADATA: `${dir}/metadata.tar` });
      return await quiet`tar --extract --to-stdout --file=${dir}/metadata.tar metadata.yaml`;
    };
    assert.equal(await beside("part-image", `${dir}/tiny.squashfs`, { FILESYSTEM: "squashfs" }), metadata);
    const small = { EFI_MB: "33", BOOT_MB: "48", FREE_MB: "8", BOOTLOADER: "none" };
    const machine = await beside("disk-image", `${dir}/tiny.qcow2`, small);
    assert.equal(machine, metadata.slice(0, metadata.indexOf("templates:")));
  }));

for (const format of formatNames("part-image").filter((format) => !isDisk(format))) {
  Deno.test(`${format}: what cannot be written to its end leaves an empty output, dated 1970`, {
    ignore: missing("mmdebstrap") || unprivileged(),
  }, () =>
    tempDir(async (dir) => {
      const tree = await tinyTree({ kernel: false, loader: false });
      const output = `${dir}/image`;
      await Deno.writeTextFile(output, "an older image");
      const dry = ["--input", tree, "--dry-run", "--json"];
      const plan = JSON.parse(
        (await runBuilder("part-image", { args: dry, env: { OUTPUT_FORMAT: format } })).stdout,
      );
      const command = await builderCommand("part-image");
      const run = async (bytes: number) => {
        // The largest file that may be written, in blocks of 512 bytes.
        const limit = `trap "" XFSZ; ulimit -f ${Math.floor(bytes / 512)}; exec "$0" "$@"`;
        const { code, stderr } = await new Deno.Command("sh", {
          args: ["-c", limit, ...command, "--input", tree, "--output", output],
          env: { OUTPUT_FORMAT: format, TMPDIR: dir },
        }).output();
        return { code, log: new TextDecoder().decode(stderr) };
      };
      const { bytes } = plan.partitions[0].filesystem;
      // Contents alone that do not fit are known before.
      assert.equal((await run(bytes / 2)).code, 1);
      assert.equal(await Deno.readTextFile(output), "an older image");
      const { code, log } = await run(bytes + 8192);
      assert.equal(code, 1, log);
      assert.match(log, /\[E\] Cannot write .*: File too large/);
      const { size, mtime } = await Deno.stat(output);
      assert.deepEqual([size, mtime!.getTime()], [0, 0]);
      assert.deepEqual((await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name), ["image"]);
    }));
}

/** Debian 13 with Incus, which older Debians do not have. Nothing in it is changed. */
const incusTree = () =>
  cached("incus-trixie", { version: 1 }, async (dir) => {
    await quiet`mmdebstrap --quiet --variant=minbase --mode=root --include=incus trixie ${dir}`;
  });

/** Runs a script as root of a tree, in mount namespaces of its own, with a directory at `/srv`. */
async function runIncus(script: string, directory: string): Promise<string> {
  const tree = await incusTree();
  const enter = `set -e
    mount --bind ${tree} ${tree}
    mount --rbind /dev ${tree}/dev; mount --rbind /sys ${tree}/sys; mount -t proc proc ${tree}/proc
    for dir in run tmp mnt var/lib/incus var/log; do mount -t tmpfs tmpfs ${tree}/$dir; done
    mkdir ${tree}/mnt/old; mount --bind ${directory} ${tree}/srv
    cd ${tree}; pivot_root . mnt/old; exec chroot . bash -c '
      umount --lazy /mnt/old; mount --make-rshared /
      export PATH=/usr/sbin:/usr/bin HOME=/root
      /usr/libexec/incus/incusd --group root >/tmp/log 2>&1 & daemon=$!
      /usr/libexec/incus/incusd waitready --timeout 300
      source /srv/script; kill $daemon; wait $daemon'`;
  await Deno.writeTextFile(`${directory}/script`, script);
  return await quiet`unshare --mount --propagation private bash -c ${enter}`;
}

Deno.test("Incus imports images with their metadata inside or beside, and systemd starts in a container", {
  ignore: missing("mmdebstrap", "mksquashfs", "qemu-img", "sfdisk") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tiny = await tinyTree({ kernel: false, loader: false });
    await build("part-image", await debianTree({ suite: "trixie" }), `${dir}/debian.incus.tar`);
    await build("part-image", tiny, `${dir}/squashfs.raw`, {
      FILESYSTEM: "squashfs",
      INCUS_METADATA: `${dir}/squashfs.tar`,
    });
    const small = { EFI_MB: "33", BOOT_MB: "48", FREE_MB: "8", BOOTLOADER: "none" };
    await build("disk-image", tiny, `${dir}/disk.qcow2`, { ...small, INCUS_METADATA: `${dir}/disk.tar` });
    const out = await runIncus(
      `exec 2>&1
      incus storage create default dir
      incus profile device add default root disk path=/ pool=default
      incus image import --quiet /srv/debian.incus.tar --alias debian
      incus image import --quiet /srv/squashfs.tar /srv/squashfs.raw --alias squashfs
      incus image import --quiet /srv/disk.tar /srv/disk.qcow2 --alias disk
      incus image list --format csv --columns ldat
      incus launch --quiet debian test --config security.privileged=true
      # The tree says how it has started, and powers off. Who reads the log before gets a part, which is gone then.
      until [ "$(incus list test --format csv --columns s)" = STOPPED ] && log=$(incus console test --show-log); do
        sleep 0.2
      done
      echo "$log"
      cat /var/lib/incus/storage-pools/default/containers/test/rootfs/etc/hostname
      incus delete --force test`,
      dir,
    );
    assert.match(out, /^debian,Debian GNU\/Linux 13 \(trixie\),x86_64,CONTAINER$/m);
    assert.match(out, /^squashfs,Tiny 1\.0 \(for tests\),x86_64,CONTAINER$/m);
    assert.match(out, /^disk,Tiny 1\.0 \(for tests\),x86_64,VIRTUAL-MACHINE$/m);
    assert.match(out, /^=== failed\r?\n=== logs/m, out);
    assert.match(out, /^test$/m);
  }));
