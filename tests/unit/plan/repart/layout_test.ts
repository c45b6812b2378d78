import assert from "node:assert/strict";
import { BuildError } from "../../../../lib/core/error.ts";
import { GPT_ATTRIBUTES } from "../../../../lib/core/dps.ts";
import { MiB } from "../../../../lib/core/units.ts";
import { entryPath, type Selection } from "../../../../lib/filesystem/contents.ts";
import { TABLE_SIZE } from "../../../../lib/image/gpt.ts";
import { type DiskPlan, planDisk } from "../../../../lib/plan/plan.ts";
import type { NodeInput } from "../../../../lib/tree/builder.ts";
import { DEBIAN, factsOf, kernel, settingsOf } from "../../../lab/facts.ts";
import { SIGNING } from "../../../lab/keys.ts";
import { parseLayout } from "../../../../lib/plan/repart/files.ts";
import { layoutOf, planLayout } from "../../../lab/layouts.ts";

const pure = { permissions: "none" } as const;

/** The small Debian with files in the places that often have a partition of their own. */
const TREE: readonly NodeInput[] = [
  ...DEBIAN,
  { path: "/home/user/notes", size: 10, uid: 1000 },
  { path: "/srv/www/index.html", size: 20 },
  { path: "/var/lib/dpkg/status", size: 30 },
  { path: "/var/tmp", type: "directory", mode: 0o1777 },
  { path: "/var/tmp/old", size: 3 },
  { path: "/opt/tool/bin", size: 40 },
  { path: "/boot/efi/EFI/vendor/tool.efi", size: 50 },
  { path: "/proc/leftover", size: 1 },
];

const GENERATOR = { path: "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator" };

const facts = (list = TREE, more = {}) => factsOf(list, { kernels: [kernel("6.12.48")], ...more });

const plan = (definitions: Record<string, string>, env: Record<string, string> = {}, tree = facts()) =>
  planLayout(definitions, env, tree);

function pathsOf(selection: Selection): string[] {
  return Array.from({ length: selection.count }, (_, entry) => entryPath(selection, entry)).slice(1);
}

/** What a partition holds. */
function paths({ partitions }: DiskPlan, name: string): string[] {
  return pathsOf(partitions.find((each) => each.name === name)!.selection);
}

/** What a plan writes into a file of a partition. */
function textIn({ partitions }: DiskPlan, name: string, path: string): string | undefined {
  const added = partitions.find((each) => each.name === name)!.contents.add.find((file) =>
    file.path === path
  );
  return added?.type === "file" ? added.text : undefined;
}

const WHOLE = {
  "10-esp": "Type=esp",
  "20-boot": "Type=xbootldr",
  "30-root": "Type=root",
  "40-home": "Type=home",
  "50-srv": "Type=srv",
  "60-var": "Type=var",
  "70-tmp": "Type=tmp",
  "80-swap": "Type=swap;SizeMinBytes=64M;SizeMaxBytes=64M",
};

Deno.test(
  "planDisk(): each partition holds what the tree has at its mount point, and no other does",
  pure,
  () => {
    const disk = plan(WHOLE);
    assert.deepEqual(
      disk.partitions.map(({ typeName, label, mountPoint }) => [typeName, label, mountPoint]),
      [
        ["esp", "esp", "/boot/efi"],
        ["xbootldr", "xbootldr", "/boot"],
        ["root-x86-64", "root-x86-64", "/"],
        ["home", "home", "/home"],
        ["srv", "srv", "/srv"],
        ["var", "var", "/var"],
        ["tmp", "tmp", "/var/tmp"],
        ["swap", "swap", ""],
      ],
    );
    const root = paths(disk, "30-root");
    for (const path of ["/home", "/srv", "/var", "/boot", "/efi"]) {
      assert.ok(root.includes(path), path);
      assert.deepEqual(root.filter((other) => other.startsWith(`${path}/`)), [], path);
    }
    assert.ok(root.includes("/opt/tool/bin"));
    assert.deepEqual(paths(disk, "40-home"), ["/user", "/user/notes"]);
    assert.deepEqual(paths(disk, "50-srv"), ["/www", "/www/index.html"]);
    assert.deepEqual(paths(disk, "60-var"), ["/lib", "/tmp", "/lib/dpkg", "/lib/dpkg/status"]);
    assert.deepEqual(paths(disk, "70-tmp"), ["/old"]);
    assert.ok(paths(disk, "10-esp").includes("/EFI/vendor/tool.efi"));
    assert.ok(paths(disk, "20-boot").includes("/vmlinuz-6.12.48"));
  },
);

