/**
 * Compares two directory trees entry by entry, with programs other than the builder: names, types, modes,
 * owners, sizes, times, link targets and hard links as `find` prints them, device numbers as `stat` does,
 * xattrs and ACLs as `getfattr` does; then contents and holes.
 *
 * @module
 */

import * as assert from "node:assert/strict";
import * as posix from "../../lib/system/posix.ts";
import { bytesOf } from "./libc.ts";

export interface CompareOptions {
  /** Paths (Latin-1, without a slash at their start) to leave out on both sides, with everything below. */
  readonly omit?: readonly string[];
  /** How the filesystem stores a time, with its fraction after the point. Default: unchanged. */
  readonly time?: (seconds: number, fraction: string) => string;
  /** Whether sockets are left out on both sides. */
  readonly noSockets?: boolean;
  /** Files where only the contents count: holes may have become zeros, or zeros holes. */
  readonly anyHoles?: boolean;
}

/** How read-only filesystems store times: whole seconds from 1970 on, or whole seconds only before 1970. */
export const KEPT_TIMES = {
  squashfs: (seconds, _) => String(Math.max(0, seconds)),
  erofs: (seconds, fraction) => seconds < 0 ? String(seconds) : `${seconds}.${fraction}`,
} as const satisfies Record<string, NonNullable<CompareOptions["time"]>>;

/** One entry as `find` shows it. */
interface Listed {
  readonly path: string;
  readonly type: string;
  /** Everything that must be equal, readable in a difference. */
  readonly facts: string;
}

/** @throws with the differences when the trees differ. */
export function assertEqualTrees(
  expected: string,
  actual: string,
  { omit = [], noSockets = false, time, anyHoles = false }: CompareOptions = {},
): void {
  const skips = (path: string) => omit.some((one) => path === one || path.startsWith(`${one}/`));
  const [left, right] = [expected, actual].map((root) => list(root, { skips, noSockets, time })) as [
    Listed[],
    Listed[],
  ];
  assert.ok(left.length > 0);
  assertEqualLines(left.map(({ facts }) => facts), right.map(({ facts }) => facts));
  assertEqualLines(devices(expected, skips), devices(actual, skips));
  const tests = noSockets ? ["!", "-type", "s"] : [];
  assertEqualLines(xattrs(expected, skips, tests), xattrs(actual, skips, tests));
  for (const { path, type } of left) {
    if (type === "f") assertEqualFiles(`${expected}/${path}`, `${actual}/${path}`, anyHoles);
  }
}

function assertEqualLines(expected: readonly string[], actual: readonly string[]): void {
  const [left, right] = [new Set(expected), new Set(actual)];
  const missing = expected.filter((line) => !right.has(line)),
    extra = actual.filter((line) => !left.has(line));
  if (missing.length + extra.length === 0) return;
  const show = (lines: string[], mark: string) =>
    lines.slice(0, 10).map((line) => mark + JSON.stringify(line));
  assert.fail(
    `${missing.length} missing, ${extra.length} extra:\n${
      [...show(missing, "-"), ...show(extra, "+")].join("\n")
    }`,
  );
}

/** Runs a program inside a tree and returns what it prints, as Latin-1. */
function run(cwd: string, program: string, args: string[], stdin?: string): string {
  // Deno's spawn takes no input synchronously: xargs reads the list from a file.
  const list = stdin === undefined ? undefined : Deno.makeTempFileSync();
  try {
    if (list) Deno.writeFileSync(list, bytesOf(stdin!));
    const { success, stdout, stderr } = new Deno.Command(list ? "xargs" : program, {
      args: list ? ["-0", "-r", "-a", list, program, ...args] : args,
      cwd,
      env: { LC_ALL: "C", TZ: "UTC" },
    }).outputSync();
    assert.ok(success, new TextDecoder().decode(stderr));
    let text = "";
    for (let at = 0; at < stdout.length; at += 8192) {
      text += String.fromCharCode(...stdout.subarray(at, at + 8192));
    }
    return text;
  } finally {
    if (list) Deno.removeSync(list);
  }
}

interface ListOptions {
  readonly skips: (path: string) => boolean;
  readonly noSockets: boolean;
  readonly time: CompareOptions["time"] | undefined;
}

