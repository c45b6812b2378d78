/**
 * Layouts: what our own planner and the real systemd-repart make of the same definitions, and what systemd makes of our
 * images.
 *
 * @module
 */

import assert from "node:assert/strict";
import { GPT_ATTRIBUTES } from "../../lib/core/dps.ts";
import { MiB } from "../../lib/core/units.ts";
import type { TableEntry } from "../../lib/image/gpt.ts";
import { planDisk } from "../../lib/plan/plan.ts";
import { inspectTree } from "../../lib/tree/inspect.ts";
import { closeRoot } from "../../lib/tree/root.ts";
import { settingsOf } from "../lab/facts.ts";
import { missing, unprivileged } from "../lab/helpers.ts";
import { layoutOf } from "../lab/layouts.ts";
import { repartPartitions } from "../lab/repart.ts";
import { tinyTree } from "../lab/trees.ts";

const ignore = unprivileged() || missing("mmdebstrap", "sfdisk", "mke2fs", "mkfs.vfat", "mksquashfs");

/** Where an answer of ours is another one on purpose: see docs/layouts.md. */
type Difference = "flags" | "all flags" | "sizes";

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
    definitions: { a: "Type=root;Weight=3000", b: "Type=home;Weight=1000", c: "Type=srv;Weight=1" },
  },
  "no weight": { definitions: { a: "Type=root;Weight=0;SizeMinBytes=300M", b: "Type=home" } },
  "no weights at all": { definitions: { a: "Type=root;Weight=0", b: "Type=home;Weight=0" } },
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
  "a small disk": { definitions: { a: "Type=root", b: "Type=home" }, size: 32 },
  "a large disk": { definitions: { a: "Type=root;Weight=7", b: "Type=home;Weight=999993" }, size: 4_000_000 },
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
      g: "Type=root-verity-sig",
    },
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
  "GrowFileSystem=no, which systemd 257 overlooks": {
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
      b: "Type=home;SizeMinBytes=10000000;SizeMaxBytes=10000000",
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

Deno.test(
  "systemd-repart and planDisk() make the same partitions of the same definitions",
  { ignore },
  async (t) => {
    const directory = await tinyTree();
    const tree = await inspectTree(directory);
    try {
      assert.ok(Object.keys(CASES).length >= 30);
      for (const [name, { definitions, size = 1024, differs = [] }] of Object.entries(CASES)) {
        await t.step(name, async () => {
          const layout = layoutOf(definitions);
          const theirs = await repartPartitions(layout, { size, tree: directory });
          const settings = settingsOf({ SIZE_MB: String(size), BOOTLOADER: "none" });
          const { partitions } = planDisk({ ...settings, layout }, tree);
          const ours = partitions.map(({ attributes, ...each }): TableEntry => ({ ...each, attributes }));
          const common = (entry: TableEntry) => [
            entry.type,
            entry.label,
            differs.includes("all flags")
              ? []
              : differs.includes("flags")
              ? withoutGrowth(entry)
              : entry.attributes,
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
        });
      }
    } finally {
      closeRoot(tree.root);
    }
  },
);
