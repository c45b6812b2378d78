import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { warningsOf } from "../../../lib/core/findings.ts";
import { planDisk, planPart } from "../../../lib/plan/plan.ts";
import { entryPath } from "../../../lib/filesystem/contents.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import { FLAGS } from "../../../lib/tree/flags.ts";
import type { Tree } from "../../../lib/tree/inspect.ts";
import { DEBIAN, factsOf, kernel, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

/** The small Debian with these entries instead of or besides its own. */
function debianWith(list: readonly NodeInput[], more: Partial<Omit<Tree, "nodes">> = {}): Tree {
  const replaced = new Set(list.map(({ path }) => path));
  return factsOf([...DEBIAN.filter(({ path }) => !replaced.has(path)), ...list], {
    kernels: [kernel("6.12.48")],
    ...more,
  });
}

/** Name and path of each warning about a disk. */
function found(tree: Tree, env: Record<string, string> = {}): string[] {
  return warningsOf(planDisk(settingsOf(env), tree).findings).map(({ name, path }) =>
    `${name} ${path ?? ""}`.trim()
  );
}

Deno.test("a tree that is fine has no findings that are warnings", pure, () => {
  assert.deepEqual(found(factsOf()), []);
});

for (
  const { name, root, names } of [
    { name: "as mktemp -d makes it", root: { mode: 0o700 }, names: ["root-mode /"] },
    { name: "that a group owns", root: { gid: 1000 }, names: ["root-owner /"] },
    {
      name: "of somebody else",
      root: { mode: 0o750, uid: 1000, gid: 1000 },
      names: ["root-mode /", "root-owner /"],
    },
    { name: "of Fedora's (0555)", root: { mode: 0o555 }, names: [] },
  ]
) {
  Deno.test(`a root directory ${name}: ${names.join(", ") || "nothing to say"}`, pure, () => {
    const tree = debianWith([{ path: "/", ...root }]);
    assert.deepEqual(found(tree), names);
    const part = (env: Record<string, string>) => warningsOf(planPart(settingsOf(env), tree).findings).length;
    assert.equal(part({}), names.length);
    // Not the root of a system.
    assert.equal(part({ DIRECTORY: "/usr" }), 0);
  });
}

const FILES = (...paths: string[]) => paths.map((path): NodeInput => ({ path, size: 10, mode: 0o755 }));

Deno.test("owners: a tree that was unpacked without root, and one that is shifted", pure, () => {
  const owned = (uid: number) =>
    debianWith([
      { path: "/etc", type: "directory", uid },
      { path: "/etc/shadow", uid, mode: 0o640 },
      { path: "/usr/sbin/init", uid, mode: 0o755 },
    ]);
  const [found] = warningsOf(planDisk(settingsOf(), owned(1000)).findings);
  assert.deepEqual([found!.name, found!.path], ["owners", "/etc"]);
  assert.match(found!.message, /"\/etc", "\/etc\/shadow", "\/sbin\/init": owned by 1000 .* without root/);
  const [shifted] = warningsOf(planDisk(settingsOf(), owned(1_879_048_192)).findings);
  assert.match(shifted!.message, /user namespace that begins at 1879048192/);
  assert.notEqual(shifted!.hint, found!.hint);
});

Deno.test("setuid: sudo and su, but not links to busybox or programs with capabilities", pure, () => {
  const su = { path: "/usr/bin/su", mode: 0o4755 }, sudo = { path: "/usr/bin/sudo", mode: 0o755 };
  assert.deepEqual(found(debianWith([su, sudo])), ["setuid /usr/bin/sudo"]);
  assert.deepEqual(found(debianWith([su, { ...sudo, mode: 0o4111 }])), []);
  const busybox = [...FILES("/bin/busybox"), { path: "/bin/su", target: "busybox" }];
  assert.deepEqual(found(debianWith(busybox)), []);
  const capability = { name: "security.capability", value: new Uint8Array(20) };
  assert.deepEqual(found(debianWith([{ ...sudo, xattrs: [capability] }])), []);
});

Deno.test("no-init: nothing that a kernel starts, unless the init comes from elsewhere", pure, () => {
  const bare = (kernelOptions?: string, more: readonly NodeInput[] = []) =>
    factsOf([...DEBIAN.filter(({ path }) => path !== "/usr/sbin/init"), ...more], {
      kernels: [kernel("6.12.48")],
      ...kernelOptions && { kernelOptions },
    });
  assert.deepEqual(found(bare()), ["no-init /sbin/init"]);
  assert.deepEqual(found(bare("quiet"), { KERNEL_CMDLINE: "init=/missing" }), ["no-init /missing"]);
  assert.deepEqual(found(bare("init=/usr/bin/start quiet", FILES("/usr/bin/start"))), []);
  assert.deepEqual(found(bare(undefined, FILES("/usr/lib/systemd/systemd"))), []);
  assert.deepEqual(found(bare("rdinit=/init")), []);
  assert.deepEqual(found(bare(), { KERNEL_CMDLINE: "ostree=/ostree/boot.1/x/0" }), []);
  // A shell is no init.
  assert.deepEqual(found(bare(undefined, FILES("/usr/bin/sh"))), ["no-init /sbin/init"]);
  assert.deepEqual(found(bare(), { BOOTLOADER: "none" }), []);
});

Deno.test("no-os-release: systemd refuses a system without one", pure, () => {
  const bare = (more: readonly NodeInput[] = [], facts: Partial<Omit<Tree, "nodes">> = {}) =>
    factsOf([...DEBIAN.filter(({ path }) => !path.endsWith("/os-release")), ...more], {
      kernels: [kernel("6.12.48")],
      osRelease: {},
      ...facts,
    });
  const missing = ["no-os-release /usr/lib/os-release"];
  assert.deepEqual(found(bare()), missing);
  assert.deepEqual(found(bare(), { BOOTLOADER: "none" }), missing);
  assert.deepEqual(found(bare([{ path: "/etc/os-release", target: "../usr/lib/os-release" }])), missing);
  // What is in it does not matter.
  assert.deepEqual(found(bare(FILES("/etc/os-release"))), []);
  assert.deepEqual(found(bare(FILES("/usr/lib/os-release"))), []);
  // The root is a deployment of ostree, which has one.
  assert.deepEqual(found(bare(), { KERNEL_CMDLINE: "ostree=/ostree/boot.1/x/0" }), []);

  const part = (env: Record<string, string>, tree: Tree) =>
    warningsOf(planPart(settingsOf(env), tree).findings).map(({ name }) => name);
  assert.deepEqual(part({}, bare()), ["no-os-release"]);
  assert.deepEqual(part({ DIRECTORY: "/usr" }, bare()), []);
  // podman and the like ask for none.
  assert.deepEqual(part({ OUTPUT_FORMAT: "tar" }, bare()), []);
  // Without an init, it is no system.
  assert.deepEqual(part({}, factsOf(FILES("/usr/bin/sh"), { osRelease: {} })), []);

  const boots = warningsOf(planDisk(settingsOf(), bare([], { kernels: [] })).findings)
    .find(({ name }) => name === "no-boot")!.message;
  assert.match(boots, /^The image will not boot: /);
});

Deno.test("no-boot does not promise a container that boots without an init", pure, () => {
  const message = (list: readonly NodeInput[]) =>
    warningsOf(planDisk(settingsOf(), factsOf(list, { kernels: [] })).findings)
      .find(({ name }) => name === "no-boot")!.message;
  assert.match(message([...DEBIAN]), /^The image will boot only as a container: /);
  assert.match(message(FILES("/usr/bin/sh")), /^The image will not boot: /);
});

Deno.test("no-vfat: a kernel whose modules lack it", pure, () => {
  const modules = "/usr/lib/modules/6.12.48/kernel/fs/fat/vfat.ko.xz";
  const other = (list: readonly NodeInput[], more: Partial<Omit<Tree, "nodes">> = {}) =>
    factsOf([...DEBIAN.filter(({ path }) => path !== modules), ...list], {
      kernels: [kernel("6.12.48")],
      ...more,
    });
  const empty = FILES("/usr/lib/modules/6.12.48/modules.dep");
  assert.deepEqual(found(other(empty)), ["no-vfat /boot/vmlinuz-6.12.48"]);
  const builtin = (...builtin: string[]) =>
    other(empty, {
      kernels: [kernel("6.12.48", { modules: { path: "/usr/lib/modules/6.12.48", builtin } })],
    });
  assert.deepEqual(found(builtin("fat", "vfat")), []);
  assert.deepEqual(found(builtin("fat")), ["no-vfat /boot/vmlinuz-6.12.48"]);
  // No version, and everything built in.
  const monolithic = { kernels: [kernel("linux", { image: "/boot/bzImage", initrds: [] })] };
  assert.deepEqual(found(other(FILES("/boot/bzImage"), monolithic)), []);
});

Deno.test("nested-tree: a single directory that holds the system", pure, () => {
  const list = DEBIAN.map((entry) => ({ ...entry, path: `/rootfs${entry.path}` }));
  const tree = factsOf(list, { osRelease: {} });
  const [found] = warningsOf(planPart(settingsOf(), tree).findings);
  assert.deepEqual([found!.name, found!.path], ["nested-tree", "/rootfs"]);
  assert.deepEqual(warningsOf(planPart(settingsOf({ DIRECTORY: "/rootfs" }), tree).findings), []);
  const { architecture: _, ...unknown } = { ...tree, kernels: [] };
  assert.throws(() => planDisk(settingsOf(), unknown), (error) => {
    assert(error instanceof BuildError);
    assert.match(error.hint!, /"\/rootfs".*--input/);
    return true;
  });
  // A tree of data, and one that is only /usr.
  for (const path of ["/data/file", "/usr/bin/env"]) {
    assert.deepEqual(planPart(settingsOf(), factsOf([{ path }], { osRelease: {} })).findings, []);
  }
});

Deno.test("mount points that a system lacks are made, with a word, for every root filesystem", pure, () => {
  const names = ["/dev", "/proc", "/run", "/sys", "/tmp"];
  const tree = factsOf(DEBIAN.filter(({ path }) => !names.includes(path)), { kernels: [kernel("6.12.48")] });
  for (const env of [{}, { FILESYSTEM: "squashfs" }, { FILESYSTEM: "erofs" }]) {
    for (const plan of [planDisk(settingsOf(env), tree), planPart(settingsOf(env), tree)]) {
      const { selection } = plan.partitions.at(-1)!;
      const paths = Array.from({ length: selection.count }, (_, entry) => entryPath(selection, entry));
      for (const name of names) assert(paths.includes(name), `${plan.builder} ${name}`);
      const found = plan.findings.find(({ name }) => name === "mount-points")!;
      assert.equal(found.level, "notice");
      assert.match(found.message, /\/proc, \/sys, \/dev, \/run, \/tmp/);
    }
  }
  // No system, and a link that leads elsewhere.
  assert.equal(
    planPart(settingsOf(), factsOf([{ path: "/x" }], { osRelease: {} })).partitions[0].contents.add.length,
    0,
  );
  const linked = debianWith([{ path: "/tmp", target: "/var/tmp" }]);
  assert.deepEqual(planDisk(settingsOf(), linked).findings.filter(({ name }) => name === "mount-points"), []);
});

Deno.test("flags-lost: what chattr set and the filesystem does not have", pure, () => {
  const tree = debianWith([
    { path: "/etc/resolv.conf", flags: FLAGS.immutable },
    { path: "/srv", type: "directory", flags: FLAGS.casefold | FLAGS.noatime },
  ]);
  const lost = (env: Record<string, string>) =>
    planDisk(settingsOf(env), tree).findings.filter(({ name }) => name === "flags-lost").map(({ message }) =>
      message
    );
  assert.deepEqual(lost({}), ['"/srv": no longer casefold, which ext4 does not have here']);
  assert.match(
    lost({ FILESYSTEM: "squashfs" })[0]!,
    /^"\/srv", "\/etc\/resolv.conf": .*immutable, noatime, casefold/,
  );
  assert.match(lost({ FILESYSTEM: "erofs" })[0]!, /erofs/);
});

Deno.test("findings about an entry of a filesystem name its path in the tree", pure, () => {
  const tree = factsOf([
    { path: "/boot/private", type: "directory", flags: FLAGS.immutable },
    { path: "/boot/sock", type: "socket" },
  ]);
  const { findings } = planPart(settingsOf({ DIRECTORY: "/boot", FILESYSTEM: "squashfs" }), tree);
  const paths = findings.map(({ name, path }) => [name, path]);
  assert.deepEqual(paths.filter(([name]) => name === "flags-lost" || name === "socket").sort(), [
    ["flags-lost", "/boot/private"],
    ["socket", "/boot/sock"],
  ]);
});

Deno.test(
  "fstab-root: part-image keeps the line of /, and says when it names another filesystem",
  pure,
  () => {
    const of = (line: string, env: Record<string, string> = {}, list = DEBIAN) => {
      const tree = factsOf(list, { fstab: `# first\n${line}\nUUID=1 /boot ext4 defaults 0 2\n` });
      const plan = planPart(settingsOf(env), tree);
      const [{ filesystem }] = plan.partitions;
      return { uuid: filesystem.uuid, names: warningsOf(plan.findings).map(({ name }) => name) };
    };
    const { uuid } = of("");
    const foreign = "11111111-2222-3333-4444-555555555555";
    for (
      const source of [
        `UUID=${foreign}`,
        `UUID="${foreign}"`,
        `/dev/disk/by-uuid/${foreign}`,
        "LABEL=old",
        "/dev/disk/by-label/old",
      ]
    ) {
      assert.deepEqual(of(`${source} / ext4 errors=remount-ro 0 1`).names, ["fstab-root"], source);
    }
    const foreignLine = `UUID=${foreign} / ext4 errors=remount-ro 0 1`;
    assert.deepEqual(of(foreignLine, { FILESYSTEM: "squashfs" }).names, ["fstab-root"]);
    for (
      const line of [
        "",
        `UUID=${foreign} /srv ext4 defaults 0 2`,
        `UUID=${uuid.toUpperCase()} / ext4 defaults 0 1`,
        // It may be the partition that the image is written to.
        "PARTLABEL=root-a / ext4 defaults 0 1",
        `PARTUUID=${foreign} / ext4 defaults 0 1`,
        "/dev/sda2 / ext4 defaults 0 1",
        "/dev/root / auto defaults 0 1",
      ]
    ) {
      assert.deepEqual(of(line).names, [], line);
    }
    assert.deepEqual(of("LABEL=old / ext4 defaults 0 1", { LABEL: "old" }).names, []);
    assert.deepEqual(of(foreignLine, { DIRECTORY: "/etc" }).names, []);
    assert.deepEqual(of(foreignLine, { OUTPUT_FORMAT: "tar" }).names, []);
    // Nothing in it mounts anything.
    assert.deepEqual(of(foreignLine, {}, DEBIAN.filter(({ path }) => path !== "/usr/sbin/init")).names, []);
  },
);
