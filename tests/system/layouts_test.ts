/**
 * Layouts: what our own planner and the real systemd-repart make of the same definitions, and what systemd makes of our
 * images.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BuildError } from "../../lib/core/error.ts";
import { GPT_ATTRIBUTES } from "../../lib/core/dps.ts";
import { MiB } from "../../lib/core/units.ts";
import { parseTable, type TableEntry } from "../../lib/image/gpt.ts";
import { planDisk } from "../../lib/plan/plan.ts";
import { inspectTree, type Tree } from "../../lib/tree/inspect.ts";
import { closeRoot } from "../../lib/tree/root.ts";
import { settingsOf } from "../lab/facts.ts";
import { build } from "../lab/builds.ts";
import { bootQemu, dissect, mountLoop, newerSystemdTree, nspawn, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { makeKey } from "../lab/keys.ts";
import { layoutOf } from "../lab/layouts.ts";
import { repartCommand, repartDryRun, repartPartitions, repartTree, writeLayout } from "../lab/repart.ts";
import { addToReport, copyTree, debianTree, tinyTree } from "../lab/trees.ts";

const ignore = unprivileged() || missing("mmdebstrap", "sfdisk", "mke2fs", "mkfs.vfat", "mksquashfs");

/** Where an answer of ours is another one on purpose: see docs/layouts.md. */
type Difference = "flags" | "all flags" | "sizes" | "refused";

interface Case {
  readonly definitions: Readonly<Record<string, string>>;
  /** MiB. Default: 1024. */
  readonly size?: number;
  readonly differs?: readonly Difference[];
}

const ESP = "Type=esp;Format=vfat;SizeMinBytes=64M;SizeMaxBytes=64M";

