/**
 * What openSplit() refuses before anything is touched.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { openSplit } from "../../../lib/make/split.ts";
import { planDisk } from "../../../lib/plan/plan.ts";
import { factsOf, settingsOf } from "../../lab/facts.ts";
import { missing, quiet, tempDir } from "../../lab/helpers.ts";

/** Opens the split artefacts of `x.img` in a directory. */
async function open(dir: string, env: Record<string, string> = {}, outputName = "x.img"): Promise<void> {
  const settings = settingsOf({ SPLIT_DIR: dir, IMAGE_VERSION: "1.0", ...env });
  const plan = planDisk({ ...settings, outputName }, factsOf());
  await using _ = await openSplit(plan, `/nowhere/${outputName}`);
}

/** Expects a usage error, and nothing new in the directory. */
async function refused(
  dir: string,
  message: RegExp,
  ...more: [Record<string, string>?, string?]
): Promise<void> {
  const names = async () => (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort();
  const before = await names();
  await assert.rejects(open(dir, ...more), (error) => {
    assert.ok(error instanceof BuildError && error.kind === "usage", String(error));
    assert.match(error.message, message);
    return true;
  });
  assert.deepEqual(await names(), before);
}

Deno.test("openSplit() refuses names that no file can have", () =>
  tempDir(async (dir) => {
    // The longest: "_1.0.root-x86-64.raw".
    await open(dir, {}, `${"x".repeat(235)}.img`);
    await refused(
      dir,
      /no file can have the name "x+_1\.0\.root-x86-64\.raw": it has more than 255/,
      {},
      "x".repeat(236),
    );
  }));

Deno.test("openSplit() refuses a SHA256SUMS that is no regular file, and does not wait for a FIFO", {
  ignore: missing("mkfifo"),
}, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/folder`);
    await Deno.writeTextFile(`${dir}/sums`, "");
    await quiet`mkfifo ${dir}/fifo`;
    for (const [i, target] of ["folder", "fifo", "sums"].entries()) {
      await Deno.mkdir(`${dir}/${i}`);
      await Deno.symlink(`../${target}`, `${dir}/${i}/SHA256SUMS`);
      if (target === "sums") await open(`${dir}/${i}`);
      else await refused(`${dir}/${i}`, /SPLIT_DIR=.*: SHA256SUMS in it is no regular file$/);
    }
    await Deno.mkdir(`${dir}/real`);
    await Deno.mkdir(`${dir}/real/SHA256SUMS`);
    await refused(`${dir}/real`, /SHA256SUMS in it is no regular file$/);
  }));

Deno.test("openSplit() refuses settings that name one of its files, by whatever path", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/up`);
    await Deno.symlink("up", `${dir}/link`);
    await Deno.symlink("up/x_1.0.cmdline", `${dir}/dangling`);
    // Of a build with a UKI, which this one does not make.
    await Deno.writeTextFile(`${dir}/up/x_1.0.efi`, "");
    await Deno.writeTextFile(`${dir}/up/SHA256SUMS`, `${"0".repeat(64)}  x_1.0.efi\n`);
    const names = [
      "up/x_1.0.esp.raw",
      "up/x_1.0.cmdline",
      "up/x_1.0.vmlinuz",
      "up/SHA256SUMS",
      "up/x_1.0.efi",
    ];
    for (const name of [...names, "link/x_1.0.cmdline", "dangling"]) {
      for (const env of ["MANIFEST", "SBOM", "BMAP"]) {
        await refused(`${dir}/up`, /" is also written for another setting$/, { [env]: `${dir}/${name}` });
      }
    }
    await open(`${dir}/up`, { MANIFEST: `${dir}/up/x_1.0.json`, BMAP: `${dir}/x_1.0.cmdline` });
  }));