Deno.test("planDisk(): fstab has a line only for what systemd does not mount by itself", pure, () => {
  const lines = (disk: DiskPlan) =>
    textIn(disk, "30-root", "/etc/fstab")!.trim().split("\n").map((line) =>
      line.split(" ").slice(1).join(" ")
    );
  assert.deepEqual(lines(plan(WHOLE)), [
    "none swap defaults 0 0",
    "/boot vfat umask=0077 0 2",
    "/home ext4 defaults 0 2",
    "/srv ext4 defaults 0 2",
    "/var ext4 defaults 0 2",
    "/boot/efi vfat umask=0077 0 2",
    "/var/tmp ext4 defaults 0 2",
  ]);
  const systemd = facts([...TREE, GENERATOR]);
  assert.deepEqual(lines(plan(WHOLE, {}, systemd)), [
    "/boot vfat umask=0077 0 2",
    "/var ext4 x-systemd.growfs 0 2",
    "/boot/efi vfat umask=0077 0 2",
  ]);
  const others = {
    ...WHOLE,
    "40-home": "Type=home;MountPoint=/home:nosuid",
    "50-srv": "Type=srv;NoAuto=yes",
    "85-data": "MountPoint=/opt/tool;Format=squashfs",
    "90-more": "Type=linux-generic;Format=ext4",
  };
  assert.deepEqual(lines(plan(others, {}, systemd)), [
    "/boot vfat umask=0077 0 2",
    "/home ext4 x-systemd.growfs,nosuid 0 2",
    "/var ext4 x-systemd.growfs 0 2",
    "/boot/efi vfat umask=0077 0 2",
    "/opt/tool squashfs ro 0 0",
  ]);
  // What the tree's fstab says of these mount points is about other disks.
  const old = facts(TREE, { fstab: "UUID=1 /home xfs defaults 0 2\nUUID=2 /data xfs nofail 0 2\n" });
  const kept = textIn(plan(WHOLE, {}, old), "30-root", "/etc/fstab")!;
  assert.doesNotMatch(kept, /UUID=1 /);
  assert.match(kept, /^UUID=2 \/data xfs nofail 0 2$/m);
  // But not what it asks for there.
  const hardened = facts([...TREE, GENERATOR], { fstab: "LABEL=home /home ext4 nodev,nosuid 0 2\n" });
  assert.deepEqual(lines(plan(WHOLE, {}, hardened)), [
    "/boot vfat umask=0077 0 2",
    "/home ext4 nodev,nosuid,x-systemd.growfs 0 2",
    "/var ext4 x-systemd.growfs 0 2",
    "/boot/efi vfat umask=0077 0 2",
  ]);
});

Deno.test("planDisk(): without XBOOTLDR, kernels and entries are on the ESP, which is /boot", pure, () => {
  const disk = plan({ a: "Type=esp", b: "Type=root" });
  assert.equal(disk.bootLoader?.name, "systemd-boot");
  const esp = paths(disk, "a");
  for (
    const path of ["/EFI/BOOT/BOOTX64.EFI", "/EFI/vendor/tool.efi", "/vmlinuz-6.12.48", "/initrd.img-6.12.48"]
  ) assert.ok(esp.includes(path), path);
  assert.ok(esp.includes("/loader/entries/debian-6.12.48.conf"));
  assert.ok(!esp.some((path) => path.startsWith("/efi")));
  assert.match(textIn(disk, "b", "/etc/fstab")!, /^UUID=\S+ \/boot vfat umask=0077 0 2\n$/);
  assert.deepEqual(paths(disk, "b").filter((path) => path.startsWith("/boot")), ["/boot"]);
});

Deno.test(
  "planDisk(): without an ESP, or with one that has files of its own, there is no boot loader",
  pure,
  () => {
    const container = plan({ a: "Type=root" });
    assert.equal(container.bootLoader, undefined);
    assert.ok(paths(container, "a").includes("/boot/vmlinuz-6.12.48"));
    assert.deepEqual(container.findings.filter(({ name }) => name === "no-boot"), []);
    const own = plan({
      a: "Type=esp;CopyFiles=/boot/efi:/;CopyFiles=/boot/vmlinuz-6.12.48:/linux",
      b: "Type=root",
    });
    assert.equal(own.bootLoader, undefined);
    assert.deepEqual(paths(own, "a"), ["/EFI", "/linux", "/EFI/vendor", "/EFI/vendor/tool.efi"]);
  },
);

