/**
 * Makes a FAT filesystem inside an image at an offset: mkfs.vfat formats it, and this project fills it.
 *
 * - https://manpages.debian.org/trixie/dosfstools/mkfs.fat.8.en.html
 *
 * @module
 */

import type { Target } from "../../image/target.ts";
import { FIRST_TIME, LAST_TIME } from "./directory.ts";
import { type FatContents, fillFat } from "./fill.ts";
import { FAT_ROOT_ENTRIES } from "./geometry.ts";
import { openImageFile } from "../../image/image.ts";
import type { Nodes } from "../../tree/nodes.ts";
import { takeTurn } from "../../system/process.ts";
import type { Root } from "../../tree/root.ts";
import { shWith } from "../../system/sh.ts";
import { KiB } from "../../core/units.ts";

export interface FatRequest extends FatContents {
  readonly label: string;
  /** Volume serial number, eight hexadecimal digits. */
  readonly serial: string;
}

export interface FatOptions {
  /** Told how many bytes of contents are written. */
  readonly onProgress?: (done: number) => void;
  /** Ends the fill at the next opportunity. */
  readonly signal?: AbortSignal;
}

/** The event loop gets a turn this often. */
const TURN_MS = 8;

/**
 * Makes and fills the filesystem.
 *
 * @throws {BuildError} when mkfs.vfat fails or does something else than planned, when a file of the tree
 * cannot be read or changed since the walk, and when the image cannot be written.
 */
export async function makeVfat(
  target: Target,
  request: FatRequest,
  tree: { readonly root: Root; readonly nodes: Nodes },
  { onProgress = () => {}, signal }: FatOptions = {},
): Promise<void> {
  const { path, offset, size } = target;
  const time = Math.min(Math.max(request.time, FIRST_TIME), LAST_TIME);
  await format(target, request, time);
  using file = openImageFile(path);
  let turn = performance.now();
  for (const written of fillFat({ ...file, offset }, size, { ...request, time }, tree)) {
    if (performance.now() - turn < TURN_MS) continue;
    onProgress(written);
    await takeTurn();
    signal?.throwIfAborted();
    turn = performance.now();
  }
}

async function format(target: Target, { geometry, label, serial }: FatRequest, time: number): Promise<void> {
  const run = shWith({
    // The entry of the label would otherwise have the time of the build.
    env: { SOURCE_DATE_EPOCH: String(time) },
    // mkfs.vfat expects a filesystem to fill its file to the end.
    expected: /block count mismatch/,
  });
  const { bits, sector, perCluster, reserved } = geometry;
  const start = target.offset / sector, hidden = (target.start ?? target.offset) / sector;
  const rootEntries = bits === 32 ? [] : ["-r", FAT_ROOT_ENTRIES];
  await run`mkfs.vfat --invariant -F ${bits} -S ${sector} -s ${perCluster} -R ${reserved} -f 2 ${rootEntries} -a -i ${serial} -n ${label} --offset ${start} -h ${hidden} ${target.path} ${
    target.size / KiB
  }`;
}
