/**
 * Fills a FAT filesystem that mkfs.vfat made inside an image.
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
  /** Called with the bytes of contents written so far. */
  readonly onProgress?: (done: number) => void;
  /** Aborts the fill at the next opportunity. */
  readonly signal?: AbortSignal;
}

/** Yield to the event loop this often. */
const TURN_MS = 8;

/**
 * Fills the filesystem.
 *
 * @throws {BuildError} when mkfs.vfat deviated from the plan, when a file in the tree cannot be read or has changed
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
