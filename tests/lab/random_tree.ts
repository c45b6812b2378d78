/**
 * Random trees with a mix of everything that an OS tree can contain: the same seed makes the same tree.
 *
 * @module
 */

import {
  bytesOf,
  changeMode,
  changeOwner,
  makeDirectory,
  makeLink,
  makeNode,
  makeSymlink,
  setTime,
  setXattr,
  writeSparse,
} from "./libc.ts";

/** Numbers from a seed (mulberry32). */
export interface Random {
  /** An integer from 0 up to, but not including, `limit`. */
  readonly below: (limit: number) => number;
  readonly pick: <T>(list: readonly T[]) => T;
  /** True in `percent` of all cases. */
  readonly chance: (percent: number) => boolean;
  readonly bytes: (length: number) => Uint8Array<ArrayBuffer>;
}

/**
 * The fixed seed of a test: the environment variable `name` sets another one, or `random` one that nobody
 * has tried yet.
 */
export function seedFrom(name: string): number {
  const value = Deno.env.get(name) ?? "1";
  return value === "random" ? crypto.getRandomValues(new Uint32Array(1))[0]! : Number(value) >>> 0;
}

export function newRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return {
    below,
    pick: (list) => list[below(list.length)]!,
    chance: (percent) => next() * 100 < percent,
    bytes: (length) => Uint8Array.from({ length }, () => below(256)),
  };
}

const KiB = 1024, GiB = 1024 ** 3, TiB = 1024 ** 4;
const BLOCK = 128 * KiB;
const S_IFIFO = 0o010000, S_IFCHR = 0o020000, S_IFBLK = 0o060000, S_IFSOCK = 0o140000;
const IDS = [0, 0, 1000, 65534, 65535, 65536, 70000, 1_000_000, 2 ** 32 - 2];

interface Entry {
  readonly path: string;
  readonly type: "directory" | "file" | "symlink" | "special";
}

/** Limits of a random tree, set by the filesystem that it is on or becomes. */
export interface RandomTreeOptions {
  /** The largest file, in bytes; default: 15 TiB of hole. */
  readonly largest?: number;
  /** The largest device numbers; default: those of Linux. */
  readonly maxMajor?: number;
  readonly maxMinor?: number;
  /** Bytes of the longest symlink target; default: that of Linux. */
  readonly longestTarget?: number;
  /** The largest user or group in an ACL; default: that of Linux. */
  readonly maxAclId?: number;
  /** Whether the root directory keeps its owner, mode and xattrs. */
  readonly plainRoot?: boolean;
}

/** Fills an empty directory with about `count` entries. */
export function makeRandomTree(
  root: string,
  seed: number,
  count: number,
  {
    largest = 15 * TiB,
    maxMajor = 4095,
    maxMinor = 0xfffff,
    longestTarget = 4095,
    maxAclId = 2 ** 32 - 2,
    plainRoot = false,
  }: RandomTreeOptions = {},
): void {
  const random = newRandom(seed);
  const entries: Entry[] = plainRoot ? [] : [{ path: root, type: "directory" }];
  const pool = [newContents(random, 4), newContents(random, 1), newContents(random, 0)];
  const directories = [root];
  const taken = new Set<string>();
  // One directory gets a third of all entries, so that it is indexed; a chain of others is deep.
  const large = `${root}/large`;
  makeDirectory(large);
  entries.push({ path: large, type: "directory" });
  for (let i = 0; i < count; i++) {
    const parent = random.chance(33)
      ? large
      : random.chance(20)
      ? directories.at(-1)!
      : random.pick(directories);
    const path = `${parent}/${randomName(random)}`;
    if (path.length > 3500 || taken.has(path)) continue;
    taken.add(path);
    const kind = random.below(100);
    if (kind < 12) {
      makeDirectory(path);
      directories.push(path);
      entries.push({ path, type: "directory" });
    } else if (kind < 24) {
      makeSymlink(randomTarget(random).slice(0, longestTarget), path);
      entries.push({ path, type: "symlink" });
    } else if (kind < 32) {
      const type = random.pick([S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK]);
      const isDevice = type === S_IFCHR || type === S_IFBLK;
      const [major, minor] = isDevice
        ? [
          Math.min(maxMajor, random.pick([0, 1, 255, 256, 4095])),
          Math.min(maxMinor, random.pick([0, 3, 255, 256, 65_535, 0x7ffff, 0xfffff])),
        ]
        : [];
      makeNode(path, type | 0o644, major, minor);
      entries.push({ path, type: "special" });
    } else if (kind < 40) {
      const other = entries.length > 0 ? random.pick(entries) : undefined;
      if (!other || other.type === "directory") continue;
      makeLink(other.path, path);
    } else {
      makeRandomFile(random, path, largest, pool);
      entries.push({ path, type: "file" });
    }
  }
  for (const entry of entries.reverse()) randomizeAttributes(random, entry, maxAclId);
}