/** Definitions as people have them; those of other projects are written anew, with their keys. */
const CASES: Readonly<Record<string, Case>> = {
  "only a root": { definitions: { a: "Type=root" } },
  "root and swap": {
    definitions: { a: "Type=root", b: "Type=swap;SizeMinBytes=64M;SizeMaxBytes=128M;Weight=333" },
  },
  "all that systemd mounts": {
    definitions: {
      a: ESP,
      b: "Type=xbootldr;SizeMinBytes=100M;SizeMaxBytes=100M",
      c: "Type=root",
      d: "Type=usr",
      e: "Type=home",
      f: "Type=srv",
      g: "Type=var",
      h: "Type=tmp",
      i: "Type=swap",
    },
  },
  "weights": {
    definitions: {
      a: "Type=root;Weight=3000",
      b: "Type=home;Weight=1000",
      c: "Type=srv;Weight=1;Format=ext4",
    },
  },
  "no weight": { definitions: { a: "Type=root;Weight=0;SizeMinBytes=300M", b: "Type=home" } },
  "no weights at all": {
    definitions: { a: "Type=root;Weight=0;Format=ext4", b: "Type=home;Weight=0;Format=ext4" },
  },
  "a minimum above the share": {
    definitions: { a: "Type=root;SizeMinBytes=700M", b: "Type=home", c: "Type=srv" },
  },
  "a maximum below the share": {
    definitions: { a: "Type=root;SizeMaxBytes=50M", b: "Type=home", c: "Type=srv" },
  },
  "minima and maxima": {
    definitions: {
      a: "Type=root;SizeMinBytes=400M;SizeMaxBytes=600M;Weight=100",
      b: "Type=home;SizeMaxBytes=100M",
      c: "Type=srv;SizeMinBytes=300M;Weight=5000",
      d: "Type=var",
    },
  },
  "everything fixed": {
    definitions: { a: "Type=root;SizeMinBytes=200M;SizeMaxBytes=200M", b: "Type=home;SizeMaxBytes=100M" },
  },
  "padding by weight": { definitions: { a: "Type=root;PaddingWeight=1000", b: "Type=home" } },
  "padding within limits": {
    definitions: {
      a: "Type=root;PaddingMinBytes=50M;PaddingMaxBytes=70M;PaddingWeight=500",
      b: "Type=home;PaddingMinBytes=100M",
      c: "Type=srv",
    },
  },
  "a small disk": { definitions: { a: "Type=root", b: "Type=home" }, size: 96 },
  "a large disk": {
    definitions: { a: "Type=root;Weight=70", b: "Type=home;Weight=999930" },
    size: 4_000_000,
  },
  "labels and UUIDs": {
    definitions: {
      a: "Type=root;Label=system;UUID=01234567-89ab-cdef-0123-456789abcdef",
      b: "Type=home;Label=my home",
      c: "Type=srv;Label=",
      d: "Type=var;UUID=null",
    },
  },
  "specifiers": { definitions: { a: "Type=root;Label=%o_%w_%%-%a", b: "Type=home;Label=%M%A%B%W" } },
  "several of a type": {
    definitions: {
      a: "Type=root",
      b: "Type=root",
      c: "Type=root;Label=x",
      d: "Type=root",
      e: "Type=linux-generic",
    },
  },
  "GUIDs and architectures": {
    definitions: {
      a: "Type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
      b: "Type=root-arm64",
      c: "Type=usr-aarch64-verity",
      d: "Type=root-secondary",
      e: "Type=8da63339-0007-60c0-c436-083ac8230908",
      f: "Type=user-home",
    },
  },
  "a signature, which is read-only since systemd 258": {
    definitions: { a: "Type=root-verity-sig;SizeMinBytes=16K;SizeMaxBytes=16K", b: "Type=root" },
    differs: ["flags"],
  },
  "flags": {
    definitions: {
      a: "Type=root;ReadOnly=yes",
      b: "Type=home;NoAuto=yes",
      c: "Type=srv;Flags=0x1000000000000",
      d: "Type=var;Flags=0x9000000000000000;ReadOnly=no",
      e: "Type=swap;NoAuto=1",
      f: "Type=xbootldr;GrowFileSystem=yes;ReadOnly=true",
      g: "Type=usr-verity",
    },
  },
  "Flags= of UEFI itself, with which systemd-repart sets none": {
    definitions: { a: "Type=srv;Flags=0x5" },
    differs: ["all flags"],
  },
  "GrowFileSystem=no, which systemd-repart overlooks": {
    definitions: { a: "Type=root;GrowFileSystem=no" },
    differs: ["flags"],
  },
  "drop-ins": {
    definitions: {
      "a.conf": "Type=root;Weight=1",
      "a.conf.d/b.conf": "Weight=3000",
      "a.conf.d/a.conf": "Weight=2",
      "c": "Type=home",
    },
  },
  "order is that of the names": {
    definitions: { "20": "Type=root", "3": "Type=home", "100": "Type=srv", "A": "Type=var", "a": "Type=tmp" },
  },
  "A and B of the manual": {
    definitions: {
      "50-root": "Type=root;SizeMinBytes=512M;SizeMaxBytes=512M",
      "60-root-verity": "Type=root-verity;SizeMinBytes=64M;SizeMaxBytes=64M",
      "70-root-b": "Type=root;SizeMinBytes=512M;SizeMaxBytes=512M",
      "80-root-verity-b": "Type=root-verity;SizeMinBytes=64M;SizeMaxBytes=64M",
    },
    size: 2048,
  },
  "home and swap of the manual": {
    definitions: {
      "60-home": "Type=home",
      "70-swap": "Type=swap;SizeMinBytes=64M;SizeMaxBytes=1G;Priority=1;Weight=333",
    },
  },
  "files": {
    definitions: {
      a: "Type=root;CopyFiles=/;ExcludeFiles=/boot/",
      b: "Type=home;MakeDirectories=/a /b/c;MakeSymlinks=/l:a",
    },
  },
  "an image as mkosi makes them": {
    definitions: {
      "00-esp":
        "Type=esp;Format=vfat;CopyFiles=/usr/lib/systemd/boot:/;CopyFiles=/boot:/;SizeMinBytes=512M;SizeMaxBytes=512M",
      "10-root": "Type=root;Format=ext4;CopyFiles=/;Minimize=guess;SizeMinBytes=200M;SizeMaxBytes=200M",
    },
  },
  "an image as nixpkgs makes them": {
    definitions: {
      "10-esp":
        "Type=esp;Format=vfat;CopyFiles=/usr/lib/systemd/boot/efi:/EFI;SizeMinBytes=300M;SizeMaxBytes=300M",
      "20-root":
        "Type=root;Format=ext4;Label=nixos;CopyFiles=/usr;MakeDirectories=/nix/store /etc;SizeMinBytes=256M",
    },
  },
  "slots for updates, as particleos has them": {
    definitions: {
      "00-esp": ESP,
      "10-usr-verity-sig": "Type=usr-verity-sig;Label=%M_%A;SizeMinBytes=16K;SizeMaxBytes=16K",
      "20-usr-verity": "Type=usr-verity;Label=%M_%A;SizeMinBytes=50M;SizeMaxBytes=50M",
      "21-usr": "Type=usr;Label=%M_%A;SizeMinBytes=150M;SizeMaxBytes=150M",
      "30-usr-verity-sig-b": "Type=usr-verity-sig;Label=_empty;SizeMinBytes=16K;SizeMaxBytes=16K",
      "40-usr-verity-b": "Type=usr-verity;Label=_empty;SizeMinBytes=50M;SizeMaxBytes=50M",
      "41-usr-b": "Type=usr;Label=_empty;SizeMinBytes=150M;SizeMaxBytes=150M",
      "50-swap": "Type=swap;Format=swap;SizeMinBytes=64M;SizeMaxBytes=64M",
      "60-root": "Type=root;Format=ext4;SizeMinBytes=200M;FactoryReset=yes;SplitName=-",
    },
    differs: ["flags"],
  },
  "a squashfs, which nothing grows": {
    definitions: { a: "Type=root;Format=squashfs;CopyFiles=/usr;SizeMaxBytes=300M", b: "Type=home" },
    differs: ["flags"],
  },
  "Minimize=best, which is exact": {
    definitions: { a: "Type=root;Format=squashfs;CopyFiles=/usr;Minimize=best", b: "Type=home" },
    differs: ["flags", "sizes"],
  },
  "verity": {
    definitions: {
      a: "Type=root;Format=squashfs;CopyFiles=/usr;Verity=data;VerityMatchKey=x;SizeMinBytes=40M;SizeMaxBytes=40M",
      b: "Type=root-verity;Verity=hash;VerityMatchKey=x;SizeMinBytes=5M;SizeMaxBytes=5M",
      c: "Type=home",
    },
  },
  "sizes that are no MiB": {
    definitions: {
      a: "Type=swap;SizeMinBytes=100K;SizeMaxBytes=100K",
      b: "Type=swap;SizeMinBytes=10000000;SizeMaxBytes=10000000",
      c: "Type=srv",
    },
  },
  "comments and continued lines": {
    definitions: { a: "# comment;Type=\\;  root;; Weight = 500", b: "Type=home" },
  },
  "values that are taken back": {
    definitions: {
      a: "Type=root;UUID=0123456789abcdef0123456789abcdef;UUID=",
      b: "Type=home",
    },
  },
};

