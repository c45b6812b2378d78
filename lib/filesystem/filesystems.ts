/**
 * The filesystems that an image or partition can have: one row each plans and makes one.
 *
 * @module
 */

import type { Target } from "../image/target.ts";
import {
  type Compression,
  type Compressors,
  EROFS_COMPRESSORS,
  SQUASHFS_COMPRESSORS,
} from "./compression.ts";
import type { Selection } from "./contents.ts";
import { type Ext4Plan, MAX_EXT4_SIZE, planExt4 } from "./ext4/plan.ts";
import { makeExt4 } from "./ext4/make.ts";
import { verifyExt4, verifyVfat } from "./verify.ts";
import { fatEntries } from "./fat/entries.ts";
import { type FatEntry, fatGeometry, MAX_FAT_SIZE, smallestFat } from "./fat/geometry.ts";
import { deriveSerial } from "../core/identity.ts";
import { planReadOnly, READ_ONLY_BLOCK } from "./squashfs-erofs.ts";
import type { Root } from "../tree/root.ts";
import { MiB, SECTOR } from "../core/units.ts";
import { makeVfat } from "./fat/make.ts";

/** What is asked of a filesystem. Either `size` or `free` is given, or neither for the smallest. */
export interface FilesystemWish {
  readonly label: string;
  /** Where the filesystem has a UUID; one with a shorter identity derives it from the seed. */
  readonly uuid: string;
  readonly hashSeed: string;
  readonly seed: string;
  /** Seconds since 1970. */
  readonly time: number;
  /** Bytes of a sector of the disk (512). */
  readonly sector?: number;
  /** Exact size in bytes. */
  readonly size?: number;
  /** Bytes that df is to show as available. */
  readonly free?: number;
  /** Absent: what the filesystem uses by default. */
  readonly compression?: Compression;
}

/** A filesystem as decided. */
export interface FilesystemPlan {
  /** The name of its row. */
  readonly type: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Set when its size is known only when it is made: `size` is then an estimate, or that of the space for it.
   * It is made in an empty file of its own, which then ends where the filesystem does.
   */
  readonly measured?: true;
  /** Empty where the filesystem has none. */
  readonly label: string;
  /** As blkid and `/dev/disk/by-uuid` show it; empty where the filesystem has none. */
  readonly uuid: string;
  /** Bytes that df will show as available, where that is known. */
  readonly free?: number;
  /** Files, directories and other entries. */
  readonly entries: number;
  /** Bytes of contents that will be written. */
  readonly bytes: number;
  readonly notices: readonly string[];
  /** Checks what was made; unless `full` is set, in next to no time. @throws {BuildError} */
  readonly verify?: (target: Target, context: VerifyContext) => Promise<void>;
  /** Makes it. The image reads as zeros where it goes. @throws {BuildError} */
  readonly make: (target: Target, context: MakeContext) => Promise<void>;
}

/** What making a filesystem needs besides its plan. */
export interface MakeContext {
  readonly root: Root;
  /** An empty directory for small files. */
  readonly scratch: string;
  /** Told how many bytes are written. */
  readonly onProgress: (done: number) => void;
  /** Aborted when the build failed elsewhere or was interrupted. */
  readonly signal: AbortSignal;
}

/** What checking a filesystem needs besides its plan. */
export interface VerifyContext {
  /** A directory for a copy of the filesystem. */
  readonly scratch: string;
  /** Run the filesystem's own checker, too. */
  readonly full: boolean;
}

interface Filesystem {
  readonly summary: string;
  /** Programs that make it. */
  readonly tools: readonly string[];
  /** The program that checks one. */
  readonly checker: string;
  /** Bytes. */
  readonly largest: number;
  /** Whether nothing can be written to it once it is made. It then has no free space. */
  readonly readOnly: boolean;
  /** Whether it keeps owners, modes and links, as an operating system needs. */
  readonly holdsSystem: boolean;
  /** The labels it can have, and the one that the root has by default. Absent: none. */
  readonly label?: { readonly default: string; readonly pattern: RegExp; readonly accepted: string };
  readonly compressors: Compressors;
  /** Pure. `undefined` when the entries do not fit. @throws {BuildError} for what it cannot hold. */
  readonly plan: (selection: Selection, wish: FilesystemWish) => FilesystemPlan | undefined;
  /** The smallest size in bytes that the entries fit into; infinite when none does. */
  readonly smallest: (selection: Selection, wish: FilesystemWish) => number;
}