Deno.test("planDisk(): CopyFiles= and the like say what is in a filesystem", pure, () => {
  const disk = plan({
    "a": "Type=root;CopyFiles=/;ExcludeFiles=/opt/tool/bin /srv/;ExcludeFilesTarget=/usr/sbin/init",
    "b":
      "Type=home;CopyFiles=/opt:/;CopyFiles=/srv:/x/y;CopyFiles=/missing:/m;MakeDirectories=/p/q;MakeSymlinks=/l:../t",
    "c": "CopyFiles=/boot:/;CopyFiles=/home:/;Format=vfat",
    "d": "Type=root;CopyFiles=/",
    "e": "Format=ext4",
    "f": "",
  });
  const root = paths(disk, "a");
  assert.ok(root.includes("/opt/tool") && !root.includes("/opt/tool/bin"));
  assert.ok(root.includes("/srv") && !root.includes("/srv/www"));
  assert.ok(root.includes("/usr/sbin") && !root.includes("/usr/sbin/init"));
  // Of the running system, and of another partition.
  assert.ok(root.includes("/proc") && !root.includes("/proc/leftover"));
  assert.ok(root.includes("/home") && !root.includes("/home/user"));
  // It is the whole system, and gets what that needs.
  assert.ok(textIn(disk, "a", "/etc/fstab"));
  assert.deepEqual(paths(disk, "b"), [
    "/l",
    "/p",
    "/tool",
    "/x",
    "/p/q",
    "/tool/bin",
    "/x/y",
    "/x/y/www",
    "/x/y/www/index.html",
  ]);
  assert.ok(["/user", "/vmlinuz-6.12.48", "/user/notes"].every((path) => paths(disk, "c").includes(path)));
  // A second root is for the same place, and holds nothing of the other partitions, but it is none of the system.
  const second = paths(disk, "d");
  assert.ok(second.includes("/opt/tool/bin") && !second.includes("/home/user"));
  assert.equal(textIn(disk, "d", "/etc/fstab"), undefined);
  assert.deepEqual(paths(disk, "e"), []);
  assert.deepEqual(disk.partitions.slice(-2).map(({ filesystem }) => filesystem.type), ["ext4", "empty"]);
  assert.deepEqual(
    disk.findings.filter(({ name }) => name === "copy-missing").map(({ message }) => message),
    ['layout/b.conf:5 takes nothing from "/missing"'],
  );
});

Deno.test("planDisk(): a DDI has what its definition says, and nothing else", pure, () => {
  const disk = plan({ a: "Type=root;Format=squashfs;CopyFiles=/usr;CopyFiles=/opt;Minimize=best" });
  assert.deepEqual(paths(disk, "a").filter((path) => path.split("/").length === 2), ["/opt", "/usr"]);
  assert.deepEqual(disk.partitions[0]!.contents.add, []);
});

Deno.test("planDisk(): labels, UUIDs and attributes are those of the definitions", pure, () => {
  const uuid = "01234567-89ab-cdef-0123-456789abcdef";
  const disk = plan({
    a: `Type=root;Label=system_%w;UUID=${uuid}`,
    b: "Type=root;Format=empty",
    c: "Type=root",
    d: "Type=root",
    e: "Type=home;ReadOnly=yes",
    f: "Type=srv;GrowFileSystem=no;Flags=0x4",
    g: "Type=swap;NoAuto=yes",
    h: "Type=8da63339-0007-60c0-c436-083ac8230908",
    i: "Type=usr-arm64;Format=ext4",
  });
  const { growfs, readOnly, noAuto } = GPT_ATTRIBUTES;
  assert.deepEqual(disk.partitions.map(({ label, attributes }) => [label, attributes]), [
    ["system_13", [growfs]],
    ["_empty", [growfs, noAuto]],
    ["root-x86-64", [growfs]],
    ["root-x86-64-2", [growfs]],
    ["home", [readOnly]],
    ["srv", [2]],
    ["swap", [noAuto]],
    ["linux", []],
    ["usr-arm64", [growfs]],
  ]);
  assert.equal(disk.partitions[0]!.uuid, uuid);
  assert.match(disk.kernelOptions, /^root=UUID=/);
  assert.equal(new Set(disk.partitions.map((each) => each.uuid)).size, 9);
  // The same seed gives the same, another layout or seed something else.
  const uuids = (seed: string, name: string) =>
    plan({ [name]: "Type=home" }, { SEED: seed }).partitions[0]!.uuid;
  assert.equal(uuids("a", "x"), uuids("a", "x"));
  assert.notEqual(uuids("a", "x"), uuids("b", "x"));
  assert.notEqual(uuids("a", "x"), uuids("a", "y"));
});

