/**
 * What a build does to other files than its own: nothing, whatever they are called and whoever else is building.
 *
 * @module
 */

import assert from "node:assert/strict";
import { build, runBuilder } from "../lab/builds.ts";
import { addStub, makePlace, start } from "../lab/faults.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";

const ignore = missing("mke2fs", "tar") || unprivileged();
const ENV = { FREE_MB: "1" };

async function makeTree(dir: string): Promise<string> {
  const tree = `${dir}/tree`;
  await Deno.mkdir(`${tree}/etc`, { recursive: true });
  await Deno.writeTextFile(`${tree}/etc/hosts`, "127.0.0.1 localhost\n");
  await Deno.writeTextFile(`${tree}/etc/empty`, "");
  return tree;
}

/** All that is in a directory, with contents, modes and the times of files. */
async function stateOf(dir: string): Promise<string> {
  const list = await quiet`find ${dir} -type d -printf ${"%P %m\\n"} -o -printf ${"%P %y %m %T@ %n %s\\n"}`;
  const sums = await quiet`find ${dir} -type f -exec sha256sum ${"{}"} +`;
  return list.split("\n").sort().join("\n") + sums.split("\n").sort().join("\n");
}

Deno.test(
  "a place that is another one is refused, and nothing is touched",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await makeTree(dir);
      await quiet`tar --create --file=${dir}/tree.archive --directory=${tree} .`;
      await quiet`openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=x -keyout ${dir}/key -out ${dir}/cert`;
      await Deno.writeTextFile(`${dir}/image`, "an older image");
      await Deno.mkdir(`${dir}/sub`);
      await Deno.link(`${dir}/image`, `${dir}/hard`);
      await Deno.symlink("image", `${dir}/soft`);
      await Deno.link(`${tree}/etc/hosts`, `${dir}/hosts`);
      await Deno.link(`${tree}/etc/empty`, `${dir}/empty`);
      const signed = {
        FILESYSTEM: "squashfs",
        VERITY: "signed",
        VERITY_KEY: `${dir}/key`,
        VERITY_CERT: `${dir}/cert`,
      };
      const names = ["image", "sub/../image", "hard", "soft"];
      const cases: { input?: string; output?: string; env: Record<string, string> }[] = [
        ...names.map((name) => ({ env: { MANIFEST: `${dir}/${name}` } })),
        ...names.map((name) => ({ env: { SBOM: `${dir}/${name}` } })),
        { env: { MANIFEST: `${dir}/new`, SBOM: `${dir}/sub/../new` } },
        { env: { MANIFEST: `${tree}/etc/hosts` } },
        { env: { MANIFEST: `${tree}/new` } },
        { env: { SBOM: `${dir}/hosts` } },
        { env: { MANIFEST: `${dir}/tree.archive` }, input: `${dir}/tree.archive` },
        { env: {}, input: `${dir}/tree.archive`, output: `${dir}/tree.archive` },
        { env: {}, output: `${dir}/hosts` },
        { env: {}, output: `${dir}/empty` },
        { env: {}, output: `${tree}/new` },
        { env: { ...signed, MANIFEST: `${dir}/key` } },
        { env: { ...signed, SBOM: `${dir}/cert` } },
        { env: { ...signed, MANIFEST: `${dir}/image.roothash` } },
        { env: { ...signed }, output: `${dir}/key` },
        // A name that cannot be written, beside one that can.
        { env: { MANIFEST: `${dir}/new`, SBOM: `${dir}/none/new` } },
        { env: { MANIFEST: `${dir}/none/new` }, output: `${dir}/none.img` },
      ];
      const before = await stateOf(dir);
      for (const { input = tree, output = `${dir}/image`, env } of cases) {
        const args = ["--input", input, "--output", output];
        const { code, stderr } = await runBuilder("part-image", { args, env: { ...ENV, ...env } });
        assert.equal(code, 2, `${JSON.stringify({ args, env })}\n${stderr}`);
        assert.match(stderr, /^\[E\] Cannot write /m);
        assert.equal(await stateOf(dir), before, `${JSON.stringify({ args, env })}\n${stderr}`);
      }
    }),
);

