/**
 * The headers of a pax archive: a ustar header (POSIX.1-1988), after an extended one for everything that does not fit.
 *
 * - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 *
 * @module
 */

import { viewOf } from "../core/bytes.ts";
import { PERMISSIONS_MASK } from "../core/mode.ts";
import { alignUp } from "../core/units.ts";
import { decodeDevice, xattrsOf } from "../tree/nodes.ts";
import { attributesOf, contentsOf, modeOf, nameOf, type Selection } from "./contents.ts";
import { xattrsIn } from "./labels.ts";

/** Bytes per block of a tar archive. */
export const TAR_BLOCK = 512;

export const HARD_LINK = "1";
const EXTENDED = "x";
/** GNU tar's extension: the contents are the link target of the next header. */
const LONG_LINK = "K";

const encoder = new TextEncoder();

/** Which attributes of an entry are kept, and how they are written. */
interface HeaderLimits {
  /**
   * Who reads the stream. `mkfs`: programs that make a filesystem, with their mistakes. `tar`: all that unpack
   * archives, which get what POSIX and GNU tar define.
   */
  readonly reader: "mkfs" | "tar";
  /** Whether holes are left out, in GNU tar's format 1.0, which bsdtar and Go read, too. Otherwise they are zeros. */
  readonly sparse: boolean;
  /** Seconds since 1970: later modification times are set to this; added files get it. */
  readonly time: number;
  /** Whether times have nanoseconds. */
  readonly nanoseconds: boolean;
  /** How ACLs are written. If they are not, owner, group and others keep their permissions from the ACL. */
  readonly acls: false | "xattrs" | "text";
  /** Seconds since 1970: earlier modification times are set to this. */
  readonly firstTime: number;
}

/** What to put into a stream. */
export interface PaxOptions extends HeaderLimits {
  /** Whether an entry `./` describes the root. */
  readonly root: boolean;
  /** The directory of the archive that everything is in, with a slash at its end; empty: its top. */
  readonly directory: string;
}

interface HeaderOptions {
  readonly name: Uint8Array<ArrayBuffer>;
  readonly flag: string;
  readonly link?: Uint8Array<ArrayBuffer> | undefined;
  readonly size?: number;
  /** For a file with holes: the bytes that follow the header, instead of `size`. */
  readonly stored?: number | undefined;
}

/** The largest numbers in the octal fields of a header. */
const MAX_ID = 0o7777777, MAX_SIZE = 0o77777777777;

/** Maximum length of a name, and of a target, in a header. */
const MAX_NAME = 100;

/** Where a stream is put together. */
export interface Output {
  bytes: Uint8Array<ArrayBuffer>;
  used: number;
  /** Where the last chunk is. */
  other: Uint8Array<ArrayBuffer>;
  /** The block of the last extended header, which only depends on its size: most are alike. */
  readonly extended: Uint8Array<ArrayBuffer>;
  extendedSize: number;
}

export function newOutput(capacity: number): Output {
  return {
    bytes: new Uint8Array(capacity),
    used: 0,
    other: new Uint8Array(capacity),
    extended: new Uint8Array(TAR_BLOCK),
    extendedSize: -1,
  };
}

/** Makes room for `length` more bytes, which hold stale data. @returns where they are. */
export function append(to: Output, length: number): number {
  const at = to.used;
  to.used += length;
  if (to.used > to.bytes.length) {
    const larger = new Uint8Array(2 * to.used);
    larger.set(to.bytes.subarray(0, at));
    to.bytes = larger;
  }
  return at;
}

/** Appends zeros up to a whole block. */
export function pad(to: Output): void {
  const at = append(to, alignUp(to.used, TAR_BLOCK) - to.used);
  to.bytes.fill(0, at, to.used);
}

/** Where GNU tar puts a file with holes for programs that do not know its format. */
const SPARSE_DIRECTORY = encoder.encode("GNUSparseFile.0/");