/** The flags that a read-only filesystem has here: nothing can grow it. */
function withoutGrowth({ attributes }: TableEntry): readonly number[] {
  const { growfs, readOnly } = GPT_ATTRIBUTES;
  return attributes.filter((bit) => bit !== growfs && bit !== readOnly);
}

/** Where systemd 262 has another answer than 257. */
const SINCE_257: Readonly<Record<string, readonly Difference[]>> = {
  // Its FAT has at least 260 MiB.
  "all that systemd mounts": ["sizes"],
  "slots for updates, as particleos has them": ["sizes"],
  // It rounds inwards.
  "sizes that are no MiB": ["refused"],
  // The same as here.
  "a signature, which is read-only since systemd 258": [],
};

for (const [suite, version] of [["trixie", "257"], ["forky", "262"]] as const) {
  Deno.test(
    `systemd-repart ${version} and planDisk() make the same partitions of the same definitions`,
    { ignore },
    async (t) => {
      const command = await repartCommand(suite);
      // The release in development moves on: what its next systemd does is for people to look at first.
      const [, is] = /^systemd (\d+)/.exec(await quiet`${command} --version`)!;
      if (suite === "trixie") assert.equal(is, version);
      const directory = await tinyTree();
      const tree = await inspectTree(directory);
      try {
        assert.ok(Object.keys(CASES).length >= 30);
        for (const [name, each] of Object.entries(CASES)) {
          const differs = (suite === "forky" ? SINCE_257[name] : undefined) ?? each.differs ?? [];
          await t.step({
            name,
            ignore: is !== version,
            fn: () => compareWithRepart({ ...each, differs }, tree, { command, tree: directory }),
          });
        }
      } finally {
        closeRoot(tree.root);
      }
    },
  );
}

