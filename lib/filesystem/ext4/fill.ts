/**
 * Writes the entries of a plan into a formatted filesystem: inodes, directories, contents, xattrs.
 *
 * One pass over the entries. Blocks are taken from the front of the free space and inodes numbered in the same
 * order, so the image is written from front to back, in large pieces.
 *
 * @module
 */

import { FILE_TYPES, isFileMode, TYPE_MASK } from "../../core/mode.ts";
import { MiB } from "../../core/units.ts";
import { makeRecipe } from "../../efi/make-recipe.ts";
import { flush, type Image, newWriter, readAt, room, writeAt, type Writer } from "../../image/writer.ts";
import { EXT4_FLAGS } from "../../tree/flags.ts";
import { closeReader, newReader } from "../../tree/reader.ts";
import type { Root } from "../../tree/root.ts";
import { addedOf, attributesOf, contentsOf, modeOf, type Selection, sizeOf, targetOf } from "../contents.ts";
import { xattrKey, xattrsIn } from "../labels.ts";
import { linkCount, placeEntry } from "./allocation.ts";
import { type Copier, copyFile, DATA_BUFFER, newAbilities } from "./copy.ts";
import type { CopyHelper } from "./copy-helper.ts";
import { planDirectory, writeDirectory } from "./directory.ts";
import { newSpace, type Placement, type Space, writeExtentTree } from "./extents.ts";
import {
  EXTENTS_FL,
  I_BLOCK,
  I_FLAGS,
  INDEX_FL,
  inodePosition,
  inodeSeed,
  sealInode,
  type Time,
  writeDevice,
  writeInode,
} from "./inode.ts";
import { BLOCK_SIZE, INODE_SIZE } from "./layout.ts";
import type { Ext4Plan } from "./plan.ts";
import { planXattrs, writeInodeXattrs, xattrBlock, type XattrPlan } from "./xattr.ts";

const INODE_BUFFER = MiB / 4;

/** The state of one fill. */
export interface Fill extends Copier {
  readonly plan: Ext4Plan;
  /** The checksum seed of the filesystem. */
  readonly seed: number;
  readonly space: Space;
  readonly inodes: Writer;
  readonly time: Time;
  /** By their {@link xattrKey}. */
  readonly xattrPlans: Map<number, XattrPlan>;
  /** A second thread, if there is one. */
  readonly helper: CopyHelper | undefined;
}

export function newFill(
  image: Image,
  plan: Ext4Plan,
  root: Root,
  seed: number,
  helper: CopyHelper | undefined,
): Fill {
  helper?.begin(image, root, plan.selection.nodes);
  return {
    plan,
    seed,
    space: newSpace(plan.layout.free),
    data: newWriter(image, DATA_BUFFER),
    inodes: newWriter(image, INODE_BUFFER),
    reader: newReader(root, plan.selection.nodes, true),
    time: { seconds: plan.request.time, nanoseconds: 0 },
    can: newAbilities(),
    xattrPlans: new Map(),
    helper,
  };
}

/** Writes what is still buffered, and waits for the other thread. */
export async function finishFill(fill: Fill): Promise<void> {
  flush(fill.data);
  flush(fill.inodes);
  for (const [entry, flags] of await fill.helper?.finish() ?? []) addFlags(fill, entry, flags);
}

/** Bytes of contents written so far. */
export function writtenBytes({ data, helper }: Fill): number {
  return data.written + (helper?.written ?? 0);
}

/** Closes what is open, once the other thread has stopped to use it. */
export async function closeFill(fill: Fill): Promise<void> {
  await fill.helper?.[Symbol.asyncDispose]();
  closeReader(fill.reader);
}

/**
 * Writes one entry with its inode and contents; further names of the same inode write nothing. Yields between
 * the pieces of a large file.
 */
