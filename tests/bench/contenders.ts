/**
 * The contenders of the benchmark: the builders, the usual alternatives, and the limits of the
 * machine. All make the same layout from the same tree, as far as possible.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/repart.d.html
 * - https://github.com/pengutronix/genimage
 * - https://libguestfs.org/virt-make-fs.1.html
 *
 * @module
 */

import { partitionType } from "../../lib/core/dps.ts";
import { MiB } from "../../lib/core/units.ts";
import { type FilesystemName, FILESYSTEMS } from "../../lib/filesystem/filesystems.ts";
import type { FormatName } from "../../lib/image/formats.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { isInstalled } from "../../lib/system/programs.ts";
import { builderCommand } from "../lab/builds.ts";
import { debianTree, unpack } from "../lab/trees.ts";

/** The input of a contender. */
export interface Work {
  readonly tree: string;
  /** The image to write; it does not exist yet. */
  readonly image: string;
  /** An empty directory on the same filesystem, for anything else a contender needs. */
  readonly directory: string;
  readonly layout: Layout;
}

/** Sizes in bytes, as our own builder plans them. */
export interface Layout {
  readonly esp: number;
  readonly boot: number;
  readonly root: number;
  /** The whole tree in one filesystem. */
  readonly part: number;
  readonly entries: number;
  /** Contents of all files. */
  readonly contents: number;
}

export interface Contender {
  /** `disk` and `part` are what our two builders make; `limit` makes nothing, and nothing can be faster. */
  readonly kind: "disk" | "part" | "limit";
  /** Why it cannot take part here; absent when it can. */
  readonly absent?: () => string | undefined;
  /** Whether it is one of ours. */
  readonly ours?: true;
  /** Takes so long that a few rounds must do. */
  readonly rounds?: number;
  /** Takes too long for a quick look. */
  readonly slow?: true;
  /** Does the preparation, which is not measured, and returns the command to measure. */
  readonly command: (work: Work) => Promise<readonly string[]>;
}

const ROOT = new URL("../..", import.meta.url).pathname;

/** The one that all ratios refer to. */
export const REFERENCE = "mke2fs -d";

/** The formats of disks that are measured. */
export const DISK_FORMATS = [
  "raw",
  "qcow2",
  "qcow2-zstd",
  "vdi",
  "vmdk",
] as const satisfies readonly FormatName[];

/** The filesystems that hold a whole tree. */
const PART_FILESYSTEMS = (Object.keys(FILESYSTEMS) as FilesystemName[])
  .filter((name) => FILESYSTEMS[name].holdsSystem);

