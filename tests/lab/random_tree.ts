/**
 * Random trees with everything that an OS tree can hold, mixed: the same seed makes the same tree.
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
  /** An integer from 0 to below `limit`. */
  readonly below: (limit: number) => number;
  readonly pick: <T>(list: readonly T[]) => T;
  /** True in `percent` of all cases. */
  readonly chance: (percent: number) => boolean;
  readonly bytes: (length: number) => Uint8Array<ArrayBuffer>;
}

/**
 * The seed of a test, which is always the same: the variable `name` gives another one, and `random` one that nobody
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
const S_IFIFO = 0o010000, S_IFCHR = 0o020000, S_IFBLK = 0o060000, S_IFSOCK = 0o140000;
const IDS = [0, 0, 1000, 65534, 65535, 65536, 70000, 1_000_000, 2 ** 32 - 2];

interface Entry {
  readonly path: string;
  readonly type: "directory" | "file" | "symlink" | "special";
}

/** Fills an empty directory with about `count` entries. */
export function makeRandomTree(root: string, seed: number, count: number): void {
  const random = newRandom(seed);
  const entries: Entry[] = [{ path: root, type: "directory" }];
  const directories = [root];
  const taken = new Set<string>();
  // One directory gets a third of all, so that it is indexed; a chain of others is deep.
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
      const length = random.pick([1, 10, 59, 60, 61, 1000, 4095]);
      makeSymlink(Array.from({ length }, () => String.fromCharCode(1 + random.below(255))).join(""), path);
      entries.push({ path, type: "symlink" });
    } else if (kind < 32) {
      const type = random.pick([S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK]);
      const isDevice = type === S_IFCHR || type === S_IFBLK;
      const [major, minor] = isDevice
        ? [random.pick([0, 1, 255, 256, 4095]), random.pick([0, 3, 255, 256, 0xfffff])]
        : [];
      makeNode(path, type | 0o644, major, minor);
      entries.push({ path, type: "special" });
    } else if (kind < 40) {
      const other = random.pick(entries);
      if (other.type === "directory") continue;
      makeLink(other.path, path);
    } else {
      makeRandomFile(random, path);
      entries.push({ path, type: "file" });
    }
  }
  for (const entry of entries.reverse()) randomizeAttributes(random, entry);
}

function randomName(random: Random): string {
  const length = random.pick([1, 2, 3, 5, 8, 8, 12, 12, 20, 20, 31, 32, 33, 60, 120, 254, 255]);
  const alphabets = [
    "abcdefghijklmnopqrstuvwxyz0123456789-_",
    "Az09 .'\"\\$&;|\n\t",
    "\x80\xc3\xa9\xff\xfe\xf0\x9f",
  ];
  const alphabet = random.pick([alphabets[0]!, alphabets[0]!, alphabets[0]!, alphabets[1]!, alphabets[2]!]);
  const name = Array.from({ length }, () => alphabet[random.below(alphabet.length)]).join("");
  return name === "." || name === ".." ? "dots" : name;
}

function makeRandomFile(random: Random, path: string): void {
  if (random.chance(6)) {
    const size = random.pick([100 * KiB, 3 * 1024 * KiB, 5 * GiB, 15 * TiB]) + random.below(5000);
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
  const size = random.pick([0, 1, 100, 1000, 4095, 4096, 4097, 8192, 20000, random.below(300_000)]);
  writeSparse(
    path,
    size,
    size === 0 ? [] : [[0, random.bytes(1)], [0, random.bytes(Math.min(size, 5000))], [
      Math.max(0, size - 5000),
      random.bytes(Math.min(size, 5000)),
    ]],
  );
}

function randomizeAttributes(random: Random, { path, type }: Entry): void {
  changeOwner(path, random.pick(IDS), random.pick(IDS));
  if (type !== "symlink") changeMode(path, random.chance(50) ? 0o755 : random.below(0o10000));
  if (random.chance(25)) randomizeXattrs(random, path, type);
  // From 1901 to 2446, which is all that ext4 can say; most of it around now.
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

function randomizeXattrs(random: Random, path: string, type: Entry["type"]): void {
  const set = (name: string, length: number) => setXattr(path, name, random.bytes(length));
  const plain = type === "file" || type === "directory";
  if (plain && random.chance(50)) {
    for (let i = random.below(4); i >= 0; i--) {
      const name = random.pick(["a", "mime_type", "x".repeat(40), "\xff\x80", `n${i}`]);
      set(`user.${name}`, random.pick([0, 1, 4, 10, 30, 100, 400]));
    }
  }
  if (random.chance(30)) set("trusted.t", random.pick([1, 20, 60, 80]));
  if (random.chance(30)) setXattr(path, "security.selinux", bytesOf("system_u:object_r:bin_t:s0\0"));
  if (type === "file" && random.chance(30)) {
    const capability = Uint8Array.of(1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    setXattr(path, "security.capability", capability);
  }
  if (plain && random.chance(30)) setXattr(path, "system.posix_acl_access", randomAcl(random));
  if (type === "directory" && random.chance(30)) {
    setXattr(path, "system.posix_acl_default", randomAcl(random));
  }
  if (plain && random.chance(3)) set("user.large", 2500);
}

/** An access control list as the system call takes it: include/uapi/linux/posix_acl_xattr.h. */
function randomAcl(random: Random): Uint8Array<ArrayBuffer> {
  const USER_OBJ = 0x01,
    USER = 0x02,
    GROUP_OBJ = 0x04,
    GROUP = 0x08,
    MASK = 0x10,
    OTHER = 0x20,
    NO_ID = 0xffffffff;
  const named = (tag: number) =>
    [...new Set(Array.from({ length: 1 + random.below(4) }, () => random.pick(IDS)))]
      .sort((a, b) => a - b).map((id) => [tag, random.below(8), id] as const);
  const entries = [
    [USER_OBJ, 7, NO_ID],
    ...named(USER),
    [GROUP_OBJ, random.below(8), NO_ID],
    ...named(GROUP),
    [MASK, 7, NO_ID],
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
