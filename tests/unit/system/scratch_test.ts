import assert from "node:assert/strict";
import {
  freeSpace,
  memoryHint,
  openScratch,
  requireSpace,
  scratchParent,
  withFiles,
} from "../../../lib/system/scratch.ts";
import { evaluate, quiet, tempDir } from "../../lab/helpers.ts";

Deno.test("openScratch() makes a separate directory, which is removed with its contents", () =>
  tempDir(async (dir) => {
    let path: string;
    {
      await using scratch = await openScratch(dir);
      path = scratch.path;
      await Deno.mkdir(`${path}/a/b`, { recursive: true });
      await Deno.writeTextFile(`${path}/a/b/c`, "x");
      await Deno.symlink(dir, `${path}/link`);
      assert.equal((await Deno.stat(path)).mode! & 0o777, 0o700);
      await using other = await openScratch(dir);
      assert.notEqual(other.path, path);
    }
    assert.deepEqual(await Array.fromAsync(Deno.readDir(dir)), []);
  }));

Deno.test("openScratch() removes the directory even after an error", () =>
  tempDir(async (dir) => {
    await assert.rejects(async () => {
      await using scratch = await openScratch(dir);
      await Deno.writeTextFile(`${scratch.path}/file`, "x");
      throw new Error("expected");
    }, /^Error: expected$/);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(dir)), []);
  }));

Deno.test("openScratch() says which directory is not writable, and what to do", () =>
  assert.rejects(openScratch("/proc/none"), {
    name: "BuildError",
    message: 'Cannot write to the scratch directory "/proc/none": No such file or directory',
    hint: "Set TMPDIR to a writable directory",
  }));

Deno.test("scratchParent() is TMPDIR, or /var/tmp, which is not in memory", async () => {
  const parent = (env: Record<string, string>) =>
    evaluate("system/scratch.ts", "console.log(lib.scratchParent())", env).then(({ stdout }) =>
      stdout.trim()
    );
  assert.equal(await parent({ TMPDIR: "/some/where" }), "/some/where");
  assert.equal(await parent({ TMPDIR: "" }), "/var/tmp");
  // To qemu-img, a relative "a:b" is a file of the protocol "a".
  assert.equal(await parent({ TMPDIR: "a:b" }), `${Deno.cwd()}/a:b`);
  assert(scratchParent());
});

Deno.test("freeSpace() agrees with df", () =>
  tempDir(async (dir) => {
    const said = Number((await quiet`df --output=avail -B1 ${dir}`).trim().split("\n").at(-1));
    // Other processes write at the same time.
    assert(Math.abs(freeSpace(dir) - said) < 0.05 * said + 2 ** 30, `${freeSpace(dir)} and ${said}`);
    assert.throws(() => freeSpace(`${dir}/none`), { name: "BuildError" });
  }));

Deno.test("requireSpace() says how much is needed and how much is left", () =>
  tempDir((dir) => {
    requireSpace(dir, 1, "write", "Make room");
    assert.throws(() => requireSpace(dir, 2 ** 60, "convert an image to qcow2", "Set TMPDIR"), {
      name: "BuildError",
      message: new RegExp(`^Cannot convert an image to qcow2: it needs 1024 PiB, and "${dir}" has .* left$`),
      hint: "Set TMPDIR",
    });
  }));

Deno.test("withFiles() gives files that are gone afterwards, one alone without a directory", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const found = [[["", "one"]], [["", "one"], [".more", "two"]]].map((files) => {
    let path = "";
    assert.throws(
      () =>
        withFiles(new Map(files.map(([suffix, text]) => [suffix!, bytes(text!)])), (given) => {
          path = given;
          for (const [suffix, text] of files) assert.equal(Deno.readTextFileSync(given + suffix), text);
          throw new Error("expected");
        }),
      /^Error: expected$/,
    );
    assert.throws(() => Deno.readTextFileSync(path));
    return path;
  });
  assert.match(found[0]!, /^\/proc\/self\/fd\/\d+$/);
  assert.match(found[1]!, /raptor-builders-/);
});

Deno.test("memoryHint() says that scratch files are in memory, if they are", () => {
  assert.equal(memoryHint("/proc"), "The system may have run out of memory");
  assert.equal(memoryHint("/nowhere"), "The system may have run out of memory");
  assert.equal(
    memoryHint("/dev/shm"),
    'The system may have run out of memory, which "/dev/shm" is part of: set TMPDIR to a directory on a disk',
  );
});
