/**
 * The output: a file or a block device. A file is a bind mount in Raptor's container: it can be truncated and
 * written, but neither renamed nor removed, and it may hold an older, larger image.
 *
 * @module
 */

import { dirname } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { formatBytes, MiB } from "../core/units.ts";
import { followLinks, inspectFile } from "../system/files.ts";
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
  /** Whether it was not there before, so that a build that fails leaves none. */
  readonly isNew?: true;
}

/** Of what is made anew. What is there keeps its mode. */
export const OUTPUT_MODE = 0o600;

/**
 * Checks that an image can be written to `path`, without changing what is there. A file that does not exist is
 * made, for its owner alone: an image has all that only root may read in the tree.
 *
 * @param size bytes of the raw image.
 * @throws {BuildError} (usage) naming what is wrong with the output.
 */
export async function checkOutput(
  path: string,
  { size, format }: { readonly size: number; readonly format: FormatName },
): Promise<Output> {
  const type = inspectFile(path)?.type;
  if (type === FILE_TYPES.block) {
    return { path, isDevice: true, size, room: checkDevice(path, size, format) };
  }
  if (type === FILE_TYPES.directory) throw refuse(path, "it is a directory");
  if (type !== undefined && type !== FILE_TYPES.file) {
    throw refuse(path, "it is no regular file and no block device", NO_STREAM);
  }
  const isNew = type === undefined;
  try {
    (await Deno.open(path, { create: true, read: true, write: true, mode: OUTPUT_MODE })).close();
  } catch (cause) {
    throw cannotWrite(path, cause);
  }
  return { path, isDevice: false, size, ...isNew && { isNew } };
}

/**
 * The file that an output really is: itself, or what it leads to as a symlink, which need not exist yet. What is beside
 * the image and what is named after it belongs there.
 */
export async function followOutput(path: string): Promise<string> {
  const type = inspectFile(path)?.type;
  // A device is reached by any of its names; a pipe has none.
  return type === undefined || type === FILE_TYPES.file ? await followLinks(path) : path;
}

/**
 * Locks an output until the lock is disposed of, or this process ends in whatever way: two builds that write into one file
 * would both succeed, and the image would be neither's.
 *
 * @throws {BuildError} naming the process that is writing it.
 */
export function lockOutput({ path }: Pick<Output, "path">): Disposable {
  const fd = posix.open(posix.cString(path), posix.OPEN.readWrite);
  if (fd < 0) throw new BuildError(`Cannot open ${quote(path)}: ${posix.errorText(fd)}`);
  const locked = posix.lock(fd, Deno.pid);
  if (locked > 0) {
    posix.close(fd);
    throw new BuildError(`Cannot write the image to ${quote(path)}: process ${locked} is building it`, {
      hint: "Wait until it has ended (it may run in a container), or name another file with --output",
    });
  }
  if (locked < 0) log.warn(`Cannot lock ${quote(path)} against other builds: ${posix.errorText(locked)}`);
  return { [Symbol.dispose]: () => posix.close(fd) };
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
      const { isFile, size, nlink } = await Deno.stat(path);
      // One with a second name may be a file of the tree.
      if (isFile && size === 0 && nlink === 1) await Deno.utime(path, EPOCH, EPOCH);
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
  (await Deno.open(path, { create: true, write: true, truncate: true, mode: OUTPUT_MODE })).close();
  await Deno.utime(path, EPOCH, EPOCH);
}

/** Writes a file beside the image. One that is not there is for its owner alone; one that is keeps its mode. */
export async function writeBeside(
  path: string,
  contents: string | ReadableStream<Uint8Array>,
): Promise<void> {
  const file = await Deno.open(path, { create: true, write: true, truncate: true, mode: OUTPUT_MODE });
  const stream = typeof contents === "string" ? new Blob([contents]).stream() : contents;
  await stream.pipeTo(file.writable);
}

/** What is done with the output of a build that failed: one that was not there before is removed, others are emptied. */
export async function abandonOutput(output: Output): Promise<void> {
  await discardOutput(output);
  if (!output.isNew) return;
  await Deno.remove(output.path).catch(() => {
    // In a directory where files cannot be removed, it stays empty and of 1970.
  });
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

/**
 * Files are dated by the tick of the kernel's clock, of which there are at least a hundred in a second: what is written at a
 * time may be dated so much earlier.
 */
const TICK_MS = 10;

/**
 * Dates the finished image: the very last act of a build. It is as old as what it was made from: a file that was changed
 * after it was read is newer.
 *
 * @param began when reading began.
 */
export async function finishOutput({ path, isDevice }: Output, began: Date): Promise<void> {
  if (isDevice) return;
  const time = new Date(began.getTime() - TICK_MS);
  await Deno.utime(path, time, time);
}
