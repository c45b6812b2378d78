/**
 * The output file. It is a bind mount in Raptor's container: it can be truncated and written, but neither
 * renamed nor removed, and it may hold an older, larger image.
 *
 * @module
 */

import { dirname } from "node:path";
import { BuildError, quote } from "./error.ts";

const EPOCH = new Date(0);

/**
 * Checks that the output can be written, and makes it when it does not exist.
 *
 * @throws {BuildError} (usage) when it is no regular file or its directory does not exist.
 */
export async function prepareOutput(path: string): Promise<void> {
  const info = await Deno.stat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw cannotWrite(path, error);
  });
  if (info && !info.isFile) {
    const what = info.isDirectory ? "a directory" : "no regular file";
    throw new BuildError(`Cannot write the image to ${quote(path)}: it is ${what}`, {
      kind: "usage",
      hint: "Name a file with --output",
    });
  }
  try {
    const file = await Deno.open(path, { create: true, write: true });
    file.close();
  } catch (cause) {
    throw cannotWrite(path, cause);
  }
}

function cannotWrite(path: string, cause: unknown): BuildError {
  const missing = cause instanceof Deno.errors.NotFound;
  const reason = missing ? `there is no directory ${quote(dirname(path))}` : (cause as Error).message;
  return new BuildError(`Cannot write the image to ${quote(path)}: ${reason}`, {
    kind: "usage",
    hint: missing ? "Make the directory, or name another file with --output" : undefined,
    cause,
  });
}

/**
 * Dates an output that is empty 1970, before anything else is done. Raptor makes the file just before it
 * starts the builder: should the build end before it comes to writing, the file would look up to date.
 *
 * An image that is there is left alone: it is as old as it looks.
 */
export async function dateEmptyOutput(path: string): Promise<void> {
  try {
    const { isFile, size } = await Deno.stat(path);
    if (isFile && size === 0) await Deno.utime(path, EPOCH, EPOCH);
  } catch {
    // It does not exist or may not be changed: prepareOutput() says so when it comes to it.
  }
}

/**
 * Empties the output and dates it 1970: Raptor, which takes an output that is newer than its sources for up to
 * date, will build it again.
 */
export async function discardOutput(path: string): Promise<void> {
  await Deno.truncate(path, 0);
  await Deno.utime(path, EPOCH, EPOCH);
}

/** Dates the finished image: the very last act of a build. */
export async function finishOutput(path: string): Promise<void> {
  const now = new Date();
  await Deno.utime(path, now, now);
}
