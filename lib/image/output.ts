/**
 * The output: a file or a block device. In Raptor's container, the file is a bind mount: it can be truncated
 * and written, but not renamed or removed, and it may hold an older, larger image.
 *
 * @module
 */

import { dirname } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { formatBytes, MiB } from "../core/units.ts";
import { followLinks, inspectFile } from "../system/files.ts";
import { cannot, reasonOf, remedyFor, setSize } from "../system/failure.ts";
import * as posix from "../system/posix.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import type { Compress, FormatName } from "./formats.ts";
import { imageSize } from "./image.ts";

const EPOCH = new Date(0);

/** An output that can be written to. */
export interface Output {
  readonly path: string;
  /** A block device keeps its size, and its contents where nothing is written. */
  readonly isDevice: boolean;
  /** Bytes of the raw image; 0 if not known yet. */
  readonly size: number;
  /** Bytes of the block device. */
  readonly room?: number;
  /** Whether it did not exist before: then a failed build removes it. */
  readonly isNew?: true;
}

/** The mode of new files. Existing files keep theirs. */
export const OUTPUT_MODE = 0o600;

/**
 * Checks that an image can be written to `path`, without changing an existing file. A missing file is
 * created, readable only by its owner: an image contains files that only root may read in the tree.
 *
 * @param size bytes of the raw image.
 * @throws {BuildError} (usage) naming what is wrong with the output.
 */
