/**
 * Fills an ext4 filesystem that mke2fs made inside an image.
 *
 * mke2fs is given an explicit list of features that Linux 5.10 and e2fsck 1.46 support, so that every version
 * gives the same bytes. Whatever still depends on its version or on the machine (times, the signedness of the
 * directory hash, the location of the journal) is overwritten.
 *
 * @module
 */

import { crc32c } from "../../core/crc32c.ts";
import { BuildError } from "../../core/error.ts";
import { isDirectoryMode } from "../../core/mode.ts";
import type { Target } from "../../image/target.ts";
import { type Image, readAt, writeAt } from "../../image/writer.ts";
import { cannot } from "../../system/failure.ts";
import * as posix from "../../system/posix.ts";
import { yieldToEventLoop } from "../../system/process.ts";
import type { Root } from "../../tree/root.ts";
import { modeOf } from "../contents.ts";
import { lookingAhead, selectionOrder } from "../look-ahead.ts";
import { placeSystem } from "./allocation.ts";
import { remaining } from "./extents.ts";
import type { CopyHelper } from "./copy-helper.ts";
import { closeFill, fillEntry, finishFill, newFill, writtenBytes } from "./fill.ts";
import { inodePosition } from "./inode.ts";
import { BLOCK_SIZE, DESCRIPTOR_SIZE, INODE_SIZE, type Layout } from "./layout.ts";
import type { Ext4Plan } from "./plan.ts";
import { SUPER, SUPERBLOCK_AT, writeSummary } from "./super.ts";
import { writeSystemInodes } from "./system.ts";

/** Yield to the event loop this often. */
const TURN_MS = 8;

interface Ext4Options {
  /** Called with the bytes of contents written so far. */
  readonly onProgress?: (done: number) => void;
  /** Aborts the fill at the next opportunity. */
  readonly signal?: AbortSignal | undefined;
  /** A second thread that copies files. It ends with the fill. */
  readonly helper?: CopyHelper | undefined;
}

/**
 * Fills the filesystem.
 *
 * @throws {BuildError} when mke2fs deviated from the plan, when a file in the tree cannot be read or has changed since
 * the walk, and when the image cannot be written.
 */
export async function fillExt4(
  target: Target,
  plan: Ext4Plan,
  root: Root,
  options: Ext4Options = {},
): Promise<void> {
  const fd = posix.open(posix.cString(target.path), posix.OPEN.readWrite);
  if (fd < 0) throw cannot("open", target.path, fd);
  try {
    await fill({ fd, path: target.path, offset: target.offset }, plan, root, options);
  } finally {
    posix.close(fd);
  }
}

async function fill(
  image: Image,
  plan: Ext4Plan,
  root: Root,
  { onProgress = () => {}, signal, helper }: Ext4Options,
): Promise<void> {
  const { layout, selection, allocation, journalBlocks } = plan;
  const superblock = readAt(image, 1024, SUPERBLOCK_AT);
  assertLayout(image, layout, new DataView(superblock.buffer));
  const uuid = superblock.slice(SUPER.uuid, SUPER.uuid + 16);
  clearDirectories(image, layout);
  // Restored at the very end: without a superblock, nothing mistakes a half-filled filesystem for a good one.
  writeAt(image, new Uint8Array(superblock.length), SUPERBLOCK_AT);
  const state = newFill(image, plan, root, crc32c(~0, uuid), helper);
  const directories = new Uint32Array(layout.groups);
  const { time, space } = state;
  let turn = performance.now();
  try {
    const system = placeSystem(space, journalBlocks);
    const journal = writeSystemInodes(image, layout, system, journalBlocks, uuid, time);
    for (const entry of lookingAhead(selection, selectionOrder(selection), state.reader)) {
      for (const _ of fillEntry(state, entry)) if (isTime()) await pause();
      if ((entry & 15) === 0 && isTime()) await pause();
      if (isDirectoryMode(modeOf(selection, entry))) {
        directories[Math.floor((allocation.inode[entry]! - 1) / layout.inodesPerGroup)]!++;
      }
    }
    await finishFill(state);
    onProgress(writtenBytes(state));
    const freeBlocks = remaining(space);
    const { lastInode } = allocation;
    if (freeBlocks !== plan.freeBlocks) {
      throw new Error(`${freeBlocks} blocks are free, not ${plan.freeBlocks}`);
    }
    const finished = {
      superblock,
      layout,
      uuid,
      time,
      space,
      freeBlocks,
      lastInode,
      directories,
      journalBlocks,
      journal,
    };
    writeSummary(image, finished);
  } finally {
    await closeFill(state);
  }

  function isTime(): boolean {
    return performance.now() - turn > TURN_MS;
  }

  /** Reports progress, and lets signals and other filesystems have a turn. */
  async function pause(): Promise<void> {
    onProgress(writtenBytes(state));
    await yieldToEventLoop();
    signal?.throwIfAborted();
    turn = performance.now();
  }
}

/** Compares the result of mke2fs with the plan. @throws {BuildError} when they differ. */
function assertLayout(image: Image, layout: Layout, superblock: DataView): void {
  const table = readAt(image, layout.descriptorBlocks * BLOCK_SIZE, BLOCK_SIZE);
  const descriptors = new DataView(table.buffer);
  const number = (at: number) => superblock.getUint32(at, true);
  const same = number(SUPER.blocksCount) === layout.blocks &&
    number(SUPER.blocksPerGroup) === layout.blocksPerGroup &&
    number(SUPER.inodesPerGroup) === layout.inodesPerGroup &&
    superblock.getUint16(SUPER.reservedGdtBlocks, true) === layout.reservedDescriptorBlocks &&
    superblock.getUint16(SUPER.descSize, true) === DESCRIPTOR_SIZE &&
    layout.inodeTables.every((block, group) => {
      const at = group * DESCRIPTOR_SIZE;
      return descriptors.getUint32(at, true) === layout.blockBitmaps[group] &&
        descriptors.getUint32(at + 4, true) === layout.inodeBitmaps[group] &&
        descriptors.getUint32(at + 8, true) === block;
    });
  if (!same) {
    throw new BuildError("Cannot fill the filesystem: mke2fs did not place its tables as planned", {
      hint: "Use mke2fs 1.47, for example from Debian 12 or 13",
    });
  }
}

/** Zeroes the blocks of the two directories that mke2fs made: contents will go there, or nothing. */
function clearDirectories(image: Image, layout: Layout): void {
  for (const number of [2, 11]) {
    const inode = new DataView(readAt(image, INODE_SIZE, inodePosition(layout, number)).buffer);
    const extents = inode.getUint16(42, true);
    for (let at = 52; at < 52 + extents * 12; at += 12) {
      const length = inode.getUint16(at + 4, true), start = inode.getUint32(at + 8, true);
      writeAt(image, new Uint8Array(length * BLOCK_SIZE), start * BLOCK_SIZE);
    }
  }
}