/** Gives definitions to systemd-repart and to our own planner, and compares what they make of them. */
async function compareWithRepart(
  { definitions, size = 1024, differs = [] }: Case,
  tree: Tree,
  repart: { readonly command: readonly string[]; readonly tree: string },
): Promise<void> {
  const layout = layoutOf(definitions);
  const making = repartPartitions(layout, { size, ...repart });
  if (differs.includes("refused")) return await assert.rejects(making, BuildError);
  const theirs = await making;
  const settings = settingsOf({ SIZE_MB: String(size), BOOTLOADER: "none" });
  const { partitions } = planDisk({ ...settings, layout }, tree);
  const ours = partitions.map(({ attributes, ...each }): TableEntry => ({ ...each, attributes }));
  const common = (entry: TableEntry) => [
    entry.type,
    entry.label,
    differs.includes("all flags") ? [] : differs.includes("flags") ? withoutGrowth(entry) : entry.attributes,
  ];
  assert.deepEqual(ours.map(common), theirs.map(common));
  const given = Object.entries(definitions).map(([, text]) => /UUID=([^;]+)/.exec(text)?.[1]);
  given.forEach((uuid, i) => {
    if (uuid?.includes("-")) assert.equal(ours[i]!.uuid, theirs[i]!.uuid);
  });
  if (differs.includes("sizes")) return;
  // Partitions begin at whole MiB here: each may be as much smaller or larger than with units of 4 KiB.
  ours.forEach((entry, i) => {
    const difference = Math.abs(entry.size - theirs[i]!.size);
    assert.ok(
      difference <= ours.length * MiB + MiB,
      `${entry.label}: ${entry.size / MiB} instead of ${theirs[i]!.size / MiB} MiB`,
    );
  });
}

const QEMU = ["qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd"];

/** Builds a disk with these definitions. */
async function buildLayout(
  definitions: Readonly<Record<string, string>>,
  { tree, dir, env = {} }: {
    readonly tree: string;
    readonly dir: string;
    readonly env?: Readonly<Record<string, string>>;
  },
): Promise<string> {
  const layout = await Deno.makeTempDir({ dir });
  await writeLayout(layoutOf(definitions), layout);
  const image = `${layout}.raw`;
  await build("disk-image", tree, image, { LAYOUT: layout, VERIFY: "full", ...env });
  return image;
}

const VM = { architecture: "x86-64", format: "raw" } as const;

