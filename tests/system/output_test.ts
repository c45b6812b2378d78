import assert from "node:assert/strict";
import { BuildError } from "../../lib/core/error.ts";
import { MiB } from "../../lib/core/units.ts";
import { allocateOutput, checkOutput, finishOutput } from "../../lib/image/output.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { onOverlay } from "../lab/loop_filesystem.ts";

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

Deno.test("checkOutput() refuses what no image can be written to, and says why", () =>
  tempDir(async (dir) => {
    await quiet`mkfifo ${dir}/fifo`;
    await Deno.symlink(`${dir}/none/image`, `${dir}/dangling`);
    for (
      const [path, reason] of [
        [dir, "it is a directory"],
        [`${dir}/fifo`, "it is neither a regular file nor a block device"],
        ["/dev/full", "it is neither a regular file nor a block device"],
        [`${dir}/none/image`, `there is no directory "${dir}/none"`],
        [`${dir}/dangling`, "there is no directory"],
      ] as const
    ) {
      const { message, hint } = await refused(check(path));
      assert(message.startsWith(`Cannot write the image to "${path}": ${reason}`), message);
      assert(hint);
    }
  }));

Deno.test("checkOutput() refuses a filesystem that is read-only, and says what to do", {
  ignore: missing("mount") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/image`, "");
    await tempDir((at) =>
      onOverlay([dir, at], async (readOnly) => {
        for (const name of ["image", "new"]) {
          const { message, hint } = await refused(check(`${readOnly}/${name}`));
          assert.equal(message, `Cannot write the image to "${readOnly}/${name}": Read-only file system`);
          assert.equal(hint, "Name a file in a writable directory with --output");
        }
      })
    );
  }));

Deno.test("checkOutput() takes a block device that is large enough, for a raw image", {
  ignore: missing("losetup") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    await Deno.writeFile(`${dir}/disk`, new Uint8Array(8 * MiB).fill(0x77));
    const device = (await quiet`losetup --find --show ${`${dir}/disk`}`).trim();
    try {
      const output = await check(device);
      assert.deepEqual(output, { path: device, isDevice: true, size: 8 * MiB, room: 8 * MiB });
      assert.match((await refused(check(device, { format: "qcow2" }))).hint!, /OUTPUT_FORMAT to raw/);
      assert.match((await refused(check(device, { size: 9 * MiB }))).hint!, /SIZE_MB to 8 or less/);
      await allocateOutput({ ...output, size: 4 * MiB }, () => {});
      const bytes = await Deno.readFile(device);
      assert(bytes.subarray(0, 4 * MiB).every((byte) => byte === 0));
      assert(bytes.subarray(4 * MiB).every((byte) => byte === 0x77));
      await finishOutput(output, new Date());
      assert.equal((await Deno.stat(`${dir}/disk`)).size, 8 * MiB);
    } finally {
      await quiet`losetup --detach ${device}`;
    }
  }));
