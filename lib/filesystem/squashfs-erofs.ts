/**
 * Plans the read-only filesystems squashfs and erofs, each of which a program makes from a pax stream.
 *
 * The size is not known before it is made, because nobody can predict what compression saves.
 *
 * - https://docs.kernel.org/filesystems/squashfs.html
 * - https://docs.kernel.org/filesystems/erofs.html
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding, type FindingName, listPaths } from "../core/findings.ts";
import { FILE_TYPES, TYPE_MASK } from "../core/mode.ts";
import { alignUp, KiB, MiB } from "../core/units.ts";
import type { ProgramName } from "../system/programs.ts";
import { decodeDevice, inodeRow, type Xattr } from "../tree/nodes.ts";
import {
  type Compression,
  compressionArgs,
  type Compressors,
  EROFS_COMPRESSORS,
  SQUASHFS_COMPRESSORS,
} from "./compression.ts";
import {
  attributesOf,
  contentsOf,
  entryPath,
  modeOf,
  nameLengthOf,
  type Selection,
  sizeOf,
  treePath,
} from "./contents.ts";
import { findLostFlags } from "./lost-flags.ts";
import { xattrsIn } from "./labels.ts";
import { ACL, type PaxOptions, permissionsIn } from "./pax-header.ts";
import type { FilesystemPlan, FilesystemRequest, StreamPlan, VersionNeed } from "./types.ts";

/** What a stream can hold, and what becomes of it. */
export interface StreamLimits {
  /** Whether the root is an entry of the stream, so that it can have xattrs. */
  readonly rootEntry: boolean;
  /** Whether zeros take no space, even without compression. */
  readonly holes: boolean;
  /** Maximum number of user and group IDs in total. */
  readonly maxIds: number;
  /** Maximum bytes of one xattr value, and of all xattrs of an entry as stored. */
  readonly maxXattr: number;
  readonly maxXattrs: number;
  /** What older versions of its program do wrong. */
  readonly old?: {
    readonly program: ProgramName;
    /** The first version that is right. */
    readonly version: string;
    /** The largest minor number of a device. */
    readonly maxMinor: number;
    /** Bytes of an extended header. */
    readonly maxHeader: number;
  };
  /** Whether large directories take long. */
  readonly slow: boolean;
  /** What to put into the stream. */
  readonly pax: Omit<PaxOptions, "time" | "root">;
}

/** The limits of one of the filesystems. */
export interface ReadOnlyFilesystem extends StreamLimits {
  readonly compressors: Compressors;
  /** The default compression. */
  readonly compression: Compression;
  /** The largest modification time, in seconds. */
  readonly lastTime: number;
  readonly uuid: boolean;
  readonly label: boolean;
}

/** Image sizes are a multiple of this. */
export const READ_ONLY_BLOCK = 4 * KiB;

/** How the programs want the stream. */
const MKFS = { reader: "mkfs", sparse: false, directory: "" } as const;

export const READ_ONLY = {
  "squashfs": {
    compressors: SQUASHFS_COMPRESSORS,
    compression: { name: "zstd" },
    lastTime: 2 ** 32 - 1,
    rootEntry: false,
    holes: true,
    // The superblock has 16 bits for their number: with 65,536, mksquashfs makes an image that cannot be mounted.
    maxIds: 2 ** 16 - 1,
    maxXattr: Infinity,
    maxXattrs: Infinity,
    slow: true,
    pax: { ...MKFS, nanoseconds: false, acls: false, firstTime: 0 },
    uuid: false,
    label: false,
  },
  "erofs": {
    compressors: EROFS_COMPRESSORS,
    compression: { name: "lz4" },
    lastTime: Number.MAX_SAFE_INTEGER,
    rootEntry: true,
    holes: false,
    maxIds: Infinity,
    // The length of a value, and of all of them in words, are 16-bit numbers, which mkfs.erofs does not check.
    maxXattr: 2 ** 16 - 1,
    maxXattrs: 4 * (2 ** 16 - 1),
    slow: true,
    old: { program: "mkfs.erofs", version: "1.9.2", maxMinor: 2 ** 19 - 1, maxHeader: 32 * KiB },
    pax: { ...MKFS, nanoseconds: true, acls: "xattrs", firstTime: Number.MIN_SAFE_INTEGER },
    uuid: true,
    label: true,
  },
} as const satisfies Record<string, ReadOnlyFilesystem>;

export type ReadOnlyName = keyof typeof READ_ONLY;

/** The first program that gives xattrs to the root of a stream. */
const ROOT_XATTRS = { program: "mksquashfs", version: "4.6" } as const;

/** The longest path that the programs accept, including the NUL. */
const PATH_MAX = 4096;