export async function checkOutput(
  path: string,
  { size, format, compress = "none" }: {
    readonly size: number;
    readonly format: FormatName;
    readonly compress?: Compress;
  },
): Promise<Output> {
  const type = inspectFile(path)?.type;
  if (type === FILE_TYPES.block) {
    if (compress !== "none") {
      throw refuse(path, "a compressed image cannot go on a block device", "Leave COMPRESS out");
    }
    return { path, isDevice: true, size, room: checkDevice(path, size, format) };
  }
  if (type === FILE_TYPES.directory) throw refuse(path, "it is a directory");
  if (type !== undefined && type !== FILE_TYPES.file) {
    throw refuse(path, "it is neither a regular file nor a block device", NO_STREAM);
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
 * Resolves an output that is a symlink to the file it points to, which need not exist yet. Side files are named after
 * that file and go next to it.
 */
export async function followOutput(path: string): Promise<string> {
  const type = inspectFile(path)?.type;
  // Any name of a device will do; a pipe has none.
  return type === undefined || type === FILE_TYPES.file ? await followLinks(path) : path;
}

/**
 * Locks an output until the lock is disposed of, or this process ends in any way: two builds that write to one file
 * would both succeed, with a mixture of both images.
 *
 * @throws {BuildError} naming the process that is writing it.
 */
export function lockOutput({ path }: Pick<Output, "path">): Disposable {
  const fd = posix.open(posix.cString(path), posix.OPEN.readWrite);
  if (fd < 0) throw cannot("open", path, fd);
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

/** @returns the size of the device in bytes. */
function checkDevice(path: string, size: number, format: FormatName): number {
  if (format !== "raw") {
    throw refuse(path, `${format} cannot go on a block device`, "Set OUTPUT_FORMAT to raw");
  }
  const room = imageSize(path);
  if (room < size) {
    throw refuse(
      path,
      `the image has ${formatBytes(size)}, the device only ${formatBytes(room)}`,
      `Set SIZE_MB to ${Math.floor(room / MiB)} or less`,
    );
  }
  // The kernel refuses this while the device or one of its partitions is mounted.
  const fd = posix.open(posix.cString(path), posix.OPEN.exclusive);
  if (fd < 0) throw refuse(path, posix.errorText(fd), "Unmount it and all its partitions");
  posix.close(fd);
  return room;
}

/** The partition table comes first in the image, and is written last. */
const NO_STREAM =
  "An image is not written from front to back: name a file with --output, then send that file";

/** Names of open files: `-`, by convention, is stdout; Deno does not let us open the others. */
const OPEN_FILES = /^(-|\/dev\/(stdin|stdout|stderr|fd\/.*)|\/proc\/.*)$/;

/** Refuses an output that is a stream, or an open file. @throws {BuildError} (usage) */
export function refuseStream(output: string): void {
  if (!OPEN_FILES.test(output)) return;
  const hint = output === "-" ? `${NO_STREAM} (for a file named "-", write ./-)` : NO_STREAM;
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
    ? "Create the directory, or name another file with --output"
    : denied
    ? "In a container, the file must belong to the container's user, or add --cap-add=DAC_OVERRIDE"
    : remedyFor(cause) ?? "Name a file in a writable directory with --output";
  const reason = missing ? `there is no directory ${quote(dirname(path))}` : reasonOf(cause);
  return new BuildError(`Cannot write the image to ${quote(path)}: ${reason}`, {
    kind: "usage",
    hint,
    cause,
  });
}

/**
 * Dates empty outputs 1970, before anything else is done. Raptor creates the file just before it starts the
 * builder: a run that ends without an image (a usage error, `--help`, `--dry-run`) would otherwise leave a file
 * that looks up to date.
 *
 * An existing image is left alone: its date is right.
 */
export async function dateEmptyOutputs(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    try {
      const { isFile, size, nlink } = await Deno.stat(path);
      // One with several hard links may be a file of the tree.
      if (isFile && size === 0 && nlink === 1) await Deno.utime(path, EPOCH, EPOCH);
    } catch {
      // It does not exist or may not be changed: checkOutput() reports that later.
    }
  }
}

/**
 * Discards the contents of the output. A file is then empty and dated 1970, so that Raptor, which considers an
 * output up to date when it is newer than its sources, builds it again. A device is zeroed at both ends, so that
 * no partition table or filesystem is found on it.
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

/**
 * Writes a file beside the image. A new one is readable only by its owner; an existing one keeps its mode.
 *
 * @throws {BuildError} when not all of it can be written.
 */
export async function writeBeside(
  path: string,
  contents: string | ReadableStream<Uint8Array>,
): Promise<void> {
  using file = await Deno.open(path, { create: true, write: true, truncate: true, mode: OUTPUT_MODE });
  const stream = typeof contents === "string" ? new Blob([contents]).stream() : contents;
  // `file.writable` would not say that the last piece, often the only one, was not written.
  for await (const piece of stream) {
    try {
      for (let done = 0; done < piece.length;) done += await file.write(piece.subarray(done));
    } catch (cause) {
      throw new BuildError(`Cannot write ${quote(path)}: ${reasonOf(cause)}`, {
        hint: remedyFor(cause),
        cause,
      });
    }
  }
}

/** Cleans up the output of a failed build: one that did not exist before is removed, others are emptied. */
export async function abandonOutput(output: Output): Promise<void> {
  await discardOutput(output);
  if (!output.isNew) return;
  await Deno.remove(output.path).catch(() => {
    // In a directory where files cannot be removed, it stays empty and dated 1970.
  });
}

/** This many bytes of a device are zeroed before signals and progress get a turn. */
const ZERO_BYTES = 64 * MiB;

/** Gives a discarded output the size of the image; all of it reads as zeros. */
export async function allocateOutput(
  { path, isDevice, size }: Output,
  onProgress: (done: number) => void,
): Promise<void> {
  if (!isDevice) return setSize(path, size);
  for (let offset = 0; offset < size; offset += ZERO_BYTES) {
    zero(path, offset, Math.min(ZERO_BYTES, size - offset));
    onProgress(offset);
    await yieldToEventLoop();
    throwIfInterrupted();
  }
}

/** Makes part of a device read as zeros: the device does it if it can, otherwise zeros are written. */
function zero(path: string, offset: number, length: number): void {
  const fd = posix.open(posix.cString(path), posix.OPEN.readWrite);
  const result = fd < 0 ? fd : posix.zeroRange(fd, offset, length);
  if (fd >= 0) posix.close(fd);
  if (result < 0) throw cannot("write", path, result);
}

/**
 * Files are dated by the tick of the kernel's clock, which ticks at least a hundred times a second: a file written at a
 * time may be dated that much earlier.
 */
const TICK_MS = 10;

/**
 * Dates the finished image, as the last step of a build. It is as old as what it was made from: a file that changed
 * after being read is newer.
 *
 * @param began when reading began.
 */
export async function finishOutput({ path, isDevice }: Output, began: Date): Promise<void> {
  if (isDevice) return;
  const time = new Date(began.getTime() - TICK_MS);
  await Deno.utime(path, time, time);
}
