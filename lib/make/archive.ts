/**
 * tar archives: recognised by content, listed, and unpacked with all metadata that a tree can have.
 *
 * The archive is untrusted. GNU tar keeps it inside the directory: it strips leading slashes, refuses `..`, and
 * creates symlinks that lead outside only after everything else. What tar only warns about (an xattr that it
 * cannot set) is checked afterwards.
 *
 * - tar: https://www.gnu.org/software/tar/manual/html_node/extract-options.html
 * - magic numbers: RFC 1952 (gzip), RFC 8878 (zstd), https://tukaani.org/xz/xz-file-format.txt
 *
 * @module
 */

import { join } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import { type Finding, finding, listPaths } from "../core/findings.ts";
import { LineSplitter, MAX_LINE } from "../core/lines.ts";
import { formatBytes } from "../core/units.ts";
import { ACL, TAR_BLOCK } from "../filesystem/pax-header.ts";
import * as posix from "../system/posix.ts";
import { throwIfInterrupted } from "../system/process.ts";
import { requirePrograms } from "../system/programs.ts";
import type { Command } from "../system/sh.ts";
import * as commands from "./commands.ts";

/** Compression methods: magic bytes at the start, and the program that tar runs. */
const COMPRESSIONS = {
  "gzip": { magic: [0x1f, 0x8b], program: "gzip" },
  "zstd": { magic: [0x28, 0xb5, 0x2f, 0xfd], program: "zstd" },
  "xz": { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], program: "xz" },
} as const satisfies Record<string, { magic: readonly number[]; program: string }>;