/** From this number of entries on, we warn that it takes long: the programs search names linearly. */
const LARGE_DIRECTORY = 20_000;

/** More than any entry needs besides its contents: inode, name, xattrs. */
const ENTRY_ESTIMATE = KiB;

/** Plans a filesystem. @throws {BuildError} for anything it cannot hold. */
export function planReadOnly(
  type: ReadOnlyName,
  selection: Selection,
  request: FilesystemRequest,
): FilesystemPlan {
  const row: ReadOnlyFilesystem = READ_ONLY[type];
  const compression = compressionArgs(type, row.compressors, request.compression ?? row.compression);
  const { findings, bytes, inodes, needs } = checkEntries(type, row, selection);
  findings.push(finding(
    "no-free-space",
    `FREE_MB is ignored: ${type} is read-only, and its size follows from its contents`,
  ));
  findings.push(...findLostFlags(type, selection, 0));
  const { time } = request;
  if (time > row.lastTime) {
    throw cannotHold(type, `SOURCE_DATE_EPOCH=${time}`, `its times end at ${row.lastTime}`);
  }
  const [label, uuid] = [row.label ? request.label : "", row.uuid ? request.uuid : ""];
  return {
    type,
    size: request.size ?? alignUp(bytes + selection.count * ENTRY_ESTIMATE, MiB),
    estimate: true,
    label,
    uuid,
    entries: selection.count,
    bytes,
    findings,
    needs,
    writer: {
      selection,
      pax: { ...row.pax, root: row.rootEntry, time },
      compression,
      time,
      uuid,
      label,
      inodes,
      root: rootOf(row, selection, time),
    },
  };
}

function rootOf(row: StreamLimits, selection: Selection, time: number): StreamPlan["root"] {
  const node = attributesOf(selection, 0);
  return {
    mode: permissionsIn(selection, 0, false),
    uid: node === undefined ? 0 : selection.nodes.uid[node]!,
    gid: node === undefined ? 0 : selection.nodes.gid[node]!,
    xattrs: keptXattrs(row, xattrsIn(selection, 0)),
    time: node === undefined ? time : Math.max(0, Math.min(selection.nodes.mtimeSeconds[node]!, time)),
  };
}

/** Counts bytes of contents, and finds what would be lost. @throws {BuildError} for anything it cannot hold. */
export function checkEntries(type: string, row: StreamLimits, selection: Selection) {
  const { nodes } = selection;
  const { pax } = row;
  const seen = new Set<number>();
  const ids = new Set<number>();
  const found: { [kind in "acl" | "early" | "fraction" | "large"]: number[] } = {
    acl: [],
    early: [],
    fraction: [],
    large: [],
  };
  const findings: Finding[] = [];
  let need: VersionNeed | undefined;
  const paths = new Uint32Array(selection.count);
  let bytes = 0;
  for (let entry = 0; entry < selection.count; entry++) {
    const mode = modeOf(selection, entry) & TYPE_MASK;
    const node = attributesOf(selection, entry);
    if (entry > 0) {
      paths[entry] = paths[selection.parent[entry]!]! + 1 + nameLengthOf(selection, entry);
      if (paths[entry]! >= PATH_MAX) {
        throw cannotHold(type, quote(`…/${entryPath(selection, entry).slice(-80)}`), "its path is too long");
      }
    }
    const source = selection.source[entry]!;
    // Added entries and directories have a single name.
    seen.add(source < 0 ? source : inodeRow(nodes, source));
    if (mode === FILE_TYPES.socket) {
      seen.delete(inodeRow(nodes, source));
      const path = treePath(selection, entry);
      findings.push(
        finding("socket", `Leaving out the socket ${quote(path)}: no process listens on it`, { path }),
      );
    }
    if (mode === FILE_TYPES.file) {
      const ranges = row.holes ? nodes.data.get(source) : undefined;
      const data = ranges?.reduce((sum, at, i) => sum + (i % 2 ? at : -at), 0);
      bytes += data ?? sizeOf(selection, entry);
    }
    ids.add(node === undefined ? 0 : nodes.uid[node]!).add(node === undefined ? 0 : nodes.gid[node]!);
    if (ids.size > row.maxIds) {
      throw cannotHold(
        type,
        quote(treePath(selection, entry)),
        `there are more than ${row.maxIds} different user and group IDs`,
      );
    }
    const timeOf = contentsOf(selection, entry);
    if (timeOf !== undefined && nodes.mtimeSeconds[timeOf]! < 0) {
      if (nodes.mtimeSeconds[timeOf]! < pax.firstTime) found.early.push(entry);
      else if (nodes.mtimeNanoseconds[timeOf]! > 0 && pax.reader === "mkfs") found.fraction.push(entry);
    }
    if (row.slow && selection.childCount[entry]! >= LARGE_DIRECTORY) found.large.push(entry);
    const xattrs = xattrsIn(selection, entry);
    const kept = keptXattrs(row, xattrs);
    if (kept.length < xattrs.length) found.acl.push(entry);
    const problem = xattrProblem(row, entry, kept);
    if (problem) throw cannotHold(type, quote(treePath(selection, entry)), problem);
    if (entry === 0 && !row.rootEntry && kept.length > 0) {
      const [{ name }] = kept as [Xattr];
      need = { ...ROOT_XATTRS, problem: `the extended attribute ${quote(name)} of the root directory` };
    }
    need ??= versionNeed(row, selection, entry, paths[entry]!, kept);
  }
  const say = (name: FindingName, entries: readonly number[], text: (paths: string) => string) => {
    const paths = entries.map((entry) => treePath(selection, entry));
    if (paths.length) findings.push(finding(name, text(listPaths(paths)), { path: paths[0] }));
  };
  say(
    "acl-lost",
    found.acl,
    (paths) => `Leaving out the ACLs of ${paths}: ${type} has none; groups keep their permissions`,
  );
  say(
    "time-early",
    found.early,
    (paths) => `Dating ${paths} 1970-01-01: ${type} has no earlier times`,
  );
  say(
    "time-fraction",
    found.fraction,
    (paths) => `Dating ${paths} to the second: ${type} has no fractions before 1970`,
  );
  say(
    "large-directory",
    found.large,
    (paths) => `Filling ${paths} may take minutes: ${type} is slow with directories of this size`,
  );
  return { findings, bytes, inodes: seen.size, needs: need ? [need] : [] };
}

