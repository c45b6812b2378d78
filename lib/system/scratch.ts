/**
 * Scratch space: a temporary directory for one build.
 *
 * @module
 */

import { resolve } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { formatBytes, MiB } from "../core/units.ts";
import { reasonOf } from "./failure.ts";
import { type GuardedOutput, startGuard } from "./guard.ts";
import * as posix from "./posix.ts";
import { readProc } from "./proc.ts";

/** A temporary directory. `await using` removes it with its contents. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

/**
 * Where scratch directories are made: `TMPDIR`, or `/var/tmp`, since `/tmp` is often in memory.
 *
 * Absolute, like the output: programs take `-x` for an option, and qemu-img takes `a:b` for a protocol.
 */
export function scratchParent(): string {
  return resolve(Deno.env.get("TMPDIR") || "/var/tmp");
}

/** What to do when memory ran out: scratch files may be in it, as in a container with a read-only root. */
export function memoryHint(parent: string = scratchParent()): string {
  const hint = "The system may have run out of memory";
  const fd = posix.open(posix.cString(parent), posix.OPEN.place);
  if (fd < 0) return hint;
  const type = posix.filesystemType(fd);
  posix.close(fd);
  return type === posix.TMPFS
    ? `${hint}, which ${quote(parent)} is part of: set TMPDIR to a directory on a disk`
    : hint;
}

/**
 * Makes a scratch directory. Should this process be killed, the guard removes it, and empties or removes `output`.
 *
 * @throws {BuildError} when its parent is not writable.
 */
export async function openScratch(parent: string, output?: GuardedOutput): Promise<Scratch> {
  let path: string;
  try {
    path = await Deno.makeTempDir({ dir: parent, prefix: "raptor-builders-" });
  } catch (cause) {
    throw cannotWrite(parent, cause);
  }
  const guard = startGuard({ scratch: path, ...output !== undefined && { output } });
  return {
    path,
    async [Symbol.asyncDispose]() {
      try {
        await Deno.remove(path, { recursive: true });
      } catch (error) {
        log.warn(`Cannot remove the scratch directory ${quote(path)}: ${reasonOf(error)}`);
      }
      await guard[Symbol.asyncDispose]();
    },
  };
}

const SET_TMPDIR = "Set TMPDIR to a writable directory";

function cannotWrite(parent: string, cause: unknown): BuildError {
  return new BuildError(`Cannot write to the scratch directory ${quote(parent)}: ${reasonOf(cause)}`, {
    hint: SET_TMPDIR,
    cause,
  });
}

/**
 * Calls `fn` with the path of a file that is gone afterwards, for libraries that read nothing else.
 *
 * @param files the contents of that file under "", and of files beside it by what follows its name. One alone is in memory.
 * @throws {BuildError} when there is no place for several.
 */
export function withFiles<T>(
  files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  fn: (path: string) => T,
): T {
  const only = files.size === 1 ? files.get("") : undefined;
  const fd = only ? posix.memoryFile() : -1;
  if (only && fd >= 0) {
    try {
      const path = `/proc/self/fd/${fd}`;
      if (posix.pwrite(fd, only, 0) === only.length) return fn(path);
    } finally {
      posix.close(fd);
    }
  }
  const parent = scratchParent();
  let directory: string;
  try {
    directory = Deno.makeTempDirSync({ dir: parent, prefix: "raptor-builders-" });
  } catch (cause) {
    throw cannotWrite(parent, cause);
  }
  try {
    for (const [suffix, bytes] of files) Deno.writeFileSync(`${directory}/file${suffix}`, bytes);
    return fn(`${directory}/file`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** Free bytes in the filesystem of `path`. */
export function freeSpace(path: string): number {
  const free = posix.freeBytes(posix.cString(path));
  if (free >= 0) return free;
  throw new BuildError(`Cannot determine the free space in ${quote(path)}: ${posix.errorText(free)}`, {
    hint: path === scratchParent() ? SET_TMPDIR : undefined,
  });
}

/**
 * Checks that `needed` bytes fit into the filesystem of `directory`.
 *
 * @param what needs the space, for the message: "Cannot WHAT: it needs …".
 * @throws {BuildError} naming both sizes.
 */
export function requireSpace(directory: string, needed: number, what: string, hint: string): void {
  const free = freeSpace(directory);
  if (free >= needed) return;
  throw new BuildError(
    `Cannot ${what}: it needs ${formatBytes(needed)}, and ${quote(directory)} has ${formatBytes(free)} left`,
    { hint },
  );
}

/**
 * Checks that a file may become as large as `size` bytes. The kernel kills a process that writes beyond RLIMIT_FSIZE
 * (setrlimit(2)) with SIGXFSZ.
 *
 * @throws {BuildError} naming both sizes.
 */
export function requireFileSize(size: number): void {
  const limit = /^Max file size +(\d+)/m.exec(readProc("/proc/self/limits") ?? "")?.[1];
  if (limit === undefined || size <= Number(limit)) return;
  throw new BuildError(
    `Cannot write a file of ${formatBytes(size)}: the limit for this process is ${
      formatBytes(Number(limit))
    }`,
    { hint: "Raise it (ulimit -f unlimited)" },
  );
}

/** The first of the directories with a full filesystem. */
export function fullDirectory(directories: readonly string[]): string | undefined {
  return directories.find((directory) => freeSpace(directory) < MiB);
}
