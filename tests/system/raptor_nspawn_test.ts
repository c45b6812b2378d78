import assert from "node:assert/strict";
import { dirname } from "node:path";
import { minimalDebian } from "../lab/containers.ts";
import { NSPAWN } from "../lab/guests.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { buildRapt, commandOf, loadRapt, type Program } from "../lab/rapt.ts";
import { cached, tinyTree } from "../lab/trees.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const ignore = missing("systemd-nspawn", "mmdebstrap", "unshare") || unprivileged();

/** The layer that Raptor would make of builders/base.rapt: what it pulls and installs is kept. */
async function baseLayer(): Promise<string> {
  const files = ["builders/base.rapt", "deno.json", "deno.lock"];
  const recipe = await Promise.all(files.map((file) => Deno.readTextFile(ROOT + file)));
  return await cached("raptor-base", { recipe, deno: Deno.version.deno }, async (dir) => {
    await quiet`cp --archive ${await minimalDebian()}/tree/. ${dir}`;
    // What Deno's own image has besides.
    await Deno.copyFile(Deno.execPath(), `${dir}/usr/bin/deno`);
    await Deno.chmod(`${dir}/usr/bin/deno`, 0o755);
    const bundle = Deno.env.get("NODE_EXTRA_CA_CERTS");
    if (bundle) {
      await Deno.mkdir(dir + dirname(bundle), { recursive: true });
      await Deno.copyFile(bundle, dir + bundle);
    }
    await buildRapt(
      await loadRapt(`${ROOT}builders/base.rapt`),
      dir,
      bundle ? { NODE_EXTRA_CA_CERTS: bundle, DENO_CERT: bundle } : {},
    );
  });
}

/** Builds the builder's own layer on top of the base layer, as Raptor does. */
async function ownLayer(program: Program, dir: string): Promise<string> {
  const base = (await loadRapt(`${ROOT}builders/base.rapt`)).steps.length;
  const [root, work] = [`${dir}-root`, `${dir}-work`];
  for (const directory of [dir, root, work]) await Deno.mkdir(directory);
  const options = `lowerdir=${await baseLayer()},upperdir=${dir},workdir=${work}`;
  await quiet`mount -t overlay overlay -o ${options} ${root}`;
  try {
    await buildRapt({ ...program, steps: program.steps.slice(base) }, root, {});
  } finally {
    await quiet`umount ${root}`;
  }
  return dir;
}

interface Call {
  readonly builder: string;
  /** The layers of the input, lowest first. */
  readonly input: readonly string[];
  readonly output: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** The directory of the job's cache. */
  readonly cache?: string;
}

