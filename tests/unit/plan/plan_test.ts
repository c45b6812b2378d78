import assert from "node:assert/strict";
import { type ArchitectureName, ARCHITECTURES } from "../../../lib/core/dps.ts";
import { BuildError } from "../../../lib/core/error.ts";
import { warningsOf } from "../../../lib/core/findings.ts";
import { GiB, MiB } from "../../../lib/core/units.ts";
import { entryPath, type Selection } from "../../../lib/filesystem/contents.ts";
import { TABLE_SIZE } from "../../../lib/image/gpt.ts";
import { type DiskPlan, type PartPlan, planDisk, planPart } from "../../../lib/plan/plan.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import { DEBIAN, factsOf, kernel, LOADER, NEWEST, settingsOf } from "../../lab/facts.ts";
import { growth } from "../../lab/helpers.ts";
import { planLayout } from "../../lab/layouts.ts";

const pure = { permissions: "none" } as const;

const disk = (env: Record<string, string> = {}, tree = factsOf()): DiskPlan =>
  planDisk(settingsOf(env), tree);
const part = (env: Record<string, string> = {}, tree = factsOf()): PartPlan =>
  planPart(settingsOf(env), tree);

const without = (...paths: string[]) => DEBIAN.filter(({ path }) => !paths.includes(path));

function paths(selection: Selection): string[] {
  return Array.from({ length: selection.count }, (_, entry) => entryPath(selection, entry)).slice(1);
}

/** What a plan writes into a file. */
function textIn(
  { contents }: { contents: DiskPlan["partitions"][number]["contents"] },
  path: string,
): string {
  const addition = contents.add.find((addition) => addition.path === path);
  assert(addition?.type === "file", `${path} is not written`);
  return addition.text;
}

function usage(fn: () => unknown): BuildError {
  try {
    fn();
  } catch (error) {
    assert(error instanceof BuildError, String(error));
    assert.equal(error.kind, "usage");
    return error;
  }
  assert.fail("nothing was thrown");
}

// Sizes ---------------------------------------------------------------------------------------------------

Deno.test.each([
  { name: "the defaults", env: {}, esp: 32, boot: 512 },
  { name: "EFI_MB", env: { EFI_MB: "64" }, esp: 64, boot: 512 },
  { name: "BOOT_MB", env: { BOOT_MB: "100" }, esp: 32, boot: 100 },
])("planDisk() gives ESP and XBOOTLDR the size that is asked for: $name", pure, ({ env, esp, boot }) => {
  const { partitions, size } = disk(env as Record<string, string>);
  assert.deepEqual(partitions.map((partition) => partition.size / MiB).slice(0, 2), [esp, boot]);
  assert.equal(size, partitions.reduce((sum, partition) => sum + partition.size, TABLE_SIZE));
});