Deno.test("of two builds into one output the second is refused, and the image is that of the first", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(dir);
    await build("part-image", tree, `${dir}/alone`, ENV);
    const place = await makePlace(dir);
    // The first one stands still until the second one has ended.
    await quiet`mkfifo ${dir}/go`;
    await addStub(place, "mke2fs", `read -r word <${dir}/go; exec "$real" "$@"`);
    const first = await start(place, "part-image", tree, ENV);
    const ended = first.output();
    while (!await Deno.stat(place.called).then(() => true, () => false)) {
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 10))]);
    }
    for (const output of [place.output, `${dir}/./image`]) {
      const { code, stderr } = await runBuilder("part-image", {
        args: ["--input", tree, "--output", output],
        env: ENV,
      });
      assert.equal(code, 1, stderr);
      assert.match(
        stderr,
        new RegExp(`^\\[E\\] Cannot write the image to ".*": process ${first.pid} is building it$`, "m"),
      );
    }
    await Deno.writeTextFile(`${dir}/go`, "go\n");
    const { code, stderr } = await ended;
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.equal(await sha256(place.output), await sha256(`${dir}/alone`));
  }));

Deno.test("a build that fails leaves no output that was not there before, and one that is refused neither", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(dir);
    const cases: { env: Record<string, string>; scratch?: string; stub?: string; code: number }[] = [
      { env: {}, scratch: `${dir}/none`, code: 1 },
      { env: { MANIFEST: dir }, code: 2 },
      { env: {}, stub: "exit 9", code: 1 },
      { env: {}, stub: "kill -KILL $PPID; exec sleep 1", code: 137 },
    ];
    for (const [number, { env, scratch, stub, code: wanted }] of cases.entries()) {
      const own = await makePlace(`${dir}/${number}`);
      const place = { ...own, output: `${dir}/${number}/new`, scratch: scratch ?? own.scratch };
      if (stub) await addStub(place, "mke2fs", stub);
      const process = await start(place, "part-image", tree, { ...ENV, ...env });
      const { code, stderr } = await process.output();
      const text = new TextDecoder().decode(stderr);
      assert.equal(code, wanted, text);
      while (await Deno.stat(place.output).then(() => true, () => false)) {
        assert.equal(wanted, 137, text);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }));

Deno.test(
  "an image and what lies beside it are for their owner alone, unless they were there",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await makeTree(dir);
      const env = {
        ...ENV,
        FILESYSTEM: "squashfs",
        VERITY: "hash",
        MANIFEST: `${dir}/manifest`,
        SBOM: `${dir}/sbom`,
      };
      const modes = async () => {
        const names = ["image", "manifest", "sbom", "image.verity", "image.roothash"];
        return await Promise.all(
          names.map(async (name) => (await Deno.stat(`${dir}/${name}`)).mode! & 0o777),
        );
      };
      await build("part-image", tree, `${dir}/image`, env);
      assert.deepEqual(await modes(), [0o600, 0o600, 0o600, 0o600, 0o600]);
      for (const name of ["image", "manifest", "sbom"]) await Deno.chmod(`${dir}/${name}`, 0o640);
      await build("part-image", tree, `${dir}/image`, env);
      assert.deepEqual((await modes()).slice(0, 3), [0o640, 0o640, 0o640]);
    }),
);

Deno.test(
  "an image is older than what changed in its tree after it was read",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await makeTree(dir);
      const place = await makePlace(dir);
      await addStub(place, "e2fsck", `touch ${tree}/etc/hosts; exec "$real" "$@"`);
      const process = await start(place, "part-image", tree, { ...ENV, VERIFY: "full" });
      const { code, stderr } = await process.output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.match(await quiet`find ${tree} -newer ${place.output}`, /hosts/);
      await build("part-image", tree, place.output, ENV);
      assert.equal(await quiet`find ${tree} -newer ${place.output}`, "");
    }),
);
