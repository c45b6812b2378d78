/**
 * Read-only filesystems: everything of a tree comes through the stream, whatever the compression.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { select } from "../../../lib/filesystem/contents.ts";
import { planReadOnly, type ReadOnlyName } from "../../../lib/filesystem/squashfs-erofs.ts";
import type { FilesystemRequest } from "../../../lib/filesystem/types.ts";
import { buildNodes } from "../../../lib/tree/builder.ts";

/** No later than now, so that programs that cut times at now change none. */
const TIME = 1_750_000_000;

const REQUEST: FilesystemRequest = { label: "", uuid: "", hashSeed: "", seed: "", time: TIME };

Deno.test.each([
  {
    name: "xattrs of squashfs's root",
    type: "squashfs",
    list: [{ path: "/", xattrs: [{ name: "user.a", value: new Uint8Array() }] }],
    message: /the root has the extended attribute "user\.a"/,
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
])("planReadOnly() refuses $name", { permissions: "none" }, ({ type, list, message }) => {
  const selection = select(buildNodes(list), { from: "/", omit: [], add: [] });
  assert.throws(() => planReadOnly(type as ReadOnlyName, selection, REQUEST), (error) => {
    assert(error instanceof BuildError);
    assert.match(error.message, message);
    return true;
  });
});
