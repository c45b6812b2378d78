/**
 * Errors for system calls that failed, with what a person can do about them.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { formatBytes } from "../core/units.ts";
import * as posix from "./posix.ts";

const USE_ANOTHER = "or use another filesystem";

/** What to do about errors that are the machine's fault, not a bug: it is out of some resource, or broken. By errno(3). */
const REMEDIES: Readonly<Record<number, string>> = {
  [posix.EDQUOT]: `Free some of your quota, ${USE_ANOTHER}`,
  [posix.EFBIG]: "Use a filesystem that can hold larger files",
  [posix.EIO]: "Check the disk: dmesg(1) shows what is wrong with it",
  [posix.EMFILE]: "Raise the limit of open files, see ulimit -n",
  [posix.ENFILE]: "Raise the limit of open files, see /proc/sys/fs/file-max",
  [posix.ENOMEM]: "Give the build more memory",
  [posix.ENOSPC]: `Free some space, ${USE_ANOTHER}`,
};

/**
 * What to do about an error of Deno that is the machine's fault; `undefined` for any other.
 *
 * Its message has the errno; its `code` has only some of them.
 */
export function remedyFor(error: unknown): string | undefined {
  return error instanceof Error ? REMEDIES[Number(SYSTEM_ERROR.exec(error.message)?.[2])] : undefined;
}

/** Why a call of Deno failed, in the words of the system: without the errno, and the path that Deno adds. */
export function reasonOf(error: unknown): string {
  const { message } = error as Error;
  return SYSTEM_ERROR.exec(message)?.[1] ?? message;
}

/** The message of an error of Deno: `Permission denied (os error 13): open '/a'`. */
const SYSTEM_ERROR = /^(.*?) \(os error (\d+)\)/;

/**
 * The error for a system call that failed for a file.
 *
 * @param errno of either sign; 0: the file has ended.
 * @param hint if there is a better one than for this error in general.
 */
export function cannot(
  verb: "open" | "read" | "write",
  path: string,
  errno: number,
  hint: string | undefined = REMEDIES[Math.abs(errno)],
): BuildError {
  const reason = errno === 0 ? "it ends too early" : posix.errorText(errno);
  return new BuildError(`Cannot ${verb} ${quote(path)}: ${reason}`, { hint });
}

/**
 * Gives a file its size; what was never written reads as zeros.
 *
 * @param size in bytes.
 * @throws {BuildError} where the filesystem does not take such a file: not any of this size, or none with holes.
 */
export function setSize(path: string, size: number): void {
  const failed = posix.truncate(posix.cString(path), size);
  if (failed === 0) return;
  const reason = posix.errorText(failed);
  const isRefused = failed === -posix.EFBIG || failed === -posix.ENOSPC;
  throw new BuildError(`Cannot make ${quote(path)} ${formatBytes(size)} large: ${reason}`, {
    hint: isRefused
      ? "Use a filesystem where files can be that large and have holes, unlike FAT and exFAT; scratch files are in TMPDIR"
      : REMEDIES[-failed],
  });
}
