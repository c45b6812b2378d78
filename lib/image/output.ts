/**
 * The output: a file or a block device. A file is a bind mount in Raptor's container: it can be truncated and
 * written, but neither renamed nor removed, and it may hold an older, larger image.
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import { FILE_TYPES, TYPE_MASK } from "../core/mode.ts";
import { formatBytes, MiB } from "../core/units.ts";
import * as posix from "../system/posix.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import type { FormatName } from "./formats.ts";
import { imageSize } from "./image.ts";

const EPOCH = new Date(0);

/** An output that can be written. */
export interface Output {
  readonly path: string;
  /** A block device keeps its size, and its content where no image is written. */
  readonly isDevice: boolean;
  /** Bytes of the raw image; 0 when that is not known yet. */
  readonly size: number;
  /** Bytes of the block device. */
  readonly room?: number;
}

/**
 * Checks that an image can be written to `path`, without changing what is there. A file that does not exist is
 * made.
 *
 * @param size bytes of the raw image.
 * @param tree the directory that the image is made from: an image in it would be part of itself.
 * @throws {BuildError} (usage) naming what is wrong with the output.
 */
export async function checkOutput(
  path: string,
  { size, format, tree }: { readonly size: number; readonly format: FormatName; readonly tree: string },
): Promise<Output> {
  const type = typeOf(path);
  if (type === FILE_TYPES.block) {
    return { path, isDevice: true, size, room: checkDevice(path, size, format) };
  }
  if (type === FILE_TYPES.directory) throw refuse(path, "it is a directory");
  if (type !== undefined && type !== FILE_TYPES.file) {
    throw refuse(path, "it is no regular file and no block device", NO_STREAM);
  }
  try {
    (await Deno.open(path, { create: true, read: true, write: true })).close();
    const real = await Deno.realPath(path);
    if (real.startsWith(`${await Deno.realPath(tree)}/`)) {
      throw refuse(path, "it lies in the tree that the image is made from");
    }
  } catch (cause) {
    throw cause instanceof BuildError ? cause : cannotWrite(path, cause);
  }
  return { path, isDevice: false, size };
}

/** As many symlinks the kernel follows, too: https://man7.org/linux/man-pages/man7/path_resolution.7.html */
const MAX_SYMLINKS = 40;

/**
 * The file that an output really is: itself, or what it leads to as a symlink, which need not exist yet. What is beside
 * the image and what is named after it belongs there.
 */
export async function followLinks(path: string): Promise<string> {
  const type = typeOf(path);
  // A device is reached by any of its names; a pipe has none.
  if (type !== undefined && type !== FILE_TYPES.file) return path;
  for (let followed = 0; followed < MAX_SYMLINKS; followed++) {
    try {
      path = resolve(await Deno.realPath(dirname(path)), await Deno.readLink(path));
    } catch {
      // No symlink, or nothing at all: checkOutput() says what is wrong with it.
      break;
    }
  }
  return path;
}

/** The type of what is there, as in `FILE_TYPES`. Asked of libc: Deno only looks at devices with `--allow-all`. */
function typeOf(path: string): number | undefined {
  const fd = posix.open(posix.cString(path), posix.OPEN.path);
  if (fd < 0) return undefined;
  const stat = new Uint8Array(256);
  posix.statx(fd, stat);
  posix.close(fd);
  return new DataView(stat.buffer).getUint16(posix.STATX.mode, true) & TYPE_MASK;
}

/** @returns the bytes of the device. */
function checkDevice(path: string, size: number, format: FormatName): number {
  if (format !== "raw") throw refuse(path, `a block device holds no ${format}`, "Set OUTPUT_FORMAT to raw");
  const room = imageSize(path);
  if (room < size) {
    throw refuse(
      path,
      `the image is of ${formatBytes(size)}, and the device of ${formatBytes(room)}`,
      `Set SIZE_MB to ${Math.floor(room / MiB)} or less`,
    );
  }
  // The kernel refuses it while the device, or a partition of it, is mounted.
  const fd = posix.open(posix.cString(path), posix.OPEN.exclusive);
  if (fd < 0) throw refuse(path, posix.errorText(fd), "Unmount it and all its partitions");
  posix.close(fd);
  return room;
}

/** The partition table is written last, and is at the front. */
const NO_STREAM = "An image is not written from front to back: name a file with --output, and send that on";