export const CONTENDERS: Readonly<Record<string, Contender>> = {
  ...Object.fromEntries(
    DISK_FORMATS.map((format) => [
      `disk-image ${format}`,
      {
        ...builder("disk-image", "disk", `--output-format=${format}`, ["sfdisk", "mke2fs", "mkfs.vfat"]),
        // What zlib compresses takes its time.
        ...format === "vmdk" && { rounds: 2, slow: true },
      },
    ]),
  ),
  ...Object.fromEntries(
    PART_FILESYSTEMS.map((name) => [
      `part-image ${name}`,
      // What compresses takes its time.
      {
        ...builder("part-image", "part", `--filesystem=${name}`, MAKERS[name].programs),
        ...name !== "ext4" && { rounds: 3 },
      },
    ]),
  ),
  "part-image tar": builder("part-image", "part", "--output-format=tar", []),
  "our ext4 alone": {
    kind: "part",
    ours: true,
    command: ({ tree, image }) =>
      Promise.resolve([Deno.execPath(), "run", "--quiet", "-A", `${ROOT}tests/bench/fill.ts`, tree, image]),
  },
  "mke2fs -d": {
    kind: "part",
    absent: () => lacks("mke2fs"),
    command: ({ tree, image, layout }) =>
      shell(
        'truncate --size="$2" "$3" && exec mke2fs -q -F -t ext4 -b 4096 -m 0 -N "$4" -d "$1" "$3"',
        tree,
        // Its own tables may be larger than ours.
        layout.part + 64 * MiB,
        image,
        layout.entries + 4096,
      ),
  },
  // With all that our archives have.
  "tar --create": {
    kind: "part",
    command: ({ tree, image }) =>
      shell(
        'exec tar --create --format=posix --sort=name --numeric-owner --xattrs --acls --sparse --file="$2" -C "$1" .',
        tree,
        image,
      ),
  },
  "systemd-repart": { kind: "disk", absent: () => lacks("mmdebstrap", "mcopy"), rounds: 5, command: repart },
  "genimage": { kind: "disk", absent: () => lacks("genimage", "mcopy"), rounds: 5, command: genimage },
  "virt-make-fs without KVM": {
    kind: "part",
    absent: () => lacks("virt-make-fs"),
    rounds: 1,
    slow: true,
    command: virtMakeFs,
  },
  "loop mount and tar": {
    kind: "part",
    absent: () => Deno.uid() === 0 ? lacks("mount") : "needs root",
    command: ({ tree, image, directory, layout }) =>
      shell(
        `truncate --size="$2" "$3" && mke2fs -q -F -t ext4 -b 4096 -m 0 -N "$4" "$3" && mount -o loop "$3" "$5" &&
        { tar --xattrs --acls --sparse -C "$1" -cf - . | tar --xattrs --acls -C "$5" -xpf -; umount "$5"; }`,
        tree,
        layout.part + 64 * MiB,
        image,
        layout.entries + 4096,
        directory,
      ),
  },
  "read all files": {
    kind: "limit",
    command: ({ tree }) =>
      shell('find "$1" -xdev -type f -print0 | xargs -0 -P 2 -n 200 cat >/dev/null', tree),
  },
  "write as many bytes": {
    kind: "limit",
    // In large pieces, like a builder: with those of head, it takes five times as long.
    command: ({ image, layout }) =>
      shell(
        'exec dd if=/dev/zero of="$2" bs=1M count="$1" iflag=count_bytes status=none',
        layout.contents,
        image,
      ),
  },
};

function builder(
  name: string,
  kind: Contender["kind"],
  flag: string,
  tools: readonly string[],
  root?: string,
): Contender {
  return {
    kind,
    ours: true,
    absent: () => lacks(...tools),
    command: async ({ tree, image }) => [
      ...await builderCommand(name, root),
      flag,
      `--input=${tree}`,
      `--output=${image}`,
    ],
  };
}

/** The builders of another checkout, whose directory ends in a slash, by the names of ours and its revision. */
export function contendersOf(root: string, revision: string): Record<string, Contender> {
  return {
    [`disk-image raw of ${revision}`]: builder("disk-image", "disk", "--output-format=raw", ["sfdisk"], root),
    [`part-image ext4 of ${revision}`]: builder("part-image", "part", "--filesystem=ext4", ["mke2fs"], root),
    [`part-image tar of ${revision}`]: builder("part-image", "part", "--output-format=tar", [], root),
  };
}

// deno-lint-ignore require-await
async function shell(script: string, ...args: readonly (string | number)[]): Promise<string[]> {
  return ["sh", "-c", script, "sh", ...args.map(String)];
}

function lacks(...programs: string[]): string | undefined {
  const missing = programs.filter((program) => !isInstalled(program));
  return missing.length ? `${missing.join(", ")} not installed` : undefined;
}

async function repart({ tree, image, directory, layout }: Work): Promise<string[]> {
  const partition = (type: string, format: string, size: number, ...more: string[]) =>
    [
      "[Partition]",
      `Type=${type}`,
      `Format=${format}`,
      `SizeMinBytes=${size}`,
      `SizeMaxBytes=${size}`,
      ...more,
      "",
    ]
      .join("\n");
  await Deno.writeTextFile(`${directory}/10-esp.conf`, partition("esp", "vfat", layout.esp));
  await Deno.writeTextFile(
    `${directory}/20-boot.conf`,
    partition("xbootldr", "vfat", layout.boot, ...await hasBoot(tree) ? ["CopyFiles=/boot:/"] : []),
  );
  await Deno.writeTextFile(
    `${directory}/30-root.conf`,
    // Its mke2fs needs room for tables of its own size.
    partition("root", "ext4", layout.root + 64 * MiB, "CopyFiles=/:/", "ExcludeFiles=/boot/"),
  );
  return [
    ...await repartProgram(),
    ...[`--definitions=${directory}`, "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no"],
    ...[`--copy-source=${tree}`, image],
  ];
}