export function* fillEntry(fill: Fill, entry: number): Generator<void, void> {
  const { plan: { allocation, selection, layout }, seed: filesystemSeed } = fill;
  if (allocation.isFurther[entry]) return;
  const number = allocation.inode[entry]!;
  const seed = inodeSeed(filesystemSeed, number);
  const mode = modeOf(selection, entry), type = mode & TYPE_MASK;
  const placement = placeEntry(allocation, selection, fill.space, entry);
  const blocks = allocation.blocks[entry]!;
  const hasExtents = type === FILE_TYPES.file || type === FILE_TYPES.directory || blocks > 0;
  if (type === FILE_TYPES.directory) fillDirectory(fill, entry, placement, seed);
  const asked = blocks > 0 && type !== FILE_TYPES.directory ? yield* fillFile(fill, entry, placement) : 0;

  const bytes = room(fill.inodes, inodePosition(layout, number), INODE_SIZE).fill(0);
  const inode = new DataView(bytes.buffer, bytes.byteOffset, INODE_SIZE);
  const owner = attributesOf(selection, entry);
  writeInode(inode, {
    mode,
    uid: owner === undefined ? 0 : selection.nodes.uid[owner]!,
    gid: owner === undefined ? 0 : selection.nodes.gid[owner]!,
    size: type === FILE_TYPES.directory ? blocks * BLOCK_SIZE : sizeOf(selection, entry),
    links: linkCount(allocation, entry),
    blocks: blocks + placement.tree.length + allocation.hasXattrBlock[entry]!,
    flags: keptFlags(selection, entry, asked) | (hasExtents ? EXTENTS_FL : 0) |
      (type === FILE_TYPES.directory && blocks > 1 ? INDEX_FL : 0),
    mtime: mtimeOf(fill, entry),
    time: fill.time,
    xattrBlock: placement.xattrBlock,
  });
  if (hasExtents) {
    writeExtentTree(inode, I_BLOCK, placement, seed, (block, contents) => fillBlock(fill, block, contents));
  } else if (type === FILE_TYPES.symlink) {
    bytes.set(targetOf(selection, entry), I_BLOCK);
  } else if (type === FILE_TYPES.char || type === FILE_TYPES.block) {
    writeDevice(inode, selection.nodes.special[contentsOf(selection, entry)!]!);
  }
  if (xattrKey(selection, entry) > 0) {
    const plan = xattrPlan(fill, entry);
    writeInodeXattrs(bytes, plan.inode);
    const block = placement.xattrBlock;
    if (block > 0) fillBlock(fill, block, xattrBlock(plan.block, block, filesystemSeed));
  }
  sealInode(bytes, seed);
}

/** What chattr set on an entry, as far as ext4 has it. */
function keptFlags(selection: Selection, entry: number, asked: number): number {
  const node = attributesOf(selection, entry);
  const flags = node === undefined ? 0 : selection.nodes.flags.get(node) ?? 0;
  return (flags | asked) & EXT4_FLAGS;
}

/** Which xattrs go where; many entries have the same. */
function xattrPlan({ plan: { selection }, xattrPlans }: Fill, entry: number): XattrPlan {
  const key = xattrKey(selection, entry);
  let plan = xattrPlans.get(key);
  if (!plan) xattrPlans.set(key, plan = planXattrs(xattrsIn(selection, entry))!);
  return plan;
}

function mtimeOf({ plan: { selection, request: { latest } }, time }: Fill, entry: number): Time {
  const node = contentsOf(selection, entry);
  // A copy that the build adds gets the time of the build, like any other file that it adds.
  if (node === undefined || selection.source[entry]! < 0 && isFile(selection, entry)) return time;
  const { mtimeSeconds, mtimeNanoseconds } = selection.nodes;
  const seconds = mtimeSeconds[node]!, nanoseconds = mtimeNanoseconds[node]!;
  const isLate = latest !== undefined && (seconds > latest || seconds === latest && nanoseconds > 0);
  return isLate ? { seconds: latest, nanoseconds: 0 } : { seconds, nanoseconds };
}

function isFile(selection: Selection, entry: number): boolean {
  return isFileMode(modeOf(selection, entry));
}

