/**
 * The keys of definitions, one row each: how the value is read, and what it means here.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/repart.d.html
 *
 * @module
 */

import { findType, type PartitionRole, typeNames } from "../../core/dps.ts";
import { oneOf } from "../../core/suggest.ts";
import { type Compression, parseCompression } from "../../filesystem/compression.ts";
import { choice } from "../setting-values.ts";
import * as values from "./values.ts";
import type { Machine } from "./values.ts";

/** What a partition can be formatted with. */
export const FORMATS = ["ext4", "vfat", "erofs", "squashfs", "swap", "empty"] as const;

export type PartitionFormat = (typeof FORMATS)[number];

/** The values of a definition, as they are written. */
export interface Values {
  /** GUID in lower case. */
  readonly type?: string;
  readonly label?: string;
  readonly uuid?: string;
  readonly format?: PartitionFormat;
  readonly copyFiles?: readonly { readonly from: string; readonly path: string }[];
  readonly excludeFiles?: readonly string[];
  readonly excludeFilesTarget?: readonly string[];
  readonly makeDirectories?: readonly string[];
  readonly makeSymlinks?: readonly { readonly path: string; readonly target: string }[];
  readonly sizeMin?: number;
  readonly sizeMax?: number;
  readonly weight?: number;
  readonly paddingMin?: number;
  readonly paddingMax?: number;
  readonly paddingWeight?: number;
  readonly minimize?: "off" | "best" | "guess";
  readonly readOnly?: boolean;
  readonly noAuto?: boolean;
  readonly growFileSystem?: boolean;
  /** Bits of the attributes. */
  readonly flags?: readonly number[];
  readonly mountPoints?: readonly { readonly path: string; readonly options: readonly string[] }[];
  readonly splitName?: string;
  readonly verity?: "off" | "data" | "hash" | "signature";
  readonly verityMatchKey?: string;
  readonly compression?: Compression;
  readonly compressionLevel?: number;
}

interface Key {
  /** What follows the `=`, in the docs. */
  readonly value: string;
  /** What it means here: for the docs. */
  readonly help: string;
  /** The field of {@link Values}; absent: the value is checked, and means nothing for an image. */
  readonly field?: keyof Values;
  /** Whether every line adds to the ones before. */
  readonly isList?: true;
  /** @throws {Error} as the parsers of values.ts. */
  readonly read: (text: string, machine: Machine) => unknown;
}

const PATHS = (keepSlash: boolean) => (text: string, machine: Machine) =>
  values.words(text).map((word) => values.path(values.expand(word, machine), keepSlash));

/** Printable ASCII without what ends a text in sfdisk's scripts. */
const LABEL = /^[\x20\x21\x23-\x5b\x5d-\x7e]{0,36}$/;

/** sfdisk takes the bits 0 to 2 and 48 to 63; those between are reserved. */
const ATTRIBUTE_BITS = (bit: number) => bit <= 2 || bit >= 48;

/** The words for `Minimize=` besides yes and no. */
const MINIMIZE = ["off", "best", "guess"] as const;

