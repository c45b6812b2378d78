/**
 * Scratch space: a directory that is gone when the build is.
 *
 * @module
 */

import { BuildError, quote } from "./error.ts";
import { shWith } from "./sh.ts";
import { formatBytes } from "./units.ts";

/** A directory of our own. `await using` removes it with all it holds. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

/** Where scratch directories are made: `TMPDIR`, or `/var/tmp`, since `/tmp` is often kept in memory. */
export function scratchParent(): string {
  return Deno.env.get("TMPDIR") || "/var/tmp";
}

/** Makes a scratch directory. @throws {BuildError} when its parent cannot be written. */
export async function openScratch(parent = scratchParent()): Promise<Scratch> {
  try {
    const path = await Deno.makeTempDir({ dir: parent, prefix: "raptor-builders-" });
    return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
  } catch (cause) {
    throw new BuildError(`Cannot write to the scratch directory ${quote(parent)}`, {
      hint: "Set TMPDIR to a directory that can be written",
      cause,
    });
  }
}

/** Bytes that may still be written to the filesystem that holds `path`. */
export async function freeSpace(path: string): Promise<number> {
  return Number((await shWith({ quiet: true })`df --output=avail -B1 -- ${path}`).trim().split("\n").at(-1));
}

/**
 * Checks that `needed` bytes fit into the filesystem of `directory`.
 *
 * @param what begins the message: "Cannot WHAT: it needs …".
 * @throws {BuildError} naming both sizes.
 */
export async function requireSpace(
  directory: string,
  needed: number,
  what: string,
  hint: string,
): Promise<void> {
  const free = await freeSpace(directory);
  if (free >= needed) return;
  throw new BuildError(
    `Cannot ${what}: it needs ${formatBytes(needed)}, and ${quote(directory)} has ${formatBytes(free)} left`,
    { hint },
  );
}