Deno.test("planDisk() shares FREE_MB or SIZE_MB out by weight", pure, () => {
  const sizes = (disk: DiskPlan) => disk.partitions.map(({ size }) => size / MiB);
  const definitions = {
    a: "Type=root;SizeMinBytes=200M;Weight=3000",
    b: "Type=home;Weight=1000",
    c: "Type=swap;SizeMinBytes=30M;SizeMaxBytes=30M",
  };
  const fixed = plan(definitions, { SIZE_MB: "1000" });
  assert.equal(fixed.size, 1000 * MiB);
  assert.deepEqual(sizes(fixed), [726, 242, 30]);
  const free = plan(definitions, { FREE_MB: "160" });
  assert.deepEqual(sizes(free), [200 + 120, 32 + 40, 30]);
  assert.equal(free.size, (320 + 72 + 30) * MiB + TABLE_SIZE);
  // systemd-growfs takes no smaller ext4; one that may not have this size does not grow.
  const small = plan({ a: "Type=home", b: "Type=srv;SizeMaxBytes=9M", c: "Type=tmp;GrowFileSystem=no" }, {
    FREE_MB: "0",
  });
  assert.deepEqual(small.partitions.map(({ size, attributes }) => [size / MiB, attributes]), [
    [32, [GPT_ATTRIBUTES.growfs]],
    [9, []],
    [10, []],
  ]);
  // What nobody may have is not in the image, unless SIZE_MB says so.
  const full = { a: "Type=root;SizeMinBytes=200M;SizeMaxBytes=200M" };
  assert.equal(plan(full).size, 200 * MiB + TABLE_SIZE);
  assert.equal(plan(full, { SIZE_MB: "300" }).size, 300 * MiB);
  // Padding is free space behind a partition.
  const padded = plan({ a: "Type=home;PaddingMinBytes=5M;SizeMaxBytes=10M", b: "Type=srv;SizeMaxBytes=10M" });
  assert.equal(padded.partitions[1]!.offset - padded.partitions[0]!.offset, 15 * MiB);
  // Partitions are as large as they must, to 4 KiB, and begin at whole MiB.
  const odd = plan({ a: "Type=swap;SizeMinBytes=100K;SizeMaxBytes=100K", b: "Type=swap;SizeMaxBytes=1M" });
  assert.deepEqual(odd.partitions.map(({ offset, size }) => [offset / MiB, size]), [[1, 102400], [2, MiB]]);
});

Deno.test("planDisk() names the partition that does not fit, and the size that would do", pure, () => {
  const tree = facts([...TREE, { path: "/home/user/large", size: 100 * MiB }]);
  const refusal = (definitions: Record<string, string>, env: Record<string, string> = {}): BuildError => {
    try {
      plan(definitions, env, tree);
    } catch (error) {
      assert.ok(error instanceof BuildError && error.kind === "usage", String(error));
      return error;
    }
    assert.fail("nothing was thrown");
  };
  const limited = refusal({ a: "Type=root", b: "Type=home;SizeMaxBytes=50M" });
  assert.match(
    limited.message,
    /^Cannot use layout\/b\.conf:3: its contents need \d+ MiB, more than SizeMaxBytes=/,
  );
  const [, needed] = /^Set SizeMaxBytes= to (\d+)M or more/.exec(limited.hint!)!;
  plan({ a: "Type=root", b: `Type=home;SizeMaxBytes=${needed}M` }, {}, tree);
  const less = refusal({ a: "Type=root", b: `Type=home;SizeMaxBytes=${Number(needed) - 1}M` });
  assert.equal(less.hint, limited.hint);
  const definitions = { a: "Type=root;SizeMinBytes=50M", b: "Type=home", c: "Type=srv" };
  const disk = refusal(definitions, { SIZE_MB: "80" });
  assert.match(disk.message, /^Cannot fit the partition of layout\/b\.conf \(\d+ MiB\) into SIZE_MB=80$/);
  const [, size] = /^Set SIZE_MB to (\d+) or more/.exec(disk.hint!)!;
  assert.equal(plan(definitions, { SIZE_MB: size! }, tree).size, Number(size) * MiB);
  refusal(definitions, { SIZE_MB: String(Number(size) - 1) });
});