function fillBlock(fill: Fill, block: number, contents: Uint8Array<ArrayBuffer>): void {
  room(fill.data, block * BLOCK_SIZE, BLOCK_SIZE).set(contents);
}

/** Returns a function that gives the blocks of a file one by one, zeroed. */
function blocksOf(fill: Fill, { extents }: Placement): () => Uint8Array<ArrayBuffer> {
  let extent = 0, done = 0;
  return () => {
    if (done === extents[extent + 2]) extent += 3, done = 0;
    return room(fill.data, (extents[extent + 1]! + done++) * BLOCK_SIZE, BLOCK_SIZE).fill(0);
  };
}

function fillDirectory(fill: Fill, entry: number, placement: Placement, seed: number): void {
  const { allocation, selection, hashSeed } = fill.plan;
  writeDirectory(
    selection,
    planDirectory(selection, entry, hashSeed),
    {
      self: allocation.inode[entry]!,
      parent: allocation.inode[selection.parent[entry]!]!,
      of: (child) => allocation.inode[child]!,
      seed,
    },
    blocksOf(fill, placement),
  );
}

/** The contents of a file that is not in the tree. */
function addedBytes({ plan: { selection }, reader: { root } }: Fill, entry: number) {
  const { text, made } = addedOf(selection, entry) ?? {};
  return made ? makeRecipe(root, selection.nodes, made.recipe) : text;
}

/**
 * Writes the contents of a file, or the target of a long symlink, or has them written.
 *
 * @returns those flags of the file that did not come with its stat, as far as they are known already.
 */
function* fillFile(fill: Fill, entry: number, { extents }: Placement): Generator<void, number> {
  const { plan: { selection } } = fill;
  const node = contentsOf(selection, entry);
  if (node === undefined || !isFile(selection, entry)) {
    fillBytes(fill, addedBytes(fill, entry) ?? targetOf(selection, entry), extents);
    return 0;
  }
  let flags = 0;
  for (const part of partsOf(extents)) {
    if (!fill.helper?.take(entry, node, part)) flags |= yield* copyFile(fill, node, part);
  }
  return flags;
}

/** Parts of a file that are copied on their own: several threads can work on a large one. */
const PART_BLOCKS = 4 * MiB / BLOCK_SIZE;

function* partsOf(extents: readonly number[]): Generator<readonly number[], void> {
  let part: number[] = [], missing = PART_BLOCKS;
  for (let at = 0; at < extents.length; at += 3) {
    let logical = extents[at]!, physical = extents[at + 1]!, left = extents[at + 2]!;
    while (left > 0) {
      const length = Math.min(left, missing);
      part.push(logical, physical, length);
      logical += length;
      physical += length;
      left -= length;
      missing -= length;
      if (missing > 0) continue;
      yield part;
      part = [];
      missing = PART_BLOCKS;
    }
  }
  if (part.length > 0) yield part;
}

function fillBytes(fill: Fill, bytes: Uint8Array<ArrayBuffer>, extents: readonly number[]): void {
  for (let at = 0; at < extents.length; at += 3) {
    let offset = extents[at]! * BLOCK_SIZE, position = extents[at + 1]! * BLOCK_SIZE;
    for (const end = offset + extents[at + 2]! * BLOCK_SIZE; offset < end;) {
      const piece = room(fill.data, position, end - offset);
      piece.fill(0).set(bytes.subarray(offset, offset + piece.length));
      offset += piece.length;
      position += piece.length;
    }
  }
}

/** Adds flags to an entry whose inode is written already. */
function addFlags(
  { plan: { allocation, layout }, seed, data: { image } }: Fill,
  entry: number,
  flags: number,
): void {
  const number = allocation.inode[entry]!;
  const position = inodePosition(layout, number);
  const inode = readAt(image, INODE_SIZE, position);
  const view = new DataView(inode.buffer);
  view.setUint32(I_FLAGS, view.getUint32(I_FLAGS, true) | flags & EXT4_FLAGS, true);
  sealInode(inode, inodeSeed(seed, number));
  writeAt(image, inode, position);
}