for (const [name, plan] of [["planDisk", disk], ["planPart", part]] as const) {
  const beside = name === "planDisk" ? 32 + 512 : 0;

  Deno.test(`${name}() computes USED_MB so that FREE_MB is what df shows as available`, pure, () => {
    for (const free of [0, 1, 100, 512, 4096]) {
      const made = plan({ FREE_MB: String(free) });
      const { filesystem } = made.partitions.at(-1)!;
      assert(filesystem.free! >= free * MiB, `${filesystem.free} bytes for FREE_MB=${free}`);
      // Not a whole MiB more than is needed, apart from what a group of blocks takes for itself.
      assert(filesystem.free! < free * MiB + 4 * MiB, `${filesystem.free} bytes for FREE_MB=${free}`);
      assert.equal(made.size % MiB, 0);
    }
  });

  Deno.test(`${name}() adds USED_MB and FREE_MB to the other sizes`, pure, () => {
    const size = (env: Record<string, string>) => plan(env).size / MiB - beside;
    assert.equal(size({ USED_MB: "300", FREE_MB: "100" }), 400);
    assert.equal(size({ USED_MB: "3000", FREE_MB: "0" }), 3000);
    assert.equal(size({ USED_MB: "300" }), 812);
  });

  Deno.test(`${name}() makes the image exactly SIZE_MB, whatever else is set`, pure, () => {
    for (const size of [1000, 1001, 2047, 70_000]) {
      assert.equal(plan({ SIZE_MB: String(size) }).size, size * MiB);
      assert.equal(plan({ SIZE_MB: String(size), FREE_MB: "9999", USED_MB: "1" }).size, size * MiB);
    }
  });

  for (const variable of ["SIZE_MB", "USED_MB", ...name === "planDisk" ? ["EFI_MB", "BOOT_MB"] : []]) {
    Deno.test(`${name}() names the smallest ${variable}, which works, and one less does not`, pure, () => {
      const list = [
        ...DEBIAN,
        { path: "/boot/efi/EFI/tool.efi", size: 3 * MiB },
        { path: "/usr/share/large", size: 90 * MiB },
        ...Array.from({ length: 3000 }, (_, i) => ({ path: `/usr/share/many/${i}/file`, size: i })),
      ];
      const tree = factsOf(list, { kernels: [kernel("6.12.48")] });
      const error = usage(() => plan({ [variable]: "1" }, tree));
      assert.equal(error.message, `Cannot fit the files of the tree into ${variable}=1`);
      const [, smallest] = new RegExp(`^Set ${variable} to (\\d+) or more`).exec(error.hint!) ?? [];
      assert(smallest, error.hint);
      plan({ [variable]: smallest }, tree);
      for (const more of [1, 2, 3, 31, 32, 33, 128, 1024]) {
        plan({ [variable]: String(Number(smallest) + more) }, tree);
      }
      const again = usage(() => plan({ [variable]: String(Number(smallest) - 1) }, tree));
      assert.equal(again.hint, error.hint);
    });
  }

  Deno.test(`${name}() refuses a size beyond what the filesystem can have`, pure, () => {
    for (const variable of ["SIZE_MB", "USED_MB", "FREE_MB"]) {
      const error = usage(() => plan({ [variable]: "1073741824" }));
      assert.match(error.message, new RegExp(`ext4.*${variable}=1073741824`));
      assert.match(error.hint!, /^The maximum is /);
    }
  });

  Deno.test(
    `${name}() makes the largest image that a format can have, and refuses one more MiB`,
    pure,
    () => {
      assert.equal(plan({ OUTPUT_FORMAT: "vpc", SIZE_MB: "2088960" }).size, 2_088_960 * MiB);
      const error = usage(() => plan({ OUTPUT_FORMAT: "vpc", SIZE_MB: "2088961" }));
      assert.equal(
        error.message,
        "Cannot make an image of 2088961 MiB with OUTPUT_FORMAT=vpc: the largest has 2088960",
      );
    },
  );

  Deno.test(`${name}() says so when a file is larger than the filesystem can have`, pure, () => {
    const tree = factsOf([...DEBIAN, { path: "/sparse", size: 2 ** 50, data: [] }]);
    assert.throws(() => plan({}, tree), (error) => {
      assert(error instanceof BuildError, String(error));
      assert.match(error.message, /\/sparse/);
      return true;
    });
  });
}

Deno.test("planDisk() refuses an ESP that FAT cannot have", pure, () => {
  const error = usage(() => disk({ EFI_MB: "600000" }));
  assert.match(error.message, /vfat.*EFI_MB=600000/);
  assert.equal(error.hint, "The maximum is 512 GiB");
});

Deno.test("planDisk() makes a table that cannot overlap or leave the disk, whatever the sizes", pure, () => {
  for (const env of [{}, { EFI_MB: "33" }, { BOOT_MB: "51" }, { SIZE_MB: "1001" }, { FREE_MB: "0" }]) {
    const { partitions, size } = disk(env as Record<string, string>);
    let end = MiB;
    for (const partition of partitions) {
      assert.equal(partition.offset, end);
      assert.equal(partition.offset % MiB, 0);
      assert.equal(partition.size % MiB, 0);
      assert.equal(partition.size, partition.filesystem.size);
      end = partition.offset + partition.size;
    }
    assert.equal(end + MiB, size);
  }
});

// What goes where -----------------------------------------------------------------------------------------

Deno.test("planDisk() puts /boot on XBOOTLDR, /boot/efi on the ESP, and neither into root", pure, () => {
  const { partitions: [esp, boot, root] } = disk(
    {},
    factsOf([
      ...DEBIAN,
      { path: "/boot/efi/EFI/vendor/tool.efi", size: 5 },
      { path: "/boot/config-6.12.48", size: 7 },
    ], { kernels: [kernel("6.12.48")] }),
  );
  const inEsp = paths(esp!.selection), inBoot = paths(boot!.selection), inRoot = paths(root!.selection);
  assert(inEsp.includes("/EFI/vendor/tool.efi"));
  for (const path of ["/vmlinuz-6.12.48", "/initrd.img-6.12.48", "/config-6.12.48", "/efi"]) {
    assert(inBoot.includes(path), path);
  }
  assert(!inBoot.some((path) => path.startsWith("/efi/")));
  assert.deepEqual(inRoot.filter((path) => /^\/(boot|efi)/.test(path)), ["/boot", "/efi"]);
  assert(inRoot.includes("/usr/sbin/init"));
});