/** Of Debian 13, run from its unpacked package: that of Debian 12 works on block devices only. */
export async function repartProgram(): Promise<string[]> {
  const debian = await unpack("trixie", "amd64", ["systemd-repart", "libcryptsetup12"]);
  const libraries = `${debian}/usr/lib/x86_64-linux-gnu`;
  return [
    `${debian}/usr/lib64/ld-linux-x86-64.so.2`,
    ...["--library-path", `${libraries}:${libraries}/systemd`, `${debian}/usr/bin/systemd-repart`],
  ];
}

async function genimage({ tree, image, directory, layout }: Work): Promise<string[]> {
  const mebibytes = (size: number) => `${size / MiB}M`;
  const part = (name: string, filesystem: string, size: number, where: string) =>
    `image ${name} { ${filesystem} ${where} size = ${mebibytes(size)} temporary = true }`;
  const row = (name: string, type: string) =>
    `partition ${name.split(".")[0]} { image = ${name} partition-type-uuid = "${type}" }`;
  const [name = "", parent = ""] = [image.split("/").at(-1), image.slice(0, image.lastIndexOf("/"))];
  const boot = await hasBoot(tree) ? 'mountpoint = "/boot"' : "empty = true";
  await Deno.writeTextFile(
    `${directory}/genimage.cfg`,
    [
      part("esp.vfat", 'vfat { label = "ESP" }', layout.esp, "empty = true"),
      part("boot.vfat", 'vfat { label = "BOOT" }', layout.boot, boot),
      part(
        "root.ext4",
        `ext4 { use-mke2fs = true label = "root" extraargs = "-b 4096 -m 0 -N ${layout.entries + 4096}" }`,
        layout.root + 64 * MiB,
        'mountpoint = "/"',
      ),
      `image ${name} { hdimage { partition-table-type = gpt }`,
      row("esp.vfat", partitionType("esp", "x86-64")),
      row("boot.vfat", partitionType("xbootldr", "x86-64")),
      row("root.ext4", partitionType("root", "x86-64")),
      "}",
    ].join("\n"),
  );
  return await shell(
    'exec genimage --config "$1/genimage.cfg" --rootpath "$2" --tmppath "$1/tmp" --outputpath "$3" --inputpath "$1"',
    directory,
    tree,
    parent,
  );
}

/**
 * Boots a small virtual machine, made of programs and the kernel of this machine, or where it has none, as in a
 * container, that of a tree.
 */
async function virtMakeFs({ tree, image, directory }: Work): Promise<string[]> {
  const kernel: string[] = [];
  const machine = `${directory}/qemu`;
  await Deno.writeTextFile(machine, QEMU, { mode: 0o755 });
  if (!await hasKernel("/boot")) {
    const debian = await debianTree({ suite: "trixie" });
    const modules = `${debian}/usr/lib/modules`;
    for await (const { name } of Deno.readDir(modules)) {
      kernel.push(`SUPERMIN_KERNEL=${debian}/boot/vmlinuz-${name}`, `SUPERMIN_MODULES=${modules}/${name}`);
    }
  }
  return [
    "env",
    ...["LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", `LIBGUESTFS_HV=${machine}`],
    ...kernel,
    ...["virt-make-fs", "--format=raw", "--type=ext4", "--size=+512M", tree, image],
  ];
}

/** Without KVM libguestfs asks for the largest processor, on which guests crash with QEMU 7.2: a plain one will do. */
const QEMU = `#!/bin/sh
for word; do
  shift
  [ "$(uname -m) $word" != "x86_64 max" ] || word=qemu64
  set -- "$@" "$word"
done
exec qemu-system-$(uname -m) "$@"
`;

async function hasKernel(directory: string): Promise<boolean> {
  for await (const { name } of Deno.readDir(directory)) if (name.startsWith("vmlinuz")) return true;
  return false;
}

async function hasBoot(tree: string): Promise<boolean> {
  return await Deno.stat(`${tree}/boot`).then(() => true, () => false);
}