/** Names that mean something to a program or a format. */
const ODD_NAMES = [
  ...[
    "-tar",
    "-e",
    "--help",
    "...",
    "..a",
    ". ",
    "*",
    "?",
    "~",
    "=",
    "\\n",
    '"',
    "'",
    "\n",
    " ",
    "%41",
    ".wh.x",
  ],
  "# START OF DATA - DO NOT MODIFY",
];

function randomName(random: Random): string {
  if (random.chance(4)) return random.pick(ODD_NAMES);
  const length = random.pick([
    1,
    2,
    3,
    5,
    8,
    8,
    12,
    12,
    20,
    20,
    31,
    32,
    33,
    60,
    99,
    100,
    101,
    120,
    155,
    254,
    255,
  ]);
  const alphabets = [
    "abcdefghijklmnopqrstuvwxyz0123456789-_",
    "Az09 .'\"\\$&;|\n\t",
    "\x80\xc3\xa9\xff\xfe\xf0\x9f",
  ];
  const alphabet = random.pick([alphabets[0]!, alphabets[0]!, alphabets[0]!, alphabets[1]!, alphabets[2]!]);
  const name = Array.from({ length }, () => alphabet[random.below(alphabet.length)]).join("");
  return name === "." || name === ".." ? "dots" : name;
}

/** Targets of links, with lengths around the limits of tar's headers and of inodes. */
function randomTarget(random: Random): string {
  const length = random.pick([
    1,
    10,
    59,
    60,
    61,
    98,
    99,
    100,
    101,
    155,
    156,
    255,
    256,
    257,
    511,
    512,
    513,
    1000,
    4095,
  ]);
  const head = random.pick(["", "", "/", "./", "../", "../../", "//", "./../", "/../"]);
  return `${head}${Array.from({ length }, () => String.fromCharCode(1 + random.below(255))).join("")}`.slice(
    0,
    length,
  );
}

/** Blocks of 128 KiB, as squashfs compares them, and the rest after the last one. */
function newContents(random: Random, blocks: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(blocks * BLOCK + 1 + random.below(BLOCK - 1));
  for (let at = 0; at < bytes.length; at += BLOCK) {
    bytes.set(random.bytes(16).subarray(0, bytes.length - at), at);
  }
  return bytes;
}

function makeRandomFile(
  random: Random,
  path: string,
  largest: number,
  pool: readonly Uint8Array<ArrayBuffer>[],
): void {
  if (random.chance(15)) {
    // Files that begin or end like others, with and without their own end.
    const whole = random.pick(pool), end = random.pick(pool);
    const cut = Math.floor(whole.length / BLOCK) * BLOCK;
    const [from, to] = random.pick([[0, whole.length], [0, cut], [cut, whole.length]]);
    const part = whole.subarray(from, to);
    const tail = random.chance(40) ? end.subarray(Math.floor(end.length / BLOCK) * BLOCK) : new Uint8Array();
    return writeSparse(path, part.length + tail.length, [[0, part], [part.length, tail]]);
  }
  if (random.chance(6)) {
    const sizes = [100 * KiB, 3 * 1024 * KiB, 5 * GiB, 15 * TiB].filter((size) => size <= largest);
    const size = random.pick(sizes) + random.below(5000);
    const count = random.pick([0, 1, 3, 4, 5, 6, 40]);
    const pieces = Array.from(
      { length: count },
      () => [random.below(size), random.bytes(random.pick([1, 100, 4096, 9000]))] as const,
    );
    return writeSparse(path, size, pieces.filter(([offset, data]) => offset + data.length <= size));
  }
  if (random.chance(0.2)) {
    // Every other block is a hole: more extents than one block of the extent tree, or four of them, can name.
    const count = random.pick([350, 1500]);
    const pieces = Array.from({ length: count }, (_, i) => [i * 8192, random.bytes(16)] as const);
    return writeSparse(path, count * 8192, pieces);
  }
  const size = random.pick([
    ...[0, 1, 100, 511, 512, 513, 1000, 4095, 4096, 4097, 8192, 20000, BLOCK - 1, BLOCK, BLOCK + 1],
    random.below(300_000),
  ]);
  writeSparse(
    path,
    size,
    size === 0 ? [] : [[0, random.bytes(1)], [0, random.bytes(Math.min(size, 5000))], [
      Math.max(0, size - 5000),
      random.bytes(Math.min(size, 5000)),
    ]],
  );
}

