/**
 * Fills a FAT filesystem that mkfs.vfat formatted inside an image at an offset.
 *
 * @module
 */

import { openImageFile } from "../../image/image.ts";
import type { Target } from "../../image/target.ts";
import { yieldToEventLoop } from "../../system/process.ts";
import type { Nodes } from "../../tree/nodes.ts";
import type { Root } from "../../tree/root.ts";
import type { FatPlan } from "../types.ts";
import { fillFat } from "./fill.ts";

export interface FatOptions {
  /** Told how many bytes of contents are written. */
  readonly onProgress?: (done: number) => void;
  /** Ends the fill at the next opportunity. */
  readonly signal?: AbortSignal;
}

/** The event loop gets a turn this often. */
const TURN_MS = 8;

/**
 * Fills the filesystem.
 *
 * @throws {BuildError} when mkfs.vfat did something else than planned, when a file of the tree cannot be read or changed
 * since the walk, and when the image cannot be written.
 */
export async function fillVfat(
  { path, offset, size }: Target,
  plan: FatPlan,
  tree: { readonly root: Root; readonly nodes: Nodes },
  { onProgress = () => {}, signal }: FatOptions = {},
): Promise<void> {
  using file = openImageFile(path);
  let turn = performance.now(), written = 0;
  for (written of fillFat({ ...file, offset }, size, plan, tree)) {
    if (performance.now() - turn < TURN_MS) continue;
    onProgress(written);
    await yieldToEventLoop();
    signal?.throwIfAborted();
    turn = performance.now();
  }
  onProgress(written);
}
