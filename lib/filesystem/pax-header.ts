/**
 * The headers of a pax archive: a ustar header (POSIX.1-1988), after an extended one for everything that does not fit.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 *
 * @module
 */

import { PERMISSIONS_MASK } from "../core/mode.ts";
import { alignUp } from "../core/units.ts";
import { decodeDevice, xattrsOf } from "../tree/nodes.ts";
import { attributesOf, contentsOf, modeOf, type Selection } from "./contents.ts";
import { xattrsIn } from "./labels.ts";

/** Bytes per block of a tar archive. */
export const TAR_BLOCK = 512;

export const HARD_LINK = "1";
const EXTENDED = "x";
/** GNU tar's extension: the contents are the link target of the next header. */
const LONG_LINK = "K";

const encoder = new TextEncoder();

/** Which attributes of an entry the filesystem keeps. */
interface HeaderLimits {
  /** Seconds since 1970: later modification times are set to this; added files get it. */
  readonly time: number;
  /** Whether times have nanoseconds. */
  readonly nanoseconds: boolean;
  /** Whether ACLs are kept. If not, owner, group and others keep their permissions from the ACL. */
  readonly acls: boolean;
  /** Seconds since 1970: earlier modification times are set to this. */
  readonly firstTime: number;
}

/** What to put into a stream. */
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

/** The largest numbers in the octal fields of a header. */
const MAX_ID = 0o7777777, MAX_SIZE = 0o77777777777;

/** Maximum length of a name, and of a target, in a header. */
const MAX_NAME = 100;

/**
 * The header of an entry, preceded by an extended one for anything that does not fit.
 *
 * All programs must read the stream alike, so it avoids parts of POSIX that some of them get wrong:
 *
 * - `linkpath`: mksquashfs 4.5 strips leading `/`, `./` and `../`. GNU tar's `K` works everywhere, if it comes after the
 *   extended header, where tar2sqfs does not forget it.
 * - An extended header that fills its last block: mksquashfs before 4.7 and mkfs.erofs before 1.9.2 parse numbers with
 *   sscanf(), and need a NUL after them. All programs ignore a `comment`.
 * - A fraction of a second before 1970: mkfs.erofs before 1.9.2 reads POSIX's `-1.5` as -0.5 s.
 * - Holes: mksquashfs reads past the map of a sparse file if its size is not a multiple of 512. We write zeros.
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
  // Always written: a plain header has neither nanoseconds nor times before 1970.
  record("mtime", `${at}.${String(rest).padStart(9, "0")}`);
  if (name.length > MAX_NAME) record("path", name);
  for (const { name, value } of xattrsIn(selection, entry)) {
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

/** A header followed by its contents, padded to whole blocks. */
function member(fields: Omit<Ustar, "size">, contents: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TAR_BLOCK + alignUp(contents.length, TAR_BLOCK));
  ustar(bytes, { ...fields, size: contents.length });
  bytes.set(contents, TAR_BLOCK);
  return bytes;
}

/** The permissions of an entry in a filesystem with or without ACLs. Losing the ACL never grants anyone more. */
export function permissionsIn(selection: Selection, entry: number, acls: boolean): number {
  const mode = modeOf(selection, entry) & PERMISSIONS_MASK;
  const node = attributesOf(selection, entry);
  if (acls || node === undefined) return mode;
  const acl = xattrsOf(selection.nodes, node).find(({ name }) => name === `${ACL}access`);
  return acl ? withoutAcl(mode, acl.value) : mode;
}

/** The name prefix of xattrs that are ACLs. */
export const ACL = "system.posix_acl_";

/**
 * The permissions of a file without its ACL, as `setfacl --remove-all` leaves them. With an ACL, the group bits are the
 * mask, which limits everyone except owner and others. The group keeps what both the mask and its own entry grant.
 */
function withoutAcl(mode: number, acl: Uint8Array): number {
  const GROUP_OBJ = 0x04;
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  // A version, then entries of eight bytes: tag, permissions, ID (include/uapi/linux/posix_acl_xattr.h).
  for (let at = 4; at + 8 <= acl.length; at += 8) {
    if (view.getUint16(at, true) !== GROUP_OBJ) continue;
    return mode & (~0o070 | (view.getUint16(at + 2, true) & 0o7) << 3);
  }
  return mode;
}

/** `LENGTH KEY=VALUE\n`, where the length includes itself. Keys are Latin-1, one character per byte. */
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