Deno.test.each<{ name: string; list: NodeInput[] }>([
  { name: "no /boot", list: [] },
  { name: "an empty /boot", list: [{ path: "/boot", type: "directory" }] },
  { name: "/boot as a file", list: [{ path: "/boot", size: 3 }] },
  { name: "/boot as a link to nothing", list: [{ path: "/boot", target: "/nowhere" }] },
  { name: "/boot as a link out of the tree", list: [{ path: "/boot", target: "../../../etc/passwd" }] },
  { name: "/boot as a circle", list: [{ path: "/boot", target: "boot" }] },
  { name: "/efi as a file", list: [{ path: "/efi", size: 1 }] },
  { name: "/efi as a link to /boot/efi", list: [{ path: "/efi", target: "boot/efi" }] },
])("planDisk() makes /boot and /efi empty directories of root: $name", pure, ({ list }) => {
  const { partitions: [, boot, root] } = disk({}, factsOf([{ path: "/usr/sbin/init" }, ...list]));
  const { selection } = root!;
  const inRoot = paths(selection);
  for (const path of ["/boot", "/efi"]) {
    const entry = inRoot.indexOf(path) + 1;
    assert(entry > 0, path);
    assert.equal(selection.childCount[entry], 0);
    const mode = selection.source[entry]! < 0
      ? selection.added[~selection.source[entry]!]!.mode
      : selection.nodes.mode[selection.source[entry]!]!;
    assert.equal(mode, 0o040755, path);
  }
  assert.deepEqual(paths(boot!.selection), ["/efi"]);
});

Deno.test("planDisk() takes /boot from where a link inside the tree points", pure, () => {
  const { partitions: [, boot] } = disk(
    {},
    factsOf([
      { path: "/boot", target: "../../usr/boot" },
      { path: "/usr/boot/vmlinuz-1", size: 9 },
    ], { kernels: [kernel("1", { image: "/usr/boot/vmlinuz-1", initrds: [] })] }),
  );
  assert(paths(boot!.selection).includes("/vmlinuz-1"));
});

Deno.test("planDisk() takes a directory of unified kernels on XBOOTLDR for the mount point", pure, () => {
  const { partitions: [, boot] } = disk({}, factsOf([...DEBIAN, { path: "/boot/EFI/Linux/a.efi", size: 5 }]));
  const found = paths(boot!.selection);
  assert(found.includes("/EFI/Linux/a.efi"));
  assert(!found.includes("/efi"));
});

Deno.test("planDisk() refuses large sectors for formats whose disks have small ones", pure, () => {
  for (const OUTPUT_FORMAT of ["vhdx", "gce", "ova", "vagrant"]) {
    const error = usage(() => disk({ OUTPUT_FORMAT, SECTOR_SIZE: "4096" }));
    assert.equal(error.message, `Cannot use SECTOR_SIZE=4096 with OUTPUT_FORMAT=${OUTPUT_FORMAT}`);
  }
  assert.equal(disk({ OUTPUT_FORMAT: "qcow2", SECTOR_SIZE: "4096", BOOTLOADER: "none" }).sectorSize, 4096);
});

Deno.test.each([{ place: "/boot" }, { place: "/efi" }, { place: "/boot/efi" }])(
  "planDisk() puts menu and kernels on an ESP at $place if there is no XBOOTLDR",
  pure,
  ({ place }) => {
    const { partitions: [esp, root] } = planLayout({
      a: `Type=esp;MountPoint=${place}`,
      b: "Type=root",
    });
    const found = paths(esp!.selection);
    for (
      const path of [
        "/EFI/BOOT/BOOTX64.EFI",
        "/loader/entries/debian-6.12.48.conf",
        "/vmlinuz-6.12.48",
        "/initrd.img-6.12.48",
      ]
    ) assert(found.includes(path), `${path} is not in ${found}`);
    // Where the ESP is no mount point for it, the tree's /boot stays where it is.
    assert.equal(paths(root!.selection).includes("/boot/vmlinuz-6.12.48"), place !== "/boot");
  },
);

