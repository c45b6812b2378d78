/**
 * Extended attributes: in the inode as far as they fit, the rest in a separate block.
 *
 * https://docs.kernel.org/filesystems/ext4/dynamic.html#extended-attributes
 *
 * @module
 */

import { crc32c, crc32cWord } from "../../core/crc32c.ts";
import type { Xattr } from "../../tree/nodes.ts";
import { BLOCK_SIZE, INODE_SIZE } from "./layout.ts";

const MAGIC = 0xea020000;
/** End of the inode's fields (`i_extra_isize` is 32). The xattrs that follow start with the magic number. */
const INODE_XATTRS_AT = 160;
const BLOCK_HEADER_SIZE = 32;
const ENTRY_SIZE = 16;
/** Four zero bytes end the entries. */
const END_SIZE = 4;

/** Name prefixes by `e_name_index`: only the rest of the name is stored. */
const PREFIXES = [
  ["system.posix_acl_access", 2],
  ["system.posix_acl_default", 3],
  ["user.", 1],
  ["trusted.", 4],
  ["security.", 6],
] as const;

/** One attribute as ext4 stores it. */
interface Entry {
  readonly index: number;
  readonly name: string;
  readonly value: Uint8Array<ArrayBuffer>;
}

/** Which attributes go where. */
export interface XattrPlan {
  readonly inode: readonly Entry[];
  readonly block: readonly Entry[];
}

/** Decides which attributes go into the inode; `undefined` if the others do not fit into one block. */
export function planXattrs(xattrs: readonly Xattr[]): XattrPlan | undefined {
  const entries = xattrs.map(toEntry).sort((a, b) =>
    a.index - b.index || a.name.length - b.name.length || (a.name < b.name ? -1 : 1)
  );
  let inInode = INODE_SIZE - INODE_XATTRS_AT - 4 - END_SIZE;
  let inBlock = BLOCK_SIZE - BLOCK_HEADER_SIZE - END_SIZE;
  const plan = { inode: [] as Entry[], block: [] as Entry[] };
  for (const entry of entries) {
    const size = align4(ENTRY_SIZE + entry.name.length) + align4(entry.value.length);
    if (size <= inInode) {
      inInode -= size;
      plan.inode.push(entry);
    } else {
      inBlock -= size;
      plan.block.push(entry);
    }
  }
  return inBlock < 0 ? undefined : plan;
}

function align4(size: number): number {
  return (size + 3) & ~3;
}

function toEntry({ name, value }: Xattr): Entry {
  const [prefix, index] = PREFIXES.find(([prefix]) => name.startsWith(prefix)) ?? ["", 0];
  return {
    index,
    name: name.slice(prefix.length),
    value: prefix.startsWith("system.") ? compactAcl(value) : value,
  };
}

const ACL_USER = 0x02, ACL_GROUP = 0x08;

/**
 * Converts a POSIX ACL from the format of the system call (version 2, include/uapi/linux/posix_acl_xattr.h) to that
 * of ext4 (`ext4_acl_header`, version 1), where only entries for named users and groups have an id.
 */
function compactAcl(acl: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  const bytes = [1, 0, 0, 0];
  for (let at = 4; at + 8 <= acl.length; at += 8) {
    const tag = view.getUint16(at, true);
    const named = tag === ACL_USER || tag === ACL_GROUP;
    bytes.push(...acl.subarray(at, at + (named ? 8 : 4)));
  }
  return Uint8Array.from(bytes);
}

/** Writes attributes after the fields of a 256-byte inode. */
export function writeInodeXattrs(inode: Uint8Array<ArrayBuffer>, entries: readonly Entry[]): void {
  if (entries.length === 0) return;
  const view = new DataView(inode.buffer, inode.byteOffset, INODE_SIZE);
  view.setUint32(INODE_XATTRS_AT, MAGIC, true);
  const first = INODE_XATTRS_AT + 4;
  // In an inode, offsets count from the first entry, and hashes stay zero.
  writeEntries(inode, view, entries, first, first, INODE_SIZE, false);
}

/** Makes the block with the other attributes. */
export function xattrBlock(
  entries: readonly Entry[],
  blockNumber: number,
  seed: number,
): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK_SIZE);
  const view = new DataView(block.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, 1, true);
  view.setUint32(8, 1, true);
  const hashes = writeEntries(block, view, entries, BLOCK_HEADER_SIZE, 0, BLOCK_SIZE, true);
  // The block's hash serves to share equal blocks. If any attribute has no hash, the block has none.
  const hash = hashes.includes(0) ? 0 : hashes.reduce((sum, hash) => sum << 16 ^ sum >>> 16 ^ hash, 0);
  view.setUint32(12, hash >>> 0, true);
  const sum = crc32c(crc32cWord(crc32cWord(seed, blockNumber), 0), block);
  view.setUint32(16, sum, true);
  return block;
}

/** Writes entries from `at` upwards, and their values from `end` downwards. Returns the hashes. */
function writeEntries(
  bytes: Uint8Array<ArrayBuffer>,
  view: DataView,
  entries: readonly Entry[],
  at: number,
  base: number,
  end: number,
  hashed: boolean,
): number[] {
  return entries.map(({ index, name, value }) => {
    if (value.length > 0) end -= align4(value.length);
    const hash = hashed ? hashEntry(name, value) : 0;
    view.setUint8(at, name.length);
    view.setUint8(at + 1, index);
    view.setUint16(at + 2, value.length > 0 ? end - base : 0, true);
    view.setUint32(at + 8, value.length, true);
    view.setUint32(at + 12, hash, true);
    for (let i = 0; i < name.length; i++) bytes[at + ENTRY_SIZE + i] = name.charCodeAt(i);
    bytes.set(value, end);
    at += align4(ENTRY_SIZE + name.length);
    return hash;
  });
}

/** `e_hash` with signed `char`, which every version of e2fsck accepts on x86. */
function hashEntry(name: string, value: Uint8Array): number {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = hash << 5 ^ hash >>> 27 ^ name.charCodeAt(i) << 24 >> 24;
  for (let at = 0; at < value.length; at += 4) {
    const word = value[at]! | value[at + 1]! << 8 | value[at + 2]! << 16 | value[at + 3]! << 24;
    hash = hash << 16 ^ hash >>> 16 ^ word;
  }
  return hash >>> 0;
}
