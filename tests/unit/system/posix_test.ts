import * as assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import * as posix from "../../../lib/system/posix.ts";
import {
  childNamed,
  inodeRow,
  lookup,
  mtimeOf,
  nameText,
  pathOf,
  typeOf,
  xattrsOf,
} from "../../../lib/tree/nodes.ts";
import { closeRoot, openNode, openRoot, readFile, realPath } from "../../../lib/tree/root.ts";
import { walk } from "../../../lib/tree/walk.ts";
import { tempDir } from "../../lab/helpers.ts";
import { bytesOf, makeNode, setTime, setXattr, writeSparse } from "../../lab/libc.ts";

const S_IFIFO = 0o010000;

Deno.test("walk() reads names as bytes, times with nanoseconds, holes, links and xattrs", async () => {
  await tempDir(async (dir) => {
    writeSparse(`${dir}/\xff\xfe`, 3, [[0, bytesOf("abc")]]);
    writeSparse(`${dir}/holes`, 1_000_000, [[0, bytesOf("a")], [800_000, bytesOf("b")]]);
    setTime(`${dir}/holes`, 1_234_567_890_123_456_789n);
    setXattr(`${dir}/holes`, "user.two", bytesOf("2"));
    setXattr(`${dir}/holes`, "user.one", bytesOf("\x00\xff"));
    await Deno.link(`${dir}/holes`, `${dir}/second`);
    makeNode(`${dir}/pipe`, S_IFIFO | 0o600);
    const root = openRoot(dir);
    try {
      const nodes = await walk(root);
      const named = (name: string) => childNamed(nodes, 0, bytesOf(name))!;
      assert.equal(nodes.count, 5);
      assert.equal(nameText(nodes, named("\xff\xfe")), undefined);
      assert.equal(new TextDecoder().decode(readFile(root, nodes, named("\xff\xfe"), { limit: 9 })), "abc");
      const holes = named("holes");
      assert.equal(mtimeOf(nodes, holes), 1_234_567_890_123_456_789n);
      assert.deepEqual(xattrsOf(nodes, holes).map(({ name, value }) => [name, [...value]]), [
        ["user.one", [0, 255]],
        ["user.two", [50]],
      ]);
      assert.ok(nodes.data.get(holes)!.length >= 4);
      assert.equal(inodeRow(nodes, named("second")), holes);
      assert.equal(typeOf(nodes, named("pipe")), "fifo");
      // Unreadable files are reported, and a FIFO does not block.
      assert.throws(() => readFile(root, nodes, named("pipe"), { limit: 1 }), BuildError);
      assert.throws(() => realPath(root, nodes, named("\xff\xfe")), /is not UTF-8/);
      assert.equal(realPath(root, nodes, holes), `${await Deno.realPath(dir)}/holes`);
      assert.equal(readFile(root, nodes, holes, { limit: 10 }).length, 10);
    } finally {
      closeRoot(root);
    }
  });
});

Deno.test("walk() reads xattrs of any length, everywhere in the tree, and comes back to where it began", async () => {
  await tempDir(async (dir) => {
    const home = Deno.cwd();
    await Deno.mkdir(`${dir}/a/b`, { recursive: true });
    const given = new Map<string, [string, number][]>([
      ["/", [["user.root", 3]]],
      ["/a", [["user.directory", 255], ["user.z", 257]]],
      ["/a/b/file", Array.from({ length: 12 }, (_, i) => [`user.${"n".repeat(30)}-${10 + i}`, i * 25])],
    ]);
    await Deno.writeTextFile(`${dir}/a/b/file`, "");
    for (const [path, xattrs] of given) {
      for (const [name, length] of xattrs) {
        setXattr(`${dir}${path}`, name, new Uint8Array(length).fill(length));
      }
    }
    const root = openRoot(dir);
    try {
      const nodes = await walk(root);
      assert.equal(Deno.cwd(), home);
      for (const [path, xattrs] of given) {
        const found = xattrsOf(nodes, lookup(nodes, path)!);
        assert.deepEqual(found.map(({ name, value }) => [name, value.length]), xattrs, path);
        assert.ok(found.every(({ value }) => value.every((byte) => byte === value.length % 256)));
      }
    } finally {
      closeRoot(root);
    }
  });
});

Deno.test("nothing leads out of the root: a directory that was replaced by a symlink is not entered", async () => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree/a/b`, { recursive: true });
    await Deno.mkdir(`${dir}/outside/b`, { recursive: true });
    const root = openRoot(`${dir}/tree`);
    try {
      const nodes = await walk(root);
      const inner = lookup(nodes, "/a/b")!;
      posix.close(openNode(root, nodes, inner, posix.OPEN.directory));
      await Deno.rename(`${dir}/tree/a`, `${dir}/tree/was`);
      await Deno.symlink("../outside", `${dir}/tree/a`);
      assert.throws(() => openNode(root, nodes, inner, posix.OPEN.directory), {
        message: `Cannot read "${pathOf(nodes, inner)}": Too many levels of symbolic links`,
      });
    } finally {
      closeRoot(root);
    }
  });
});

Deno.test("a missing tree is named", () => {
  assert.throws(() => openRoot("/no/such/tree"), {
    message: 'Cannot read "/no/such/tree": No such file or directory',
  });
});

Deno.test("without permission for FFI, the error says which flag is missing", async () => {
  await tempDir(async (dir) => {
    const script = `import { openRoot } from ${
      JSON.stringify(import.meta.resolve("../../../lib/tree/root.ts"))
    };
      try { openRoot("/"); } catch (error) { console.log(error.name, "-", error.message, "-", error.hint); }`;
    await Deno.writeTextFile(`${dir}/script.ts`, script);
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--allow-read", `${dir}/script.ts`],
    }).output();
    const said = new TextDecoder().decode(stdout).trim();
    assert.equal(said, "BuildError - Cannot load libc.so.6 to read the tree - Run with --allow-ffi");
  });
});
