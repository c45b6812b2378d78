import assert from "node:assert/strict";
import { BuildError } from "../../../../lib/core/error.ts";
import { GiB, MiB } from "../../../../lib/core/units.ts";
import { select } from "../../../../lib/filesystem/contents.ts";
import type { Contents } from "../../../../lib/filesystem/entries.ts";
import { fatEntries } from "../../../../lib/filesystem/fat/entries.ts";
import {
  FAT_ROOT_ENTRIES,
  type FatEntry,
  fatGeometry,
  MAX_FAT_SIZE,
  smallestFat,
} from "../../../../lib/filesystem/fat/geometry.ts";
import { buildNodes, type NodeInput } from "../../../../lib/tree/builder.ts";

const pure = { permissions: "none" } as const;

const file = (path: string, size: number): FatEntry => ({ path, type: "file", size });
const files = (count: number, size: number, name = (i: number) => `/f${i}`): FatEntry[] =>
  Array.from({ length: count }, (_, i) => file(name(i), size));
const inDirectories = (count: number, each: number, size: number): FatEntry[] => [
  ...Array.from({ length: count }, (_, i): FatEntry => ({ path: `/d${i}`, type: "directory", size: 0 })),
  ...files(count * each, size, (i) => `/d${i % count}/f${i}`),
];

/** Very different contents, each near a limit of the layouts. */
const DEMANDS: Record<string, FatEntry[]> = {
  "nothing": [],
  "one byte": files(1, 1),
  "just below FAT12's last cluster": files(1, 4000 * 512),
  "30 MiB": files(1, 30 * MiB),
  "31.9 MiB": files(1, 31.9 * MiB),
  "many names in the root": files(FAT_ROOT_ENTRIES, 1),
  "a long name in a full root": [...files(FAT_ROOT_ENTRIES - 12, 1), file(`/${"n".repeat(150)}`, 1)],
  "40,000 files of one byte": inDirectories(40, 1000, 1),
  "the largest file": files(1, 4 * GiB - 1),
  "200 GiB": files(100, 2 * GiB),
};

Deno.test("fatGeometry() uses FAT16 up to 32 MiB and FAT32 above", pure, () => {
  const bits = (size: number) => fatGeometry(size, [])?.bits;
  assert.equal(bits(MiB), 12);
  assert.equal(bits(32 * MiB), 16);
  assert.equal(bits(33 * MiB), 32);
  assert.equal(bits(MAX_FAT_SIZE), 32);
  assert.equal(bits(MAX_FAT_SIZE + MiB), undefined);
  assert.equal(bits(0), undefined);
});

for (const [name, entries] of Object.entries(DEMANDS)) {
  Deno.test(`smallestFat() is the exact limit: ${name}`, pure, () => {
    const smallest = smallestFat(entries);
    assert.equal(smallest % MiB, 0);
    assert.equal(fatGeometry(smallest - MiB, entries), undefined);
    for (let size = smallest; size <= MAX_FAT_SIZE; size += size < 600 * MiB ? 7 * MiB : size - size % MiB) {
      assert(fatGeometry(size, entries), `${size / MiB} MiB`);
    }
  });
}

Deno.test("smallestFat() refuses what no FAT filesystem can hold, without searching forever", pure, () => {
  assert.throws(() => smallestFat(files(200, 4 * GiB - 1)), {
    name: "BuildError",
    message: "Cannot fit 800 GiB in 200 entries into a FAT filesystem",
    hint: "Leave files out: the largest possible filesystem has 512 GiB",
  });
  assert.throws(
    () => smallestFat(files(40_000, 1, (i) => `/dir/file ${i}`)),
    /Cannot put "\/dir".*too many entries/,
  );
});

// fatEntries(), applied to trees -----------------------------------------------------------------------

function entriesOf(
  list: readonly NodeInput[],
  contents: Partial<Contents> = {},
): { entries: FatEntry[]; notices: string[] } {
  const notices: string[] = [];
  const selection = select(buildNodes(list), { from: "/boot", omit: [], add: [], ...contents });
  const entries = fatEntries(selection, ({ message }) => notices.push(message));
  return { entries, notices };
}

