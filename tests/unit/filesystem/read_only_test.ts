/**
 * Read-only filesystems: limits of the formats, and what old programs cannot do.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { select } from "../../../lib/filesystem/contents.ts";
import { planReadOnly, type ReadOnlyName } from "../../../lib/filesystem/squashfs-erofs.ts";
import type { FilesystemRequest } from "../../../lib/filesystem/types.ts";
import { checkNeeds } from "../../../lib/make/programs.ts";
import { buildNodes, type NodeInput } from "../../../lib/tree/builder.ts";
import type { Xattr } from "../../../lib/tree/nodes.ts";

/** In the past, so that programs that clamp times to the present change nothing. */
const TIME = 1_750_000_000;

const REQUEST: FilesystemRequest = { label: "", uuid: "", hashSeed: "", seed: "", time: TIME };

function xattrs(count: number, size: number): Xattr[] {
  return Array.from({ length: count }, (_, i) => ({ name: `user.${i}`, value: new Uint8Array(size) }));
}

/** Twice as many IDs, and root's. */
function owners(count: number): NodeInput[] {
  return Array.from({ length: count }, (_, i) => ({ path: `/d${i % 7}/${i}`, uid: 1 + i, gid: 40_000 + i }));
}

Deno.test.each([
  {
    name: "xattrs of squashfs's root that cannot be spelt",
    type: "squashfs",
    list: [{ path: "/", xattrs: [{ name: "user.a b", value: new Uint8Array() }] }],
    message: /the root has the extended attribute "user\.a b"/,
  },
  {
    name: 'a "=" in the name of an xattr',
    type: "erofs",
    list: [{ path: "/a", xattrs: [{ name: "user.a=b", value: new Uint8Array() }] }],
    message: /"=" in its name/,
  },
  {
    name: "a path of 4 KiB",
    type: "erofs",
    list: [{ path: `/${Array(17).fill("n".repeat(250)).join("/")}` }],
    message: /its path is too long/,
  },
  {
    name: "an xattr of 64 KiB for erofs",
    type: "erofs",
    list: [{ path: "/a", xattrs: [{ name: "user.a", value: new Uint8Array(65536) }] }],
    message: /^Cannot put "\/a" into .* "user\.a" has 65536 bytes, more than 65535$/,
  },
  {
    name: "xattrs of 256 KiB for erofs",
    type: "erofs",
    list: [{ path: "/a", xattrs: xattrs(5, 60_000) }],
    message: /its extended attributes take 300\d\d\d bytes, more than 262140$/,
  },
  {
    name: "more than 65,535 owners for squashfs",
    type: "squashfs",
    list: owners(32_768),
    message: /there are more than 65535 different user and group IDs$/,
  },
])("planReadOnly() refuses $name", { permissions: "none" }, ({ type, list, message }) => {
  const selection = select(buildNodes(list), { from: "/", omit: [], add: [] });
  assert.throws(() => planReadOnly(type as ReadOnlyName, selection, REQUEST), (error) => {
    assert(error instanceof BuildError);
    assert.match(error.message, message);
    return true;
  });
});

function planOf(type: ReadOnlyName, list: readonly NodeInput[]) {
  return planReadOnly(type, select(buildNodes(list), { from: "/", omit: [], add: [] }), REQUEST);
}

Deno.test(
  "planReadOnly() enforces the limits of the formats for owners and xattrs",
  { permissions: "none" },
  () => {
    planOf("squashfs", owners(32_767));
    planOf("squashfs", [{ path: "/a", xattrs: xattrs(20, 65_536) }]);
    planOf("erofs", [{ path: "/a", xattrs: xattrs(4, 65_500) }]);
  },
);

Deno.test.each([
  {
    name: "a large minor number",
    list: [{ path: "/dev/x", type: "char", device: [1, 524_288] }],
    message: 'Cannot make erofs with mkfs.erofs 1.8.6: it damages the minor number 524288 of "/dev/x"',
  },
  {
    name: "32 KiB of xattrs",
    list: [{ path: "/a", xattrs: xattrs(1, 33_000) }],
    message: 'Cannot make erofs with mkfs.erofs 1.8.6: it damages the extended attributes of "/a"',
  },
] as { name: string; list: NodeInput[]; message: string }[])(
  "checkNeeds() refuses an old mkfs.erofs for $name",
  { permissions: "none" },
  ({ list, message }) => {
    const { type, needs } = planOf("erofs", list);
    assert.throws(() => checkNeeds(type, needs, new Map([["mkfs.erofs", "1.8.6"]])), { message });
    checkNeeds(type, needs, new Map([["mkfs.erofs", "1.9.2"]]));
    assert.deepEqual(planOf("squashfs", list).needs, []);
  },
);

Deno.test(
  "checkNeeds() accepts an old mkfs.erofs for trees that it can handle",
  { permissions: "none" },
  () => {
    const { type, needs } = planOf("erofs", [
      { path: "/dev/x", type: "block", device: [4095, 524_287] },
      { path: "/a", xattrs: xattrs(1, 30_000) },
    ]);
    checkNeeds(type, needs, new Map([["mkfs.erofs", "1.8.6"]]));
  },
);

Deno.test("planReadOnly() reports times that it cannot keep", { permissions: "none" }, () => {
  const list = [
    { path: "/early", mtime: -1_500_000_000n },
    { path: "/whole", mtime: -2_000_000_000n },
    { path: "/late", mtime: 1_500_000_000n },
  ];
  const dated = (type: ReadOnlyName) =>
    planOf(type, list).findings.map(({ message }) => message).filter((text) => text.startsWith("Dating"));
  assert.deepEqual(dated("squashfs"), [
    'Dating "/early", "/whole" 1970-01-01: squashfs has no earlier times',
  ]);
  assert.deepEqual(dated("erofs"), ['Dating "/early" to the second: erofs has no fractions before 1970']);
});

Deno.test(
  "planReadOnly() says that a directory of 20,000 entries takes long",
  { permissions: "none" },
  () => {
    const list = Array.from({ length: 20_000 }, (_, i) => ({ path: `/spool/${i}` }));
    const slow = (list: readonly NodeInput[]) =>
      planOf("squashfs", list).findings.map(({ message }) => message).filter((text) => /slow/.test(text));
    assert.deepEqual(slow(list), [
      'Filling "/spool" may take minutes: squashfs is slow with directories of this size',
    ]);
    assert.deepEqual(slow(list.slice(1)), []);
  },
);
