/**
 * The tree to build from: a directory, or a tar archive that is unpacked into a scratch directory.
 *
 * @module
 */

import { join } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import type { Finding } from "../core/findings.ts";
import * as log from "../core/log.ts";
import { formatBytes } from "../core/units.ts";
import { reasonOf } from "../system/failure.ts";
import { openScratch, requireSpace, scratchParent } from "../system/scratch.ts";
import { archiveOptions, listArchive, unpackArchive } from "./archive.ts";

/** An opened input. */
export interface Input extends AsyncDisposable {
  readonly directory: string;
  /** What was left out when it was unpacked. */
  readonly findings: readonly Finding[];
}

/**
 * Opens the tree at `path`.
 *
 * @param parent of the scratch directory for unpacking an archive, which is removed on disposal.
 * @throws {BuildError} when it is neither a directory nor a tar archive, or cannot be unpacked completely.
 */
export async function openInput(
  path: string,
  parent: string = scratchParent(),
): Promise<Input> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (cause) {
    const missing = cause instanceof Deno.errors.NotFound;
    const reason = missing ? "" : `: ${reasonOf(cause)}`;
    throw new BuildError(`Cannot find the input ${quote(path)}${reason}`, {
      kind: "usage",
      hint: "Give a directory or a tar archive with --input",
      cause,
    });
  }
  if (info.isDirectory) {
    checkMapping(path, info);
    return { directory: path, findings: [], [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  if (!info.isFile) throw notATree(path);

  const options = await archiveOptions(path);
  if (!options) throw notATree(path);
  const contents = await listArchive(path, options);
  requireSpace(
    parent,
    contents.size,
    `unpack ${quote(path)}`,
    "Set TMPDIR to a directory with more space",
  );
  log.step(`Unpacking ${quote(path)}: ${formatBytes(contents.size)}`);
  const scratch = await openScratch(parent);
  let findings: Finding[];
  try {
    await checkOwners(path, scratch.path);
    findings = await unpackArchive(path, options, contents, scratch.path);
  } catch (error) {
    await scratch[Symbol.asyncDispose]();
    throw error;
  }
  return {
    directory: join(scratch.path, "tree"),
    findings,
    [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose](),
  };
}

/** What the kernel shows in a user namespace for an unmapped owner; also Debian's nobody. */
const OVERFLOW_ID = 65534;

/** In a rootless container, the real root's tree belongs to nobody, and its private files are unreadable. */
function checkMapping(path: string, { uid, gid }: Deno.FileInfo): void {
  if (uid !== OVERFLOW_ID || gid !== OVERFLOW_ID) return;
  throw new BuildError(`Cannot use the input ${quote(path)}: its owners are not mapped into this container`, {
    kind: "usage",
    hint:
      "Without root, mount a container image (--mount type=image,source=IMAGE,destination=/input), or give " +
      "a tar archive, or a directory that belongs to you",
  });
}

function notATree(path: string): BuildError {
  return new BuildError(`Cannot use the input ${quote(path)}: neither a directory nor a tar archive`, {
    kind: "usage",
    hint: "Archives may be uncompressed, or compressed with gzip, zstd or xz",
  });
}

/** The image gets the owners of the unpacked files, so we must be able to set them. The only way to know is to try. */
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
