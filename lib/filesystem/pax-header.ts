/**
 * The headers of a pax archive: an extended one for all that does not fit into that of 1988, and that one.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 *
 * @module
 */

import { PERMISSIONS_MASK } from "../core/mode.ts";
import { alignUp } from "../core/units.ts";
import { xattrsOf } from "../tree/nodes.ts";
import { attributesOf, contentsOf, modeOf, type Selection } from "./contents.ts";

/** Bytes of a block of a tar archive. */
export const TAR_BLOCK = 512;

export const HARD_LINK = "1";
const EXTENDED = "x";

const encoder = new TextEncoder();

/** What a filesystem keeps of the attributes of an entry. */
interface HeaderLimits {
  /** Seconds since 1970: later modification times become this one; what was added has it. */
  readonly time: number;
  /** Whether times have nanoseconds. */
  readonly nanoseconds: boolean;
  /** Whether ACLs are kept; else owner, group and others get what the ACL gives them, and nobody else anything. */
  readonly acls: boolean;
  /** Seconds since 1970: earlier modification times become this one. */
  readonly firstTime: number;
}

/** What a stream has. */
export interface PaxOptions extends HeaderLimits {
  /** Whether an entry `./` describes the root. */
  readonly root: boolean;
  /** Whether holes are left out, and not written as zeros. */
  readonly sparse: boolean;
}

/** Where the data of a file with holes is, as the first blocks of its contents say it. */
interface SparseMap {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of data. */
  readonly data: number;
}

export function sparseMap(ranges: Float64Array<ArrayBuffer>, size: number): SparseMap {
  const pairs: number[] = [];
  let data = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    pairs.push(ranges[i]!, ranges[i + 1]! - ranges[i]!);
    data += ranges[i + 1]! - ranges[i]!;
  }
  // An empty range at the end says how long the file is.
  if (ranges.length === 0 || ranges.at(-1)! < size) pairs.push(size, 0);
  const text = encoder.encode(`${[pairs.length / 2, ...pairs].join("\n")}\n`);
  const bytes = new Uint8Array(alignUp(text.length, TAR_BLOCK));
  bytes.set(text);
  return { bytes, data };
}

interface HeaderOptions {
  readonly name: Uint8Array<ArrayBuffer>;
  readonly flag: string;
  readonly link?: Uint8Array<ArrayBuffer> | undefined;
  readonly size?: number;
  readonly map?: SparseMap | undefined;
}

/** The largest numbers that fit into the octal fields of a header. */
const MAX_ID = 0o7777777, MAX_SIZE = 0o77777777777;