/** In the order of the docs. */
export const KEYS = {
  "Type": {
    value: "TYPE",
    help:
      "The type of the partition: `root`, `usr`, `home`, `esp` …, or a GUID. `root` and `usr` are those of the " +
      "tree's architecture. Default: `linux-generic`",
    field: "type",
    read: (text, { architecture }) => {
      const found = findType(text, architecture);
      if (found === undefined) throw new Error(`a GUID, or ${oneOf(typeNames(architecture), text)}`);
      return found;
    },
  },
  "Label": {
    value: "TEXT",
    help: "The label in the partition table, and of the filesystem as far as it fits. Default: the type",
    field: "label",
    read: (text, machine) => {
      const label = values.expand(text, machine);
      if (!LABEL.test(label)) throw new Error('up to 36 printable ASCII characters other than " and \\');
      return label;
    },
  },
  "VolumeLabel": {
    value: "TEXT",
    help: "The label of an encrypted volume: without effect, since nothing is encrypted",
    read: (text) => text,
  },
  "UUID": {
    value: "UUID",
    help: "The UUID of the partition, or `null`. Default: derived from `SEED` and the definition's name",
    field: "uuid",
    read: values.uuid,
  },
  "Format": {
    value: "NAME",
    help:
      `${
        FORMATS.map((name) => `\`${name}\``).join(", ")
      }: \`empty\` is a slot for later, with the label \`_empty\`, ` +
      "which nothing mounts",
    field: "format",
    read: choice(FORMATS),
  },
  "CopyFiles": {
    value: "SOURCE[:TARGET]",
    help: "A directory or file of the tree, and where it goes in the filesystem. Default: see above",
    field: "copyFiles",
    isList: true,
    read: (text, machine) => {
      const [source, target = source, ...more] = values.words(text, {
        separator: ":",
        quotes: false,
        escapes: true,
      });
      if (source === undefined || more.length) throw new Error("SOURCE or SOURCE:TARGET");
      return [{
        from: values.path(values.expand(source, machine)),
        path: values.path(values.expand(target!, machine)),
      }];
    },
  },
  "ExcludeFiles": {
    value: "PATHS",
    help: "What of the tree to leave out; with a slash at the end only what is in the directory",
    field: "excludeFiles",
    isList: true,
    read: PATHS(true),
  },
  "ExcludeFilesTarget": {
    value: "PATHS",
    help: "The same, with paths in the filesystem",
    field: "excludeFilesTarget",
    isList: true,
    read: PATHS(true),
  },
  "MakeDirectories": {
    value: "PATHS",
    help: "Directories to make (0755, of root) where there are none. A symlink to a directory is one",
    field: "makeDirectories",
    isList: true,
    read: PATHS(false),
  },
  "MakeSymlinks": {
    value: "PATH:TARGET …",
    help: "Symlinks to make, where nothing is yet",
    field: "makeSymlinks",
    isList: true,
    read: (text, machine) =>
      values.words(text).map((word) => {
        const [path, target, ...more] = values.words(word, { separator: ":" });
        if (!path || !target || more.length) throw new Error("PATH:TARGET, separated by spaces");
        return { path: values.path(values.expand(path, machine)), target };
      }),
  },
  "SizeMinBytes": {
    value: "SIZE",
    help:
      "The smallest size. Default: 10M, or none for read-only filesystems and verity; always what the contents need",
    field: "sizeMin",
    read: values.size("down"),
  },
  "SizeMaxBytes": {
    value: "SIZE",
    help: "The largest size. Default: none",
    field: "sizeMax",
    read: values.size("up"),
  },
  "Weight": {
    value: "NUMBER",
    help: "The share of the disk, relative to the other weights, within the limits. Default: 1000",
    field: "weight",
    read: values.weight,
  },
  "PaddingMinBytes": {
    value: "SIZE",
    help: "The least free space behind the partition. Default: 0",
    field: "paddingMin",
    read: values.size("down"),
  },
  "PaddingMaxBytes": {
    value: "SIZE",
    help: "The most free space behind the partition. Default: none",
    field: "paddingMax",
    read: values.size("up"),
  },
  "PaddingWeight": {
    value: "NUMBER",
    help: "The share of the free space behind the partition. Default: 0",
    field: "paddingWeight",
    read: values.weight,
  },
  "Minimize": {
    value: "off, guess, best",
    help:
      "`best` (or `yes`): as small as the contents allow, for read-only filesystems and hashes; `guess`: also for ext4 " +
      "and vfat, where it is as exact",
    field: "minimize",
    read: (text) => MINIMIZE.find((name) => name === text) ?? (values.boolean(text) ? "best" : "off"),
  },
  "ReadOnly": {
    value: "BOOLEAN",
    help: "Bit 60: mount it read-only. Default: yes for verity",
    field: "readOnly",
    read: values.boolean,
  },
  "NoAuto": {
    value: "BOOLEAN",
    help: "Bit 63: do not mount it automatically. Default: no",
    field: "noAuto",
    read: values.boolean,
  },
  "GrowFileSystem": {
    value: "BOOLEAN",
    help: "Bit 59: grow the filesystem when it is mounted. Default: yes, unless it is read-only",
    field: "growFileSystem",
    read: values.boolean,
  },
  "Flags": {
    value: "NUMBER",
    help: "All attribute bits at once; the three keys above win",
    field: "flags",
    read: (text) => {
      const bits = values.bits(text);
      if (!bits.every(ATTRIBUTE_BITS)) {
        throw new Error("bits 0 to 2 and 48 to 63: UEFI reserves those between");
      }
      return bits;
    },
  },
  "MountPoint": {
    value: "PATH[:OPTIONS]",
    help:
      "Where it is mounted, and with which options: a line of `/etc/fstab`, where discovery would not do the same. Not for swap " +
      "and `Format=empty`",
    field: "mountPoints",
    isList: true,
    read: (text) => {
      const [path, options = "", ...more] = values.words(text, { separator: ":", escapes: true });
      if (!path || more.length || /[^\x21-\x7e]/.test(options)) {
        throw new Error("PATH or PATH:OPTIONS, options without spaces");
      }
      return [{ path: values.path(path), options: options.split(",").filter(Boolean) }];
    },
  },
  "SplitName": {
    value: "TEXT",
    help:
      "The name of the partition's own file with `SPLIT_DIR`, after the name and version of the image; `-`: none. Default: `%t`",
    field: "splitName",
    read: (text) => text,
  },
  "Verity": {
    value: "off, data, hash, signature",
    help:
      "What it is of dm-verity: the data, their hashes, or the signature with `VERITY_KEY` and `VERITY_CERT`",
    field: "verity",
    read: choice(["off", "data", "hash", "signature"]),
  },
  "VerityMatchKey": {
    value: "TEXT",
    help: "What data, hashes and signature that belong together have in common",
    field: "verityMatchKey",
    read: (text) => text,
  },
  "VerityDataBlockSizeBytes": {
    value: "4096",
    help: "The block size of verity data: always 4096",
    read: blockSize,
  },
  "VerityHashBlockSizeBytes": {
    value: "4096",
    help: "The block size of verity hashes: always 4096",
    read: blockSize,
  },
  "Compression": {
    value: "NAME",
    help: "The compression of a squashfs or erofs. Default: `COMPRESSION`",
    field: "compression",
    read: (text) => parseCompression(text),
  },
  "CompressionLevel": {
    value: "NUMBER",
    help: "Its level, as the filesystem understands it",
    field: "compressionLevel",
    read: (text) => {
      if (!/^\d{1,2}$/.test(text)) throw new Error("a number from 0 to 99");
      return Number(text);
    },
  },
  "Priority": {
    value: "NUMBER",
    help: "Which partitions systemd-repart leaves out if they do not fit. Here that is always an error",
    read: values.integer,
  },
  "FactoryReset": {
    value: "BOOLEAN",
    help: "Whether a factory reset of the machine removes it: nothing in the image",
    read: values.boolean,
  },
} as const satisfies Record<string, Key>;

