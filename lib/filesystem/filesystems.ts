/**
 * The filesystems that an image or partition can have: one row each, with what it can hold and its planner. The row of
 * the same name in make/filesystems.ts makes it.
 *
 * @module
 */

import { type Finding, finding } from "../core/findings.ts";
import { deriveSerial } from "../core/identity.ts";
import { MiB, SECTOR } from "../core/units.ts";
import { EXT4_FLAGS } from "../tree/flags.ts";
import { type Compressors, EROFS_COMPRESSORS, SQUASHFS_COMPRESSORS } from "./compression.ts";
import type { Selection } from "./contents.ts";
import { MAX_EXT4_SIZE, planExt4 } from "./ext4/plan.ts";
import { fatTime } from "./fat/directory.ts";
import { fatEntries } from "./fat/entries.ts";
import { fatGeometry, MAX_FAT_SIZE, smallestFat } from "./fat/geometry.ts";
import { findLostFlags } from "./lost-flags.ts";
import { planReadOnly, READ_ONLY_BLOCK } from "./squashfs-erofs.ts";
import type { FilesystemPlan, FilesystemRequest } from "./types.ts";

interface Filesystem {
  readonly summary: string;
  /** Bytes. */
  readonly largest: number;
  /** Whether it is read-only once it is made. It then has no free space. */
  readonly readOnly: boolean;
  /** Whether it keeps owners, modes and links, which an operating system needs. */
  readonly holdsSystem: boolean;
  /** The labels it can have, and the default for the root. Absent: no label. */
  readonly label?: { readonly default: string; readonly pattern: RegExp; readonly accepted: string };
  readonly compressors: Compressors;
  /** Its UUID as blkid and `/dev/disk/by-uuid` show it; empty where it has none. */
  readonly uuid: (request: Pick<FilesystemRequest, "uuid" | "seed">) => string;
  /** Pure. `undefined` when the entries do not fit. @throws {BuildError} for what it cannot hold. */
  readonly plan: (selection: Selection, request: FilesystemRequest) => FilesystemPlan | undefined;
  /** The smallest size in bytes that the entries fit into; infinite if there is none. */
  readonly smallest: (selection: Selection, request: FilesystemRequest) => number;
}

/** Larger than any file, and than any filesystem made from files. */
const UNLIMITED = Number.MAX_SAFE_INTEGER;

export const FILESYSTEMS = {
  "ext4": {
    summary: "read-write; keeps everything in a tree",
    largest: MAX_EXT4_SIZE,
    readOnly: false,
    holdsSystem: true,
    label: {
      default: "root",
      pattern: /^[\x21-\x7e]{1,16}$/,
      accepted: "1 to 16 ASCII characters, no space",
    },
    compressors: {},
    uuid: ({ uuid }) => uuid,
    plan: planExt4Row,
    smallest: (selection, request) => planExt4(selection, request)?.size ?? Infinity,
  },
  "squashfs": {
    summary: "read-only, small; no ACLs, times in whole seconds",
    largest: UNLIMITED,
    readOnly: true,
    holdsSystem: true,
    compressors: SQUASHFS_COMPRESSORS,
    uuid: () => "",
    plan: (selection, request) => planReadOnly("squashfs", selection, request),
    smallest: () => READ_ONLY_BLOCK,
  },
  "erofs": {
    summary: "read-only, fast to read; holes become zeros",
    largest: UNLIMITED,
    readOnly: true,
    holdsSystem: true,
    label: {
      default: "root",
      pattern: /^[\x21-\x7e]{1,15}$/,
      accepted: "1 to 15 ASCII characters, no space",
    },
    compressors: EROFS_COMPRESSORS,
    uuid: ({ uuid }) => uuid,
    plan: (selection, request) => planReadOnly("erofs", selection, request),
    smallest: () => READ_ONLY_BLOCK,
  },
  "vfat": {
    summary: "readable by firmware; only files and directories, no owners, modes or links",
    largest: MAX_FAT_SIZE,
    readOnly: false,
    holdsSystem: false,
    label: {
      default: "ROOT",
      pattern: /^[A-Z0-9_-]{1,11}$/,
      accepted: "1 to 11 of A to Z, 0 to 9, _ and -",
    },
    compressors: {},
    uuid: (request) => serialUuid(fatSerial(request)),
    plan: planVfatRow,
    smallest: (selection, { sector }) => smallestFat(fatEntries(selection, () => {}), sector),
  },
} as const satisfies Record<string, Filesystem>;

export type FilesystemName = keyof typeof FILESYSTEMS;

function planExt4Row(selection: Selection, request: FilesystemRequest): FilesystemPlan | undefined {
  const plan = planExt4(selection, { ...request, latest: request.time });
  return plan && {
    type: "ext4",
    size: plan.size,
    label: request.label,
    uuid: request.uuid,
    free: plan.available,
    entries: selection.count,
    bytes: plan.bytes,
    findings: findLostFlags("ext4", selection, EXT4_FLAGS),
    writer: plan,
  };
}

/** The smallest size in MiB with enough clusters for FAT32. */
const smallestFat32 = (sector: number) => sector === SECTOR ? 33 : 260;

function fatSerial({ seed }: Pick<FilesystemRequest, "seed">): string {
  return deriveSerial(seed, "fat-serial");
}

/** What stands for a UUID on FAT. */
function serialUuid(serial: string): string {
  return `${serial.slice(0, 4)}-${serial.slice(4)}`.toUpperCase();
}

function planVfatRow(selection: Selection, request: FilesystemRequest): FilesystemPlan | undefined {
  const { label, time, sector = SECTOR } = request;
  const findings: Finding[] = [];
  const entries = fatEntries(selection, (found) => findings.push(found));
  const size = request.size ?? smallestFat(entries, sector) + (request.free ?? 0);
  const geometry = fatGeometry(size, entries, sector);
  if (!geometry) return undefined;
  if (geometry.bits !== 32) {
    findings.push(finding(
      "fat-small",
      `${label} is FAT${geometry.bits}, since ${size / MiB} MiB are too small for FAT32: ` +
        `the UEFI specification wants FAT32 on fixed disks, from ${smallestFat32(sector)} MiB on`,
    ));
  }
  const serial = fatSerial(request);
  return {
    type: "vfat",
    size,
    label,
    uuid: serialUuid(serial),
    entries: entries.length,
    bytes: entries.reduce((sum, { size }) => sum + size, 0),
    findings,
    writer: { geometry, serial, label, time: fatTime(time), entries },
  };
}
