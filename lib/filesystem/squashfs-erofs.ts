/**
 * Read-only filesystems, squashfs and erofs: one program each makes and fills one from a pax stream.
 *
 * How large it becomes is known when it is made, since nobody can tell beforehand what compression saves.
 *
 * - https://docs.kernel.org/filesystems/squashfs.html
 * - https://docs.kernel.org/filesystems/erofs.html
 *
 * @module
 */

import type { Target } from "../image/target.ts";
import { FILE_TYPES, PERMISSIONS_MASK, TYPE_MASK } from "../core/mode.ts";
import {
  type Compression,
  compressionArgs,
  type Compressors,
  EROFS_COMPRESSORS,
  SQUASHFS_COMPRESSORS,
} from "./compression.ts";
import { attributesOf, entryPath, modeOf, type Selection, sizeOf } from "./contents.ts";
import { BuildError, quote } from "../core/error.ts";
import type { FilesystemPlan, FilesystemWish, MakeContext } from "./filesystems.ts";
import { readImage } from "../image/image.ts";
import { xattrsOf } from "../tree/nodes.ts";
import { ACL } from "./pax-header.ts";
import { type PaxOptions, paxStream } from "./pax.ts";
import { sh, shWith } from "../system/sh.ts";
import { alignUp, KiB, MiB } from "../core/units.ts";

/** What one of them can hold, and how it is made. */
interface ReadOnlyFilesystem {
  readonly program: string;
  readonly compressors: Compressors;
  /** What it uses when nothing else is asked. */
  readonly compression: Compression;
  /** The last second of a modification time. */
  readonly lastTime: number;
  /** Whether the root is an entry of the stream, which can have xattrs. */
  readonly rootEntry: boolean;
  readonly pax: Omit<PaxOptions, "time" | "root" | "onProgress">;
  readonly uuid: boolean;
  readonly label: boolean;
  /** Where its superblock says what it is and how much it holds. */
  readonly superblock: (view: DataView) => { magic: number; inodes: number; size: number };
  readonly magic: number;
  /** Reads all of it, in an image at an offset. */
  readonly check: (path: string, offset: number) => Promise<unknown>;
  /** Runs the program, with the stream on its stdin. */
  readonly run: (job: Job) => Promise<unknown>;
}

interface Job {
  readonly path: string;
  readonly selection: Selection;
  readonly wish: FilesystemWish;
  readonly compression: readonly string[];
  readonly stdin: Iterable<Uint8Array<ArrayBuffer>>;
  readonly scratch: string;
}

/** The multiple of bytes that the size of each is. */
export const READ_ONLY_BLOCK = 4 * KiB;

export const READ_ONLY = {
  "squashfs": {
    program: "mksquashfs",
    compressors: SQUASHFS_COMPRESSORS,
    compression: { name: "zstd" },
    lastTime: 2 ** 32 - 1,
    rootEntry: false,
    pax: { sparse: true, nanoseconds: false, acls: false, firstTime: 0 },
    uuid: false,
    label: false,
    magic: 0x73717368,
    superblock: (view) => ({
      magic: view.getUint32(0, true),
      inodes: view.getUint32(4, true),
      size: alignUp(Number(view.getBigUint64(40, true)), READ_ONLY_BLOCK),
    }),
    // As a list of pseudo files with all contents, which nobody keeps.
    check: (path, offset) => sh`unsquashfs -o ${offset} -pf /dev/null ${path}`,
    run: async ({ path, selection, wish, compression, stdin, scratch }) => {
      const { mode, uid, gid, time } = rootOf(selection, wish);
      await checkRootOwner({ uid, gid }, scratch);
      const run = shWith({ stdin, env: { SOURCE_DATE_EPOCH: String(wish.time) } });
      return run`mksquashfs - ${path} -tar -noappend -exit-on-error -quiet -no-progress -reproducible ${compression}
        -root-mode ${mode.toString(8)} -root-uid ${uid} -root-gid ${gid} -root-time ${time}`;
    },
  },
  "erofs": {
    program: "mkfs.erofs",
    compressors: EROFS_COMPRESSORS,
    compression: { name: "lz4hc" },
    lastTime: Number.MAX_SAFE_INTEGER,
    rootEntry: true,
    pax: { sparse: false, nanoseconds: true, acls: true, firstTime: Number.MIN_SAFE_INTEGER },
    uuid: true,
    label: true,
    magic: 0xe0f5e1e2,
    superblock: (view) => ({
      magic: view.getUint32(1024, true),
      inodes: Number(view.getBigUint64(1040, true)),
      size: view.getUint32(1060, true) * READ_ONLY_BLOCK,
    }),
    check: (path, offset) => sh`fsck.erofs --extract ${`--offset=${offset}`} ${path}`,
    run: ({ path, wish, compression, stdin, scratch }) => {
      const run = shWith({ stdin, env: { SOURCE_DATE_EPOCH: String(wish.time), TMPDIR: scratch } });
      return run`mkfs.erofs --quiet --tar=f -b4096 -T${wish.time} --mkfs-time -U${wish.uuid}
        -L${wish.label} ${compression} ${path}`;
    },
  },
} as const satisfies Record<string, ReadOnlyFilesystem>;