function blockSize(text: string): number {
  if (text !== "4096" && text !== "4K") throw new Error("4096");
  return 4096;
}

/** Keys of systemd-repart that are refused, and why. */
export const REFUSED: Readonly<Record<string, string>> = {
  "CopyBlocks": "it copies disks of the machine that builds, and only the tree is read. Use CopyFiles=",
  "Subvolumes": "ext4, vfat, squashfs and erofs have no subvolumes",
  "DefaultSubvolume": "ext4, vfat, squashfs and erofs have no subvolumes",
  "Encrypt":
    "an image for many machines cannot have their keys. Let systemd-repart encrypt on the first boot",
  "EncryptedVolume": "nothing is encrypted in an image",
  "SupplementFor": "an image has no partitions before it is made. Write one definition of both",
};

/** Values that mean the same as leaving a refused key out. */
export const HARMLESS: Readonly<Record<string, readonly string[]>> = {
  "Encrypt": ["", "off", "no", "false", "0"],
};

/** Types with a mount point of their own, as systemd discovers them. */
export const MOUNT_POINTS: { readonly [role in PartitionRole]?: string } = {
  "root": "/",
  "usr": "/usr",
  "home": "/home",
  "srv": "/srv",
  "var": "/var",
  "tmp": "/var/tmp",
  "xbootldr": "/boot",
};