/**
 * Appends the header of an entry, preceded by an extended one for anything that does not fit.
 *
 * All programs that make filesystems must read the stream alike, so for them it avoids parts of POSIX that some of them
 * get wrong:
 *
 * - `linkpath`: mksquashfs 4.5 strips leading `/`, `./` and `../`. GNU tar's `K` works everywhere, if it comes after the
 *   extended header, where tar2sqfs does not forget it.
 * - An extended header that fills its last block: mksquashfs before 4.7 and mkfs.erofs before 1.9.2 parse numbers with
 *   sscanf(), and need a NUL after them. All programs ignore a `comment`.
 * - A fraction of a second before 1970: mkfs.erofs before 1.9.2 reads POSIX's `-1.5` as -0.5 s.
 * - Holes: mksquashfs reads past the map of a sparse file if its size is not a multiple of 512. We write zeros.
 *
 * Programs that unpack archives want other things:
 *
 * - ACLs as text in `SCHILY.acl.*`: they do not set them from xattrs.
 * - `hdrcharset=BINARY` where a name in a record is not UTF-8: otherwise, bsdtar converts it. GNU tar, which never does,
 *   warns that it ignores this.
 */
export function header(
  to: Output,
  selection: Selection,
  entry: number,
  { reader, time, nanoseconds, acls, firstTime }: HeaderLimits,
  { name, flag, link, size = 0, stored }: HeaderOptions,
): void {
  const { nodes } = selection;
  const forTar = reader === "tar";
  const attributes = attributesOf(selection, entry);
  const uid = attributes === undefined ? 0 : nodes.uid[attributes]!;
  const gid = attributes === undefined ? 0 : nodes.gid[attributes]!;
  const timeOf = contentsOf(selection, entry);
  const ownSeconds = timeOf === undefined ? time : nodes.mtimeSeconds[timeOf]!;
  const fraction = timeOf === undefined ? 0 : nodes.mtimeNanoseconds[timeOf]!;
  const late = ownSeconds > time || (ownSeconds === time && fraction > 0);
  const start = append(to, TAR_BLOCK), records = to.used;
  const record = (key: string, value: string | Uint8Array) => paxRecord(to, key, value);
  const isLong = name.length > MAX_NAME || stored !== undefined;
  const longLink = link && link.length > MAX_NAME ? link : undefined;
  if (forTar && (isLong && !isUtf8(name) || longLink && !isUtf8(longLink))) record("hdrcharset", "BINARY");
  if (uid > MAX_ID) record("uid", String(uid));
  if (gid > MAX_ID) record("gid", String(gid));
  if ((stored ?? size) > MAX_SIZE) record("size", String(stored ?? size));
  const seconds = late ? time : Math.max(ownSeconds, firstTime);
  const isKept = !late && seconds === ownSeconds && nanoseconds && (seconds >= 0 || forTar);
  const rest = isKept ? fraction : 0;
  // A plain header has neither nanoseconds nor times before 1970.
  const isPlain = forTar && rest === 0 && seconds >= 0 && seconds <= MAX_SIZE;
  if (!isPlain) record("mtime", decimal(seconds, rest));
  if (stored !== undefined) {
    record("GNU.sparse.major", "1");
    record("GNU.sparse.minor", "0");
    record("GNU.sparse.name", name);
    record("GNU.sparse.realsize", String(size));
  } else if (isLong) record("path", name);
  if (forTar && longLink) record("linkpath", longLink);
  for (const { name, value } of flag === HARD_LINK ? [] : xattrsIn(selection, entry)) {
    if (!name.startsWith(ACL)) record(`SCHILY.xattr.${name}`, value);
    else if (acls === "text") record(`SCHILY.acl.${name.slice(ACL.length)}`, aclText(value));
    else if (acls) record(`SCHILY.xattr.${name}`, value);
  }
  const length = to.used - records;
  if (length === 0) to.used = start;
  else {
    if (!forTar && length % TAR_BLOCK === 0) record("comment", "");
    const size = to.used - records;
    pad(to);
    if (size !== to.extendedSize) {
      ustar(to.extended, { ...OF_THE_ARCHIVE, name: PAX, flag: EXTENDED, size });
      to.extendedSize = size;
    }
    to.bytes.set(to.extended, start);
  }
  if (!forTar && longLink) {
    const at = append(to, TAR_BLOCK), size = longLink.length + 1;
    ustar(to.bytes, { ...OF_THE_ARCHIVE, name: LONG, flag: LONG_LINK, size }, { at });
    const target = append(to, size);
    to.bytes.set(longLink, target);
    to.bytes[target + longLink.length] = 0;
    pad(to);
  }
  const isDevice = flag === "3" || flag === "4";
  const at = append(to, TAR_BLOCK);
  ustar(to.bytes, {
    name: stored === undefined ? name : concat([SPARSE_DIRECTORY, nameOf(selection, entry)]),
    flag,
    link,
    mode: permissionsIn(selection, entry, acls !== false),
    uid: Math.min(uid, MAX_ID),
    gid: Math.min(gid, MAX_ID),
    size: Math.min(stored ?? size, MAX_SIZE),
    mtime: isPlain ? seconds : 0,
    device: isDevice ? nodes.special[contentsOf(selection, entry)!]! : 0,
  }, { at });
}

