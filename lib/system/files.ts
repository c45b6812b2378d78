/**
 * What is at a path, asked of libc: Deno only looks at devices with `--allow-all`.
 *
 * @module
 */

import { basename, dirname, resolve } from "node:path";
import { TYPE_MASK } from "../core/mode.ts";
import * as posix from "./posix.ts";

/** Bytes of a name: NAME_MAX in linux/include/uapi/linux/limits.h. */
export const MAX_NAME = 255;

/** Whether no file can have this name, because Linux has no such long ones. */
export function isTooLong(name: string): boolean {
  return new TextEncoder().encode(name).length > MAX_NAME;
}

/** What there is at a path, links followed. */
export interface FileFacts {
  /** As in `FILE_TYPES`. */
  readonly type: number;
  /** The filesystem and the number in it: two paths with the same are one file. */
  readonly device: string;
  readonly inode: bigint;
  /** How many names it has. */
  readonly links: number;
  /** Of a device: which one. */
  readonly number: string;
}

/** Looks at a path; `undefined` when nothing is there. */
export function inspectFile(path: string): FileFacts | undefined {
  const fd = posix.open(posix.cString(path), posix.OPEN.path);
  if (fd < 0) return undefined;
  const facts = inspectOpen(fd);
  posix.close(fd);
  return facts;
}

/** Looks at an open file. */
export function inspectOpen(fd: posix.Fd): FileFacts {
  const stat = new Uint8Array(256);
  posix.statx(fd, stat);
  const view = new DataView(stat.buffer);
  const number = (...at: number[]) => at.map((at) => view.getUint32(at, true)).join(":");
  return {
    type: view.getUint16(posix.STATX.mode, true) & TYPE_MASK,
    device: number(posix.STATX.devMajor, posix.STATX.devMinor),
    inode: view.getBigUint64(posix.STATX.ino, true),
    links: view.getUint32(posix.STATX.nlink, true),
    number: number(posix.STATX.rdevMajor, posix.STATX.rdevMinor),
  };
}

/** As many symlinks the kernel follows, too: https://man7.org/linux/man-pages/man7/path_resolution.7.html */
const MAX_SYMLINKS = 40;

/** What a path leads to as a symlink, which need not exist yet; itself when it is none. */
export async function followLinks(path: string): Promise<string> {
  for (let followed = 0; followed < MAX_SYMLINKS; followed++) {
    try {
      path = resolve(await Deno.realPath(dirname(path)), await Deno.readLink(path));
    } catch {
      // No symlink, or nothing at all.
      break;
    }
  }
  return path;
}

/** A path as its directory, which exists if anything can be made there, and a name in it. */
export async function placeOf(path: string): Promise<{ readonly directory: string; readonly name: string }> {
  const led = await followLinks(resolve(path));
  const directory = dirname(led);
  return { directory: await Deno.realPath(directory).catch(() => directory), name: basename(led) };
}