/** The header of an entry, with an extended one before it for all that does not fit. */
export function header(
  selection: Selection,
  entry: number,
  { time, nanoseconds, acls, firstTime }: HeaderLimits,
  { name, flag, link, size = 0, map }: HeaderOptions,
): Uint8Array<ArrayBuffer> {
  const { nodes } = selection;
  const records: Uint8Array[] = [];
  const record = (key: string, value: string | Uint8Array) => records.push(paxRecord(key, value));
  const attributes = attributesOf(selection, entry);
  const uid = attributes === undefined ? 0 : nodes.uid[attributes]!;
  const gid = attributes === undefined ? 0 : nodes.gid[attributes]!;
  const timeOf = contentsOf(selection, entry);
  const seconds = timeOf === undefined ? time : nodes.mtimeSeconds[timeOf]!;
  const fraction = timeOf === undefined ? 0 : nodes.mtimeNanoseconds[timeOf]!;
  const late = seconds > time || (seconds === time && fraction > 0);
  const stored = map ? map.bytes.length + map.data : size;
  if (uid > MAX_ID) record("uid", String(uid));
  if (gid > MAX_ID) record("gid", String(gid));
  if (stored > MAX_SIZE) record("size", String(stored));
  const [at, rest] = late
    ? [time, 0]
    : seconds < firstTime
    ? [firstTime, 0]
    : [seconds, nanoseconds ? fraction : 0];
  // Always written, since a header knows neither nanoseconds nor times before 1970.
  record("mtime", `${at}.${String(rest).padStart(9, "0")}`);
  if (map) {
    record("GNU.sparse.major", "1");
    record("GNU.sparse.minor", "0");
    record("GNU.sparse.name", name);
    record("GNU.sparse.realsize", String(size));
  } else if (name.length > 100) record("path", name);
  if (link && link.length > 100) record("linkpath", link);
  let mode = modeOf(selection, entry) & PERMISSIONS_MASK;
  for (const { name, value } of attributes === undefined ? [] : xattrsOf(nodes, attributes)) {
    if (!acls && name.startsWith(ACL)) mode = withoutAcl(mode, name, value);
    else if (flag !== HARD_LINK) record(`SCHILY.xattr.${name}`, value);
  }
  const extended = concat(records);
  const padded = alignUp(extended.length, TAR_BLOCK);
  const bytes = new Uint8Array(TAR_BLOCK + padded + TAR_BLOCK);
  const common = { uid: 0, gid: 0, mode: 0o644, device: 0 };
  ustar(bytes, { ...common, name: encoder.encode("pax"), flag: EXTENDED, size: extended.length });
  bytes.set(extended, TAR_BLOCK);
  const isDevice = flag === "3" || flag === "4";
  ustar(bytes.subarray(TAR_BLOCK + padded), {
    name: map ? encoder.encode("sparse") : name.subarray(0, 100),
    flag,
    link: link?.subarray(0, 100),
    mode,
    uid: Math.min(uid, MAX_ID),
    gid: Math.min(gid, MAX_ID),
    size: Math.min(stored, MAX_SIZE),
    device: isDevice ? nodes.special[contentsOf(selection, entry)!]! : 0,
  });
  return bytes;
}

/** What the names of the xattrs begin with that are ACLs. */
export const ACL = "system.posix_acl_";

/** The permissions of a file without its ACL: the group's bits were the most that the ACL gives to anybody. */
function withoutAcl(mode: number, name: string, value: Uint8Array): number {
  if (name !== `${ACL}access`) return mode;
  const GROUP_OBJ = 0x04;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  // After a version, entries of eight bytes: tag, permissions, ID (include/uapi/linux/posix_acl_xattr.h).
  for (let at = 4; at + 8 <= value.length; at += 8) {
    if (view.getUint16(at, true) === GROUP_OBJ) return (mode & ~0o070) | view.getUint16(at + 2, true) << 3;
  }
  return mode;
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. A key is Latin-1: one character per byte. */
function paxRecord(key: string, value: string | Uint8Array): Uint8Array<ArrayBuffer> {
  const text = typeof value === "string" ? encoder.encode(value) : value;
  const rest = key.length + text.length + 3;
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  const bytes = new Uint8Array(length);
  const head = `${length} ${key}=`;
  for (let i = 0; i < head.length; i++) bytes[i] = head.charCodeAt(i);
  bytes.set(text, head.length);
  bytes[length - 1] = 0x0a;
  return bytes;
}

interface Ustar {
  readonly name: Uint8Array;
  readonly flag: string;
  readonly link?: Uint8Array | undefined;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly device: number;
}

/** Writes one header block. */
function ustar(block: Uint8Array, { name, flag, link, mode, uid, gid, size, device }: Ustar): void {
  const text = (at: number, value: string) => encoder.encodeInto(value, block.subarray(at));
  const octal = (at: number, width: number, value: number) =>
    text(at, value.toString(8).padStart(width - 1, "0"));
  block.set(name, 0);
  octal(100, 8, mode);
  octal(108, 8, uid);
  octal(116, 8, gid);
  octal(124, 12, size);
  octal(136, 12, 0);
  text(148, "        ");
  text(156, flag);
  if (link) block.set(link, 157);
  text(257, "ustar");
  text(263, "00");
  // As Linux keeps a device number in 32 bits: new_decode_dev() of include/linux/kdev_t.h.
  octal(329, 8, (device >>> 8) & 0xfff);
  octal(337, 8, (device & 0xff) | ((device >>> 12) & 0xfff00));
  const sum = block.subarray(0, TAR_BLOCK).reduce((total, byte) => total + byte, 0);
  text(148, sum.toString(8).padStart(6, "0") + "\0 ");
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