/** Runs a builder with the command line that Raptor has for systemd-nspawn, in `dir`. */
async function raptor(dir: string, { builder, input, output, env = {}, args, cache }: Call) {
  const program = await loadRapt(`${ROOT}${builder}.rapt`);
  const own = await ownLayer(program, await Deno.makeTempDir({ dir }) + "/layer");
  const temporary = await Deno.makeTempDir({ dir });
  await Deno.mkdir(`${temporary}/root/usr`, { recursive: true });
  await Deno.mkdir(`${temporary}/work`);
  // Raptor makes the file, or opens it without changing it.
  (await Deno.open(output, { create: true, append: true })).close();
  const paths = Object.fromEntries(program.mounts.map(({ name, path }) => [name, path]));
  const flags = [
    ...["-q", "--suppress-sync=true", "--settings=false", "--link-journal=no", "--resolv-conf=off"],
    ...["--timezone=off", "--console=pipe", "--no-pager"],
    `--overlay=${await baseLayer()}:${own}:${temporary}/work:/`,
    ...["-D", `${temporary}/root`],
    ...(missing("/dev/kvm") ? [] : ["--bind=/dev/kvm:/dev/kvm"]),
    `--overlay-ro=${input.join(":")}:${paths.input}`,
    `--bind=${output}:${paths.output}`,
    ...cache ? [`--bind=${cache}:${paths.cache}`] : [],
    ...Object.entries(env).map(([name, value]) => `--setenv=${name}=${value}`),
    `--machine=raptor-${crypto.randomUUID()}`,
    // systemd is not process 1 on every machine that tests.
    ...["--register=no", "--keep-unit"],
  ];
  const command = [...flags, ...commandOf(program, args)];
  const { code, stdout, stderr } = await new Deno.Command("unshare", {
    args: ["--mount", "--propagation=private", "sh", "-c", NSPAWN, "sh", "systemd-nspawn", ...command],
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

/** An upper layer as overlayfs writes it: a file replaced, one removed, a directory that hides the lower one. */
async function upperLayer(dir: string): Promise<string> {
  await Deno.mkdir(`${dir}/etc/kernel`, { recursive: true });
  await Deno.writeTextFile(`${dir}/etc/hostname`, "upper\n");
  await quiet`mknod ${dir}/etc/group c 0 0`;
  await quiet`setfattr -n trusted.overlay.opaque -v y ${dir}/etc/kernel`;
  await Deno.writeTextFile(`${dir}/etc/kernel/cmdline`, "console=ttyS0 upper\n");
  return dir;
}

/** The same image without Raptor, from the layers as an overlay mounted here. */
async function buildHere(dir: string, { builder, input, output, env = {} }: Call): Promise<void> {
  const merged = await Deno.makeTempDir({ dir });
  const script = 'mount -t overlay overlay -o "ro,lowerdir=$1" "$2" && shift 2 && exec "$@"';
  const lower = [...input].reverse().join(":");
  const command = [Deno.execPath(), "run", "-A", `${ROOT}builders/mod.ts`, builder];
  const { success, stderr } = await new Deno.Command("unshare", {
    args: [
      ...["--mount", "sh", "-c", script, "sh", lower, merged],
      ...[...command, "--input", merged, "--output", output],
    ],
    env,
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}

Deno.test("Raptor's container makes the same images as the programs outside", { ignore }, async (t) => {
  await tempDir(async (dir) => {
    const input = [await tinyTree(), await upperLayer(`${dir}/upper`)];
    const cases = [
      { builder: "disk-image", env: {} },
      { builder: "disk-image", env: { OUTPUT_FORMAT: "qcow2", EFI_MB: "64" } },
      { builder: "part-image", env: { SIZE_MB: "64" } },
    ];
    for (const { builder, env } of cases) {
      await t.step(`${builder} ${JSON.stringify(env)}`, async () => {
        // An older, larger image, whose bytes and inode stay when Raptor opens it.
        const output = `${dir}/output`;
        await Deno.writeFile(output, new Uint8Array(2 ** 20).fill(0xaa));
        await Deno.truncate(output, 2 ** 31);
        const { ino } = await Deno.stat(output);
        const started = Date.now();
        const { code, err } = await raptor(dir, { builder, input, output, env });
        assert.equal(code, 0, err);
        await buildHere(dir, { builder, input, output: `${dir}/here`, env });
        assert.equal(await sha256(output), await sha256(`${dir}/here`));
        const after = await Deno.stat(output);
        assert.equal(after.ino, ino);
        assert.ok(after.mtime!.getTime() > started - 1000, "Raptor would build it again");
      });
    }
    await t.step("with the upper layer's files, and none of overlayfs's own marks", async () => {
      const output = `${dir}/part`;
      const { code, err } = await raptor(dir, { builder: "part-image", input, output });
      assert.equal(code, 0, err);
      const root = `${dir}/mount`;
      await Deno.mkdir(root);
      await quiet`mount -o loop,ro ${output} ${root}`;
      try {
        assert.equal(await Deno.readTextFile(`${root}/etc/hostname`), "upper\n");
        assert.equal(await Deno.readTextFile(`${root}/etc/kernel/cmdline`), "console=ttyS0 upper\n");
        await assert.rejects(Deno.stat(`${root}/etc/group`), Deno.errors.NotFound);
        const marks = await quiet`getfattr -R -d -h -m overlay --absolute-names ${root}`;
        assert.equal(marks, "");
      } finally {
        await quiet`umount ${root}`;
      }
    });
  });
});

Deno.test("Raptor's container takes an input of one layer", { ignore }, async () => {
  // Of one layer systemd-nspawn makes an overlay with the machine's own directory of that name.
  try {
    await Deno.mkdir("/input");
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  try {
    await tempDir(async (dir) => {
      const input = [await tinyTree()];
      const output = `${dir}/output`;
      const { code, err } = await raptor(dir, { builder: "part-image", input, output });
      assert.equal(code, 0, err);
      await quiet`e2fsck -fn ${output}`;
    });
  } finally {
    // Only if it is empty, as ours was.
    await Deno.remove("/input").catch(() => {});
  }
});

Deno.test("Raptor's container leaves nothing that Raptor would take for an image", { ignore }, async (t) => {
  await tempDir(async (dir) => {
    const input = [await tinyTree(), await upperLayer(`${dir}/upper`)];
    const cases = [
      { name: "a wrong setting", env: { SIZE_MB: "x" }, code: 2, message: /^\[E\] Cannot use SIZE_MB="x"$/m },
      { name: "a size that is too small", env: { SIZE_MB: "1" }, code: 2, message: /^\[E\] Cannot fit /m },
      { name: "an unknown flag", args: ["--nonsense"], code: 2, message: /^\[E\] .*--nonsense/m },
      { name: "--help", args: ["--help"], code: 0, message: /^part-image - /m },
      { name: "--dry-run", args: ["--dry-run"], code: 0, message: /^part-image: raw, /m },
      {
        name: "hashes that would be gone",
        env: { FILESYSTEM: "squashfs", VERITY: "hash" },
        code: 2,
        message: /^\[E\] Cannot write to "\/output": it would be lost with the container$/m,
      },
      {
        name: "a manifest that would be gone",
        env: { MANIFEST: "manifest.json" },
        code: 2,
        message: /^\[E\] Cannot write to "manifest\.json": it would be lost/m,
      },
    ];
    for (const { name, code, message, ...call } of cases) {
      await t.step(name, async () => {
        const output = `${dir}/${name}`;
        const result = await raptor(dir, { builder: "part-image", input, output, ...call });
        assert.equal(result.code, code, result.err);
        assert.match(result.out + result.err, message);
        const { size, mtime } = await Deno.stat(output);
        assert.deepEqual([size, mtime?.getTime()], [0, 0]);
      });
    }
  });
});

Deno.test("Raptor's container keeps in /cache what is worth keeping, named after the job's output", {
  ignore,
}, async (t) => {
  await tempDir(async (dir) => {
    const input = [await tinyTree(), await upperLayer(`${dir}/upper`)];
    const cache = `${dir}/cache`;
    await Deno.mkdir(cache);
    const output = `${dir}/web 1.0.raw`;
    const build = (env: Record<string, string>) =>
      raptor(dir, { builder: "part-image", input, output, env, cache });
    const kept = async () => (await Array.fromAsync(Deno.readDir(cache))).map(({ name }) => name).sort();
    const logged = () => Deno.readTextFile(`${cache}/web 1.0.raw.log`);
    await t.step("the log of a failure", async () => {
      const { code, err } = await build({ SIZE_MB: "x" });
      assert.equal(code, 2);
      assert.equal(await logged(), err);
    });
    await t.step("the log of a warning: a setting that is nearly one", async () => {
      const { code, err } = await build({ FREE_BM: "1" });
      assert.equal(code, 0, err);
      assert.match(await logged(), /^\[W\] FREE_BM is not a setting: did you mean FREE_MB\?$/m);
      assert.match(await logged(), /^\[\*\] Done: /m);
    });
    await t.step("dm-verity hashes, and nothing when there is nothing to say", async () => {
      const { code, err } = await build({
        FILESYSTEM: "squashfs",
        VERITY: "hash",
        VERITY_DIR: "/cache",
        BOOTLOADER: "",
      });
      assert.equal(code, 0, err);
      assert.doesNotMatch(err, /^\[W\]/m);
      assert.deepEqual(await kept(), ["web 1.0.roothash", "web 1.0.verity"]);
      const rootHash = (await Deno.readTextFile(`${cache}/web 1.0.roothash`)).trim();
      await quiet`veritysetup verify ${output} ${cache}/${"web 1.0.verity"} ${rootHash}`;
    });
    await t.step("under another name when that is set", async () => {
      const env = { FILESYSTEM: "squashfs", VERITY: "hash", VERITY_DIR: "/cache", OUTPUT_NAME: "db.raw" };
      const { code, err } = await build(env);
      assert.equal(code, 0, err);
      assert.deepEqual(await kept(), ["db.roothash", "db.verity", "web 1.0.roothash", "web 1.0.verity"]);
    });
  });
});
