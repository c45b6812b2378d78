/**
 * Checks filesystems in a finished image: what costs next to nothing always, with their own checkers on demand.
 *
 * @module
 */

import type { Target } from "../image/target.ts";
import { resolve } from "node:path";
import { toHex } from "../core/bytes.ts";
import { crc32c, crc32cWord } from "../core/crc32c.ts";
import { BuildError } from "../core/error.ts";
import { BLOCK_SIZE, DESCRIPTOR_SIZE } from "./ext4/layout.ts";
import type { Ext4Plan } from "./ext4/plan.ts";
import { SUPER, SUPERBLOCK_AT } from "./ext4/super.ts";
import { BOOT_LENGTH, INFO, INFO_LEAD, readLayout } from "./fat/layout.ts";
import type { FatGeometry } from "./fat/geometry.ts";
import { readImage, readPieces } from "../image/image.ts";
import { sh } from "../system/sh.ts";

/** How a filesystem is checked: `full` runs its own checker, for which `scratch` may get a copy. */
interface Context {
  readonly scratch: string;
  readonly full: boolean;
}

/**
 * Checks superblock, group descriptors, their checksums and that their counts are those of the plan; with
 * `full`, everything that e2fsck knows.
 */
export async function verifyExt4(target: Target, plan: Ext4Plan, { scratch, full }: Context): Promise<void> {
  const wrong = ext4Fault(target, plan);
  if (wrong) throw new BuildError(`The ext4 filesystem is not what was written: ${wrong}`);
  if (!full) return;
  // In the argument a question mark begins the options; the path may hold one, too.
  const link = `${scratch}/ext4-${target.offset}`;
  await Deno.symlink(resolve(target.path), link);
  await sh`e2fsck -f -n ${`${link}?offset=${target.offset}`}`;
}

/** What is wrong with the superblock and the group descriptors of an ext4. */
function ext4Fault(
  target: Target,
  { layout, freeBlocks, freeInodes, wish }: Ext4Plan,
): string | undefined {
  const superblock = readPart(target, SUPERBLOCK_AT, 1024);
  const view = new DataView(superblock.buffer);
  if (view.getUint16(SUPER.magic, true) !== 0xef53) return "it has no superblock";
  if (view.getUint32(SUPER.checksum, true) !== crc32c(~0, superblock, 0, SUPER.checksum)) {
    return "the checksum of the superblock";
  }
  const uuid = superblock.slice(SUPER.uuid, SUPER.uuid + 16);
  if (toHex(uuid) !== wish.uuid.replaceAll("-", "")) return "its UUID";
  const expected = {
    blocksCount: layout.blocks,
    inodesCount: layout.groups * layout.inodesPerGroup,
    freeBlocksCount: freeBlocks,
    freeInodesCount: freeInodes,
  };
  for (const [name, value] of Object.entries(expected)) {
    const found = view.getUint32(SUPER[name as keyof typeof expected], true);
    if (found !== value) return `${name} is ${found} instead of ${value}`;
  }
  const table = readPart(target, BLOCK_SIZE, layout.groups * DESCRIPTOR_SIZE);
  const descriptors = new DataView(table.buffer);
  const seed = crc32c(~0, uuid);
  let blocks = 0, inodes = 0;
  for (let group = 0; group < layout.groups; group++) {
    const at = group * DESCRIPTOR_SIZE;
    const stored = descriptors.getUint16(at + 30, true);
    // The checksum is counted as if its own two bytes were zero.
    descriptors.setUint16(at + 30, 0, true);
    const sum = crc32c(crc32cWord(seed, group), table, at, at + DESCRIPTOR_SIZE) & 0xffff;
    if (sum !== stored) return `the checksum of group ${group}`;
    blocks += descriptors.getUint16(at + 12, true);
    inodes += descriptors.getUint16(at + 14, true);
  }
  if (blocks !== freeBlocks) return `its groups have ${blocks} free blocks instead of ${freeBlocks}`;
  if (inodes !== freeInodes) return `its groups have ${inodes} free inodes instead of ${freeInodes}`;
}

/**
 * Checks the boot sector, that both tables begin alike, and the number of free clusters, where it is noted; with
 * `full`, everything that fsck.vfat knows.
 */
export async function verifyVfat(
  target: Target,
  geometry: FatGeometry,
  { scratch, full }: Context,
): Promise<void> {
  const wrong = fatFault(target, geometry);
  if (wrong) throw new BuildError(`The FAT filesystem is not what was written: ${wrong}`);
  if (!full) return;
  // fsck.vfat knows no offset.
  const copy = `${scratch}/vfat-${target.offset}`;
  await copyPart(target, copy);
  await sh`fsck.vfat -n ${copy}`;
  await Deno.remove(copy);
}

/** What is wrong with the boot sector, the beginning of the tables and FSInfo of a FAT filesystem. */
function fatFault(target: Target, geometry: FatGeometry): string | undefined {
  const part = (at: number) => readPart(target, at, BOOT_LENGTH);
  const layout = readLayout(new DataView(part(0).buffer), geometry, target.size);
  if (typeof layout === "string") return layout;
  const second = part(layout.tables + layout.tableLength);
  if (!part(layout.tables).every((byte, i) => byte === second[i])) return "its two tables differ";
  for (const at of layout.infos) {
    const info = new DataView(part(at).buffer);
    if (info.getUint32(INFO.lead, true) !== INFO_LEAD) return "it has no FSInfo";
    const [free, wanted] = [info.getUint32(INFO.free, true), layout.clusters - geometry.used];
    if (free !== wanted) return `${free} clusters are free instead of ${wanted}`;
  }
}

/** Reads a part of a filesystem. */
function readPart({ path, offset }: Target, at: number, length: number): Uint8Array<ArrayBuffer> {
  return readImage(path, offset + at, length);
}

/** Copies a filesystem into a file of its own, which stays sparse. */
async function copyPart({ path, offset, size }: Target, to: string): Promise<void> {
  using copy = await Deno.open(to, { write: true, createNew: true });
  await copy.truncate(size);
  let at = 0;
  for await (const piece of readPieces(path, offset, size)) {
    if (piece.some((byte) => byte !== 0)) {
      await copy.seek(at, Deno.SeekMode.Start);
      for (let done = 0; done < piece.length;) done += await copy.write(piece.subarray(done));
    }
    at += piece.length;
  }
}
