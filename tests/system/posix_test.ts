import * as assert from "node:assert/strict";
import { lookup, xattrsOf } from "../../lib/tree/nodes.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { tempDir, unprivileged } from "../lab/helpers.ts";
import { bytesOf, makeDirectory, setXattr } from "../lab/libc.ts";

Deno.test("walk() leaves overlayfs's own xattrs out", { ignore: unprivileged() }, async () => {
  await tempDir(async (dir) => {
    makeDirectory(`${dir}/d`);
    setXattr(`${dir}/d`, "trusted.overlay.opaque", bytesOf("y"));
    setXattr(`${dir}/d`, "trusted.kept", bytesOf("y"));
    const root = openRoot(dir);
    try {
      const nodes = await walk(root);
      assert.deepEqual(xattrsOf(nodes, lookup(nodes, "/d")!).map(({ name }) => name), ["trusted.kept"]);
    } finally {
      closeRoot(root);
    }
  });
});