/** What extended headers have. */
const OF_THE_ARCHIVE = { uid: 0, gid: 0, mode: 0o644, device: 0, mtime: 0 };
const PAX = encoder.encode("pax"), LONG = encoder.encode("././@LongLink");

/** Seconds and nanoseconds after them as POSIX writes them: -2 and 500000000 are -1.5. */
function decimal(seconds: number, nanoseconds: number): string {
  const [whole, fraction, sign] = seconds < 0 && nanoseconds > 0
    ? [-seconds - 1, 1e9 - nanoseconds, "-"]
    : [seconds, nanoseconds, ""];
  return `${sign}${whole}.${String(fraction).padStart(9, "0")}`;
}

/** Whether bytes are UTF-8. Most names are ASCII. */
function isUtf8(bytes: Uint8Array): boolean {
  if (bytes.every((byte) => byte < 0x80)) return true;
  try {
    strict.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

const strict = new TextDecoder("utf-8", { fatal: true });

/** The permissions of an entry in a filesystem with or without ACLs. Losing the ACL never grants anyone more. */
export function permissionsIn(selection: Selection, entry: number, acls: boolean): number {
  const mode = modeOf(selection, entry) & PERMISSIONS_MASK;
  const node = attributesOf(selection, entry);
  if (acls || node === undefined) return mode;
  const acl = xattrsOf(selection.nodes, node).find(({ name }) => name === `${ACL}access`);
  return acl ? withoutAcl(mode, acl.value) : mode;
}

/** The tags of an ACL's entries (include/uapi/linux/posix_acl.h), as acl(5) writes them. */
const ACL_TAGS: Readonly<Record<number, string>> = {
  0x01: "user:",
  0x02: "user:",
  0x04: "group:",
  0x08: "group:",
  0x10: "mask:",
  0x20: "other:",
};

/** Tags of entries for one user or group. */
const NAMED = [0x02, 0x08];

/** An ACL in the short text form of acl(5), with numbers for users and groups: names may differ where it is unpacked. */
function aclText(acl: Uint8Array): string {
  return aclEntries(acl).map(([tag, permissions, id]) => {
    const bits = ["r", "w", "x"].map((bit, i) => permissions & (4 >> i) ? bit : "-").join("");
    return `${ACL_TAGS[tag]}${NAMED.includes(tag) ? id : ""}:${bits}`;
  }).join(",");
}

/** The entries of an ACL as in its xattr: a version, then eight bytes each (include/uapi/linux/posix_acl_xattr.h). */
function aclEntries(acl: Uint8Array): [tag: number, permissions: number, id: number][] {
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  const count = Math.max(0, Math.floor((acl.length - 4) / 8));
  return Array.from({ length: count }, (_, i) => {
    const at = 4 + 8 * i;
    return [view.getUint16(at, true), view.getUint16(at + 2, true), view.getUint32(at + 4, true)];
  });
}

/** The name prefix of xattrs that are ACLs. */
export const ACL = "system.posix_acl_";

/**
 * The permissions of a file without its ACL, as `setfacl --remove-all` leaves them. With an ACL, the group bits are the
 * mask, which limits everyone except owner and others. The group keeps what both the mask and its own entry grant.
 */
function withoutAcl(mode: number, acl: Uint8Array): number {
  const GROUP_OBJ = 0x04;
  const group = aclEntries(acl).find(([tag]) => tag === GROUP_OBJ);
  return group ? mode & (~0o070 | (group[1] & 0o7) << 3) : mode;
}

/** Appends `LENGTH KEY=VALUE\n`, where the length includes itself. Texts are Latin-1, one character per byte. */
function paxRecord(to: Output, key: string, value: string | Uint8Array): void {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  const at = append(to, length), { bytes } = to;
  const head = `${length} ${key}=`;
  writeText(bytes, at, head);
  if (typeof value === "string") writeText(bytes, at + head.length, value);
  else bytes.set(value, at + head.length);
  bytes[at + length - 1] = 0x0a;
}

/** TextEncoder takes longer for short texts. */
function writeText(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
}

/** The fields of a header block. */
export interface Ustar {
  /** It and the link are cut where the field ends. */
  readonly name: Uint8Array;
  readonly flag: string;
  readonly link?: Uint8Array | undefined;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** Absent: there is no such field. */
  readonly device?: number;
}

/** The format and its version, as POSIX and as GNU's old format have it. */
const POSIX_MAGIC = "ustar\x0000";
export const OLD_GNU_MAGIC = "ustar  \0";

/** Writes one header block, in the format of `magic`, to the position `at`. */
export function ustar(
  bytes: Uint8Array,
  { name, flag, link, mode, uid, gid, size, mtime, device }: Ustar,
  { magic = POSIX_MAGIC, at = 0 }: { readonly magic?: string; readonly at?: number } = {},
): void {
  bytes.fill(0, at, at + TAR_BLOCK);
  writeText(bytes, at + 257, magic);
  bytes.set(name.length > MAX_NAME ? name.subarray(0, MAX_NAME) : name, at);
  writeNumber(bytes, at + 100, 7, mode);
  writeNumber(bytes, at + 108, 7, uid);
  writeNumber(bytes, at + 116, 7, gid);
  writeNumber(bytes, at + 124, 11, size);
  writeNumber(bytes, at + 136, 11, mtime);
  bytes[at + 156] = flag.charCodeAt(0);
  if (link) bytes.set(link.length > MAX_NAME ? link.subarray(0, MAX_NAME) : link, at + 157);
  if (device !== undefined) {
    const [major, minor] = decodeDevice(device);
    writeNumber(bytes, at + 329, 7, major);
    writeNumber(bytes, at + 337, 7, minor);
  }
  writeChecksum(bytes, at);
}

/** Writes the checksum of the header block at `at`, which is computed with its own eight bytes as spaces. */
export function writeChecksum(bytes: Uint8Array, at = 0): void {
  bytes.fill(0x20, at + 148, at + 156);
  let sum = 0;
  for (let i = at; i < at + TAR_BLOCK; i++) sum += bytes[i]!;
  writeNumber(bytes, at + 148, 6, sum);
  bytes[at + 154] = 0;
}

/** Writes a number in octal digits; one that has too many of them in binary, marked by its highest bit, as GNU tar does it. */
export function writeNumber(block: Uint8Array, at: number, digits: number, value: number): void {
  if (value >= 8 ** digits) {
    block[at] = 0x80;
    viewOf(block).setBigUint64(at + digits - 7, BigInt(value));
    return;
  }
  let i = at + digits - 1;
  for (; value >= 2 ** 31; value = Math.floor(value / 8)) block[i--] = 0x30 + value % 8;
  for (; i >= at; value >>= 3) block[i--] = 0x30 + (value & 7);
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