/** The attributes that the filesystem can hold: ACLs only if it has them. */
function keptXattrs({ pax }: StreamLimits, xattrs: readonly Xattr[]): readonly Xattr[] {
  return pax.acls ? xattrs : xattrs.filter(({ name }) => !name.startsWith(ACL));
}

/** The reason why an entry cannot have these xattrs, if any. */
function xattrProblem(
  { rootEntry, maxXattr, maxXattrs }: StreamLimits,
  entry: number,
  xattrs: readonly Xattr[],
): string | undefined {
  for (const { name, value } of xattrs) {
    if (entry === 0 && !rootEntry && !/^[\w.-]+$/.test(name)) {
      return `the root has the extended attribute ${quote(name)}`;
    }
    if (name.includes("=")) return `it has an extended attribute with "=" in its name`;
    if (value.length > maxXattr) {
      return `its extended attribute ${quote(name)} has ${value.length} bytes, more than ${maxXattr}`;
    }
  }
  // As erofs stores them: a header, then each one after 4 bytes and without its name prefix.
  const stored = ({ name, value }: Xattr) =>
    alignUp(4 + name.length - name.indexOf(".") - 1 + value.length, 4);
  const total = xattrs.reduce((sum, xattr) => sum + stored(xattr), 12);
  if (total > maxXattrs) return `its extended attributes take ${total} bytes, more than ${maxXattrs}`;
}

/** The program version that an entry needs, if it needs a recent one. */
function versionNeed(
  { old }: StreamLimits,
  selection: Selection,
  entry: number,
  pathLength: number,
  xattrs: readonly Xattr[],
): VersionNeed | undefined {
  if (!old) return undefined;
  const { program, version } = old;
  const need = (problem: string) => ({
    program,
    version,
    problem: `${problem} of ${quote(treePath(selection, entry))}`,
  });
  // Besides name and value, a record has its length, the key prefix and three more characters. Other records are short.
  const length = xattrs.reduce(
    (sum, { name, value }) => sum + 24 + name.length + value.length,
    pathLength + 128,
  );
  if (length > old.maxHeader) return need("the extended attributes");
  const mode = modeOf(selection, entry) & TYPE_MASK;
  if (mode !== FILE_TYPES.char && mode !== FILE_TYPES.block) return undefined;
  const [, minor] = decodeDevice(selection.nodes.special[contentsOf(selection, entry)!]!);
  return minor > old.maxMinor ? need(`the minor number ${minor}`) : undefined;
}

function cannotHold(type: string, what: string, reason: string): BuildError {
  const where = type === "tar" ? "an archive" : `a ${type} filesystem`;
  return new BuildError(`Cannot put ${what} into ${where}: ${reason}`, {
    hint: type === "squashfs" ? "Change the tree, or set FILESYSTEM to erofs or ext4" : "Change the tree",
  });
}
