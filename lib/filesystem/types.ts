/**
 * What is asked of a filesystem, and what it will be: plain data, which planning makes and `make/` carries out.
 *
 * @module
 */

import type { Finding } from "../core/findings.ts";
import type { ProgramName } from "../system/programs.ts";
import type { Compression } from "./compression.ts";
import type { Ext4Plan } from "./ext4/plan.ts";
import type { FatEntry, FatGeometry } from "./fat/geometry.ts";
import type { StreamPlan } from "./squashfs-erofs.ts";

/** What is asked of a filesystem. Either `size` or `free` is given, or neither for the smallest. */
export interface FilesystemRequest {
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

/** What a tree needs of a program beyond what any tree does. */
export interface VersionNeed {
  readonly program: ProgramName;
  /** The first version that can. */
  readonly version: string;
  /** What needs it: `the minor number 600000 of "/dev/x"`. */
  readonly problem: string;
}

/** What is known of every filesystem. */
interface CommonFilesystemPlan {
  /** Bytes. */
  readonly size: number;
  /**
   * Set when its size is known only when it is made: `size` is then an estimate, or that of the space for it. It is made
   * in an empty file of its own, which then ends where the filesystem does.
   */
  readonly estimate?: true;
  /** The file that already holds it, and only needs to be copied into its place. */
  readonly made?: string;
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
  /** What a person should know about it. */
  readonly findings: readonly Finding[];
  readonly needs?: readonly VersionNeed[];
}

/** What the writer of a filesystem needs besides, and nobody else looks at. */
export interface Writers {
  readonly ext4: Ext4Plan;
  readonly vfat: FatPlan;
  readonly squashfs: StreamPlan;
  readonly erofs: StreamPlan;
  readonly grub: GrubBiosPlan;
  /** The hashes of dm-verity, as veritysetup makes them. */
  readonly verity: null;
  /** The signature of the root hash, as JSON. */
  readonly signature: null;
}

export interface FatPlan {
  readonly geometry: FatGeometry;
  /** Volume serial number, eight hexadecimal digits. */
  readonly serial: string;
  readonly label: string;
  /** Seconds since 1970 of what the build makes, and of files whose time FAT cannot hold. */
  readonly time: number;
  /** Sorted by path. */
  readonly entries: readonly FatEntry[];
}

/** GRUB in a BIOS boot partition. */
export interface GrubBiosPlan {
  /** Number of the partition that has the menu, from 1. */
  readonly bootPartition: number;
  /** The directory of the menu on it. */
  readonly menu: string;
  /** The directory of the tree that has the modules. */
  readonly directory: string;
}

/** A filesystem, or what else a partition holds, as decided. */
export type FilesystemPlan = {
  [T in keyof Writers]: CommonFilesystemPlan & { readonly type: T; readonly writer: Writers[T] };
}[keyof Writers];

export type FilesystemType = FilesystemPlan["type"];
