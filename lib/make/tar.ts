/**
 * Makes archives of the tree, straight into the output.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { BuildError } from "../core/error.ts";
import { paxStream } from "../filesystem/pax.ts";
import { TAR_BLOCK } from "../filesystem/pax-header.ts";
import type { TarPlan } from "../filesystem/types.ts";
import { imageSize, openImageFile, readImage } from "../image/image.ts";
import type { Target } from "../image/target.ts";
import { readAt, writeAt } from "../image/writer.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import type { Root } from "../tree/root.ts";
import * as commands from "./commands.ts";
import type { MakeContext } from "./types.ts";

/** How long to write before signals and progress get a turn, in milliseconds. */
const TURN_MS = 50;

const LINE_BREAK = 0x0a;

/** Writes an archive to an empty file. @throws {BuildError} when it cannot be written, or the tree changes meanwhile. */
export async function makeTar(
  { path }: Target,
  { selection, pax }: TarPlan,
  context: MakeContext,
): Promise<void> {
  const { root, onProgress, signal } = context;
  using image = openImageFile(path);
  let position = 0;
  let turn = performance.now();
  for (const chunk of paxStream(selection, root, pax, onProgress)) {
    writeAt(image, chunk, position);
    position += chunk.length;
    if (performance.now() - turn < TURN_MS) continue;
    await yieldToEventLoop();
    signal.throwIfAborted();
    turn = performance.now();
  }
}

/** Checks the end of an archive: it has none if it was not written to its end. */
export function verifyTar({ path }: Target): void {
  const size = imageSize(path);
  const end = readImage(path, Math.max(0, size - 2 * TAR_BLOCK), 2 * TAR_BLOCK);
  if (size > 2 * TAR_BLOCK && size % TAR_BLOCK === 0 && end.every((byte) => byte === 0)) return;
  throw new BuildError("The archive was not written to its end", {
    hint: "Build again; if it fails again, check the memory and the disk of this machine",
  });
}

/** Compares an archive with the tree, byte by byte, and reads it with GNU tar. @throws {BuildError} */
export async function compareTar(
  { path }: Target,
  { selection, pax, members }: TarPlan,
  root: Root,
): Promise<void> {
  using image = openImageFile(path);
  let position = 0;
  for (const chunk of paxStream(selection, root, pax)) {
    if (Buffer.compare(readAt(image, chunk.length, position), chunk) !== 0) {
      throw new BuildError(
        `The archive is damaged between its bytes ${position} and ${position + chunk.length}`,
      );
    }
    position += chunk.length;
    await yieldToEventLoop();
    throwIfInterrupted();
  }
  let listed = 0;
  await commands.tarNames(path, []).stdout((bytes) => {
    for (const byte of bytes) if (byte === LINE_BREAK) listed++;
  });
  if (listed !== members) {
    throw new BuildError(`tar finds ${listed} members in the archive instead of ${members}`);
  }
}