Deno.test(
  "planDisk() plans verity of /usr: partitions by the root hash, and what the initrd needs",
  pure,
  () => {
    const definitions = {
      "10-esp": "Type=esp",
      "20-root": "Type=root",
      "30-usr": "Type=usr;Format=erofs;Verity=data;VerityMatchKey=usr;Minimize=best",
      "40-hash": "Type=usr-verity;Verity=hash;VerityMatchKey=usr;Minimize=best",
      "50-sig": "Type=usr-verity-sig;Verity=signature;VerityMatchKey=usr",
    };
    const hash = "0123456789abcdeffedcba98765432100011223344556677aabbccddeeff8899";
    assert.throws(() => plan(definitions), /Cannot sign the root hash without a key/);
    const settings = { ...settingsOf(SIGNING), layout: layoutOf(definitions) };
    const first = planDisk(settings, facts());
    assert.equal(first.partitions[2]!.filesystem.estimate, true);
    assert.match(first.kernelOptions, /usrhash=UNKNOWN/);
    const disk = planDisk(settings, facts(), {
      "30-usr": {
        path: "/scratch/usr",
        size: 5 * MiB + 4096,
        verity: {
          rootHash: hash,
          hashes: { path: "/scratch/hashes", size: 8192 },
          signature: { path: "/scratch/signature", size: 700 },
        },
      },
    });
    assert.deepEqual(disk.partitions.slice(2).map(({ size, uuid, attributes }) => [size, uuid, attributes]), [
      [5 * MiB + 4096, "01234567-89ab-cdef-fedc-ba9876543210", [60]],
      [8192, "00112233-4455-6677-aabb-ccddeeff8899", [60]],
      [16384, disk.partitions[4]!.uuid, [60]],
    ]);
    assert.ok(
      disk.kernelOptions.includes(
        `mount.usr=/dev/mapper/usr mount.usrfstype=erofs mount.usrflags=ro usrhash=${hash}`,
      ),
      disk.kernelOptions,
    );
    assert.match(disk.kernelOptions, /^root=UUID=\S+ rw /);
    assert.doesNotMatch(textIn(disk, "20-root", "/etc/fstab")!, / \/usr /);
    assert.ok(paths(disk, "30-usr").includes("/sbin/init"));
    assert.deepEqual(paths(disk, "20-root").filter((path) => path.startsWith("/usr")), ["/usr"]);
  },
);

Deno.test("planDisk() takes the definitions of the tree only when it is asked", pure, () => {
  const repart = { "50-root.conf": "[Partition]\nType=root\nLabel=own\n" };
  const tree = facts(TREE, { repart });
  assert.equal(planDisk(settingsOf(), tree).partitions.length, 3);
  const { partitions } = planDisk(settingsOf({ LAYOUT: "tree" }), tree);
  assert.deepEqual(partitions.map(({ label }) => label), ["own"]);
  assert.throws(
    () => planDisk(settingsOf({ LAYOUT: "tree" }), facts()),
    /the tree has no definitions in \/usr\/lib\/repart\.d/,
  );
  const wrong = facts(TREE, { repart: { "a.conf": "[Partition]\nTypo=1\n" } });
  assert.throws(
    () => planDisk(settingsOf({ LAYOUT: "tree" }), wrong),
    /\/usr\/lib\/repart\.d\/a\.conf:2: "Typo"/,
  );
});

Deno.test(
  "planDisk() puts GRUB for BIOS into the partition for it, with the number of XBOOTLDR",
  pure,
  () => {
    const grub = ["kernel.img", "boot.img", "moddep.lst"].map((name) => ({
      path: `/usr/lib/grub/i386-pc/${name}`,
      size: 9,
    }));
    const tree = facts([...TREE, ...grub]);
    const { partitions } = plan(
      {
        a: "Type=21686148-6449-6e6f-744e-656564454649;SizeMinBytes=1M;SizeMaxBytes=1M",
        b: "Type=esp",
        c: "Type=root",
        d: "Type=xbootldr",
      },
      { FIRMWARE: "hybrid" },
      tree,
    );
    assert.equal(partitions[0]!.filesystem.type, "grub");
    assert.equal((partitions[0]!.filesystem.writer as { bootPartition: number }).bootPartition, 4);
  },
);

