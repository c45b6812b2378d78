/**
 * The walk of a tree, where the system does not give what it listed.
 *
 * @module
 */

import assert from "node:assert/strict";
import * as posix from "../../lib/system/posix.ts";
import { failingCalls, missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { dropFromMemory, onFilesystem, onOverlay } from "../lab/loop_filesystem.ts";

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

for (const kind of ["ext4", "overlayfs"]) {
  Deno.test(`a file is in memory once it was read, and not after the kernel dropped it: ${kind}`, {
    ignore: missing("mke2fs", "mount", "dd") || unprivileged(),
  }, () =>
    tempDir((dir) =>
      onFilesystem("ext4 with 1 KiB blocks", dir, async (tree) => {
        await Deno.writeFile(`${tree}/file`, new Uint8Array(200_000));
        const check = async (at: string) => {
          const fd = posix.open(posix.cString(`${at}/file`), posix.OPEN.file);
          try {
            for (const offset of [0, 199_999]) assert.equal(posix.isCached(fd, offset), true);
            await dropFromMemory(`${tree}/file`);
            for (const offset of [0, 199_999]) assert.equal(posix.isCached(fd, offset), false);
            assert.equal(posix.pread(fd, new Uint8Array(200_000), 0), 200_000);
            for (const offset of [0, 199_999]) assert.equal(posix.isCached(fd, offset), true);
          } finally {
            posix.close(fd);
          }
        };
        await (kind === "ext4" ? check(tree) : onOverlay([dir, tree], check));
      })
    ));
}
