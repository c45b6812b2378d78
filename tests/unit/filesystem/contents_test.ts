import * as assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import {
  entryPath,
  modeOf,
  select,
  type Selection,
  sizeOf,
  treePath,
} from "../../../lib/filesystem/contents.ts";
import type { Contents } from "../../../lib/filesystem/entries.ts";
import { buildNodes } from "../../../lib/tree/builder.ts";

const TREE = buildNodes([
  { path: "/etc/fstab", size: 100, mode: 0o600, uid: 5 },
  { path: "/etc/hosts", size: 20 },
  { path: "/boot/vmlinuz", size: 5000 },
  { path: "/boot/grub/grub.cfg", size: 300 },
  { path: "/usr/bin/sh", size: 40, mode: 0o755 },
  { path: "/bin", target: "usr/bin" },
  { path: "/efi", target: "/nowhere" },
  { path: "/mnt/deep", target: "/etc" },
]);

/** One line per entry: path, mode and size. */
function listed(contents: Partial<Contents>): string[] {
  const selection: Selection = select(TREE, { omit: [], add: [], ...contents });
  const lines: string[] = [];
  for (let entry = 0; entry < selection.count; entry++) {
    lines.push(
      `${entryPath(selection, entry)} ${modeOf(selection, entry).toString(8)} ${sizeOf(selection, entry)}`,
    );
  }
  return lines;
}

const ALL = listed({ from: "/" });

Deno.test("select() takes the whole tree", { permissions: "none" }, () => {
  assert.equal(ALL.length, TREE.count);
  assert.ok(ALL.includes("/etc/fstab 100600 100"));
});

Deno.test("treePath() says where an entry is in the tree, or would be", { permissions: "none" }, () => {
  const selection = select(TREE, {
    from: "/boot",
    copies: [{ from: "/etc", path: "/config" }, { from: "/usr/bin/sh", path: "/shell" }],
    omit: [],
    add: [{ path: "/grub/new/one", type: "file", text: "" }, { path: "/vmlinuz", type: "file", text: "" }],
  });
  const paths = Array.from(
    { length: selection.count },
    (_, entry) => [entryPath(selection, entry), treePath(selection, entry)],
  );
  assert.deepEqual(Object.fromEntries(paths), {
    "/": "/boot",
    "/config": "/boot/config",
    "/config/fstab": "/etc/fstab",
    "/config/hosts": "/etc/hosts",
    "/grub": "/boot/grub",
    "/grub/grub.cfg": "/boot/grub/grub.cfg",
    "/grub/new": "/boot/grub/new",
    "/grub/new/one": "/boot/grub/new/one",
    "/shell": "/boot/shell",
    "/vmlinuz": "/boot/vmlinuz",
  });
});

Deno.test("select() takes a subtree or nothing as root", { permissions: "none" }, () => {
  assert.deepEqual(listed({ from: "/boot" }), [
    "/ 40755 0",
    "/grub 40755 0",
    "/vmlinuz 100644 5000",
    "/grub/grub.cfg 100644 300",
  ]);
  assert.deepEqual(listed({}), ["/ 40755 0"]);
  assert.throws(() => listed({ from: "/none" }), BuildError);
  assert.throws(() => listed({ from: "/etc/fstab" }), BuildError);
});

Deno.test("select() leaves out paths, or only what is below them", { permissions: "none" }, () => {
  assert.deepEqual(listed({ from: "/", omit: ["/boot"] }), ALL.filter((line) => !line.startsWith("/boot")));
  assert.deepEqual(listed({ from: "/", omit: ["/boot/"] }), ALL.filter((line) => !line.startsWith("/boot/")));
  assert.deepEqual(listed({ from: "/", omit: ["/none", "/etc/none/"] }), ALL);
  // Symlinks are treated like other entries: the target of /bin stays.
  assert.deepEqual(listed({ from: "/", omit: ["/bin/"] }), ALL);
});

Deno.test.each(
  [
    {
      name: "a file in place of another: the mode is kept",
      add: { path: "/etc/fstab", type: "file", text: "1234" },
      gone: ["/etc/fstab 100600 100"],
      come: ["/etc/fstab 100600 4"],
    },
    {
      name: "a file with a different mode",
      add: { path: "/etc/fstab", type: "file", text: "", mode: 0o444 },
      gone: ["/etc/fstab 100600 100"],
      come: ["/etc/fstab 100444 0"],
    },
    {
      name: "an existing directory is kept",
      add: { path: "/boot", type: "directory" },
      gone: [],
      come: [],
    },
    {
      name: "a directory in place of a symlink",
      add: { path: "/efi", type: "directory" },
      gone: ["/efi 120777 8"],
      come: ["/efi 40755 0"],
    },
    {
      name: "missing parents",
      add: { path: "/a/b/c", type: "file", text: "x" },
      gone: [],
      come: ["/a 40755 0", "/a/b 40755 0", "/a/b/c 100644 1"],
    },
    {
      name: "through symlinks",
      add: { path: "/bin/new", type: "file", text: "x" },
      gone: [],
      come: ["/usr/bin/new 100644 1"],
    },
    {
      name: "through an absolute symlink",
      add: { path: "/mnt/deep/hosts", type: "file", text: "x" },
      gone: ["/etc/hosts 100644 20"],
      come: ["/etc/hosts 100644 1"],
    },
    {
      name: "a parent in place of a dangling symlink",
      add: { path: "/efi/EFI", type: "directory" },
      gone: ["/efi 120777 8"],
      come: ["/efi 40755 0", "/efi/EFI 40755 0"],
    },
    {
      name: "a copy of a file of the tree",
      add: { path: "/kernel", type: "copy", from: "/boot/vmlinuz" },
      gone: [],
      come: ["/kernel 100644 5000"],
    },
  ] as const,
)("select() adds $name", { permissions: "none" }, ({ add, gone, come }) => {
  const expected = [...ALL.filter((line) => !(gone as readonly string[]).includes(line)), ...come];
  assert.deepEqual(listed({ from: "/", add: [add] }).toSorted(), expected.toSorted());
});

Deno.test("select() adds entries below what it leaves out", { permissions: "none" }, () => {
  const lines = listed({ from: "/", omit: ["/boot"], add: [{ path: "/boot/efi", type: "directory" }] });
  assert.deepEqual(lines.filter((line) => line.startsWith("/boot")), ["/boot 40755 0", "/boot/efi 40755 0"]);
});

Deno.test("select() keeps the order of a walk: each directory's children are together, sorted", {
  permissions: "none",
}, () => {
  const selection = select(TREE, {
    from: "/",
    omit: [],
    add: ["/aaa", "/zzz", "/etc/g", "/boot/a/x"].map((path) => ({ path, type: "file" as const, text: "" })),
  });
  let next = 1;
  const visit = (entry: number) => {
    const first = selection.firstChild[entry]!, end = first + selection.childCount[entry]!;
    if (first === end) return;
    assert.equal(first, next);
    next = end;
    const paths = Array.from({ length: end - first }, (_, i) => entryPath(selection, first + i));
    assert.deepEqual(paths, paths.toSorted());
    for (let child = first; child < end; child++) visit(child);
  };
  visit(0);
  assert.equal(next, selection.count);
});

Deno.test("select() names the file that it cannot copy", { permissions: "none" }, () => {
  for (const from of ["/none", "/etc", "/efi"]) {
    assert.throws(() => listed({ from: "/", add: [{ path: "/x", type: "copy", from }] }), {
      message: `Cannot find the file ${JSON.stringify(from)} in the tree`,
    });
  }
});
