/**
 * Requests for filesystems and their plans: plain data, made by planning and carried out in `make/`.
 *
 * @module
 */

import type { Finding } from "../core/findings.ts";
import type { ProgramName } from "../system/programs.ts";
import type { Xattr } from "../tree/nodes.ts";
import type { Compression } from "./compression.ts";
import type { Ext4Plan } from "./ext4/plan.ts";
import type { FatEntry, FatGeometry } from "./fat/geometry.ts";
import type { Selection } from "./contents.ts";
import type { PaxOptions } from "./pax-header.ts";

/** The requirements for a filesystem. At most one of `size` and `free` is set; with neither, it is as small as possible. */
export interface FilesystemRequest {
  readonly label: string;
  /** For filesystems with a UUID; those with a shorter identity derive it from the seed. */
  readonly uuid: string;
  readonly hashSeed: string;
  readonly seed: string;
  /** Seconds since 1970. */
  readonly time: number;
  /** Bytes per sector of the disk. Default: 512. */
  readonly sector?: number;
  /** Exact size in bytes. */
  readonly size?: number;
  /** Bytes that df must show as available. */
  readonly free?: number;
  /** Absent: the filesystem's default. */
  readonly compression?: Compression;
}

/** A program version that a tree needs, beyond what every tree needs. */
export interface VersionNeed {
  readonly program: ProgramName;
  /** The first version that can do it. */
  readonly version: string;
  /** What needs it, e.g. `the minor number 600000 of "/dev/x"`. */
  readonly problem: string;
}

/** What the plans of all filesystems have. */
interface CommonFilesystemPlan {
  /** Bytes. */
  readonly size: number;
  /**
   * Set if the size is not known until the filesystem is made: `size` is an estimate, or the space for it. It is made in
   * a file that ends where the filesystem does: a separate one, or the output itself if it is an archive.
   */
  readonly estimate?: true;
  /** The file that already holds it and only needs to be copied. */
  readonly made?: string;
  /** Empty if the filesystem has none. */
  readonly label: string;
  /** As blkid and `/dev/disk/by-uuid` show it; empty if the filesystem has none. */
  readonly uuid: string;
  /** Bytes that df will show as available, if known. */
  readonly free?: number;
  /** Files, directories and other entries. */
  readonly entries: number;
  /** Bytes of contents that will be written. */
  readonly bytes: number;
  /** What a person should know about it. */
  readonly findings: readonly Finding[];
  readonly needs?: readonly VersionNeed[];
}

/** What only the writer of each filesystem needs. */
export interface Writers {
  readonly ext4: Ext4Plan;
  readonly vfat: FatPlan;
  readonly squashfs: StreamPlan;
  readonly erofs: StreamPlan;
  /** No filesystem, but an archive of one. */
  readonly tar: TarPlan;
  /** The same as the layer of a container image. */
  readonly oci: OciPlan;
  readonly grub: GrubBiosPlan;
  /** The dm-verity hashes that veritysetup writes. */
  readonly verity: null;
  /** The signature of the root hash, as JSON. */
  readonly signature: null;
  readonly swap: SwapPlan;
  /** Zeros. */
  readonly empty: null;
}

export interface FatPlan {
  readonly geometry: FatGeometry;
  /** Volume serial number, eight hexadecimal digits. */
  readonly serial: string;
  readonly label: string;
  /** Seconds since 1970: the time of files that the build makes, and of those whose time FAT cannot store. */
  readonly time: number;
  /** Sorted by path. */
  readonly entries: readonly FatEntry[];
}

/** Swap space. */
export interface SwapPlan {
  /** Number of pages, including the header. */
  readonly pages: number;
  readonly uuid: string;
  /** At most 16 bytes. */
  readonly label: string;
  /** The byte order of the machine. */
  readonly endian: "little" | "big";
}

/** GRUB in a BIOS boot partition. */
export interface GrubBiosPlan {
  /** Number of the partition with the menu, from 1. */
  readonly bootPartition: number;
  /** The directory of the menu on it. */
  readonly menu: string;
  /** The directory of the tree that has the modules. */
  readonly directory: string;
}

/** The plan for the contents of a partition: a filesystem, or something else. */
export type FilesystemPlan = {
  [T in keyof Writers]: CommonFilesystemPlan & { readonly type: T; readonly writer: Writers[T] };
}[keyof Writers];

export type FilesystemType = FilesystemPlan["type"];

/** Everything that is needed to make an archive. */
export interface TarPlan {
  readonly selection: Selection;
  /** What to put into the stream. */
  readonly pax: PaxOptions;
  /** Files of the archive that come before those of the tree. */
  readonly before: readonly ArchiveFile[];
  /** The number of members, these included. */
  readonly members: number;
}

/** A file that is part of an archive, but not of the tree. */
export interface ArchiveFile {
  /** ASCII. */
  readonly name: string;
  readonly text: string;
}

/** A container image with one layer. */
export interface OciPlan extends TarPlan {
  readonly image: ContainerImage;
}

/** What a container image says of itself: https://github.com/opencontainers/image-spec/blob/main/config.md */
export interface ContainerImage {
  /** Its name with a tag. */
  readonly tag: string;
  /** As Go names it. */
  readonly architecture: string;
  /** The time of everything that the build makes, in RFC 3339. */
  readonly created: string;
  /** How a container is run. */
  readonly config: {
    readonly Env: readonly string[];
    readonly Cmd?: readonly string[];
    readonly Labels: Readonly<Record<string, string>>;
    readonly StopSignal?: string;
  };
}

/** Everything that is needed to make a squashfs or an erofs. */
export interface StreamPlan {
  readonly selection: Selection;
  /** What to put into the stream. */
  readonly pax: PaxOptions;
  /** The program's arguments. */
  readonly compression: readonly string[];
  /** Seconds since 1970: the time of everything that the build makes. */
  readonly time: number;
  readonly uuid: string;
  readonly label: string;
  /** The number of inodes that its superblock must have. */
  readonly inodes: number;
  /** The root's attributes, for a program that does not read them from the stream. */
  readonly root: {
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    readonly time: number;
    readonly xattrs: readonly Xattr[];
  };
}