function randomizeAttributes(random: Random, { path, type }: Entry, maxAclId: number): void {
  changeOwner(path, random.pick(IDS), random.pick(IDS));
  if (type !== "symlink") changeMode(path, random.chance(50) ? 0o755 : random.below(0o10000));
  if (random.chance(25)) randomizeXattrs(random, path, type, maxAclId);
  // From 1901 to 2446, the whole range of ext4; mostly around now.
  const seconds = random.chance(70) ? 1.7e9 + random.below(1e8) : random.pick([
    -(2 ** 31),
    -1,
    0,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 33,
    2 ** 34 - 2 ** 31 - 1,
    -random.below(2 ** 31),
    random.below(2 ** 33),
  ]);
  setTime(path, BigInt(seconds) * 1_000_000_000n + BigInt(random.below(1e9)));
}

function randomizeXattrs(random: Random, path: string, type: Entry["type"], maxAclId: number): void {
  const set = (name: string, length: number) => tryXattr(path, name, random.bytes(length));
  const plain = type === "file" || type === "directory";
  if (plain && random.chance(50)) {
    for (let i = random.below(4); i >= 0; i--) {
      const name = random.pick(["a", "mime_type", "x".repeat(40), "\xff\x80", `n${i}`]);
      set(`user.${name}`, random.pick([0, 1, 4, 10, 30, 100, 400]));
    }
  }
  if (random.chance(30)) set("trusted.t", random.pick([1, 20, 60, 80]));
  if (random.chance(30)) tryXattr(path, "security.selinux", bytesOf("system_u:object_r:bin_t:s0\0"));
  if (type === "file" && random.chance(30)) {
    const capability = Uint8Array.of(1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    tryXattr(path, "security.capability", capability);
  }
  if (plain && random.chance(30)) tryXattr(path, "system.posix_acl_access", randomAcl(random, maxAclId));
  if (type === "directory" && random.chance(30)) {
    tryXattr(path, "system.posix_acl_default", randomAcl(random, maxAclId));
  }
  if (plain && random.chance(3)) set("user.large", 2500);
}

/** Sets an xattr if there is room: ext4 with small blocks has little. */
function tryXattr(path: string, name: string, value: Uint8Array<ArrayBuffer>): void {
  try {
    setXattr(path, name, value);
  } catch (error) {
    if (!/No space left on device$/.test((error as Error).message)) throw error;
  }
}

/** An access control list in the form of the system call: include/uapi/linux/posix_acl_xattr.h. */
function randomAcl(random: Random, maxId: number): Uint8Array<ArrayBuffer> {
  const USER_OBJ = 0x01,
    USER = 0x02,
    GROUP_OBJ = 0x04,
    GROUP = 0x08,
    MASK = 0x10,
    OTHER = 0x20,
    NO_ID = 0xffffffff;
  const named = (tag: number) =>
    [...new Set(Array.from({ length: 1 + random.below(4) }, () => Math.min(maxId, random.pick(IDS))))]
      .sort((a, b) => a - b).map((id) => [tag, random.below(8), id] as const);
  const entries = [
    [USER_OBJ, 7, NO_ID],
    ...named(USER),
    [GROUP_OBJ, random.below(8), NO_ID],
    ...named(GROUP),
    [MASK, random.chance(50) ? 7 : random.below(8), NO_ID],
    [OTHER, random.below(8), NO_ID],
  ] as const;
  const view = new DataView(new ArrayBuffer(4 + entries.length * 8));
  view.setUint32(0, 2, true);
  entries.forEach(([tag, permissions, id], i) => {
    view.setUint16(4 + i * 8, tag, true);
    view.setUint16(6 + i * 8, permissions, true);
    view.setUint32(8 + i * 8, id, true);
  });
  return new Uint8Array(view.buffer);
}