Deno.test("fatEntries() lists files and directories in path order", pure, () => {
  const { entries, notices } = entriesOf([
    { path: "/boot/EFI/BOOT/BOOTX64.EFI", size: 7 },
    { path: "/boot/EFI-old", size: 3 },
    { path: "/boot/a", size: 0 },
  ], { add: [{ path: "/loader/x.conf", type: "file", text: "12345" }] });
  assert.deepEqual(entries.map(({ path, type, size }) => [path, type, size]), [
    ["/EFI", "directory", 0],
    ["/EFI-old", "file", 3],
    ["/EFI/BOOT", "directory", 0],
    ["/EFI/BOOT/BOOTX64.EFI", "file", 7],
    ["/a", "file", 0],
    ["/loader", "directory", 0],
    ["/loader/x.conf", "file", 5],
  ]);
  assert.deepEqual(notices, []);
});

Deno.test("fatEntries() leaves out links to the same filesystem, and dangling links", pure, () => {
  const { entries, notices } = entriesOf([
    { path: "/boot/vmlinuz-1", size: 7 },
    { path: "/boot/vmlinuz", target: "vmlinuz-1" },
    { path: "/boot/vmlinuz.old", target: "/boot/vmlinuz" },
    { path: "/boot/above", target: "../../../../boot/vmlinuz-1" },
    { path: "/boot/boot", target: "." },
    { path: "/boot/gone", target: "/etc/passwd" },
    { path: "/boot/loop", target: "loop" },
    // It is left out, so its name does not matter.
    { path: "/boot/a:b", target: "vmlinuz-1" },
  ]);
  assert.deepEqual(entries.map(({ path }) => path), ["/vmlinuz-1"]);
  assert.equal(notices.length, 7);
  assert(notices.includes('Leaving out the link "/boot/gone": its target does not exist'));
  const boot =
    'Leaving out the link "/boot/boot": FAT has no links, and its target "/boot" is in the same filesystem';
  assert(notices.includes(boot));
});

Deno.test("fatEntries() copies the target of a link out of the directory", pure, () => {
  const { entries, notices } = entriesOf([
    { path: "/usr/lib/modules/1/vmlinuz", size: 9 },
    { path: "/boot/vmlinuz-1", target: "../usr/lib/modules/1/vmlinuz" },
  ]);
  assert.deepEqual(entries.map(({ path, size }) => [path, size]), [["/vmlinuz-1", 9]]);
  assert.deepEqual(notices, ['Copying "/usr/lib/modules/1/vmlinuz" to "/boot/vmlinuz-1": FAT has no links']);
});

const K = "k".repeat(60);

Deno.test.each<{ name: string; list: NodeInput[]; message: string }>([
  { name: "FIFO", list: [{ path: "/boot/f", type: "fifo" }], message: '"/boot/f".*: it is a fifo' },
  { name: "device", list: [{ path: "/boot/d", type: "block" }], message: '"/boot/d".*: it is a block' },
  { name: "socket", list: [{ path: "/boot/s", type: "socket" }], message: '"/boot/s".*: it is a socket' },
  {
    name: "large file",
    list: [{ path: "/boot/big", size: 4 * GiB }],
    message: '"/boot/big".*more than 4 GiB',
  },
  {
    name: "link to a large file",
    list: [{ path: "/big", size: 4 * GiB }, { path: "/boot/l", target: "/big" }],
    message: '"/boot/l".*more than 4 GiB',
  },
  {
    name: "link to a directory",
    list: [{ path: "/usr", type: "directory" }, { path: "/boot/l", target: "../usr" }],
    message: '"/boot/l".*: it is a link to "/usr"',
  },
  {
    name: "link to a FIFO",
    list: [{ path: "/f", type: "fifo" }, { path: "/boot/l", target: "/f" }],
    message: '"/boot/l".*: it is a link to "/f"',
  },
  {
    name: "case",
    list: [{ path: "/boot/README" }, { path: "/boot/readme" }],
    message: '"/boot/readme".*: its name differs from "/boot/README" only in case',
  },
  {
    name: "case of other letters",
    list: [{ path: "/boot/É" }, { path: "/boot/é" }],
    message: '"/boot/é".*: its name differs from "/boot/É" only in case',
  },
  {
    name: "case of a directory and a file",
    list: [{ path: "/boot/efi" }, { path: "/boot/EFI/b" }],
    message: '"/boot/efi".*: its name differs from "/boot/EFI" only in case',
  },
  {
    name: "case of files in directories",
    list: [{ path: "/boot/efi/a" }, { path: "/boot/EFI/A" }],
    message: '"/boot/efi/a".*: its name differs from "/boot/EFI/A" only in case',
  },
  { name: "colon", list: [{ path: "/boot/a:b" }], message: '"/boot/a:b".*forbids' },
  { name: "wildcard", list: [{ path: "/boot/a*" }], message: "forbids" },
  { name: "backslash", list: [{ path: "/boot/a\\b" }], message: "forbids" },
  { name: "newline", list: [{ path: "/boot/a\nb" }], message: '"/boot/a\\\\nb".*forbids' },
  { name: "padding of long names", list: [{ path: "/boot/a\uffff" }], message: "forbids" },
  { name: "trailing dot", list: [{ path: "/boot/trail." }], message: '"/boot/trail.".*ends with a dot' },
  {
    name: "trailing space",
    list: [{ path: "/boot/x /y" }],
    message: '"/boot/x ".*ends with a dot or a space',
  },
  { name: "leading space", list: [{ path: "/boot/ x" }], message: "starts with a space" },
  { name: "long path", list: [{ path: `/boot/${`${K}/`.repeat(70)}x` }], message: "path has more than 4095" },
])("fatEntries() refuses before anything is written: $name", pure, ({ list, message }) => {
  assert.throws(() => entriesOf(list), (error) => {
    assert(error instanceof BuildError, String(error));
    assert.match(error.message, new RegExp(`^Cannot put ${message.startsWith('"') ? "" : ".*"}${message}`));
    assert(error.hint);
    return true;
  });
});

