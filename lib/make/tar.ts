/**
 * Makes archives of the tree, straight into the output.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { BuildError } from "../core/error.ts";
import { padded, paxStream } from "../filesystem/pax.ts";
import { TAR_BLOCK } from "../filesystem/pax-header.ts";
import { memberHeader } from "../filesystem/tar-member.ts";
import type { ArchiveFile, TarPlan } from "../filesystem/types.ts";
import { imageSize, openImageFile, readImage } from "../image/image.ts";
import type { Target } from "../image/target.ts";
import { type Image, readAt, writeAside } from "../image/writer.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../system/process.ts";
import type { Root } from "../tree/root.ts";
import * as commands from "./commands.ts";
import type { MakeContext } from "./types.ts";

/** How long to write before signals and progress get a turn, in milliseconds. */
const TURN_MS = 50;

const LINE_BREAK = 0x0a;

const encoder = new TextEncoder();

/** Writes an archive to an empty file. @throws {BuildError} when it cannot be written, or the tree changes meanwhile. */
export async function makeTar({ path }: Target, plan: TarPlan, context: MakeContext): Promise<void> {
  using image = openImageFile(path);
  await writeArchive(image, 0, plan, context);
}

/** Files of an archive that are not of a tree. @param time seconds since 1970 */
export function* memberPieces(
  files: readonly ArchiveFile[],
  time: number,
): Generator<Uint8Array<ArrayBuffer>, void> {
  for (const { name, text } of files) {
    const contents = encoder.encode(text);
    yield memberHeader({ name, size: contents.length, time });
    yield padded(contents);
  }
}

/** An archive in pieces: the files before the tree, and the tree. Each piece is valid as long as those of {@link paxStream}. */
function* archivePieces(
  { selection, pax, before }: TarPlan,
  root: Root,
  onProgress?: (done: number) => void,
): Generator<Uint8Array<ArrayBuffer>, void> {
  yield* memberPieces(before, pax.time);
  yield* paxStream(selection, root, pax, onProgress);
}

/**
 * Writes an archive at `position`.
 *
 * @param onPiece gets each piece that is written.
 * @returns its size in bytes.
 */
export async function writeArchive(
  image: Image,
  position: number,
  plan: TarPlan,
  { root, onProgress, signal }: Pick<MakeContext, "root" | "onProgress" | "signal">,
  onPiece: (bytes: Uint8Array) => void = () => {},
): Promise<number> {
  let size = 0;
  let turn = performance.now();
  let written = Promise.resolve();
  try {
    for (const piece of archivePieces(plan, root, onProgress)) {
      await written;
      written = writeAside(image, piece, position + size);
      // Any error is thrown when it is waited for; until then it must not count as unhandled.
      written.catch(() => {});
      onPiece(piece);
      size += piece.length;
      if (performance.now() - turn < TURN_MS) continue;
      await yieldToEventLoop();
      signal.throwIfAborted();
      turn = performance.now();
    }
  } finally {
    await written;
  }
  return size;
}

/** Checks the end of an archive: it has none if it was not written to its end. */
export function verifyTar({ path }: Target): void {
  const size = imageSize(path);
  const end = readImage(path, Math.max(0, size - 2 * TAR_BLOCK), 2 * TAR_BLOCK);
  if (size > 2 * TAR_BLOCK && size % TAR_BLOCK === 0 && end.every((byte) => byte === 0)) return;
  throw new BuildError("The archive was not written to its end", { hint: DAMAGED });
}

const DAMAGED = "Build again; if it fails again, check the memory and the disk of this machine";

/** Compares an archive with the tree, byte by byte, and reads it with GNU tar. @throws {BuildError} */
export async function compareTar({ path }: Target, plan: TarPlan, root: Root): Promise<void> {
  await compareArchive(path, 0, plan, root);
  await requireMembers(path, plan.members);
}

/** Compares the archive at a position of a file with the tree. @throws {BuildError} */
export async function compareArchive(
  path: string,
  position: number,
  plan: TarPlan,
  root: Root,
): Promise<void> {
  using image = openImageFile(path);
  for (const piece of archivePieces(plan, root)) {
    if (Buffer.compare(readAt(image, piece.length, position), piece) !== 0) {
      const range = `${position} and ${position + piece.length}`;
      throw new BuildError(`The archive is damaged between its bytes ${range}`, { hint: DAMAGED });
    }
    position += piece.length;
    await yieldToEventLoop();
    throwIfInterrupted();
  }
}

/** @throws {BuildError} when GNU tar finds another number of members in an archive, or cannot read it. */
export async function requireMembers(path: string, count: number): Promise<void> {
  let listed = 0;
  await commands.tarNames(path, []).stdout((bytes) => {
    for (const byte of bytes) if (byte === LINE_BREAK) listed++;
  });
  if (listed === count) return;
  throw new BuildError(`tar finds ${listed} members in the archive instead of ${count}`, { hint: DAMAGED });
}
