/**
 * Decides on read-only filesystems, squashfs and erofs, which one program each makes from a pax stream.
 *
 * How large it becomes is known when it is made, since nobody can tell beforehand what compression saves.
 *
 * - https://docs.kernel.org/filesystems/squashfs.html
 * - https://docs.kernel.org/filesystems/erofs.html
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { FILE_TYPES, PERMISSIONS_MASK, TYPE_MASK } from "../core/mode.ts";
import { alignUp, KiB, MiB } from "../core/units.ts";
import { xattrsOf } from "../tree/nodes.ts";
import {
  type Compression,
  compressionArgs,
  type Compressors,
  EROFS_COMPRESSORS,
  SQUASHFS_COMPRESSORS,
} from "./compression.ts";
import { attributesOf, entryPath, modeOf, nameLengthOf, type Selection, sizeOf } from "./contents.ts";
import { ACL, type PaxOptions } from "./pax-header.ts";
import type { FilesystemPlan, FilesystemRequest } from "./types.ts";

/** What one of them can hold. */
interface ReadOnlyFilesystem {
  readonly compressors: Compressors;
  /** What it uses when nothing else is asked. */
  readonly compression: Compression;
  /** The last second of a modification time. */
  readonly lastTime: number;
  /** Whether the root is an entry of the stream, which can have xattrs. */
  readonly rootEntry: boolean;
  /** What the stream has. */
  readonly pax: Omit<PaxOptions, "time" | "root">;
  readonly uuid: boolean;
  readonly label: boolean;
}

/** The size of either is a multiple of this. */
export const READ_ONLY_BLOCK = 4 * KiB;

export const READ_ONLY = {
  "squashfs": {
    compressors: SQUASHFS_COMPRESSORS,
    compression: { name: "zstd" },
    lastTime: 2 ** 32 - 1,
    rootEntry: false,
    pax: { sparse: true, nanoseconds: false, acls: false, firstTime: 0 },
    uuid: false,
    label: false,
  },
  "erofs": {
    compressors: EROFS_COMPRESSORS,
    compression: { name: "lz4hc" },
    lastTime: Number.MAX_SAFE_INTEGER,
    rootEntry: true,
    pax: { sparse: false, nanoseconds: true, acls: true, firstTime: Number.MIN_SAFE_INTEGER },
    uuid: true,
    label: true,
  },
} as const satisfies Record<string, ReadOnlyFilesystem>;

export type ReadOnlyName = keyof typeof READ_ONLY;

/** What makes one. */
export interface StreamPlan {
  readonly selection: Selection;
  /** What the stream has. */
  readonly pax: PaxOptions;
  /** The program's arguments. */
  readonly compression: readonly string[];
  /** Seconds since 1970 of what the build makes. */
  readonly time: number;
  readonly uuid: string;
  readonly label: string;
  /** How many inodes its superblock must count. */
  readonly inodes: number;
  /** The root's own attributes, for a program that does not take them from the stream. */
  readonly root: { readonly mode: number; readonly uid: number; readonly gid: number; readonly time: number };
}

/** At most this many paths are listed. */
const SHOWN = 5;

/** The longest path that the programs take, with its NUL. */
const PATH_MAX = 4096;

/** More than any entry takes besides its contents: inode, name, pax header's worth of xattrs. */
const ENTRY_ESTIMATE = KiB;

/** Decides on one. @throws {BuildError} for what it cannot hold. */
export function planReadOnly(
  type: ReadOnlyName,
  selection: Selection,
  request: FilesystemRequest,
): FilesystemPlan {
  const row: ReadOnlyFilesystem = READ_ONLY[type];
  const compression = compressionArgs(type, row.compressors, request.compression ?? row.compression);
  const { notices, bytes, inodes } = checkEntries(type, row, selection);
  notices.push(`FREE_MB has no meaning for ${type}: it is read-only, and as large as its contents become`);
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
    notices,
    writer: {
      selection,
      pax: { ...row.pax, root: row.rootEntry, time },
      compression,
      time,
      uuid,
      label,
      inodes,
      root: rootOf(selection, time),
    },
  };
}

function rootOf(selection: Selection, time: number): StreamPlan["root"] {
  const node = attributesOf(selection, 0);
  return {
    mode: modeOf(selection, 0) & PERMISSIONS_MASK,
    uid: node === undefined ? 0 : selection.nodes.uid[node]!,
    gid: node === undefined ? 0 : selection.nodes.gid[node]!,
    time: node === undefined ? time : Math.max(0, Math.min(selection.nodes.mtimeSeconds[node]!, time)),
  };
}

/** Counts the bytes of contents, and finds what would be lost. */
function checkEntries(
  type: string,
  { rootEntry, pax }: ReadOnlyFilesystem,
  selection: Selection,
): { notices: string[]; bytes: number; inodes: number } {
  const { nodes } = selection;
  const seen = new Set<number>();
  const withAcl = new Set<number>();
  const notices: string[] = [];
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
    // What was added, and the directories, have one name each.
    seen.add(source < 0 ? source : nodes.link[source]!);
    if (mode === FILE_TYPES.socket) {
      seen.delete(nodes.link[source]!);
      notices.push(`Leaving out the socket ${quote(entryPath(selection, entry))}: no process listens on it`);
    }
    if (mode === FILE_TYPES.file) {
      const holes = pax.sparse ? nodes.data.get(source) : undefined;
      const data = holes?.reduce((sum, at, i) => sum + (i % 2 ? at : -at), 0);
      bytes += data ?? sizeOf(selection, entry);
    }
    for (const { name } of node === undefined ? [] : xattrsOf(nodes, node)) {
      if (!pax.acls && name.startsWith(ACL)) {
        withAcl.add(entry);
        continue;
      }
      const problem = entry === 0 && !rootEntry
        ? `the root has the extended attribute ${quote(name)}`
        : name.includes("=")
        ? `it has an extended attribute with "=" in its name`
        : undefined;
      if (problem) throw cannotHold(type, quote(entryPath(selection, entry)), problem);
    }
  }
  if (withAcl.size > 0) {
    const shown = [...withAcl].slice(0, SHOWN).map((entry) => quote(entryPath(selection, entry)));
    const more = withAcl.size > SHOWN ? ` and ${withAcl.size - SHOWN} others` : "";
    notices.push(
      `Leaving out the ACLs of ${shown.join(", ")}${more}: ${type} has none; the groups keep their rights`,
    );
  }
  return { notices, bytes, inodes: seen.size };
}

function cannotHold(type: string, what: string, reason: string): BuildError {
  return new BuildError(`Cannot put ${what} into a ${type} filesystem: ${reason}`, {
    hint: type === "squashfs" ? "Change the tree, or set FILESYSTEM to erofs or ext4" : "Change the tree",
  });
}
