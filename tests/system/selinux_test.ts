/**
 * SELinux labels: those of the tree's policy, as `setfiles` gives them, and a system that starts enforcing them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { searchPath } from "../../lib/system/programs.ts";
import { build, runBuilder } from "../lab/builds.ts";
import { builderImage, IMAGE, importTree, rootless } from "../lab/containers.ts";
import { squashfsPath, useErofs } from "../lab/erofs.ts";
import { mounted } from "../lab/ext4_image.ts";
import { bootQemu, report } from "../lab/guests.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { FEDORA_LABELS, fedoraTree } from "../lab/selinux.ts";
import { copyTree, debianTree } from "../lab/trees.ts";

const ignore = missing("mmdebstrap", "mke2fs", "setfiles", "getfattr", "mount") || unprivileged();

/** A Debian whose policy is that of Debian, with the programs that look at labels. */
const debian = () => debianTree({ suite: "trixie", include: ["selinux-policy-default", "policycoreutils"] });

/** The SELinux label of every entry, by its path. */
async function labelsIn(dir: string): Promise<Map<string, string>> {
  const script =
    `cd "$1" && find . -print0 | sort -z | xargs -0 getfattr -h -n security.selinux 2>/dev/null || true`;
  const text = await quiet`sh -c ${script} sh ${dir}`;
  return new Map(
    [...text.matchAll(/^# file: (.*)\nsecurity\.selinux="(.*)"$/gm)].map((
      [, path, label],
    ) => [path!, label!]),
  );
}

/** What the policy of the tree gives to a copy of it, by the program of SELinux. */
async function goldenLabels(tree: string, dir: string, type: string): Promise<Map<string, string>> {
  const copy = await copyTree(tree, `${dir}/golden`);
  await quiet`sh -c ${'find "$1" -exec setfattr -h -x security.selinux {} + 2>/dev/null || true'} sh ${copy}`;
  const contexts = `${copy}/etc/selinux/${type}/contexts/files`;
  // Those of another version are an error to it.
  await quiet`sh -c ${'rm -f "$1"/*.bin'} sh ${contexts}`;
  await quiet`setfiles -F -r ${copy} ${contexts}/file_contexts ${copy}`;
  return await labelsIn(copy);
}