Deno.test(
  "planDisk() makes a directory of a link at /boot/loader, and leaves out what is behind it",
  pure,
  () => {
    const list: NodeInput[] = [
      ...DEBIAN,
      { path: "/boot/loader", target: "loader.1" },
      { path: "/boot/loader.1/entries/ostree-1.conf", size: 5 },
    ];
    const found = paths(disk({}, factsOf(list, { kernels: [kernel("6.12.48")] })).partitions[1]!.selection);
    assert(found.includes("/loader/entries/debian-6.12.48.conf"), String(found));
    assert(!found.includes("/loader.1/entries/ostree-1.conf"));
  },
);

Deno.test("planDisk() refuses two directories that could both be the ESP", pure, () => {
  const two = [...DEBIAN, { path: "/boot/efi/EFI/a.efi" }, { path: "/efi/EFI/b.efi" }];
  assert.throws(() => disk({}, factsOf(two)), /Cannot tell which is the ESP: \/boot\/efi and \/efi/);
  const linked: NodeInput[] = [...DEBIAN, { path: "/boot/efi/EFI/a.efi" }, {
    path: "/efi",
    target: "boot/efi",
  }];
  assert(paths(disk({}, factsOf(linked)).partitions[0]!.selection).includes("/EFI/a.efi"));
});

Deno.test("planDisk() writes /etc/fstab with our partitions and the tree's other lines", pure, () => {
  const fstab = [
    "# UNCONFIGURED FSTAB FOR BASE SYSTEM",
    "# a comment",
    "UUID=1234 / ext4 defaults 0 1",
    "UUID=5678\t/boot/\text2\tdefaults 0 2",
    "UUID=9 /boot/efi vfat umask=0077 0 1",
    "UUID=9 /efi// vfat defaults 0 1",
    "tmpfs /tmp tmpfs nosuid 0 0",
    "UUID=7 /boot/other ext4 defaults 0 0",
    "",
  ].join("\n");
  const { partitions } = disk({}, factsOf(DEBIAN, { fstab, kernels: [kernel("6.12.48")] }));
  const [esp, boot, root] = partitions;
  assert.equal(
    textIn(root!, "/etc/fstab"),
    [
      "# a comment",
      "tmpfs /tmp tmpfs nosuid 0 0",
      `UUID=${boot!.filesystem.uuid} /boot vfat umask=0077 0 2`,
      `UUID=${esp!.filesystem.uuid} /boot/efi vfat umask=0077 0 2`,
      "",
    ].join("\n"),
  );
});

Deno.test("planDisk() says which options of / a kernel without an initrd does not know", pure, () => {
  const lost = (initrds: string[], env: Record<string, string> = {}) => {
    const kernels = [kernel("6.12.48", { initrds })];
    return disk(env, factsOf(DEBIAN, { fstab: "UUID=1 / ext4 noatime 0 1", kernels })).findings
      .filter(({ name }) => name === "root-options").length;
  };
  assert.equal(lost([]), 1);
  assert.equal(lost(["/boot/initrd.img-6.12.48"]), 0);
  assert.equal(lost([], { BOOTLOADER: "none" }), 0);
});

Deno.test("planDisk() refuses a kernel command line that kernels would cut off", pure, () => {
  const lengthOf = (kernelOptions: string) =>
    disk({}, factsOf(DEBIAN, { kernelOptions })).kernelOptions.length;
  const room = 2047 - lengthOf("x") + 1;
  assert.equal(lengthOf("x".repeat(room)), 2047);
  assert.throws(() => lengthOf("x".repeat(room + 1)), {
    message: "Cannot use a kernel command line of 2048 bytes: kernels cut it off after 2047",
  });
});

Deno.test("planDisk() completes the kernel command line, and keeps it for later kernels", pure, () => {
  const kernelOptions = "quiet root=UUID=1 console=ttyS0 ro rootfstype=btrfs rootflags=subvol=@ rw rootwait";
  const plan = disk({}, factsOf(DEBIAN, { kernelOptions, kernels: [kernel("6.12.48")] }));
  const [, boot, root] = plan.partitions;
  assert.equal(
    plan.kernelOptions,
    `root=UUID=${root!.filesystem.uuid} rw rootfstype=ext4 quiet console=ttyS0 rootwait`,
  );
  assert.equal(textIn(root!, "/etc/kernel/cmdline"), `${plan.kernelOptions}\n`);
  const entry = textIn(boot!, "/loader/entries/debian-6.12.48.conf");
  assert(entry.endsWith(`\noptions    ${plan.kernelOptions}\n`), entry);
  assert(!disk().partitions[2]!.contents.add.some(({ path }) => path === "/etc/kernel/cmdline"));
});

