/**
 * Fills an ext4 filesystem that mke2fs formatted inside an image.
 *
 * What mke2fs does is described by a table of features that Linux 5.10 and e2fsck 1.46 know, so that every
 * version gives the same bytes; what its versions or the machine would still make different (times, the
 * sign of the directory hash, the place of the journal) is written anew.
 *
 * @module
 */

import { crc32c } from "../../core/crc32c.ts";
import { BuildError, quote } from "../../core/error.ts";
import { isDirectoryMode } from "../../core/mode.ts";
import type { Target } from "../../image/target.ts";
import { type Image, readAt, writeAt } from "../../image/writer.ts";
import * as posix from "../../system/posix.ts";
import { yieldToEventLoop } from "../../system/process.ts";
import type { Root } from "../../tree/root.ts";
import { modeOf } from "../contents.ts";
import { placeSystem } from "./allocation.ts";
import { remaining } from "./extents.ts";
import { closeFill, fillEntry, finishFill, newFill } from "./fill.ts";
import { inodePosition } from "./inode.ts";
import { BLOCK_SIZE, DESCRIPTOR_SIZE, INODE_SIZE, type Layout } from "./layout.ts";
import type { Ext4Plan } from "./plan.ts";
import { SUPER, SUPERBLOCK_AT, writeSummary } from "./super.ts";
import { writeSystemInodes } from "./system.ts";

/** The event loop gets a turn this often. */
const TURN_MS = 8;

interface Ext4Options {
  /** Told how many bytes of contents are written. */
  readonly onProgress?: (done: number) => void;
  /** Ends the fill at the next opportunity. */
  readonly signal?: AbortSignal;
}

/**
 * Fills the filesystem.
 *
 * @throws {BuildError} when mke2fs did something else than planned, when a file of the tree cannot be read or changed
 * since the walk, and when the image cannot be written.
 */
export async function fillExt4(
  target: Target,
  plan: Ext4Plan,
  root: Root,
  { onProgress = () => {}, signal }: Ext4Options = {},
): Promise<void> {
  const fd = posix.open(posix.cString(target.path), posix.OPEN.readWrite);
  if (fd < 0) throw new BuildError(`Cannot open ${quote(target.path)}: ${posix.errorText(fd)}`);
  try {
    await fill({ fd, path: target.path, offset: target.offset }, plan, root, onProgress, signal);
  } finally {
    posix.close(fd);
  }
}

async function fill(
  image: Image,
  plan: Ext4Plan,
  root: Root,
  onProgress: (done: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { layout, selection, allocation, journalBlocks } = plan;
  const superblock = readAt(image, 1024, SUPERBLOCK_AT);
  assertLayout(image, layout, new DataView(superblock.buffer));
  const uuid = superblock.slice(SUPER.uuid, SUPER.uuid + 16);
  clearDirectories(image, layout);
  // It comes back last of all: without it, nobody takes a half-filled filesystem for one.
  writeAt(image, new Uint8Array(superblock.length), SUPERBLOCK_AT);
  const state = newFill(image, plan, root, crc32c(~0, uuid));
  const directories = new Uint32Array(layout.groups);
  const { time, space } = state;
  let turn = performance.now();
  try {
    const system = placeSystem(space, journalBlocks);
    const journal = writeSystemInodes(image, layout, system, journalBlocks, uuid, time);
    for (let entry = 0; entry < selection.count; entry++) {
      for (const _ of fillEntry(state, entry)) if (isTime()) await pause();
      if ((entry & 15) === 0 && isTime()) await yieldToEventLoop();
      if (isDirectoryMode(modeOf(selection, entry))) {
        directories[Math.floor((allocation.inode[entry]! - 1) / layout.inodesPerGroup)]!++;
      }
    }
    finishFill(state);
    onProgress(state.data.written);
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
    closeFill(state);
  }

  function isTime(): boolean {
    return performance.now() - turn > TURN_MS;
  }

  /** Gives signals, progress and other filesystems a turn. */
  async function pause(): Promise<void> {
    onProgress(state.data.written);
    await yieldToEventLoop();
    signal?.throwIfAborted();
    turn = performance.now();
  }
}

/** Compares what mke2fs made with the plan. */
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
    throw new BuildError("Cannot fill the filesystem: mke2fs placed its tables otherwise than planned", {
      hint: "Use mke2fs 1.47, for example that of Debian 12 or 13",
    });
  }
}

/** Zeroes the blocks of the two directories that mke2fs made: they stand where contents will, or nothing. */
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
