/**
 * The walk of a tree, where the system does not give what it listed.
 *
 * @module
 */

import assert from "node:assert/strict";
import { failingCalls, missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { onFilesystem } from "../lab/loop_filesystem.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** Walks a tree in another process, started by a program with these arguments; returns what it says. */
async function walkBy(program: string, args: readonly string[], tree: string): Promise<string> {
  const script = `
    import { openRoot } from "${ROOT}lib/tree/root.ts";
    import { walk } from "${ROOT}lib/tree/walk.ts";
    try {
      const { count, xattrsAt } = await walk(openRoot("${tree}"));
      console.log(\`\${count} entries, \${xattrsAt.filter((at) => at > 0).length} with xattrs\`);
    } catch (error) {
      console.log(error.message);
    }`;
  const { stdout } = await new Deno.Command(program, {
    args: [...args, Deno.execPath(), "eval", "--quiet", `--config=${ROOT}deno.json`, script],
  }).output();
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("walk() takes an xattr that is gone once it was listed for a change of the tree", {
  ignore: missing("strace", "setfattr") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/file`, "");
    const fails = failingCalls("lgetxattr", "ENODATA");
    assert.equal(await walkBy("strace", fails, dir), "2 entries, 0 with xattrs");
    await quiet`setfattr -n user.a -v 1 ${dir}/file`;
    assert.equal(await walkBy("strace", fails, dir), 'Cannot read "/file": it changed during the build');
  }));

Deno.test("walk() leaves out xattrs that are listed for those who may not read them", {
  ignore: missing("mkfs.btrfs", "setpriv", "setfattr", "mount") || unprivileged(),
}, () =>
  tempDir((dir) =>
    onFilesystem("btrfs", dir, async (tree) => {
      await Deno.writeTextFile(`${tree}/file`, "");
      await quiet`setfattr -n trusted.a -v 1 ${tree}/file`;
      assert.equal(
        await walkBy("setpriv", ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], tree),
        "2 entries, 0 with xattrs",
      );
    })
  ));

Deno.test("walk() reads xattrs where it cannot enter a directory, or not come back", {
  ignore: missing("strace", "setfattr") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/a`);
    await Deno.writeTextFile(`${dir}/a/file`, "");
    await quiet`setfattr -n user.a -v 1 ${dir} ${dir}/a/file`;
    for (const call of ["unshare", "fchdir"]) {
      assert.equal(
        await walkBy("strace", failingCalls(call, "EPERM"), dir),
        "3 entries, 2 with xattrs",
        call,
      );
    }
  }));