Deno.test("planDisk() leaves out boot entries of the tree, which name another disk", pure, () => {
  const list = [...DEBIAN, { path: "/boot/loader/entries/old.conf" }, { path: "/boot/loader/keys/x" }];
  const plan = disk({}, factsOf(list, { kernels: [kernel("6.12.48")] }));
  const found = paths(plan.partitions[1]!.selection);
  assert(!found.includes("/loader/entries/old.conf"));
  assert(found.includes("/loader/entries/debian-6.12.48.conf"));
  assert(found.includes("/loader/keys/x"));
  assert(plan.findings.some(({ name, path }) => name === "boot-entries" && path === "/boot/loader/entries"));
  // Without a loader nothing replaces them.
  const none = disk({ BOOTLOADER: "none" }, factsOf(list, { kernels: [kernel("6.12.48")] }));
  assert(paths(none.partitions[1]!.selection).includes("/loader/entries/old.conf"));
});

// Architecture, identity, time ----------------------------------------------------------------------------

for (const architecture of Object.keys(ARCHITECTURES) as ArchitectureName[]) {
  Deno.test(`planDisk() gives a root of ${architecture} its partition type`, pure, () => {
    const plan = disk({}, factsOf([{ path: "/usr/sbin/init" }], { architecture }));
    assert.equal(plan.architecture, architecture);
    assert.equal(plan.partitions[2]!.type, ARCHITECTURES[architecture].root);
    assert.deepEqual(plan.partitions.map(({ attributes }) => attributes), [[], [], [59]]);
  });
}

Deno.test(
  "planDisk() takes the architecture of a kernel when no program is known, and refuses neither",
  pure,
  () => {
    const { architecture: _, ...facts } = factsOf();
    const arm = kernel("6.12.48", { architecture: "arm64" });
    assert.equal(disk({}, { ...facts, kernels: [arm] }).architecture, "arm64");
    assert.throws(() => disk({}, { ...facts, kernels: [] }), /Cannot find the architecture of "\/input"/);
    // A single filesystem has no partition type.
    assert.equal(part({}, { ...facts, kernels: [] }).partitions[0].filesystem.type, "ext4");
  },
);

/** All identities of a disk. */
function identities({ id, partitions }: DiskPlan): string[] {
  return [id, ...partitions.flatMap(({ uuid, filesystem }) => [uuid, filesystem.uuid])];
}

Deno.test("planDisk() derives all identities from the seed, each another", pure, () => {
  const one = identities(disk());
  assert.equal(new Set(one).size, 7);
  assert.deepEqual(identities(disk()), one);
  // The layout may change, the identity stays: an image of a new size is still that image.
  assert.deepEqual(identities(disk({ SIZE_MB: "3000", OUTPUT_FORMAT: "qcow2" })), one);
  const others = [
    disk({ SEED: "x" }),
    disk({}, factsOf(DEBIAN, { osRelease: { ID: "debian", VERSION_ID: "14" } })),
    disk({}, factsOf(DEBIAN, { architecture: "arm64" })),
  ].map(identities);
  for (const other of others) assert.equal(new Set([...one, ...other]).size, 14);
  assert.notEqual(part().partitions[0].filesystem.uuid, disk().partitions[2]!.filesystem.uuid);
});

Deno.test("planDisk() and planPart() date what they make by the newest file, or as asked", pure, () => {
  assert.equal(disk().time, NEWEST);
  assert.equal(disk({ SOURCE_DATE_EPOCH: "0" }).time, 0);
  assert.equal(part({ SOURCE_DATE_EPOCH: "1234567890" }).time, 1_234_567_890);
});

// The boot loader -----------------------------------------------------------------------------------------

Deno.test("planDisk() warns of what is missing for a machine, unless that is wanted", pure, () => {
  const bare = factsOf(without(LOADER), { kernels: [] });
  const plan = disk({}, bare);
  assert.equal(plan.bootLoader, undefined);
  const [found] = warningsOf(plan.findings);
  assert.equal(found!.name, "no-boot");
  assert.match(found!.message, /only as a container: the tree has no kernel .* and no boot loader for UEFI$/);
  assert.match(found!.hint, /^Add a boot loader to the tree: systemd-boot, .*set BOOTLOADER=none$/);
  assert.deepEqual(warningsOf(disk({ BOOTLOADER: "none" }, bare).findings), []);
});

