/**
 * Checks a finished ext4 filesystem again: a program may have written to the wrong place.
 *
 * @module
 */

import { toHex } from "../../core/bytes.ts";
import { crc32c, crc32cWord } from "../../core/crc32c.ts";
import { readTarget } from "../../image/image.ts";
import type { Target } from "../../image/target.ts";
import { BLOCK_SIZE, DESCRIPTOR_SIZE } from "./layout.ts";
import type { Ext4Plan } from "./plan.ts";
import { SUPER, SUPERBLOCK_AT } from "./super.ts";

/**
 * Checks superblock and group descriptors: their checksums, and their counts against the plan. Returns what is wrong,
 * or `undefined`.
 */
export function ext4Fault(
  target: Target,
  { layout, freeBlocks, freeInodes, request }: Ext4Plan,
): string | undefined {
  const superblock = readTarget(target, SUPERBLOCK_AT, 1024);
  const view = new DataView(superblock.buffer);
  if (view.getUint16(SUPER.magic, true) !== 0xef53) return "it has no superblock";
  if (view.getUint32(SUPER.checksum, true) !== crc32c(~0, superblock, 0, SUPER.checksum)) {
    return "the checksum of the superblock";
  }
  const uuid = superblock.slice(SUPER.uuid, SUPER.uuid + 16);
  if (toHex(uuid) !== request.uuid.replaceAll("-", "")) return "its UUID";
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
  const table = readTarget(target, BLOCK_SIZE, layout.groups * DESCRIPTOR_SIZE);
  const descriptors = new DataView(table.buffer);
  const seed = crc32c(~0, uuid);
  let blocks = 0, inodes = 0;
  for (let group = 0; group < layout.groups; group++) {
    const at = group * DESCRIPTOR_SIZE;
    const stored = descriptors.getUint16(at + 30, true);
    // The checksum is computed with its own two bytes as zero.
    descriptors.setUint16(at + 30, 0, true);
    const sum = crc32c(crc32cWord(seed, group), table, at, at + DESCRIPTOR_SIZE) & 0xffff;
    if (sum !== stored) return `the checksum of group ${group}`;
    blocks += descriptors.getUint16(at + 12, true);
    inodes += descriptors.getUint16(at + 14, true);
  }
  if (blocks !== freeBlocks) return `its groups have ${blocks} free blocks instead of ${freeBlocks}`;
  if (inodes !== freeInodes) return `its groups have ${inodes} free inodes instead of ${freeInodes}`;
}