/** No size of a file is larger, and no filesystem made from files. */
const UNLIMITED = Number.MAX_SAFE_INTEGER;

export const FILESYSTEMS = {
  "ext4": {
    summary: "read and written; keeps everything that a tree has",
    tools: ["mke2fs"],
    checker: "e2fsck",
    largest: MAX_EXT4_SIZE,
    readOnly: false,
    holdsSystem: true,
    label: {
      default: "root",
      pattern: /^[\x21-\x7e]{1,16}$/,
      accepted: "1 to 16 ASCII characters, no space",
    },
    compressors: {},
    plan: planExt4Row,
    smallest: (selection, wish) => planExt4(selection, wish)?.size ?? Infinity,
  },
  "squashfs": {
    summary: "read-only, small; no ACLs, times in whole seconds",
    tools: ["mksquashfs"],
    checker: "unsquashfs",
    largest: UNLIMITED,
    readOnly: true,
    holdsSystem: true,
    compressors: SQUASHFS_COMPRESSORS,
    plan: (selection, wish) => planReadOnly("squashfs", selection, wish),
    smallest: () => READ_ONLY_BLOCK,
  },
  "erofs": {
    summary: "read-only, fast to read; holes become zeros",
    tools: ["mkfs.erofs"],
    checker: "fsck.erofs",
    largest: UNLIMITED,
    readOnly: true,
    holdsSystem: true,
    label: {
      default: "root",
      pattern: /^[\x21-\x7e]{1,15}$/,
      accepted: "1 to 15 ASCII characters, no space",
    },
    compressors: EROFS_COMPRESSORS,
    plan: (selection, wish) => planReadOnly("erofs", selection, wish),
    smallest: () => READ_ONLY_BLOCK,
  },
  "vfat": {
    summary: "what firmware reads: files and directories, no owners, modes or links",
    tools: ["mkfs.vfat"],
    checker: "fsck.vfat",
    largest: MAX_FAT_SIZE,
    readOnly: false,
    holdsSystem: false,
    label: {
      default: "ROOT",
      pattern: /^[A-Z0-9_-]{1,11}$/,
      accepted: "1 to 11 of A to Z, 0 to 9, _ and -",
    },
    compressors: {},
    plan: planVfatRow,
    smallest: (selection, { sector }) => smallestFat(fatEntries(selection, () => {}), sector),
  },
} as const satisfies Record<string, Filesystem>;

export type FilesystemName = keyof typeof FILESYSTEMS;

function planExt4Row(selection: Selection, wish: FilesystemWish): FilesystemPlan | undefined {
  const plan: Ext4Plan | undefined = planExt4(selection, { ...wish, latest: wish.time });
  return plan && {
    type: "ext4",
    size: plan.size,
    label: wish.label,
    uuid: wish.uuid,
    free: plan.available,
    entries: selection.count,
    bytes: plan.bytes,
    notices: [],
    make: (target, context) => makeExt4(target, plan, context.root, context),
    verify: (target, context) => verifyExt4(target, plan, context),
  };
}

function planVfatRow(selection: Selection, wish: FilesystemWish): FilesystemPlan | undefined {
  const notices: string[] = [];
  const entries: readonly FatEntry[] = fatEntries(selection, (text) => notices.push(text));
  const size = wish.size ?? smallestFat(entries, wish.sector) + (wish.free ?? 0);
  const geometry = fatGeometry(size, entries, wish.sector);
  if (!geometry) return undefined;
  if (geometry.bits !== 32) {
    notices.push(
      `${wish.label} is FAT${geometry.bits}, since ${size / MiB} MiB are too small for FAT32: ` +
        `the UEFI specification wants FAT32 on fixed disks, from ${
          geometry.sector === SECTOR ? 33 : 260
        } MiB on`,
    );
  }
  const serial = deriveSerial(wish.seed, "fat-serial");
  return {
    type: "vfat",
    size,
    label: wish.label,
    uuid: `${serial.slice(0, 4)}-${serial.slice(4)}`.toUpperCase(),
    entries: entries.length,
    bytes: entries.reduce((sum, { size }) => sum + size, 0),
    notices,
    make: (target, context) => {
      const request = { geometry, label: wish.label, serial, time: wish.time, entries };
      return makeVfat(target, request, { root: context.root, nodes: selection.nodes }, context);
    },
    verify: (target, context) => verifyVfat(target, geometry, context),
  };
}