/** The tar options to read an archive, determined from its content; `undefined` if it is not an archive. */
export async function archiveOptions(path: string): Promise<string[] | undefined> {
  const head = new Uint8Array(TAR_BLOCK);
  using file = await Deno.open(path);
  const length = await file.read(head) ?? 0;
  // What pzstd and seekable archives begin with: a frame that is skipped, of sixteen kinds (RFC 8878, section 3.1.2).
  if ((head[0]! & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18) {
    head.set(COMPRESSIONS.zstd.magic);
  }
  for (const { magic, program } of Object.values(COMPRESSIONS)) {
    if (!magic.every((byte, index) => head[index] === byte)) continue;
    requirePrograms([program]);
    // zstd refuses a window of more than 128 MiB (zstd --long=31, --ultra) unless it is told that there is enough memory.
    return [`--use-compress-program=${program === "zstd" ? "zstd --long=31" : program}`];
  }
  return length === TAR_BLOCK && isTarHeader(head) ? [] : undefined;
}

/** Whether a block is the header of a member. The checksum is the same in every tar format. */
function isTarHeader(block: Uint8Array): boolean {
  const stored = parseInt(new TextDecoder().decode(block.subarray(148, 156)).replaceAll("\0", " "), 8);
  // The checksum is computed with its own eight bytes as spaces.
  const sum = block.reduce((sum, byte, index) => sum + (index >= 148 && index < 156 ? 32 : byte), 0);
  return sum === stored;
}

/** What is known about an archive before it is unpacked. */
export interface Contents {
  /** Uncompressed size in bytes. */
  readonly size: number;
  /** Names of device nodes, as tar quotes them. */
  readonly devices: readonly string[];
  /** Members with xattrs: the name as tar quotes it, and the names of its xattrs. */
  readonly xattrs: ReadonlyMap<string, readonly string[]>;
  /** Whether ACLs are nothing but xattrs, as `tar --xattrs` writes them. */
  readonly hasXattrAcls: boolean;
  /** Names of users and groups in the ACLs, which tar looks up on this machine. */
  readonly aclNames: readonly string[];
  /** Directories that the archive has a member for, as {@link partsOf} writes their names. */
  readonly directories: ReadonlySet<string>;
  /** Directories that members are in, whether the archive has members for them or not. */
  readonly parents: ReadonlySet<string>;
  /** The time of the newest member, in seconds. In whole minutes, as tar lists it. */
  readonly newest: number;
  readonly findings: readonly Finding[];
}

/** Runs tar, and returns what it wrote to stderr. @throws {BuildError} that says what could not be unpacked. */
async function run(path: string, command: Command): Promise<string> {
  try {
    return await command.text("combined");
  } catch (cause) {
    if (!(cause instanceof BuildError)) throw cause;
    throwIfInterrupted();
    const full = /No space left on device/.test(cause.message);
    throw new BuildError(`Cannot unpack ${quote(path)}: ${cause.message}`, {
      hint: full ? "Set TMPDIR to a directory with more space" : cause.hint,
      cause,
    });
  }
}

/** Reads the whole archive once, to detect a damaged one before anything is written. */
export async function listArchive(path: string, options: readonly string[]): Promise<Contents> {
  const devices: string[] = [];
  const xattrs = new Map<string, string[]>();
  const counted = new Map<string, number>();
  const foreign = new Set<string>();
  const acls = { text: new Set<string>(), xattr: new Set<string>() };
  const names = new Set<string>();
  const [directories, parents] = [new Set<string>(), new Set<string>()];
  let newest: number | undefined;
  let blocks = 0;
  let member = "";
  let [hasManifest, hasTree, hasEnded, goesOn] = [false, false, false, false];
  let refused: BuildError | undefined;
  const refuse = (error: BuildError) => {
    throw refused = error;
  };
  const line = (text: string, isCut: boolean) => {
    if (isCut) refuse(unusable(path, `a name in it has more than ${formatBytes(MAX_LINE)}`));
    // Where tar skips something that is no header, the line of what comes next has another number in front of it.
    const skipped = text.replace(/^(block \d+: )+(?=block \d+: )/, "");
    if (skipped !== text) {
      goesOn ||= hasEnded;
      text = skipped;
    }
    // block 8: -rwxr-xr-x* 0/0    77024 2025-03-14 10:00 ./usr/bin/ping
    const entry = /^block (\d+): (\S)\S+ +\S+ +\S+ +(\S+) +(\S+) (.*)$/.exec(text);
    blocks = Number(/^block (\d+):/.exec(text)?.[1] ?? blocks);
    hasEnded ||= /^block \d+: \*\* Block of NULs \*\*$/.test(text);
    if (entry) {
      // Not refused here: damaged data can look like this, which only the program that decompresses them can tell.
      goesOn ||= hasEnded;
      const [, , type, date, time, name = ""] = entry;
      const parts = partsOf(name);
      if (type === "d") directories.add(parts.join("/"));
      // The name of a link has its target at the end: whatever directory that adds does not exist.
      parents.add(parts.slice(0, -1).join("/"));
      // NaN for a year with more than four digits.
      const seconds = Math.floor(Date.parse(`${date}T${time}Z`) / 1000);
      if (seconds > (newest ?? -Infinity)) newest = seconds;
      hasManifest ||= /^(\.\/)?(manifest\.json|oci-layout)$/.test(name);
      hasTree ||= /^(\.\/)?(usr|etc|bin|sbin)(\/|$)/.test(name);
      // A later member with the same name replaces an earlier one.
      xattrs.delete(name);
      if (type === "b" || type === "c") devices.push(name);
      member = type === "-" || type === "d" ? name : "";
    }
    aclNamesIn(text).forEach((name) => names.add(name));
    // Only files and directories have xattrs of their own; hard links repeat those of their file.
    for (const xattr of xattrsIn(text)) {
      counted.set(xattr, (counted.get(xattr) ?? 0) + 1);
      if (ACL_XATTR.test(xattr)) acls[text.startsWith("  a:") ? "text" : "xattr"].add(`${xattr} ${member}`);
      if (!LINUX_XATTR.test(xattr)) foreign.add(xattr);
      else if (member) xattrs.set(member, [...xattrs.get(member) ?? [], xattr]);
    }
  };
  const lines = new LineSplitter(/\n/, line);
  let stderr = "";
  try {
    stderr = await run(path, commands.tarList(path, options).stdout((bytes) => lines.write(bytes)));
  } catch (error) {
    if (refused || !(error instanceof BuildError)) throw refused ?? error;
    // tar takes whatever follows for an archive, too, and says what is wrong with that.
    const isDamaged = DECOMPRESSION_FAILED.test(error.message);
    if (TRAILING_GARBAGE.test(error.message) || goesOn && !isDamaged) throw dataAfterEnd(path, error);
    throw error;
  }
  lines.close();
  if (goesOn) throw dataAfterEnd(path);
  // tar takes the end of the file for the end of the archive. Two blocks of zeros are what the format asks for (man 5 tar);
  // like tar, this accepts one, since no member is missing then. tar ignores an incomplete block at the end.
  const isTorn = options.length === 0 && (await Deno.stat(path)).size % TAR_BLOCK !== 0;
  if (!hasEnded || isTorn) throw unusable(path, "it is cut off");
  for (const [name, count] of countLibarchive(stderr)) {
    if (!LINUX_XATTR.test(name)) foreign.add(name);
    else if (count > (counted.get(name) ?? 0)) {
      throw new BuildError(
        `Cannot unpack ${quote(path)}: it has the xattr ${
          quote(name)
        } only as libarchive writes it, which tar does not read`,
        { hint: "Pack it with bsdtar --options xattrheader=ALL, or with GNU tar --xattrs" },
      );
    }
  }
  const textOnly = acls.text.difference(acls.xattr);
  if (textOnly.size && acls.xattr.difference(acls.text).size) {
    throw new BuildError(
      `Cannot unpack ${
        quote(path)
      }: it has some ACLs only as xattrs and others only as text, and tar reads one kind`,
      { hint: "Pack it with one program, for example with GNU tar --acls --xattrs" },
    );
  }
  if (hasManifest && !hasTree) {
    throw new BuildError(`Cannot use the input ${quote(path)}: it is a container image, not a tree`, {
      kind: "usage",
      hint:
        'Use the output of "podman export", or mount the image with --mount type=image,destination=/input',
    });
  }
  const hasXattrAcls = acls.xattr.size > 0 && textOnly.size === 0;
  const aclNames = hasXattrAcls ? [] : [...names].sort();
  const findings: Finding[] = [];
  if (foreign.size) {
    const list = listPaths([...foreign].sort());
    findings.push(
      finding(
        "xattrs-foreign",
        `Leaving out the extended attributes ${list} of the archive: Linux has no such names`,
      ),
    );
  }
  if (aclNames.length) {
    const list = listPaths(aclNames);
    findings.push(
      finding("acl-names", `The ACLs of the archive name ${list}: taking those with these names here`),
    );
  }
  const size = (blocks + 1) * TAR_BLOCK;
  return {
    ...{ size, devices, xattrs, hasXattrAcls, aclNames, directories, parents },
    newest: newest ?? 0,
    findings,
  };
}

const ACL_XATTR = /^system\.posix_acl_(access|default)$/;

/** What tar says about the program that decompresses, if that failed. */
const DECOMPRESSION_FAILED = /tar: Child (returned status|died with signal)/;

/** What gzip says about data after the compressed ones. xz and zstd cannot tell them from damage. */
const TRAILING_GARBAGE = /trailing garbage ignored/;

/** Names that Linux has: all others are those of macOS and the like. */
const LINUX_XATTR = /^(user|trusted|security|system)\./;

/** The xattrs that bsdtar wrote in its own form, with how many entries have each: tar says that it ignores them. */
function countLibarchive(stderr: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [, encoded] of stderr.matchAll(/LIBARCHIVE\.xattr\.([^'’"\s]+)/g)) {
    // Names are encoded as in a URL: https://github.com/libarchive/libarchive/wiki/FormatTar
    const name = encoded!.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** The xattrs that a line of the listing names: `x: 26 user.a`, an ACL `a: user::rw-,mask::r--`, a context `s: …`. */
function xattrsIn(line: string): string[] {
  const [, kind, text = ""] = /^ {2}([xas]): (.*)$/s.exec(line) ?? [];
  if (kind === "s") return ["security.selinux"];
  if (kind === "x") return [text.replace(/^ *\d+ /, "")];
  if (kind !== "a") return [];
  const entries = text.split(",");
  const isDefault = (entry: string) => entry.startsWith("default:");
  // An access list of three entries is what the mode says.
  const isExtended = entries.some((entry) => !isDefault(entry) && !/^(user|group|other)::/.test(entry));
  return [
    ...isExtended ? ["system.posix_acl_access"] : [],
    ...entries.some(isDefault) ? ["system.posix_acl_default"] : [],
  ];
}

/** The names of users and groups in the ACL that a line of the listing shows: `a: user:1000:r--,default:group:adm:r-x`. */
function aclNamesIn(line: string): string[] {
  const [, text = ""] = /^ {2}a: (.*)$/s.exec(line) ?? [];
  return [...text.matchAll(/(?:^|,)(?:default:)?(?:user|group):([^:,]*[^:,\d][^:,]*):/g)].map(([, name]) =>
    name!
  );
}

function unusable(path: string, reason: string): BuildError {
  return new BuildError(`Cannot unpack ${quote(path)}: ${reason}`, {
    hint: "The archive is damaged, or was made to do harm",
  });
}

function dataAfterEnd(path: string, cause?: BuildError): BuildError {
  return new BuildError(`Cannot unpack ${quote(path)}: there is something after the end of the archive`, {
    hint: "If these are several archives, unpack them into one directory and give that",
    cause,
  });
}

/** Unpacks an archive into the new directory `tree` of `scratch`. @returns what was left out. */
export async function unpackArchive(
  path: string,
  options: readonly string[],
  contents: Contents,
  scratch: string,
): Promise<Finding[]> {
  const { devices, xattrs, hasXattrAcls, aclNames, findings } = contents;
  const directory = join(scratch, "tree");
  await Deno.mkdir(directory);
  // TMPDIR may hand down ACLs.
  for (const kind of ["default", "access"]) {
    posix.removexattr(posix.cString(directory), posix.cString(ACL + kind));
  }
  const leftOut: string[] = [];
  const found = [...findings];
  if (devices.length && !await canMakeDevices(scratch)) {
    found.push(
      finding(
        "devices",
        `Leaving out ${devices.length} device node${devices.length === 1 ? "" : "s"} such as ${
          quote(devices[0]!)
        }: this process may not make any`,
        { path: devices[0]! },
      ),
    );
    const list = join(scratch, "devices");
    await Deno.writeFile(list, unescapeNames(devices));
    leftOut.push("--anchored", "--no-wildcards", `--exclude-from=${list}`);
  }
  await run(path, commands.tarExtract(path, directory, options, leftOut, hasXattrAcls));
  setImplied(path, directory, contents);
  checkXattrs(path, directory, xattrs, aclNames);
  return found;
}

/** The components of a name in an archive. tar strips the leading slash, and refuses `..`. */
function partsOf(name: string): string[] {
  return name.split("/").filter((part) => part !== "" && part !== ".");
}

/**
 * Gives fixed attributes to the root directory, and to others for which the archive has no member of their own. tar gives
 * them a mode that depends on the umask, and the time of unpacking, which would become the newest time in the tree, and so
 * the date of everything that the build adds.
 */
function setImplied(path: string, directory: string, { directories, parents, newest }: Contents): void {
  const implied = new Set([""]);
  for (const parent of parents) {
    // Where one is in the set, so are those that it is in.
    for (let name = parent; !implied.has(name); name = name.slice(0, Math.max(0, name.lastIndexOf("/")))) {
      implied.add(name);
    }
  }
  const root = posix.open(posix.cString(directory), posix.OPEN.place);
  try {
    const unnamed = implied.difference(directories);
    const own = new Set<string>();
    // Most archives have members for all but the root, and no symlink in a name leads there.
    if (unnamed.size > 1) {
      for (const name of directories) {
        withDirectory(root, name, (_, id) => own.add(id));
      }
    }
    for (const name of unnamed) {
      withDirectory(root, name, (fd, id) => {
        // A symlink in its name leads to a directory that has a member with another name.
        if (own.has(id)) return;
        // The owner last: a process that is not root may need to own what it changes.
        const errno = Math.min(posix.setTime(fd, newest), posix.setMode(fd, 0o755), posix.setOwner(fd, 0, 0));
        if (errno >= 0) return;
        const reason = posix.errorText(errno);
        throw new BuildError(
          `Cannot unpack ${quote(path)}: cannot set owner, mode and time of ${quote(`/${name}`)}: ${reason}`,
        );
      });
    }
  } finally {
    posix.close(root);
  }
}

/** Opens a directory of an unpacked archive, unless it is missing: left out, or replaced by a later member. */
function withDirectory(root: posix.Fd, name: string, use: (fd: posix.Fd, id: string) => void): void {
  const path = unescapeNames([name || "."]);
  path[path.length - 1] = 0;
  const found = posix.openInside(root, path, posix.OPEN.directory);
  const fd = found < 0 ? openThroughSymlinks(root, path) : found;
  if (fd < 0) return;
  try {
    use(fd, idOf(fd));
  } finally {
    posix.close(fd);
  }
}

/** Opens a directory whose name has symlinks, which tar followed, too. Only if it is below `root`. */
function openThroughSymlinks(root: posix.Fd, path: Uint8Array<ArrayBuffer>): posix.Fd {
  const place = posix.openAt(root, path, posix.OPEN.place);
  if (place < 0) return place;
  try {
    return isBelow(place, root)
      ? posix.openAt(place, posix.cString("."), posix.OPEN.directory)
      : -posix.ENOENT;
  } finally {
    posix.close(place);
  }
}

/** Whether an open directory is somewhere in another one. */
function isBelow(directory: posix.Fd, root: posix.Fd): boolean {
  const wanted = idOf(root);
  // Not recursive: a path can have more components than a process may have open files.
  for (let [at, last] = [directory, idOf(directory)];;) {
    const parent = posix.openAt(at, posix.cString(".."), posix.OPEN.place);
    if (at !== directory) posix.close(at);
    if (parent < 0) return false;
    const id = idOf(parent);
    // The parent of the topmost directory is that directory.
    if (id !== wanted && id !== last) {
      [at, last] = [parent, id];
      continue;
    }
    posix.close(parent);
    return id === wanted;
  }
}

/** What tells an open file from all others. */
function idOf(fd: posix.Fd): string {
  const { ino, devMajor } = posix.STATX;
  const stat = new Uint8Array(256);
  posix.statx(fd, stat);
  return stat.subarray(ino, ino + 8).toHex() + stat.subarray(devMajor, devMajor + 8).toHex();
}

/** Tries it: this needs CAP_MKNOD in the initial user namespace, which cannot be queried. */
async function canMakeDevices(scratch: string): Promise<boolean> {
  const probe = join(scratch, "device");
  try {
    await commands.mknod(probe);
    return true;
  } catch (error) {
    if (error instanceof BuildError) return false;
    throw error;
  }
}

/** tar only warns about an xattr that it cannot set, so a file capability could get lost. */
function checkXattrs(
  path: string,
  directory: string,
  xattrs: Contents["xattrs"],
  aclNames: readonly string[],
): void {
  const buffer = new Uint8Array(64 * 1024);
  for (const [member, wanted] of xattrs) {
    const file = unescapeNames([`${directory}/${member}`]);
    file[file.length - 1] = 0;
    const length = posix.listxattr(file, buffer);
    const names = new TextDecoder().decode(buffer.subarray(0, Math.max(0, length))).split("\0");
    const lost = wanted.find((name) => !names.includes(name));
    if (!lost) continue;
    const unknown = ACL_XATTR.test(lost) && aclNames.length
      ? `. If nobody here is named ${listPaths(aclNames)}, pack it with GNU tar --xattrs`
      : "";
    throw new BuildError(
      `Cannot unpack ${quote(path)}: the xattr ${quote(lost)} of ${quote(member)} is lost`,
      {
        hint: lost === "security.capability"
          ? "Run with CAP_SETFCAP, in a container with --cap-add=SETFCAP"
          : `Run as root, with a TMPDIR on a filesystem that has xattrs and ACLs${unknown}`,
      },
    );
  }
}

/** Names as tar's quoting style "escape" writes them, as bytes, each followed by a newline. */
function unescapeNames(names: readonly string[]): Uint8Array<ArrayBuffer> {
  const escapes: Record<string, number> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };
  const encoder = new TextEncoder();
  const bytes: number[] = [];
  for (const name of names) {
    for (const [text, octal, letter] of name.matchAll(/\\([0-7]{3})|\\(.)|[^\\]+/gsu)) {
      if (octal) bytes.push(parseInt(octal, 8));
      else if (letter && letter in escapes) bytes.push(escapes[letter]!);
      else for (const byte of encoder.encode(letter ?? text)) bytes.push(byte);
    }
    bytes.push(10);
  }
  return new Uint8Array(bytes);
}