Deno.test(
  "FAT names what it cannot hold by its path in the tree, also where that is not below /boot",
  pure,
  () => {
    const fails = (list: readonly NodeInput[], contents: Partial<Contents>, message: string) =>
      assert.throws(() => smallestFat(entriesOf(list, contents).entries), (error) => {
        assert(error instanceof BuildError, String(error));
        assert(error.message.startsWith(message), error.message);
        return true;
      });
    const many = Array.from({ length: 40_000 }, (_, i) => ({ path: `/boot/many/file ${i}` }));
    fails(many, {}, 'Cannot put "/boot/many" into a FAT filesystem: it has too many entries');
    fails(
      many,
      { from: "/boot/many" },
      'Cannot put "/boot/many" into a FAT filesystem: it has too many entries',
    );
    const copied: NodeInput[] = [{ path: "/boot", type: "directory" }, { path: "/srv/esp/x." }, {
      path: "/srv/one",
    }];
    fails(copied, { copies: [{ from: "/srv/esp", path: "/data" }] }, 'Cannot put "/srv/esp/x."');
    // A name that the plan gives is not the one in the tree.
    fails(copied, { copies: [{ from: "/srv/one", path: "/a:b" }] }, 'Cannot put "/boot/a:b"');
    const merged = [{ path: "/boot/efi/a" }, { path: "/boot/EFI/b/c" }];
    const add = [{ path: "/EFI/B", type: "file", text: "" }] as const;
    fails(
      merged,
      { add },
      'Cannot put "/boot/EFI/b" into a FAT filesystem: its name differs from "/boot/EFI/B"',
    );
  },
);

Deno.test("fatEntries() makes one directory of those that differ only in case", pure, () => {
  const list = [{ path: "/boot/efi/a/x" }, { path: "/boot/EFI/A/y" }, { path: "/boot/EFI/b" }];
  assert.deepEqual(entriesOf(list).entries.map(({ path }) => path), [
    "/EFI",
    "/EFI/A",
    "/EFI/A/x",
    "/EFI/A/y",
    "/EFI/b",
  ]);
});

Deno.test("fatEntries() refuses what the plan adds with a name of more than 255 characters", pure, () => {
  const add = (length: number) =>
    entriesOf([{ path: "/boot/a" }], { add: [{ path: `/${"n".repeat(length)}`, type: "file", text: "" }] });
  assert.equal(add(255).entries.length, 2);
  assert.throws(() => add(256), /Cannot put .*its name has more than 255 characters/);
});

Deno.test("fatEntries() accepts names that only DOS or a code page could not represent", pure, () => {
  const names = ["Aux.txt", "con", "vmlinu~1", "é", "日本語", "😀", "a+b,c;d=[e]", ".x", "a.b.c", "ß", "ss"];
  const { entries } = entriesOf(names.map((name) => ({ path: `/boot/${name}` })));
  assert.deepEqual(entries.map(({ path }) => path.slice(1)), names.sort());
});

Deno.test("fatEntries() refuses names that are not UTF-8", pure, () => {
  const nodes = buildNodes([{ path: "/boot/aXb" }]);
  nodes.bytes[nodes.bytes.indexOf("X".charCodeAt(0))] = 0xff;
  const selection = select(nodes, { from: "/boot", omit: [], add: [] });
  assert.throws(() => fatEntries(selection, () => {}), /Cannot put .*not UTF-8/);
});