function list(root: string, { skips, noSockets, time: kept }: ListOptions): Listed[] {
  const fields = ["%P", "%y", "%m", "%U", "%G", "%s", "%T@", "%l", "%n", "%D:%i"];
  const words = run(root, "find", [".", "-printf", fields.join("\\0") + "\\0"]).split("\0");
  const rows: string[][] = [];
  for (let at = 0; at + fields.length <= words.length; at += fields.length) {
    const row = words.slice(at, at + fields.length);
    if (!skips(row[0]!) && !(noSockets && row[1] === "s")) rows.push(row);
  }
  rows.sort(([a], [b]) => a! < b! ? -1 : 1);
  const firstOf = new Map<string, string>();
  return rows.map(([path, type, mode, uid, gid, size, time, target, links, inode]) => {
    if (!firstOf.has(inode!)) firstOf.set(inode!, path!);
    // The size of a directory depends on the filesystem, and so does its link count above 65000.
    const own = type === "d" ? [] : [size, target, links, `= ${firstOf.get(inode!)}`];
    // find prints -1.5 as -2.5: both parts as in the inode.
    const [seconds, fraction] = time!.split(".");
    const shown = kept ? kept(Number(seconds), fraction!) : time;
    return { path: path!, type: type!, facts: [path, type, mode, uid, gid, shown, ...own].join("|") };
  });
}

function paths(root: string, skips: (path: string) => boolean, ...tests: string[]): string {
  return run(root, "find", [".", ...tests, "-printf", "%P\\0"]).split("\0").filter((path) =>
    path !== "" && !skips(path)
  )
    .sort().map((path) => `./${path}\0`).join("");
}

function devices(root: string, skips: (path: string) => boolean): string[] {
  const found = paths(root, skips, "(", "-type", "b", "-o", "-type", "c", ")");
  return run(root, "stat", ["--printf=%n|%t:%T\\0"], found).split("\0");
}

function xattrs(root: string, skips: (path: string) => boolean, tests: readonly string[]): string[] {
  const found = paths(root, skips, ...tests) + ".\0";
  const dump = run(root, "getfattr", ["-h", "-d", "-m", "-", "-e", "hex", "--absolute-names"], found);
  // XFS shows each ACL a second time, in its own form, which belongs to XFS and not to the tree.
  const isOurs = (line: string) => !/^trusted\.SGI_ACL_/.test(line);
  return dump.split("\n\n").map((record) => record.split("\n").filter(isOurs).sort().join("\n"));
}

/** Contents and holes: both files have the same data in the same places, and nowhere else. */
function assertEqualFiles(expected: string, actual: string, anyHoles: boolean): void {
  const [left, right] = [openFile(expected), openFile(actual)];
  try {
    const ranges = dataOf(left);
    if (!anyHoles) assert.deepEqual({ of: expected, data: dataOf(right) }, { of: expected, data: ranges });
    // Reading a hole gives zeros. The sizes are known to be equal.
    for (const [start, end] of anyHoles ? dataOf(right) : []) {
      if (!ranges.some(([from, to]) => from <= start && end <= to)) ranges.push([start, end]);
    }
    for (const [start, end] of ranges) {
      for (let at = start; at < end; at += BUFFER.length) {
        const a = posix.pread(left, BUFFER.subarray(0, end - at), at);
        const b = posix.pread(right, OTHER.subarray(0, end - at), at);
        assert.ok(a === b && equal(a), `contents of ${expected} from ${at} on`);
      }
    }
  } finally {
    posix.close(left);
    posix.close(right);
  }
}

const BUFFER = new Uint8Array(1 << 18), OTHER = new Uint8Array(1 << 18);

function equal(length: number): boolean {
  for (let at = 0; at < length; at++) if (BUFFER[at] !== OTHER[at]) return false;
  return true;
}

function openFile(path: string): number {
  const fd = posix.open(bytesOf(path + "\0"), posix.OPEN.file);
  assert.ok(fd >= 0, `open ${path}`);
  return fd;
}

/** Where a file has data, in whole blocks of 4 KiB. */
function dataOf(fd: number): [number, number][] {
  const ranges: [number, number][] = [];
  for (let at = 0;;) {
    const start = posix.seek(fd, at, "data");
    if (start < 0) return ranges;
    at = posix.seek(fd, start, "hole");
    const [from, to] = [Math.floor(start / 4096) * 4096, Math.ceil(at / 4096) * 4096];
    // With smaller blocks, two pieces can be in one of 4 KiB.
    if (ranges.length > 0 && ranges.at(-1)![1] >= from) ranges.at(-1)![1] = to;
    else ranges.push([from, to]);
  }
}
