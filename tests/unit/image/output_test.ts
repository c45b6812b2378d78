import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { MiB } from "../../../lib/core/units.ts";
import {
  allocateOutput,
  checkOutput,
  dateEmptyOutputs,
  discardOutput,
  finishOutput,
  followLinks,
  type Output,
  refuseStream,
} from "../../../lib/image/output.ts";
import { tempDir } from "../../lab/helpers.ts";

/** Checks an output for a raw image of 8 MiB from a tree beside it. */
async function check(dir: string, path: string, more: Partial<Parameters<typeof checkOutput>[1]> = {}) {
  await Deno.mkdir(`${dir}/tree`, { recursive: true });
  return await checkOutput(path, { size: 8 * MiB, format: "raw", tree: `${dir}/tree`, ...more });
}

async function refused(promise: Promise<unknown>): Promise<BuildError> {
  const error = await promise.then(() => assert.fail("it was not refused"), (error) => error);
  assert(error instanceof BuildError, String(error));
  assert.equal(error.kind, "usage");
  return error;
}

const old = new Date("2001-01-01T00:00:00Z");

Deno.test("checkOutput() leaves what is there as it is, and makes a file that is not", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`;
    await Deno.writeTextFile(path, "an older image");
    await Deno.utime(path, old, old);
    assert.deepEqual(await check(dir, path), { path, isDevice: false, size: 8 * MiB });
    assert.equal(await Deno.readTextFile(path), "an older image");
    assert.deepEqual((await Deno.stat(path)).mtime, old);
    await check(dir, `${dir}/new`);
    assert.equal((await Deno.stat(`${dir}/new`)).size, 0);
  }));

Deno.test("checkOutput() refuses an output in the tree that it is made from, also through a link", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree/sub`, { recursive: true });
    await Deno.symlink(`${dir}/tree`, `${dir}/link`);
    for (const path of [`${dir}/tree/image`, `${dir}/link/sub/image`]) {
      assert.match((await refused(check(dir, path))).message, /it lies in the tree/);
    }
    // A name that only begins like that of the tree.
    await check(dir, `${dir}/tree.img`);
  }));

Deno.test("an output is empty and of 1970 until it is finished, and sparse in between", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`;
    await Deno.writeFile(path, new Uint8Array(9 * MiB).fill(1));
    const { ino } = await Deno.stat(path);
    const output: Output = { path, isDevice: false, size: 8 * MiB };
    await discardOutput(output);
    let info = await Deno.stat(path);
    assert.deepEqual([info.size, info.mtime!.getTime(), info.ino], [0, 0, ino]);
    await allocateOutput(output, () => {});
    info = await Deno.stat(path);
    assert.deepEqual([info.size, info.blocks, info.ino], [8 * MiB, 0, ino]);
    assert((await Deno.readFile(path)).every((byte) => byte === 0));
    await Deno.utime(path, old, old);
    const started = Date.now();
    await finishOutput(output);
    info = await Deno.stat(path);
    // The clock of files is a little behind.
    assert(info.mtime!.getTime() > started - 1000);
    assert.equal(info.size, 8 * MiB);
  }));

Deno.test("discardOutput() makes a file again that a program has removed", () =>
  tempDir(async (dir) => {
    await discardOutput({ path: `${dir}/image`, isDevice: false, size: MiB });
    const { size, mtime } = await Deno.stat(`${dir}/image`);
    assert.deepEqual([size, mtime!.getTime()], [0, 0]);
  }));

Deno.test("dateEmptyOutputs() dates empty files 1970, and changes nothing else", () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/empty`, "");
    await Deno.writeTextFile(`${dir}/full`, "x");
    await Deno.utime(`${dir}/full`, old, old);
    await dateEmptyOutputs(["empty", "full", "none", "none/none"].map((path) => `${dir}/${path}`));
    assert.equal((await Deno.stat(`${dir}/empty`)).mtime!.getTime(), 0);
    assert.deepEqual((await Deno.stat(`${dir}/full`)).mtime, old);
    await assert.rejects(Deno.stat(`${dir}/none`), Deno.errors.NotFound);
  }));

Deno.test("followLinks() leads to the file that is written, whether it exists or not", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/deep/er`, { recursive: true });
    await Deno.symlink("deep/er", `${dir}/folder`);
    await Deno.writeTextFile(`${dir}/deep/real`, "");
    const links = {
      one: "deep/real",
      two: "one",
      // From the folder that it really lies in.
      "folder/up": "../real",
      dangling: "deep/new",
      device: "/dev/null",
      nowhere: "none/image",
    };
    for (const [name, target] of Object.entries(links)) await Deno.symlink(target, `${dir}/${name}`);
    await Deno.symlink("loop", `${dir}/loop`);
    const real = await Deno.realPath(dir);
    const led = {
      ...{ one: "deep/real", two: "deep/real", "folder/up": "deep/real", dangling: "deep/new" },
      ...{ "deep/real": "deep/real", none: "none", nowhere: "none/image", loop: "loop" },
    };
    for (const [name, target] of Object.entries(led)) {
      assert.equal(await followLinks(`${real}/${name}`), `${real}/${target}`);
    }
    // Known by its name, not by what it stands for.
    assert.equal(await followLinks(`${real}/device`), `${real}/device`);
    await refused(check(dir, `${dir}/loop`));
  }));

Deno.test("refuseStream() takes - for stdout, and a path for a path", { permissions: "none" }, () => {
  assert.throws(() => refuseStream("-"), (error: BuildError) => {
    assert.equal(error.kind, "usage");
    assert.match(error.hint!, /name a file with --output.*\.\/-/);
    return true;
  });
  for (const path of ["/dev/stdout", "/dev/fd/3", "/proc/self/fd/1"]) {
    assert.throws(() => refuseStream(path), { message: `Cannot write the image to "${path}"` });
  }
  for (const path of ["./-", "-x", "/dev/sda", "/dev/stdout.img", ""]) refuseStream(path);
});
