/**
 * The tree to build from: a directory, or a tar archive that is unpacked into a scratch directory.
 *
 * @module
 */

import { join } from "node:path";
import { BuildError, quote } from "./error.ts";
import * as log from "./log.ts";
import { shWith } from "./sh.ts";
import { archiveOptions, listArchive, unpackArchive } from "./tar.ts";
import { formatBytes } from "./units.ts";

/** A tree that can be read. */
export interface Input {
  readonly directory: string;
  /** Removes what was unpacked. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens the tree at `path`.
 *
 * @param scratch where an archive is unpacked: `TMPDIR`, or `/var/tmp`, since `/tmp` is often kept in memory.
 * @throws {BuildError} when it is neither a directory nor a tar archive, or cannot be unpacked as it is.
 */
export async function openInput(
  path: string,
  scratch: string = Deno.env.get("TMPDIR") || "/var/tmp",
): Promise<Input> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new BuildError(`Cannot find the input ${quote(path)}`, {
      kind: "usage",
      hint: "Give a directory or a tar archive with --input",
      cause,
    });
  }
  if (info.isDirectory) return { directory: path, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (!info.isFile) throw notATree(path);

  const options = await archiveOptions(path);
  if (!options) throw notATree(path);
  const contents = await listArchive(path, options);
  await checkSpace(path, scratch, contents.size);
  log.step(`Unpacking ${quote(path)}: ${formatBytes(contents.size)}`);
  const directory = await makeScratch(scratch);
  const remove = () => Deno.remove(directory, { recursive: true });
  try {
    await checkOwners(path, directory);
    await unpackArchive(path, options, contents, directory);
    return { directory: join(directory, "tree"), [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

function notATree(path: string): BuildError {
  return new BuildError(`Cannot use the input ${quote(path)}: neither a directory nor a tar archive`, {
    kind: "usage",
    hint: "Archives are read plain or compressed with gzip, zstd or xz",
  });
}

/** An archive needs its own size at most, and room for the files' last blocks. */
async function checkSpace(path: string, scratch: string, size: number): Promise<void> {
  const free = Number((await shWith({ quiet: true })`df --output=avail -B1 ${scratch}`).split("\n")[1]);
  if (free >= size) return;
  throw new BuildError(
    `Cannot unpack ${quote(path)}: it needs ${formatBytes(size)}, and ${quote(scratch)} has ${
      formatBytes(free)
    }`,
    { hint: "Set TMPDIR to a directory with more space" },
  );
}

async function makeScratch(scratch: string): Promise<string> {
  try {
    return await Deno.makeTempDir({ dir: scratch, prefix: "raptor-builders-" });
  } catch (cause) {
    throw new BuildError(`Cannot write to the scratch directory ${quote(scratch)}`, {
      hint: "Set TMPDIR to a directory that can be written",
      cause,
    });
  }
}

/** The image has the owners of the unpacked files, so files must be given away. Tried, since it depends. */
async function checkOwners(path: string, scratch: string): Promise<void> {
  const probe = join(scratch, "owner");
  await Deno.writeTextFile(probe, "");
  try {
    await Deno.chown(probe, 1, 1);
  } catch (cause) {
    throw new BuildError(`Cannot unpack ${quote(path)} with its owners: this process may not set them`, {
      kind: "usage",
      hint: "Run as root, in a container with --cap-add=CHOWN,DAC_OVERRIDE,FOWNER,FSETID,MKNOD,SETFCAP, " +
        "or unpack the archive first and give the directory",
      cause,
    });
  }
}