export type ReadOnlyName = keyof typeof READ_ONLY;

/** So many paths of one kind are named. */
const SHOWN = 5;

/** The longest path that the programs take, with its NUL. */
const PATH_MAX = 4096;

/** More than any entry takes besides its contents: inode, name, pax header's worth of xattrs. */
const ENTRY_ESTIMATE = KiB;

/** Decides on one. @throws {BuildError} for what it cannot hold. */
export function planReadOnly(type: ReadOnlyName, selection: Selection, wish: FilesystemWish): FilesystemPlan {
  const row: ReadOnlyFilesystem = READ_ONLY[type];
  const compression = compressionArgs(type, row.compressors, wish.compression ?? row.compression);
  const { notices, bytes, inodes } = checkEntries(type, row, selection);
  notices.push(`FREE_MB has no meaning for ${type}: it is read-only, and as large as its contents become`);
  if (wish.time > row.lastTime) {
    throw cannotHold(type, `SOURCE_DATE_EPOCH=${wish.time}`, `its times end at ${row.lastTime}`);
  }
  return {
    type,
    size: wish.size ?? alignUp(bytes + selection.count * ENTRY_ESTIMATE, MiB),
    measured: true,
    label: row.label ? wish.label : "",
    uuid: row.uuid ? wish.uuid : "",
    entries: selection.count,
    bytes,
    notices,
    verify: (target, { full }) => verify(target, type, row, inodes, full),
    make: ({ path }, context) => make(path, row, selection, wish, compression, context),
  };
}

/** Makes one in a file of its own, which then ends where the filesystem does. */
async function make(
  path: string,
  row: ReadOnlyFilesystem,
  selection: Selection,
  wish: FilesystemWish,
  compression: readonly string[],
  { root, scratch, onProgress }: MakeContext,
): Promise<void> {
  const options = { ...row.pax, root: row.rootEntry, time: wish.time, onProgress };
  await row.run({ path, selection, wish, compression, stdin: paxStream(selection, root, options), scratch });
}

/** Looks at the superblock: a program that was stopped half-way, or wrote elsewhere, leaves another. */
async function verify(
  { path, offset, size }: Target,
  type: string,
  row: ReadOnlyFilesystem,
  inodes: number,
  full: boolean,
): Promise<void> {
  const found = row.superblock(new DataView(readImage(path, offset, READ_ONLY_BLOCK).buffer));
  if (found.magic !== row.magic || found.inodes !== inodes || found.size > size) {
    throw new BuildError(`${row.program} made no ${type} filesystem of ${inodes} inodes`, {
      hint: "Build again; if it fails again, check the memory and the disk of this machine",
    });
  }
  if (full) await row.check(path, offset);
}

/** The root's own attributes, for a program that does not take them from the stream. */
function rootOf(selection: Selection, { time }: FilesystemWish) {
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
      const name = selection.source[entry]! < 0
        ? selection.added[~selection.source[entry]!]!.name.length
        : nodes.nameLength[selection.source[entry]!]!;
      paths[entry] = paths[selection.parent[entry]!]! + 1 + name;
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

/** The first mksquashfs that gives the root of a stream its owner and time. Debian 12 has 4.5, Debian 13 4.6. */
const ROOT_VERSION = [4, 6] as const;

/** An older one gives the root directory the owner of whoever runs it: fine when that is the right one. */
async function checkRootOwner(root: { uid: number; gid: number }, scratch: string): Promise<void> {
  const said = await shWith({ quiet: true })`mksquashfs -version`;
  const [, major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(said) ?? []).map(Number);
  if (major > ROOT_VERSION[0] || (major === ROOT_VERSION[0] && minor >= ROOT_VERSION[1])) return;
  // A directory of our own has our owner.
  const { uid, gid } = await Deno.stat(scratch);
  if (uid === root.uid && gid === root.gid) return;
  throw new BuildError(
    `Cannot give the root directory its owner ${root.uid}:${root.gid} with mksquashfs ${major}.${minor}`,
    { hint: `Build as that user, or use ${ROOT_VERSION.join(".")} or later, as in Debian 13` },
  );
}
