import assert from "node:assert/strict";
import { warningsOf } from "../../../lib/core/findings.ts";
import { planDisk } from "../../../lib/plan/plan.ts";
import type { Kernel } from "../../../lib/tree/kernels.ts";
import { layoutOf } from "../../lab/layouts.ts";
import { DEBIAN, factsOf, kernel, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

/** The plan for a tree with these kernels. */
function plan(kernels: readonly Kernel[], env: Readonly<Record<string, string>> = {}, ID = "debian") {
  const grub = ["kernel.img", "boot.img", "moddep.lst"].map((name) => ({
    path: `/usr/lib/grub/i386-pc/${name}`,
    size: 1,
  }));
  return planDisk(settingsOf(env), factsOf([...DEBIAN, ...grub], { kernels, osRelease: { ID } }));
}

/** What the plan warns of: name and message. */
function warned({ findings }: ReturnType<typeof plan>): string[] {
  return warningsOf(findings).map(({ name, message }) => `${name}: ${message}`);
}

/** The texts that the plan adds to XBOOTLDR, by path. */
function texts({ partitions }: ReturnType<typeof plan>): Map<string, string> {
  const { contents } = partitions.find(({ role }) => role === "xbootldr")!;
  return new Map(contents.add.flatMap((each) => each.type === "file" ? [[each.path, each.text]] : []));
}

const bare = (version: string, builtin?: readonly string[]) =>
  kernel(version, {
    initrds: [],
    modules: { path: `/usr/lib/modules/${version}`, ...builtin && { builtin } },
  });

Deno.test("planDisk() has nothing to say of a kernel with its modules and its initrd", pure, () => {
  assert.deepEqual(warned(plan([kernel("6.12.48")])), []);
});

Deno.test.each<{ ID: string; remedy: RegExp }>([
  {
    ID: "debian",
    remedy: /^Install initramfs-tools into the tree, and run "update-initramfs -c -k all" there$/,
  },
  { ID: "arch", remedy: /^Install mkinitcpio into the tree, and run "mkinitcpio -P"/ },
  { ID: "alpine", remedy: /^Install mkinitfs / },
  { ID: "fedora", remedy: /^Install dracut / },
  { ID: "opensuse-tumbleweed", remedy: /^Install dracut / },
  { ID: "unknown", remedy: /^Install dracut or what the distribution has/ },
])("planDisk() names what makes the initrd that is missing: $ID", pure, ({ ID, remedy }) => {
  const made = plan([bare("6.12.48", ["ext4"])], {}, ID);
  const [warning, ...others] = warned(made);
  assert.deepEqual(others, []);
  assert.match(
    warning!,
    /^initrd-missing: The kernel 6.12.48 \("\/boot\/vmlinuz-6.12.48"\) has no initrd and does not boot/,
  );
  assert.match(warningsOf(made.findings)[0]!.hint, remedy);
});

Deno.test("planDisk() tells from what a kernel without an initrd boots", pure, () => {
  const warnings = (builtin?: readonly string[], env = {}) => warned(plan([bare("6.12.48", builtin)], env));
  assert.match(
    warnings(["ext4", "nvme"])[0]!,
    /boots from NVMe disks only: other drivers of disks \(virtio_blk, /,
  );
  assert.match(
    warnings(["nvme"])[0]!,
    /does not boot: its driver of ext4, the root's filesystem, is a module/,
  );
  assert.match(warnings(["ext4", "nvme"], { FILESYSTEM: "erofs" })[0]!, /its driver of erofs/);
  // A tree that does not say what is built in, and one that need not boot.
  assert.deepEqual(warnings(), []);
  assert.deepEqual(warnings(["nvme"], { BOOTLOADER: "none" }), []);
});

Deno.test("planDisk() warns of a kernel without its modules, unless it is one that has none", pure, () => {
  const { modules: _, ...without } = kernel("6.12.48");
  assert.match(
    warned(plan([without]))[0]!,
    /^kernel-modules: The kernel 6.12.48 .* has no modules in \/usr\/lib\/modules\/6.12.48$/,
  );
  assert.deepEqual(warned(plan([{ ...without, image: "/boot/bzImage" }])), []);
  assert.match(
    warned(plan([{ ...without, image: "/boot/bzImage" }, kernel("6.1")]))[0]!,
    /has no modules in \/usr\/lib\/modules\/6.12.48/,
  );
});

Deno.test("planDisk() warns of a UKI with another root built in", pure, () => {
  const uki = (options: string) => kernel("6.12.48", { initrds: [], unified: { options } });
  const { kernelOptions } = plan([kernel("6.12.48")]);
  for (
    const options of [
      "",
      "quiet",
      "root=gpt-auto",
      kernelOptions,
      kernelOptions.toUpperCase().replace("ROOT=", "root="),
    ]
  ) {
    assert.deepEqual(warned(plan([uki(options)])), [], options);
  }
  assert.match(
    warned(plan([uki("rw root=UUID=\u001b1 quiet")]))[0]!,
    /has "root=UUID=\\u001b1" built in, which is not this image's root/,
  );
});

Deno.test(
  "planDisk() gives each kernel the root that it can find, and sorts those without an initrd last",
  pure,
  () => {
    const made = plan([kernel("6.1"), bare("6.12")]);
    const [, , root] = made.partitions;
    const entries = texts(made);
    assert.match(
      entries.get("/loader/entries/debian-6.1.conf")!,
      new RegExp(`^options +root=UUID=${root!.filesystem.uuid} rw`, "m"),
    );
    assert.match(entries.get("/loader/entries/debian-6.1.conf")!, /^sort-key +debian$/m);
    assert.match(
      entries.get("/loader/entries/debian-6.12.conf")!,
      new RegExp(`^options +root=PARTUUID=${root!.uuid} rw`, "m"),
    );
    assert.match(entries.get("/loader/entries/debian-6.12.conf")!, /^sort-key +debian-fallback$/m);
    // None has one: the newest is the default.
    assert.match(texts(plan([bare("6.12")])).get("/loader/entries/debian-6.12.conf")!, /^sort-key +debian$/m);
  },
);

Deno.test("planDisk() names no entry so that systemd-boot counts boots with it", pure, () => {
  const names = [
    ...texts(plan([kernel("6.1+3"), kernel("6.1+3-2"), kernel("6.1+deb13"), kernel("6.1-rc2+")])).keys(),
  ];
  assert.deepEqual(names.filter((name) => name.endsWith(".conf")), [
    "/loader/entries/debian-6.1_3.conf",
    "/loader/entries/debian-6.1_3-2.conf",
    "/loader/entries/debian-6.1+deb13.conf",
    "/loader/entries/debian-6.1-rc2+.conf",
  ]);
});

Deno.test("planDisk() takes for a firmware what it can start, and says what it leaves out", pure, () => {
  const nostub = kernel("6.12.48", { biosOnly: true });
  const uki = kernel("6.1", { image: "/boot/EFI/Linux/a.efi", initrds: [], unified: { options: "" } });
  const bios = plan([nostub, uki], { FIRMWARE: "bios" });
  assert.match(texts(bios).get("/grub/grub.cfg")!, /linux \/vmlinuz-6.12.48 root=UUID=/);
  assert.deepEqual(warned(bios), [
    'kernel-firmware: Leaving out "/boot/EFI/Linux/a.efi": it is a UKI, which BIOS cannot start',
  ]);
  const hybrid = plan([nostub, kernel("6.1")], { FIRMWARE: "hybrid" });
  assert.match(texts(hybrid).get("/grub/grub.cfg")!, /6.12.48/);
  assert(!texts(hybrid).has("/loader/entries/debian-6.12.48.conf"));
  assert.deepEqual(warned(hybrid), [
    'kernel-firmware: Leaving out "/boot/vmlinuz-6.12.48" for UEFI: it has no EFI stub, so only BIOS starts it',
  ]);
});

Deno.test("planDisk() says so when BIOS cannot start any of the kernels that UEFI starts", pure, () => {
  const uki = kernel("6.1", { image: "/boot/EFI/Linux/a.efi", initrds: [], unified: { options: "" } });
  const left =
    'kernel-firmware: Leaving out "/boot/EFI/Linux/a.efi" for BIOS: it is a UKI, which BIOS cannot start';
  assert.deepEqual(warned(plan([uki], { FIRMWARE: "hybrid" })), [
    left,
    "no-boot: The image will boot only through UEFI: the tree has no kernel for BIOS",
  ]);
  assert.deepEqual(warned(plan([uki, kernel("5.10")], { FIRMWARE: "hybrid" })), [left]);
  assert.deepEqual(warned(plan([uki])), []);
});

Deno.test("planDisk() says so when only one of two firmwares can start the tree's kernels", pure, () => {
  const nostub = kernel("6.12.48", { biosOnly: true });
  const only = plan([nostub], { FIRMWARE: "hybrid" });
  assert.match(
    warned(only)[1]!,
    /^no-boot: The image will boot only through BIOS: the tree has no kernel for UEFI/,
  );
  assert.match(only.kernelOptions, /^root=UUID=/);
  const none = plan([nostub]);
  assert.match(
    warned(none)[1]!,
    /^no-boot: The image will boot only as a container: the tree has no kernel for UEFI/,
  );
  assert.deepEqual(warned(plan([nostub], { BOOTLOADER: "none" })), []);
});

Deno.test("planDisk() unpacks a gzip'd kernel in its place", pure, () => {
  const image = "/boot/vmlinuz-6.12.48";
  const made = plan([kernel("6.12.48", { unpackedSize: 30_000_000 })]);
  const { contents, filesystem } = made.partitions[1]!;
  assert.deepEqual(contents.add.filter(({ path }) => path === "/vmlinuz-6.12.48"), [
    { path: "/vmlinuz-6.12.48", type: "made", recipe: { type: "gunzip", from: image, size: 30_000_000 } },
  ]);
  assert(filesystem.bytes > 70_000_000, String(filesystem.bytes));
});

Deno.test("planDisk() tells what an initrd lacks for a read-only root and for dm-verity", pure, () => {
  const lacks = (files: readonly string[] | undefined, env: Readonly<Record<string, string>>) => {
    const kernels = [
      kernel("6.12.48", { modules: { path: "/usr/lib/modules/6.12.48", builtin: ["erofs"] } }),
    ];
    const asked: string[] = [];
    const tree = factsOf(DEBIAN, {
      kernels,
      initrdFiles: (initrd) => {
        asked.push(initrd);
        return files;
      },
    });
    const { findings } = planDisk(settingsOf(env), tree);
    return {
      asked,
      lacks: warningsOf(findings).flatMap(({ name, message }) =>
        name === "initrd-lacks" ? [/does not boot: its initrd ".*" lacks (.*)$/.exec(message)![1]] : []
      ),
    };
  };
  const squashfs = { FILESYSTEM: "squashfs" };
  const module = (name: string) => `usr/lib/modules/6.12.48/kernel/${name}`;
  assert.deepEqual(lacks([], squashfs), { asked: ["/boot/initrd.img-6.12.48"], lacks: ["squashfs"] });
  for (const suffix of ["", ".xz", ".zst", ".gz"]) {
    assert.deepEqual(lacks([module(`fs/squashfs/squashfs.ko${suffix}`)], squashfs).lacks, []);
  }
  // Of another name, a directory, and one that is built in; an initrd that cannot be read.
  assert.deepEqual(lacks([module("fs/squashfs"), module("fs/not-squashfs.ko")], squashfs).lacks, [
    "squashfs",
  ]);
  assert.deepEqual(lacks([], { FILESYSTEM: "erofs" }).lacks, []);
  assert.deepEqual(lacks(undefined, squashfs).lacks, []);
  // Nobody looks where it is not needed.
  assert.deepEqual(lacks([], {}), { asked: [], lacks: [] });

  const verity = { FILESYSTEM: "erofs", VERITY: "hash" };
  const driver = module("drivers/md/dm-verity.ko.xz");
  assert.deepEqual(lacks([], verity).lacks, ["dm_verity, systemd-veritysetup"]);
  assert.deepEqual(lacks([driver, "usr/lib/systemd/system/veritysetup.target"], verity).lacks, [
    "systemd-veritysetup",
  ]);
  for (
    const program of [
      "usr/lib/systemd/systemd-veritysetup",
      "usr/lib/systemd/system-generators/systemd-veritysetup-generator",
      "sbin/veritysetup",
    ]
  ) {
    assert.deepEqual(lacks([driver, program], verity).lacks, []);
  }
});

Deno.test("planDisk() tells what an initrd lacks for a /usr of its own", pure, () => {
  const kernels = [kernel("6.12.48", { modules: { path: "/usr/lib/modules/6.12.48", builtin: ["ext4"] } })];
  const tree = factsOf(DEBIAN, { kernels, initrdFiles: () => ["init"] });
  const warnings = (usr: string) => {
    const layout = layoutOf({ a: "Type=esp", b: "Type=root", c: `Type=usr;${usr}` });
    const { findings } = planDisk({ ...settingsOf(), layout }, tree);
    return warningsOf(findings).filter(({ name }) => name === "initrd-lacks").map(({ message }) => message);
  };
  assert.deepEqual(warnings(""), []);
  assert.match(warnings("Format=squashfs")[0]!, / lacks squashfs$/);
});

Deno.test("planDisk() tells that nothing opens dm-verity without an initrd", pure, () => {
  const made = plan([bare("6.12.48", ["erofs", "nvme"])], { FILESYSTEM: "erofs", VERITY: "hash" });
  assert.match(warned(made)[0]!, /has no initrd and does not boot: only an initrd opens what dm-verity/);
});