Deno.test("planDisk() tells systemd-repart of the image what it may do with the partitions", pure, () => {
  const tools = ["systemd-repart", "systemd-growfs"].map((name) => ({
    path: name === "systemd-repart" ? "/usr/bin/systemd-repart" : `/usr/lib/systemd/${name}`,
    size: 5,
  }));
  const disk = plan(
    {
      "10-root": "Type=root;Weight=2",
      "20-srv": "Type=srv;Format=squashfs",
      "30-home": "Type=home;SizeMaxBytes=1G;CopyFiles=/home:/",
    },
    {},
    facts([...TREE, ...tools]),
  );
  const text = (name: string) =>
    textIn(disk, "10-root", `/etc/repart.d/${name}.conf`)!.split("\n").slice(1).join(" ");
  assert.equal(text("10-root"), `[Partition] Type=${disk.partitions[0]!.type} SizeMinBytes=4096 Weight=2 `);
  assert.equal(
    text("20-srv"),
    `[Partition] Type=${disk.partitions[1]!.type} SizeMinBytes=4096 Weight=0 PaddingWeight=1 `,
  );
  assert.equal(
    text("30-home"),
    `[Partition] Type=${
      disk.partitions[2]!.type
    } SizeMinBytes=4096 SizeMaxBytes=1073741824 PaddingMinBytes=1028096 `,
  );
});

Deno.test("the layouts in examples/ are what their comments say", () => {
  const read = (name: string, env: Record<string, string> = {}) => {
    const layout = parseLayout(new URL(`../../../../examples/layouts/${name}`, import.meta.url).pathname);
    return planDisk({ ...settingsOf(env), layout }, facts());
  };
  const server = read("server");
  assert.equal(server.bootLoader?.name, "systemd-boot");
  assert.deepEqual(server.partitions.map(({ mountPoint }) => mountPoint), [
    "/boot",
    "/",
    "/var",
    "",
    "/home",
  ]);
  const sysext = read("sysext", SIGNING);
  assert.deepEqual(sysext.partitions.map(({ filesystem }) => filesystem.type), [
    "squashfs",
    "verity",
    "signature",
  ]);
  assert.ok(paths(sysext, "10-root").every((path) => path.startsWith("/usr")));
});

Deno.test("planDisk() says that a kernel without an initrd mounts no /usr", pure, () => {
  const found = (initrds: string[], definitions: Record<string, string>) =>
    plan(definitions, {}, facts(TREE, { kernels: [kernel("6.12.48", { initrds })] })).findings
      .filter(({ message }) => message.includes("which would mount /usr"));
  const layout = { a: "Type=esp", b: "Type=root", c: "Type=usr" };
  assert.equal(found([], layout).length, 1);
  assert.equal(found(["/boot/initrd.img-6.12.48"], layout).length, 0);
  assert.equal(found([], { a: "Type=esp", b: "Type=root" }).length, 0);
});

Deno.test("planDisk() says when the root of a layout is full from the start", pure, () => {
  const full = (env: Record<string, string>) =>
    plan({ a: "Type=root;Weight=0", b: "Type=home" }, env).findings.filter(({ name }) => name === "full");
  assert.match(
    full({})[0]!.message,
    /^The filesystem of a for \/ has only [\d.]+ (?:[KM]i)?B of free space$/,
  );
  const { findings } = plan({ a: "Type=root", b: "Type=home" });
  assert.deepEqual(findings.filter(({ name }) => name === "full"), []);
});

Deno.test("planDisk(): GRUB and UKIs boot from a disk without XBOOTLDR, too", pure, () => {
  const layout = { a: "Type=esp", b: "Type=root" };
  const grub = { path: "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", size: 9 };
  const menu = plan(layout, { BOOTLOADER: "grub" }, facts([...TREE, grub]));
  assert.equal(menu.bootLoader?.name, "grub");
  const { uuid } = menu.partitions[0]!.filesystem;
  assert.match(uuid, /^[0-9A-F]{4}-[0-9A-F]{4}$/);
  assert.match(textIn(menu, "a", "/EFI/BOOT/grub.cfg")!, new RegExp(`^search\\.fs_uuid ${uuid} root\n`));
  assert.match(textIn(menu, "a", "/grub/grub.cfg")!, /^ {2}linux \/vmlinuz-6\.12\.48 root=UUID=/m);
  assert.ok(paths(menu, "a").includes("/vmlinuz-6.12.48"));
  const stub = { path: "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", size: 9 };
  const unified = plan(layout, { BOOTLOADER: "uki" }, facts([...TREE, stub]));
  assert.equal(unified.bootLoader?.name, "uki");
  const made = unified.partitions[0]!.contents.add.find(({ path }) => path === "/EFI/BOOT/BOOTX64.EFI");
  assert.equal(made?.type, "made");
});
