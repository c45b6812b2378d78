import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { MiB } from "../../../lib/core/units.ts";
import {
  abandonOutput,
  allocateOutput,
  checkOutput,
  dateEmptyOutputs,
  discardOutput,
  finishOutput,
  followOutput,
  lockOutput,
  type Output,
  refuseStream,
} from "../../../lib/image/output.ts";
import { tempDir } from "../../lab/helpers.ts";

/** Checks an output for a raw image of 8 MiB. */
async function check(path: string, more: Partial<Parameters<typeof checkOutput>[1]> = {}) {
  return await checkOutput(path, { size: 8 * MiB, format: "raw", ...more });
}

async function refused(promise: Promise<unknown>): Promise<BuildError> {
  const error = await promise.then(() => assert.fail("it was not refused"), (error) => error);
  assert(error instanceof BuildError, String(error));
  assert.equal(error.kind, "usage");
  return error;
}

const old = new Date("2001-01-01T00:00:00Z");

Deno.test("checkOutput() leaves an existing file alone, and creates a missing one", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`;
    await Deno.writeTextFile(path, "an older image");
    await Deno.utime(path, old, old);
    assert.deepEqual(await check(path), { path, isDevice: false, size: 8 * MiB });
    assert.equal(await Deno.readTextFile(path), "an older image");
    assert.deepEqual((await Deno.stat(path)).mtime, old);
    await check(`${dir}/new`);
    assert.equal((await Deno.stat(`${dir}/new`)).size, 0);
  }));

Deno.test("what is made anew is for its owner alone, and what is there keeps its mode", () =>
  tempDir(async (dir) => {
    const { isNew } = await check(`${dir}/new`);
    assert.equal(isNew, true);
    assert.equal((await Deno.stat(`${dir}/new`)).mode! & 0o777, 0o600);
    await Deno.writeTextFile(`${dir}/old`, "");
    await Deno.chmod(`${dir}/old`, 0o664);
    await discardOutput(await check(`${dir}/old`));
    assert.equal((await Deno.stat(`${dir}/old`)).mode! & 0o777, 0o664);
  }));

Deno.test("abandonOutput() removes what was not there before, and empties what was", () =>
  tempDir(async (dir) => {
    await abandonOutput(await check(`${dir}/new`));
    await assert.rejects(Deno.stat(`${dir}/new`), Deno.errors.NotFound);
    await Deno.writeTextFile(`${dir}/old`, "an older image");
    await abandonOutput(await check(`${dir}/old`));
    const { size, mtime } = await Deno.stat(`${dir}/old`);
    assert.deepEqual([size, mtime!.getTime()], [0, 0]);
  }));

Deno.test("an output is locked until its build ends, in whatever way, and others learn who has it", () =>
  tempDir(async (dir) => {
    const path = `${dir}/image`;
    await Deno.writeTextFile(path, "old");
    // Another process, which opens and closes the file besides, as programs do.
    const holder = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        `import { lockOutput } from "${new URL("../../../lib/image/output.ts", import.meta.url)}";
        const lock = lockOutput({ path: Deno.args[0] });
        Deno.readTextFileSync(Deno.args[0]);
        console.log(Deno.pid);
        await new Promise(() => setInterval(() => lock, 1000));`,
        path,
      ],
      stdout: "piped",
    }).spawn();
    const reader = holder.stdout.getReader();
    await reader.read();
    const locked = (error: unknown) => {
      assert(error instanceof BuildError);
      assert.equal(
        error.message,
        `Cannot write the image to "${path}": process ${holder.pid} is building it`,
      );
      return true;
    };
    assert.throws(() => lockOutput({ path }), locked);
    // By another name, too.
    await Deno.link(path, `${dir}/other`);
    assert.throws(() => lockOutput({ path: `${dir}/other` }), /is building it/);
    assert.equal(await Deno.readTextFile(path), "old");
    holder.kill("SIGKILL");
    await holder.status;
    await reader.cancel();
    lockOutput({ path })[Symbol.dispose]();
    const own = lockOutput({ path });
    assert.throws(() => lockOutput({ path }), new RegExp(`process ${Deno.pid} is`));
    own[Symbol.dispose]();
    lockOutput({ path })[Symbol.dispose]();
  }));

Deno.test("an output is first emptied and dated 1970, then sparse, and dated now only when finished", () =>
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
    // As old as what it was made of, by a tick of the kernel's clock: that of files may be so much behind.
    const began = new Date("2024-05-06T07:08:09.500Z");
    await finishOutput(output, began);
    info = await Deno.stat(path);
    assert.equal(info.mtime!.toISOString(), "2024-05-06T07:08:09.490Z");
    assert.equal(info.size, 8 * MiB);
  }));

Deno.test("discardOutput() recreates a file that a program has removed", () =>
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
    // Perhaps a file of the tree.
    await Deno.writeTextFile(`${dir}/twice`, "");
    await Deno.utime(`${dir}/twice`, old, old);
    await Deno.link(`${dir}/twice`, `${dir}/once`);
    await dateEmptyOutputs(["empty", "full", "none", "none/none", "twice"].map((path) => `${dir}/${path}`));
    assert.equal((await Deno.stat(`${dir}/empty`)).mtime!.getTime(), 0);
    assert.deepEqual((await Deno.stat(`${dir}/full`)).mtime, old);
    assert.deepEqual((await Deno.stat(`${dir}/twice`)).mtime, old);
    await assert.rejects(Deno.stat(`${dir}/none`), Deno.errors.NotFound);
  }));

Deno.test("followOutput() leads to the file that is written, whether it exists or not", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/deep/er`, { recursive: true });
    await Deno.symlink("deep/er", `${dir}/folder`);
    await Deno.writeTextFile(`${dir}/deep/real`, "");
    const links = {
      one: "deep/real",
      two: "one",
      // Relative to the directory it is really in.
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
      assert.equal(await followOutput(`${real}/${name}`), `${real}/${target}`);
    }
    // Known by its name, not by what it stands for.
    assert.equal(await followOutput(`${real}/device`), `${real}/device`);
    await refused(check(`${dir}/loop`));
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
