/**
 * The headers of a pax archive: an extended one for all that does not fit into that of 1988, and that one.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 *
 * @module
 */

import { PERMISSIONS_MASK } from "../core/mode.ts";
import { alignUp } from "../core/units.ts";
import { decodeDevice, xattrsOf } from "../tree/nodes.ts";
import { attributesOf, contentsOf, modeOf, type Selection } from "./contents.ts";

/** Bytes of a block of a tar archive. */
export const TAR_BLOCK = 512;

export const HARD_LINK = "1";
const EXTENDED = "x";
/** GNU tar's: its contents are the link target of the next header. */
const LONG_LINK = "K";

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
}

interface HeaderOptions {
  readonly name: Uint8Array<ArrayBuffer>;
  readonly flag: string;
  readonly link?: Uint8Array<ArrayBuffer> | undefined;
  readonly size?: number;
}

/** The largest numbers that fit into the octal fields of a header. */
const MAX_ID = 0o7777777, MAX_SIZE = 0o77777777777;

/** The longest name and the longest target that fit into a header. */
const MAX_NAME = 100;

/**
 * The header of an entry, with an extended one before it for what does not fit.
 *
 * The stream is one that every program reads alike. What POSIX allows and they get wrong is avoided:
 *
 * - `linkpath`: mksquashfs 4.5 drops `/`, `./` and `../` at its start. GNU tar's `K` is right everywhere, if it stands after
 *   the extended header, where tar2sqfs does not forget it.
 * - An extended header that fills its last block: mksquashfs before 4.7 and mkfs.erofs before 1.9.2 look for the end of a
 *   number with sscanf(), and need a NUL. A `comment` is ignored by all.
 * - A fraction of a second before 1970: POSIX's `-1.5` is -0.5 s to mkfs.erofs before 1.9.2.
 * - Holes: mksquashfs reads beyond the map of a sparse file whose size is no multiple of 512. They are zeros.
 */
export function header(
  selection: Selection,
  entry: number,
  { time, nanoseconds, acls, firstTime }: HeaderLimits,
  { name, flag, link, size = 0 }: HeaderOptions,
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
  if (uid > MAX_ID) record("uid", String(uid));
  if (gid > MAX_ID) record("gid", String(gid));
  if (size > MAX_SIZE) record("size", String(size));
  const [at, rest] = late
    ? [time, 0]
    : seconds < firstTime
    ? [firstTime, 0]
    : [seconds, nanoseconds && seconds >= 0 ? fraction : 0];
  // Always written, since a header knows neither nanoseconds nor times before 1970.
  record("mtime", `${at}.${String(rest).padStart(9, "0")}`);
  if (name.length > MAX_NAME) record("path", name);
  for (const { name, value } of attributes === undefined ? [] : xattrsOf(nodes, attributes)) {
    if (acls || !name.startsWith(ACL)) {
      if (flag !== HARD_LINK) record(`SCHILY.xattr.${name}`, value);
    }
  }
  if (records.reduce((sum, { length }) => sum + length, 0) % TAR_BLOCK === 0) record("comment", "");
  const common = { uid: 0, gid: 0, mode: 0o644, device: 0 };
  const parts = [member({ ...common, name: encoder.encode("pax"), flag: EXTENDED }, concat(records))];
  if (link && link.length > MAX_NAME) {
    const name = encoder.encode("././@LongLink");
    parts.push(member({ ...common, name, flag: LONG_LINK }, concat([link, new Uint8Array(1)])));
  }
  const isDevice = flag === "3" || flag === "4";
  const own = new Uint8Array(TAR_BLOCK);
  ustar(own, {
    name: name.subarray(0, MAX_NAME),
    flag,
    link: link?.subarray(0, MAX_NAME),
    mode: permissionsIn(selection, entry, acls),
    uid: Math.min(uid, MAX_ID),
    gid: Math.min(gid, MAX_ID),
    size: Math.min(size, MAX_SIZE),
    device: isDevice ? nodes.special[contentsOf(selection, entry)!]! : 0,
  });
  return concat([...parts, own]);
}

/** A header with its contents behind it, which fill whole blocks. */
function member(fields: Omit<Ustar, "size">, contents: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TAR_BLOCK + alignUp(contents.length, TAR_BLOCK));
  ustar(bytes, { ...fields, size: contents.length });
  bytes.set(contents, TAR_BLOCK);
  return bytes;
}

/** The permissions of an entry in a filesystem with or without ACLs; without them nobody gets more than they gave. */
export function permissionsIn(selection: Selection, entry: number, acls: boolean): number {
  const mode = modeOf(selection, entry) & PERMISSIONS_MASK;
  const node = attributesOf(selection, entry);
  if (acls || node === undefined) return mode;
  const acl = xattrsOf(selection.nodes, node).find(({ name }) => name === `${ACL}access`);
  return acl ? withoutAcl(mode, acl.value) : mode;
}

/** What the names of the xattrs begin with that are ACLs. */
export const ACL = "system.posix_acl_";

/**
 * The permissions of a file without its ACL, as `setfacl --remove-all` leaves them. With an ACL the group's bits are the
 * mask, the most that anybody but owner and others gets: the group keeps what both the mask and its own entry give it.
 */
function withoutAcl(mode: number, acl: Uint8Array): number {
  const GROUP_OBJ = 0x04;
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  // After a version, entries of eight bytes: tag, permissions, ID (include/uapi/linux/posix_acl_xattr.h).
  for (let at = 4; at + 8 <= acl.length; at += 8) {
    if (view.getUint16(at, true) !== GROUP_OBJ) continue;
    return mode & (~0o070 | (view.getUint16(at + 2, true) & 0o7) << 3);
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
  const [major, minor] = decodeDevice(device);
  octal(329, 8, major);
  octal(337, 8, minor);
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