Deno.test(
  "disk-image: a Debian 13 with only an ESP and a root boots; its kernels are on the ESP, which is /boot",
  {
    ignore: ignore || missing(...QEMU),
  },
  () =>
    tempDir(async (dir) => {
      const image = await buildLayout({ "10-esp": "Type=esp", "20-root": "Type=root" }, {
        tree: await debianTree({ suite: "trixie" }),
        dir,
        env: { FREE_MB: "64" },
      });
      const { mounts } = await dissect(image);
      assert.deepEqual(mounts.map((each: { designator: string }) => each.designator).sort(), ["esp", "root"]);
      const seen = report(await bootQemu(image, VM));
      assert.equal(seen.get("state"), "running", seen.get("logs"));
      assert.match(seen.get("findmnt /boot")!, /"fstype": "vfat"/);
      assert.match(seen.get("files /boot")!, /^\.\/vmlinuz-/m);
      assert.match(seen.get("files /boot")!, /^\.\/loader\/entries\/debian-/m);
      assert.match(seen.get("findmnt /")!, /"options": "rw/);
    }),
);

/** Run in the guest: what is mounted at /usr, what dm-verity knows of it, and whether it can be written to. */
const VERIFIED = `echo "=== usr"; findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS /usr
echo "=== verity"; dmsetup table --target verity; dmsetup status --target verity
touch /usr/local/written 2>&1
`;

Deno.test("disk-image: a Debian 13 with a verified /usr boots, opened by systemd in the initrd of dracut", {
  ignore: ignore || missing(...QEMU, "veritysetup", "openssl"),
}, () =>
  tempDir(async (dir) => {
    const tree = await copyTree(await debianTree({ suite: "trixie", initrd: "dracut" }), `${dir}/tree`);
    await addToReport(tree, VERIFIED);
    const definitions = {
      "10-esp": "Type=esp",
      "20-root": "Type=root",
      "30-usr": "Type=usr;Format=squashfs;Verity=data;VerityMatchKey=usr;Minimize=best",
      "40-usr-verity": "Type=usr-verity;Verity=hash;VerityMatchKey=usr;Minimize=best",
      "50-usr-verity-sig": "Type=usr-verity-sig;Verity=signature;VerityMatchKey=usr",
    };
    const env = { FREE_MB: "64", ...await makeKey(dir) };
    const image = await buildLayout(definitions, { tree, dir, env });
    const { mounts } = await dissect(image);
    const found = mounts.map(({ designator }: { designator: string }) => designator);
    assert.deepEqual(found.sort(), ["esp", "root", "usr", "usr-verity", "usr-verity-sig"]);
    const seen = report(await bootQemu(image, VM));
    assert.equal(seen.get("state"), "running", seen.get("logs"));
    const [, rootHash] = / usrhash=([0-9a-f]{64}) /.exec(seen.get("cmdline")!)!;
    assert.match(seen.get("usr")!, /^\/dev\/mapper\/usr +squashfs +ro,/);
    assert.match(seen.get("verity")!, new RegExp(`^usr: .* verity 1 .* ${rootHash} `, "m"));
    assert.match(seen.get("verity")!, /^usr: .* verity V$/m);
    assert.match(seen.get("verity")!, /Read-only file system/);
  }));

/** What a guest tells of what is mounted. */
const MOUNTS =
  `for dir in /home /srv /var; do echo "=== mount $dir"; ls $dir >/dev/null; findmnt --noheadings --bytes --types noautofs --output FSTYPE,SIZE,PARTLABEL $dir; done
`;

/** What a guest tells of its layout, besides the report that every Debian tree makes. */
const REPORT = `echo "=== swap"
swapon --show=TYPE,SIZE --noheadings --bytes
${MOUNTS}echo "=== data"; cat /home/user/notes /srv/page /var/lib/count
echo "=== repart"
systemd-repart --dry-run=yes 2>&1
`;

Deno.test(
  "disk-image: a Debian 13 with /home, /srv, /var and swap boots, and on a larger disk the last one grows by weight",
  {
    ignore: ignore || missing(...QEMU),
  },
  () =>
    tempDir(async (dir) => {
      const tree = await copyTree(await repartTree(), `${dir}/tree`);
      for (
        const [path, text] of [["home/user/notes", "home\n"], ["srv/page", "srv\n"], [
          "var/lib/count",
          "var\n",
        ]]
      ) {
        await Deno.mkdir(`${tree}/${path!.slice(0, path!.lastIndexOf("/"))}`, { recursive: true });
        await Deno.writeTextFile(`${tree}/${path}`, text!);
      }
      await addToReport(tree, REPORT);
      const definitions = {
        "10-esp": "Type=esp;SizeMinBytes=64M;SizeMaxBytes=64M",
        "20-xbootldr": "Type=xbootldr;SizeMaxBytes=300M",
        "30-root": "Type=root",
        "40-var": "Type=var",
        "50-srv": "Type=srv;Minimize=guess",
        "60-swap": "Type=swap;SizeMinBytes=32M;SizeMaxBytes=32M",
        "70-home": "Type=home;Weight=300;PaddingWeight=100",
      };
      const image = await buildLayout(definitions, { tree, dir, env: { FREE_MB: "256" } });
      const { mounts } = await dissect(image);
      assert.deepEqual(
        mounts.map(({ designator }: { designator: string }) => designator).sort(),
        ["esp", "home", "root", "srv", "swap", "var", "xbootldr"],
      );
      const before = (await sizesOf(image)).get("home")!;
      // On the disk that it was made for, there is nothing to do.
      assert.match(await repartDryRun(image, await definitionsIn(image, dir)), /No changes/);
      const size = (await Deno.stat(image)).size + 400 * MiB;
      await Deno.truncate(image, size);
      const seen = report(await bootQemu(image, { ...VM, snapshot: false }));
      assert.equal(seen.get("failed"), "", seen.get("logs"));
      assert.equal(seen.get("data"), "home\nsrv\nvar");
      assert.match(seen.get("swap")!, /^partition\s+33550336$/);
      for (const name of ["home", "srv", "var"]) {
        assert.match(seen.get(`mount /${name}`)!, new RegExp(`^ext4 +\\d+ ${name}$`));
      }
      assert.match(seen.get("repart")!, /No changes/);
      const after = (await sizesOf(image)).get("home")!;
      assert.ok(after > before + 250 * MiB, `${before} became ${after}`);
      // Three quarters of itself and what was behind it: its weight is 300, that of the padding 100.
      const { entries } = parseTable(JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable)!;
      const { offset } = entries.find(({ label }) => label === "home")!;
      const share = after / (size - offset);
      assert.ok(Math.abs(share - 0.75) < 0.01, `${share} of what is there`);
      const [, filesystem] = /^ext4 +(\d+) /.exec(seen.get("mount /home")!)!;
      assert.ok(Number(filesystem) > 0.9 * after, `${filesystem} of ${after}`);
    }),
);

/** Copies the definitions for systemd-repart that the root of an image holds, and returns their directory. */
async function definitionsIn(image: string, dir: string): Promise<string> {
  const { entries } = parseTable(JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable)!;
  const { offset } = entries.find(({ label }) => label.startsWith("root"))!;
  await quiet`debugfs -R ${`rdump /etc/repart.d ${dir}`} ${`${image}?offset=${offset}`}`;
  return `${dir}/repart.d`;
}

/** Bytes of the partitions by their labels. */
async function sizesOf(image: string): Promise<Map<string, number>> {
  const { entries } = parseTable(JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable)!;
  return new Map(entries.map(({ label, size }) => [label, size]));
}

/** One file with a filesystem, its hashes and their signature. */
function ddi(copies: readonly string[], isSigned: boolean): Record<string, string> {
  const copied = copies.map((path) => `CopyFiles=${path}`).join(";");
  return {
    "10-root": `Type=root;Format=squashfs;${copied};Verity=data;VerityMatchKey=root;Minimize=best`,
    "20-root-verity": "Type=root-verity;Verity=hash;VerityMatchKey=root;Minimize=best",
    ...isSigned && { "30-root-verity-sig": "Type=root-verity-sig;Verity=signature;VerityMatchKey=root" },
  };
}

/** Run in the guest: each image with a policy that takes only signed ones. */
const EXTENSIONS = `echo "=== sysext"
mkdir -p /var/lib/extensions /var/lib/confexts
cp /opt/ddi/sysext/proof.raw /var/lib/extensions/
systemd-sysext --image-policy=root=signed merge && cat /usr/share/proof/text
systemd-sysext unmerge
echo "=== unsigned"
cp /opt/ddi/unsigned/proof.raw /var/lib/extensions/
systemd-sysext --image-policy=root=signed merge; [ ! -e /usr/share/proof/text ] || echo "it was merged"
echo "=== confext"
cp /opt/ddi/confext/proof.raw /var/lib/confexts/
systemd-confext --image-policy=root=signed merge && cat /etc/proof/text
systemd-confext unmerge
echo "=== portable"
mkdir -p /etc/systemd/system/hello.service.d
printf '[Service]\\nRootImagePolicy=root=signed\\n' >/etc/systemd/system/hello.service.d/policy.conf
portablectl attach --runtime --now /opt/ddi/portable/hello.raw hello
systemctl is-active hello.service
journalctl --boot --unit=hello --output=cat --no-pager | grep "^hello from"
portablectl detach --runtime --now /opt/ddi/portable/hello.raw hello
`;

Deno.test(
  "disk-image: signed DDIs are taken as sysext, confext and portable service by a policy that demands signatures",
  {
    ignore: ignore || missing(...QEMU, "veritysetup", "openssl"),
  },
  () =>
    tempDir(async (dir) => {
      const tree = await copyTree(await tinyTree({ kernel: false, loader: false }), `${dir}/tree`);
      for (
        const [path, text] of [
          ["usr/lib/extension-release.d/extension-release.proof", "ID=_any\n"],
          ["etc/extension-release.d/extension-release.proof", "ID=_any\n"],
          ["usr/share/proof/text", "from the sysext\n"],
          ["etc/proof/text", "from the confext\n"],
          [
            "usr/lib/systemd/system/hello.service",
            '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/sh -c "echo hello from $$(stat -f -c %%T /)"\n',
          ],
        ]
      ) {
        await Deno.mkdir(`${tree}/${path!.slice(0, path!.lastIndexOf("/"))}`, { recursive: true });
        await Deno.writeTextFile(`${tree}/${path}`, text!);
      }
      const guest = await copyTree(
        await debianTree({ suite: "trixie", include: ["systemd-container"] }),
        `${dir}/guest`,
      );
      const keys = await makeKey(dir);
      await Deno.mkdir(`${guest}/etc/verity.d`);
      await Deno.copyFile(keys.VERITY_CERT, `${guest}/etc/verity.d/test.crt`);
      // What systemd loads for dm-verity, and minbase does not have.
      const newer = await newerSystemdTree();
      await quiet`cp --archive --no-clobber ${newer}/usr/sbin/dmsetup ${guest}/usr/sbin`;
      for (const directory of ["udev/rules.d", "x86_64-linux-gnu"]) {
        const names = (await Array.fromAsync(Deno.readDir(`${newer}/usr/lib/${directory}`))).map(({ name }) =>
          name
        )
          .filter((name) => /^(lib(cryptsetup|devmapper|json-c)\.so|\d+-.*dm.*\.rules$)/.test(name));
        await quiet`cp --archive ${names.map((name) => `${newer}/usr/lib/${directory}/${name}`)}
        ${`${guest}/usr/lib/${directory}`}`;
      }
      const images = {
        sysext: ["proof", ddi(["/usr/share/proof", "/usr/lib/extension-release.d"], true)],
        unsigned: ["proof", ddi(["/usr/share/proof", "/usr/lib/extension-release.d"], false)],
        confext: ["proof", ddi(["/etc/proof", "/etc/extension-release.d"], true)],
        portable: ["hello", ddi(["/"], true)],
      } as const;
      for (const [kind, [name, definitions]] of Object.entries(images)) {
        const image = await buildLayout(definitions, { tree, dir, env: kind === "unsigned" ? {} : keys });
        await Deno.mkdir(`${guest}/opt/ddi/${kind}`, { recursive: true });
        await Deno.rename(image, `${guest}/opt/ddi/${kind}/${name}.raw`);
      }
      const { mounts } = await dissect(`${guest}/opt/ddi/sysext/proof.raw`);
      const found = mounts.map(({ designator, verity }: Record<string, string>) => `${designator} ${verity}`);
      assert.deepEqual(found.sort(), ["root signed", "root-verity null", "root-verity-sig null"]);
      await addToReport(guest, EXTENSIONS);
      const image = `${dir}/guest.raw`;
      await build("disk-image", guest, image, { FREE_MB: "64", BOOT_MB: "256" });
      const seen = report(await bootQemu(image, VM));
      assert.match(seen.get("sysext")!, /^from the sysext$/m);
      assert.doesNotMatch(seen.get("unsigned")!, /it was merged|from the sysext/);
      assert.match(seen.get("confext")!, /^from the confext$/m);
      assert.match(seen.get("portable")!, /^active$/m);
      assert.match(seen.get("portable")!, /^hello from /m);
    }),
);

Deno.test("disk-image: a Debian 13 with /home and /srv of their own boots in systemd-nspawn", {
  ignore: ignore || missing("systemd-nspawn"),
}, () =>
  tempDir(async (dir) => {
    const tree = await copyTree(await debianTree({ suite: "trixie" }), `${dir}/tree`);
    await addToReport(tree, MOUNTS);
    const definitions = {
      "10-esp": "Type=esp",
      "20-xbootldr": "Type=xbootldr",
      "30-root": "Type=root",
      "40-home": "Type=home",
      "50-srv": "Type=srv",
      "60-swap": "Type=swap;SizeMinBytes=16M;SizeMaxBytes=16M",
    };
    const image = await buildLayout(definitions, { tree, dir, env: { FREE_MB: "256" } });
    const seen = report(await nspawn(image));
    assert.equal(seen.get("virtualization"), "systemd-nspawn");
    assert.equal(seen.get("failed"), "", seen.get("logs"));
    for (const name of ["home", "srv"]) {
      assert.match(seen.get(`mount /${name}`)!, /^ext4 /);
    }
  }));

Deno.test(
  "disk-image: a layout gives the same bytes each time, swap like mkswap's, and what CopyFiles= says",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await tinyTree({ kernel: false, loader: false });
      const long = "d/".repeat(60);
      const definitions = {
        "10-root": "Type=root;Format=squashfs;Compression=gzip;Minimize=best;MakeSymlinks=/x:a/b;CopyFiles=/",
        "20-swap": "Type=swap;Label=sleep;SizeMinBytes=1M;SizeMaxBytes=1M",
        // The one has a file "modules", the other a directory.
        "30-home":
          `Type=home;CopyFiles=/etc:/joined;CopyFiles=/usr/lib:/joined;ExcludeFiles=/etc/modules;MakeDirectories=/a/b;MakeSymlinks=/x:a/b /y:${long};SizeMaxBytes=8M`,
        "40-slot": "Type=root;Format=empty;SizeMinBytes=1M;SizeMaxBytes=1M;PaddingMinBytes=3M",
      };
      const image = await buildLayout(definitions, { tree, dir });
      const layout = await Deno.makeTempDir({ dir });
      await writeLayout(layoutOf(definitions), layout);
      const again = `${dir}/again.qcow2`;
      await build("disk-image", tree, again, { LAYOUT: layout, VERIFY: "full", OUTPUT_FORMAT: "qcow2" });
      await quiet`qemu-img compare -f raw -F qcow2 ${image} ${again}`;
      const { entries } = parseTable(JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable)!;
      const [root, swap, home, slot] = entries;
      const cut = async ({ offset, size }: TableEntry) => {
        const path = await Deno.makeTempFile({ dir });
        await quiet`dd if=${image} of=${path} bs=4096 skip=${offset / 4096} count=${size / 4096} status=none`;
        return path;
      };
      const [, uuid] = /UUID: *(\S+)/.exec(await quiet`swaplabel ${await cut(swap!)}`)!;
      const made = `${dir}/swap`;
      await Deno.writeFile(made, new Uint8Array(swap!.size));
      await quiet`mkswap --quiet --uuid ${uuid!} --label sleep ${made}`;
      await quiet`cmp ${made} ${await cut(swap!)}`;
      assert.equal((await Deno.readFile(await cut(slot!))).some((byte) => byte !== 0), false);
      assert.match(await quiet`unsquashfs -ll ${await cut(root!)}`, /squashfs-root\/x -> a\/b$/m);
      await mountLoop(image, { offset: home!.offset }, async (mounted) => {
        assert.equal(await Deno.readLink(`${mounted}/x`), "a/b");
        assert.equal(await Deno.readLink(`${mounted}/y`), long);
        assert.ok((await Deno.stat(`${mounted}/a/b`)).isDirectory);
        for (const from of ["etc", "usr/lib"]) {
          for await (const { name } of Deno.readDir(`${tree}/${from}`)) {
            await Deno.lstat(`${mounted}/joined/${name}`);
          }
        }
        assert.equal(
          await Deno.readTextFile(`${mounted}/joined/passwd`),
          await Deno.readTextFile(`${tree}/etc/passwd`),
        );
      });
    }),
);