/** Compares the labels of a mounted image with the golden ones, entry by entry. @returns how many there are. */
async function assertLabels(
  mount: string,
  golden: ReadonlyMap<string, string>,
  skips: RegExp,
): Promise<number> {
  const found = await labelsIn(mount);
  const wrong = [...golden].filter(([path, label]) => !skips.test(path) && found.get(path) !== label)
    .map(([path, label]) => `${path}: ${found.get(path)} instead of ${label}`);
  assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} labels differ`);
  const extra = [...found.keys()].filter((path) => !golden.has(path) && !skips.test(path));
  assert.deepEqual(extra.slice(0, 10), []);
  return found.size;
}

/** What the image has not, or has besides. */
const OTHERS = /^(lost\+found|\.autorelabel|var\/lib\/apt\/lists\/|var\/cache\/apt\/)|\.bin$/;

for (const type of ["ext4", "squashfs", "erofs"] as const) {
  Deno.test(
    `part-image: a Fedora-like tree has the labels that setfiles gives it in ${type}`,
    { ignore },
    async () => {
      if (type === "erofs") await useErofs();
      const PATH = type === "squashfs" ? await squashfsPath() : searchPath();
      await tempDir(async (dir) => {
        const tree = await fedoraTree(dir);
        const golden = await goldenLabels(tree, dir, "targeted");
        const image = `${dir}/part.img`;
        await build("part-image", tree, image, { PATH, FREE_MB: "8", FILESYSTEM: type, VERIFY: "full" });
        await mounted(image, async (mount) => {
          const count = await assertLabels(mount, golden, OTHERS);
          assert.ok(count > FEDORA_LABELS.length - 10, `${count} labels`);
          const labels = await labelsIn(mount);
          assert.equal(labels.get("."), "system_u:object_r:root_t:s0");
          if (type === "ext4") assert.equal(labels.get("lost+found"), "system_u:object_r:lost_found_t:s0");
          assert.equal(await quiet`find ${mount} -name .autorelabel`, "");
        });
      });
    },
  );
}

Deno.test("part-image: labels of the build host, whichever, make no difference", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = await fedoraTree(dir);
    const sums = new Set<string>();
    for (const host of [undefined, "s0:c1,c2", "s0:c3,c900"]) {
      if (host) {
        const label = `system_u:object_r:container_file_t:${host}`;
        await quiet`find ${tree} -exec setfattr -h -n security.selinux -v ${label} {} +`;
      }
      for (const SELINUX of ["auto", "none"]) {
        const image = `${dir}/part.img`;
        await build("part-image", tree, image, { FREE_MB: "8", SELINUX });
        sums.add(`${SELINUX} ${await sha256(image)}`);
        const text = new TextDecoder("latin1").decode(await Deno.readFile(image));
        assert.ok(!text.includes("container_file_t:s0:c"), `${SELINUX} ${host}`);
      }
    }
    assert.equal(sums.size, 2);
  });
});

Deno.test(
  "part-image without libselinux names its package, and does without where labels are not asked for",
  {
    ignore,
  },
  async () => {
    await tempDir(async (dir) => {
      const tree = await fedoraTree(dir);
      await Deno.writeTextFile(`${dir}/empty`, "");
      const [library = ""] =
        (await quiet`sh -c ${"ls /usr/lib/*/libselinux.so.1 /usr/lib64/libselinux.so.1 2>/dev/null || true"}`)
          .split("\n");
      const run = async (selinux: string) => {
        const { code, stderr } = await new Deno.Command("unshare", {
          args: [
            ...[
              "--mount",
              "--propagation=private",
              "sh",
              "-c",
              'mount --bind "$1" "$2" && shift 2 && exec "$@"',
            ],
            ...["sh", `${dir}/empty`, library, Deno.execPath(), "run", "-A", "--quiet"],
            ...[new URL("../../builders/mod.ts", import.meta.url).pathname, "part-image", "--dry-run"],
            ...["--input", tree, "--output", `${dir}/part.img`, "--selinux", selinux],
          ],
        }).output();
        return { code, stderr: new TextDecoder().decode(stderr) };
      };
      for (const selinux of ["auto", "policy"]) {
        const { code, stderr } = await run(selinux);
        assert.equal(code, 1, stderr);
        assert.match(stderr, /Cannot load libselinux\.so\.1 to label the files for SELinux/);
        assert.match(stderr, /the package libselinux1.*set SELINUX to none or tree/);
      }
      for (const selinux of ["none", "tree"]) assert.equal((await run(selinux)).code, 0);
    });
  },
);

Deno.test("part-image refuses a squashfs whose root mksquashfs could not label", { ignore }, async () => {
  await tempDir(async (dir) => {
    const tree = await fedoraTree(dir);
    const script = 'case "$1" in -version) echo "mksquashfs version 4.5.1 (2022/03/17)";; *) exit 9;; esac';
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(`${dir}/bin`, "mksquashfs", script);
    const { code, stderr } = await runBuilder("part-image", {
      args: ["--input", tree, "--output", `${dir}/part.img`, "--filesystem", "squashfs"],
      env: { PATH: `${dir}/bin:${Deno.env.get("PATH")}` },
    });
    assert.equal(code, 1);
    assert.match(stderr, /mksquashfs 4\.5\.1.*"security\.selinux" of the root directory/);
    assert.match(stderr, /Install mksquashfs 4\.6 or later/);
  });
});

Deno.test("The container labels a tree for an ordinary user who has no capability", {
  ignore: ignore || missing("podman", "runc", "newuidmap", "setpriv", "unshare"),
}, async () => {
  await tempDir(async (dir) => {
    const tree = await fedoraTree(dir);
    const golden = await goldenLabels(tree, dir, "targeted");
    const images = [await builderImage(), await importTree(tree, "localhost/fedora-like")];
    await using user = await rootless(images);
    const { code, err } = await user.podman([
      ...["run", "--rm", "--network=none", "--read-only", "--cap-drop=all"],
      "--security-opt=no-new-privileges",
      `--volume=${user.directory}:/output`,
      "--mount=type=image,source=localhost/fedora-like,destination=/input",
      ...[IMAGE, "part-image"],
    ]);
    assert.equal(code, 0, err);
    await mounted(`${user.directory}/part.img`, (mount) => assertLabels(mount, golden, OTHERS));
  });
});

/**
 * What Debian's policy denies systemd 257 on a tree that setfiles labelled, too: journald its credentials, bootctl a look at
 * /efi, and systemd-tmpfiles to relabel /root.
 */
const POLICY_GAPS = [
  /denied +\{ search \} .* comm="systemd-journal" .* tcontext=system_u:object_r:tmpfs_t:s0 /,
  /denied +\{ search \} .* comm="bootctl" name="efi" .* tcontext=system_u:object_r:default_t:s0 /,
  /denied +\{ relabelfrom \} .* comm="systemd-tmpfile" name="root" .* tcontext=\S+:user_home_dir_t:s0 /,
];

/** Where the root partition begins, in bytes: it is the last. */
async function rootOffset(image: string): Promise<number> {
  const { partitiontable } = JSON.parse(await quiet`sfdisk --json ${image}`);
  return partitiontable.partitions.at(-1).start * 512;
}

Deno.test("disk-image: a Debian tree with its policy has the labels of setfiles, and boots enforcing it", {
  ignore: ignore || missing("qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd", "mkfs.vfat", "sfdisk"),
}, async () => {
  await tempDir(async (dir) => {
    const tree = await copyTree(await debian(), `${dir}/tree`);
    const script = await Deno.readTextFile(new URL("../lab/trees/report-selinux.sh", import.meta.url));
    await Deno.writeTextFile(`${tree}/usr/local/sbin/report`, script);
    const image = `${dir}/disk.img`;
    await build("disk-image", tree, image, {
      FREE_MB: "64",
      BOOT_MB: "256",
      KERNEL_CMDLINE: "security=selinux selinux=1 enforcing=1",
    });

    const golden = await goldenLabels(tree, dir, "default");
    // Another partition has what is below /boot; no policy of Debian knows /efi, which is new.
    const others = RegExp(`${OTHERS.source}|^boot/|^efi$`);
    const offset = await rootOffset(image);
    const count = await mounted(image, async (mount) => {
      assert.equal((await labelsIn(mount)).get("efi"), "system_u:object_r:default_t:s0");
      return await assertLabels(mount, golden, others);
    }, { offset });
    assert.ok(count > 10_000, `${count} labels`);

    const seen = report(await bootQemu(image, { architecture: "x86-64", format: "raw" }));
    assert.equal(seen.get("enforce"), "Enforcing");
    assert.equal(seen.get("pid1"), "system_u:system_r:init_t:s0");
    // The kernel's own filesystems are not of the image: devpts labels its ptmx otherwise than file_contexts.
    assert.doesNotMatch(seen.get("restorecon")!, /^Would relabel (?!\/(dev|proc|run|sys)\/)/m);
    const denials = seen.get("denials")!.split("\n").filter((line) =>
      !POLICY_GAPS.some((pattern) => pattern.test(line))
    );
    assert.deepEqual(denials.filter(Boolean), []);
    // A guest that relabelled and started again would have ended without a report: QEMU has -no-reboot.
    assert.equal(seen.get("state"), "running");
  });
});