Deno.test("planDisk() warns of a kernel that is missing though there is a loader", pure, () => {
  const plan = disk({}, factsOf(DEBIAN, { kernels: [] }));
  assert.equal(plan.bootLoader?.name, "systemd-boot");
  assert.match(
    warningsOf(plan.findings)[0]!.message,
    /the tree has no kernel in \/boot, on the ESP or in \/usr\/lib\/modules$/,
  );
});

Deno.test("planDisk() refuses a boot loader that is asked for and missing", pure, () => {
  const error = usage(() => disk({ BOOTLOADER: "systemd-boot" }, factsOf(without(LOADER))));
  assert.match(error.message, /^Cannot install BOOTLOADER=systemd-boot: no \/usr\/lib\/systemd\/boot\/efi/);
});

Deno.test("planDisk() names in each boot entry files that are on the partition", pure, () => {
  const list: NodeInput[] = [
    ...DEBIAN,
    { path: "/usr/lib/modules/6.1.0/vmlinuz", size: 9 },
    { path: "/boot/efi/linux/vmlinuz-5", size: 9 },
    { path: "/boot/token/6.6/linux", size: 9 },
    { path: "/boot/token/6.6/initrd-1", size: 9 },
    { path: "/boot/token/6.6/initrd-2", size: 9 },
  ];
  const kernels = [
    kernel("6.12.48"),
    kernel("6.6", {
      image: "/boot/token/6.6/linux",
      initrds: ["/boot/token/6.6/initrd-1", "/boot/token/6.6/initrd-2"],
    }),
    kernel("6.1.0", { image: "/usr/lib/modules/6.1.0/vmlinuz", initrds: [] }),
    kernel("5", { image: "/boot/efi/linux/vmlinuz-5", initrds: [] }),
  ];
  const { partitions: [, boot] } = disk({}, factsOf(list, { kernels }));
  const found = new Set(paths(boot!.selection));
  for (const { version } of kernels) {
    const entry = textIn(boot!, `/loader/entries/debian-${version}.conf`);
    const named = [...entry.matchAll(/^(?:linux|initrd) +(.*)$/gm)].map(([, path]) => path!);
    assert.equal(named.length, version === "6.6" ? 3 : version === "6.12.48" ? 2 : 1);
    for (const path of named) assert(found.has(path), `${path} of ${version}`);
  }
});

Deno.test(
  "planDisk() keeps what is not from the tree's leftovers, and planPart() everything of /boot",
  pure,
  () => {
    const plan = part({}, factsOf([...DEBIAN, { path: "/boot/efi/EFI/x.efi", size: 1 }]));
    const found = paths(plan.partitions[0].selection);
    for (const { path } of DEBIAN) assert(found.includes(path), path);
    assert(found.includes("/boot/efi/EFI/x.efi"));
    assert.deepEqual(plan.leftovers, []);
    assert.deepEqual(warningsOf(plan.findings), []);
  },
);

Deno.test("planDisk() plans a tree of 100,000 levels, and FAT refuses it by name", pure, () => {
  const deep = { path: `/var/${"a/".repeat(100_000)}end` };
  assert.equal(disk({}, factsOf([...DEBIAN, deep])).partitions[2]!.selection.count > 100_000, true);
  const boot = { path: `/boot/${"a/".repeat(3_000)}end` };
  assert.throws(() => disk({}, factsOf([...DEBIAN, boot])), /Cannot put ".*more than 4095 bytes/);
});

Deno.test("planDisk() takes about four times as long for four times as many files in /boot", pure, () => {
  const factor = growth(5000, (files) => {
    const many = Array.from({ length: files }, (_, i) => ({ path: `/boot/d${i % 100}/f${i}`, size: 1 }));
    const error = usage(() => disk({ BOOT_MB: "1" }, factsOf([...DEBIAN, ...many])));
    assert.match(error.hint!, /^Set BOOT_MB to \d+ or more$/);
  });
  assert(factor < 10, String(factor));
});

Deno.test("planPart() takes up to 16 TiB", pure, () => {
  assert.equal(part({ SIZE_MB: String(4 * GiB / MiB * 1024) }).size, 4 * GiB * 1024);
});

Deno.test("planDisk() names no files of SPLIT_DIR after an output that SHA256SUMS cannot list", pure, () => {
  const settings = settingsOf({ SPLIT_DIR: "updates" });
  const error = usage(() => planDisk({ ...settings, outputName: "a\nb.img" }, factsOf()));
  assert.match(error.message, /^Cannot name the files of SPLIT_DIR after "a\\nb\.img": it has control char/);
});
