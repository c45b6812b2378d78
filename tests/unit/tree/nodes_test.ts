import * as assert from "node:assert/strict";
import { PERMISSIONS_MASK } from "../../../lib/core/mode.ts";
import { buildNodes, encodeDevice } from "../../../lib/tree/builder.ts";
import {
  childNamed,
  children,
  inodeRow,
  lookup,
  mtimeOf,
  nameText,
  pathOf,
  targetBytes,
  typeOf,
  xattrsOf,
} from "../../../lib/tree/nodes.ts";

const TREE = buildNodes([
  {
    path: "/usr/lib/os-release",
    size: 10,
    mtime: -1n,
    xattrs: [{ name: "user.b", value: Uint8Array.of(1, 2) }],
  },
  { path: "/etc/os-release", target: "../usr/lib/os-release" },
  { path: "/lib", target: "usr/lib" },
  { path: "/outside", target: "../../../../usr" },
  { path: "/absolute", target: "/lib/os-release" },
  { path: "/loop-a", target: "loop-b" },
  { path: "/loop-b", target: "loop-a" },
  { path: "/dangling", target: "nowhere" },
  { path: "/dev/null", type: "char", device: [1, 3] },
  { path: "/bin/sh", mode: 0o4755 },
  { path: "/bin/bash", linkTo: "/bin/sh" },
]);

Deno.test.each([
  { path: "/", found: "/" },
  { path: "/usr/lib/os-release", found: "/usr/lib/os-release" },
  { path: "usr//lib/./os-release", found: "/usr/lib/os-release" },
  { path: "/etc/os-release", found: "/usr/lib/os-release" },
  { path: "/lib/os-release", found: "/usr/lib/os-release" },
  { path: "/absolute", found: "/usr/lib/os-release" },
  // A symlink that climbs out of the tree ends at its root, as in a chroot.
  { path: "/outside/lib", found: "/usr/lib" },
  { path: "/../../usr", found: "/usr" },
  { path: "/loop-a", found: undefined },
  { path: "/dangling", found: undefined },
  { path: "/usr/lib/os-release/more", found: undefined },
  { path: "/usr/lib/os-release/..", found: undefined },
  { path: "/none", found: undefined },
])("lookup() resolves $path inside the tree", { permissions: "none" }, ({ path, found }) => {
  const node = lookup(TREE, path);
  assert.equal(node === undefined ? undefined : pathOf(TREE, node), found);
});

Deno.test("lookup() can leave a last symlink alone", { permissions: "none" }, () => {
  const node = lookup(TREE, "/lib", { follow: false })!;
  assert.equal(typeOf(TREE, node), "symlink");
  assert.equal(new TextDecoder().decode(targetBytes(TREE, node)), "usr/lib");
  assert.equal(pathOf(TREE, lookup(TREE, "/lib/os-release", { follow: false })!), "/usr/lib/os-release");
});

Deno.test("rows say what was put into them", { permissions: "none" }, () => {
  const file = lookup(TREE, "/usr/lib/os-release")!;
  assert.deepEqual([typeOf(TREE, file), TREE.size[file], mtimeOf(TREE, file)], ["file", 10, -1n]);
  assert.deepEqual(xattrsOf(TREE, file).map(({ name, value }) => [name, [...value]]), [["user.b", [1, 2]]]);
  assert.equal(TREE.mode[lookup(TREE, "/bin/sh")!]! & PERMISSIONS_MASK, 0o4755);
  assert.equal(TREE.special[lookup(TREE, "/dev/null")!], encodeDevice(1, 3));
  const [bash, sh] = [lookup(TREE, "/bin/bash")!, lookup(TREE, "/bin/sh")!];
  assert.deepEqual([bash, sh, file].map((node) => inodeRow(TREE, node)), [bash, bash, file]);
});

Deno.test("children are sorted by the bytes of their names", { permissions: "none" }, () => {
  const names = ["z", "é", "a", "a.b", "a-b", "A", "ab", "\u{1f600}", "\uffff"];
  const nodes = buildNodes(names.map((name) => ({ path: `/${name}` })));
  const encoder = new TextEncoder();
  const bytes = (name: string) =>
    [...encoder.encode(name)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const expected = names.toSorted((a, b) => bytes(a) < bytes(b) ? -1 : 1);
  assert.deepEqual([...children(nodes, 0)].map((child) => nameText(nodes, child)), expected);
  for (const name of names) assert.ok(childNamed(nodes, 0, encoder.encode(name)));
  assert.equal(childNamed(nodes, 0, encoder.encode("b")), undefined);
});