/** What stands for an open file: `-` for stdout to other programs, to the kernel what Deno does not let us open. */
const OPEN_FILES = /^(-|\/dev\/(stdin|stdout|stderr|fd\/.*)|\/proc\/.*)$/;

/** Refuses an output that is a stream, or an open file. @throws {BuildError} (usage) */
export function refuseStream(output: string): void {
  if (!OPEN_FILES.test(output)) return;
  const hint = output === "-" ? `${NO_STREAM} (a file of this name is ./-)` : NO_STREAM;
  throw new BuildError(`Cannot write the image to ${output === "-" ? "stdout" : quote(output)}`, {
    kind: "usage",
    hint,
  });
}

function refuse(path: string, reason: string, hint = "Name a file with --output"): BuildError {
  return new BuildError(`Cannot write the image to ${quote(path)}: ${reason}`, { kind: "usage", hint });
}

function cannotWrite(path: string, cause: unknown): BuildError {
  const missing = cause instanceof Deno.errors.NotFound;
  const denied = cause instanceof Deno.errors.PermissionDenied;
  const hint = missing
    ? "Make the directory, or name another file with --output"
    : denied
    ? "In a container the file must belong to its user, or add --cap-add=DAC_OVERRIDE"
    : undefined;
  const reason = missing ? `there is no directory ${quote(dirname(path))}` : (cause as Error).message;
  return new BuildError(`Cannot write the image to ${quote(path)}: ${reason}`, {
    kind: "usage",
    hint,
    cause,
  });
}

/**
 * Dates outputs that are empty 1970, before anything else is done. Raptor makes the file just before it starts
 * the builder: whatever ends without an image (a usage error, `--help`, `--dry-run`) would otherwise leave one
 * that looks up to date.
 *
 * An image that is there is left alone: it is as old as it looks.
 */
export async function dateEmptyOutputs(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    try {
      const { isFile, size } = await Deno.stat(path);
      if (isFile && size === 0) await Deno.utime(path, EPOCH, EPOCH);
    } catch {
      // It does not exist or may not be changed: checkOutput() says so when it comes to it.
    }
  }
}

/**
 * Throws away what the output holds. Afterwards a file is empty and dated 1970: Raptor, which takes an output
 * that is newer than its sources for up to date, will build it again. A device reads as zeros where its first
 * and last structures were, so that nothing is found on it.
 */
export async function discardOutput({ path, isDevice, size, room = 0 }: Output): Promise<void> {
  if (isDevice) {
    // The backup of a GPT is at the end of the device.
    const ends = [MiB, size, room].map((end) => Math.min(end, room)).filter((end) => end > 0);
    for (const end of ends) zero(path, Math.max(0, end - MiB), Math.min(MiB, end));
    return;
  }
  // qemu-img removes a file that it cannot finish.
  (await Deno.open(path, { create: true, write: true, truncate: true })).close();
  await Deno.utime(path, EPOCH, EPOCH);
}

/** So many bytes of a device are zeroed before signals and progress get a turn. */
const ZERO_BYTES = 64 * MiB;

/** Gives an output that was discarded the size of the image, which then reads as zeros. */
export async function allocateOutput(
  { path, isDevice, size }: Output,
  onProgress: (done: number) => void,
): Promise<void> {
  if (!isDevice) return await Deno.truncate(path, size);
  for (let offset = 0; offset < size; offset += ZERO_BYTES) {
    zero(path, offset, Math.min(ZERO_BYTES, size - offset));
    onProgress(offset);
    await yieldToEventLoop();
    throwIfInterrupted();
  }
}

/** Makes a part of a device read as zeros: by the device itself if it can do that, else by writing them. */
function zero(path: string, offset: number, length: number): void {
  const fd = posix.open(posix.cString(path), posix.OPEN.readWrite);
  const result = fd < 0 ? fd : posix.zeroRange(fd, offset, length);
  if (fd >= 0) posix.close(fd);
  if (result < 0) throw new BuildError(`Cannot write ${quote(path)}: ${posix.errorText(result)}`);
}

/** Dates the finished image: the very last act of a build. */
export async function finishOutput({ path, isDevice }: Output): Promise<void> {
  if (isDevice) return;
  const now = new Date();
  await Deno.utime(path, now, now);
}
