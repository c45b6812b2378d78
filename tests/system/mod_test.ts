import assert from "node:assert/strict";
import { BUILDERS } from "../../builders/mod.ts";

import { sha256, stubProgram, tempDir } from "../lab/helpers.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** Runs builders/mod.ts with exactly the permissions of its first line. */
async function suite(args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const [shebang = ""] = (await Deno.readTextFile(`${ROOT}builders/mod.ts`)).split("\n");
  const permissions = shebang.split(" ").filter((word) => word.startsWith("--"));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...permissions, `${ROOT}builders/mod.ts`, ...args],
    stdin: "null",
    ...options,
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

/** A tree that is enough for an image: an os-release, and an init of some architecture. */
async function makeTree(tree: string): Promise<void> {
  await Deno.mkdir(`${tree}/usr/sbin`, { recursive: true });
  await Deno.mkdir(`${tree}/usr/lib`);
  await Deno.copyFile("/bin/true", `${tree}/usr/sbin/init`);
  await Deno.symlink("usr/sbin", `${tree}/sbin`);
  await Deno.writeTextFile(`${tree}/usr/lib/os-release`, "ID=test\nVERSION_ID=1\n");
}

const JOBS = `
[raptor.link]
rbuild = "raptor-builders"
[run.small]
target = "$rbuild.part-image"
input = "test"
output = "small.img"
env.FREE_MB = "1"
[run.part-image]
target = "$rbuild.part-image"
input = "test"
output = "named.img"
env = { FREE_MB = "1", FREE_MD = "2", NONSENSE = "3" }
[run.live]
target = "$rbuild.deblive"
`;

Deno.test("BUILDERS: each is named as its row and has its own container file", async () => {
  for (const [name, builder] of Object.entries(BUILDERS)) {
    assert.equal(builder.name, name);
    assert.ok((await Deno.stat(`${ROOT}${name}.rapt`)).isFile);
  }
});

Deno.test("mod.ts --help lists the builders on stdout, --version the version", async () => {
  const help = await suite(["--help"]);
  assert.equal(help.code, 0);
  assert.equal(help.err, "");
  for (const { name, summary } of Object.values(BUILDERS)) {
    assert.match(help.out, new RegExp(`^  ${name} +${summary}$`, "m"));
  }
  for (const line of help.out.split("\n")) assert(line.length <= 100, line);
  assert.match((await suite(["--help=EFI_MB"])).out, /^EFI_MB: Size of the ESP/);
  const { version } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  assert.deepEqual(await suite(["--version"]), { code: 0, out: `raptor-builders ${version}\n`, err: "" });
  assert.deepEqual(await suite(["part-image", "--version"]), {
    code: 0,
    out: `part-image ${version}\n`,
    err: "",
  });
});

Deno.test.each([
  {
    args: [],
    message: 'Cannot find "Raptor.toml"',
    hint: "Give a Raptor.toml with --file, or the name of a builder: disk-image, part-image",
  },
  { args: ["--file", "other.toml"], message: 'Cannot find "other.toml"' },
  {
    args: ["--efi-mb=64"],
    message: 'Cannot use "--efi-mb": there is no such flag',
    hint: "It is a setting: put it into the env table of a job, or name a builder before it",
  },
  { args: ["--file"], message: "Cannot use --file without a value" },
  { args: ["--fiel=x"], message: 'Cannot use "--fiel": there is no such flag', hint: "Did you mean --file?" },
  {
    args: ["disk-imgae", "--input=x", "--output=y"],
    message: 'Cannot find the builder "disk-imgae"',
    hint: "Did you mean disk-image?",
  },
  {
    args: ["prat-image"],
    message: 'Cannot find "prat-image": it is not a builder, and there is no "Raptor.toml"',
    hint: "Did you mean part-image?",
  },
  {
    args: ["part-image", "--bootloader=none"],
    message: 'Cannot use "--bootloader": there is no such flag',
    hint: "Leave it out: part-image does not support this setting",
  },
  { args: ["-C", "/nowhere"], message: 'Cannot run in the directory "/nowhere": No such file or directory' },
  { args: ["part-image", "--nonsense"], message: /--nonsense/ },
])("mod.ts $args is a usage error of a line and a hint", async ({ args, message, hint }) => {
  await tempDir(async (cwd) => {
    const { code, out, err } = await suite(args, { cwd });
    const [first = "", second, ...more] = err.trimEnd().split("\n").map((line) =>
      line.replace(/^\[E\] /, "")
    );
    if (typeof message === "string") assert.equal(first, message);
    else assert.match(first, message);
    if (hint) assert.equal(second, hint);
    assert.deepEqual(more, []);
    assert.deepEqual([code, out], [2, ""]);
  });
});

Deno.test.each([
  { args: ["--nope", "--log=json"], message: /"--nope": there is no such flag/ },
  { args: ["--log", "json", "--file=none.toml"], message: /^Cannot find "none\.toml"/ },
  { args: ["-C", "/nowhere", "--log=json"], message: /^Cannot run in the directory/ },
  { args: ["part-image", "--nope", "--log=json"], message: /"--nope": there is no such flag/ },
  { args: ["part-image", "--output", "-", "--log=json"], message: /^Cannot write the image to stdout$/ },
  { args: ["part-image", "--help=NOPE", "--log=json"], message: /^Cannot explain "NOPE"/ },
])("mod.ts $args reports its usage error as JSON", async ({ args, message }) => {
  await tempDir(async (cwd) => {
    const { code, out, err } = await suite(args, { cwd });
    assert.deepEqual([code, out], [2, ""]);
    const lines = err.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.match(lines[0].message, message);
    for (const { level } of lines) assert.equal(level, "error");
  });
});

Deno.test("mod.ts reports a format of the log that there is not as text", async () => {
  const { code, err } = await suite(["part-image", "--log=xml"]);
  assert.equal(code, 2);
  assert.equal(err, '[E] Cannot use --log="xml"\n[E] Accepted: one of text, json\n');
});

Deno.test("mod.ts builds the jobs of a Raptor.toml, once", async (t) => {
  await tempDir(async (dir) => {
    await makeTree(`${dir}/test`);
    await Deno.writeTextFile(`${dir}/Raptor.toml`, JOBS);
    const size = async (name: string) => (await Deno.stat(`${dir}/${name}`)).size;

    await t.step("all of ours without names, from another directory", async () => {
      const { code, out, err } = await suite(["-C", dir]);
      assert.equal(code, 0, err);
      assert.equal(out, "");
      assert.match(err, /^\[\|\] Skipping live: "\$rbuild\.deblive" is not one of our builders$/m);
      assert.match(
        err,
        /^\[W\] part-image: part-image has no setting "NONSENSE": see part-image --help$/m,
      );
      assert.match(err, /^\[W\] FREE_MD is not a setting: did you mean FREE_MB\?$/m);
      assert.ok(await size("small.img") > 0);
      assert.equal(await size("named.img"), await size("small.img"));
    });
    await t.step("not again while it is up to date", async () => {
      const { code, err } = await suite(["small", "--file", `${dir}/Raptor.toml`], { cwd: dir });
      assert.equal(code, 0, err);
      assert.equal(err, `[*] small: "small.img" is up to date (--force builds it again)\n`);
    });
    await t.step("again with --force", async () => {
      const before = (await Deno.stat(`${dir}/small.img`)).mtime!;
      const { code, err } = await suite(["small", "--force"], { cwd: dir });
      assert.equal(code, 0, err);
      assert.ok((await Deno.stat(`${dir}/small.img`)).mtime! > before);
    });
    await t.step("a job with the name of a builder", async () => {
      await Deno.remove(`${dir}/named.img`);
      const { code, err } = await suite(["run.part-image"], { cwd: dir });
      assert.equal(code, 0, err);
      assert.ok(await size("named.img") > 0);
    });
    await t.step("a plan only with --dry-run", async () => {
      await Deno.remove(`${dir}/small.img`);
      const { code, out, err } = await suite(["small", "--dry-run", "--json"], { cwd: dir });
      assert.equal(code, 0, err);
      assert.ok(JSON.parse(out));
      await assert.rejects(Deno.stat(`${dir}/small.img`), Deno.errors.NotFound);
    });
    await t.step("from a tree that is given", async () => {
      await makeTree(`${dir}/elsewhere`);
      const given = await suite(["small", "--input", "test=elsewhere"], { cwd: dir });
      assert.equal(given.code, 0, given.err);
      assert.match(given.err, /makes "small\.img" from "elsewhere"/);
      const wrong = await suite(["small", "--input", "tset=elsewhere"], { cwd: dir });
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, /^\[E\] Cannot use --input "tset=elsewhere"\n\[E\] Write --input test=PATH;/);
    });
    await t.step("one of several jobs by its number", async () => {
      await Deno.remove(`${dir}/named.img`);
      const { code, err } = await suite(["--index=1"], { cwd: dir });
      assert.equal(code, 0, err);
      assert.ok(await size("named.img") > 0);
      const wrong = await suite(["--index=2"], { cwd: dir });
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, /^\[E\] Accepted: 0 to 1, for small, part-image$/m);
    });
    await t.step("a builder by its name, with the settings of the environment", async () => {
      const args = ["part-image", "--input", "test", "--output", "direct.img"];
      const { code, err } = await suite(args, { cwd: dir, env: { SIZE_MB: "16" } });
      assert.equal(code, 0, err);
      assert.equal(await size("direct.img"), 16 * 2 ** 20);
    });
  });
});

Deno.test("a job's output is what Raptor makes it, whatever its name promises, with a warning", async () => {
  await tempDir(async (dir) => {
    await makeTree(`${dir}/test`);
    await Deno.writeTextFile(`${dir}/Raptor.toml`, JOBS.replace("small.img", "small.qcow2"));
    const { code, err } = await suite(["small"], { cwd: dir });
    assert.equal(code, 0, err);
    assert.match(
      err,
      /^\[W\] The name "small\.qcow2" does not match the format: \.qcow2 means qcow2, not raw$/m,
    );
    assert.match(err, /^\[W\] Set OUTPUT_FORMAT to qcow2, or end the name in \.raw or \.img$/m);
    await Deno.writeTextFile(
      `${dir}/Raptor.toml`,
      JOBS.replace('"small.img"', '"s.qcow2"\nargs = ["--strict=1"]'),
    );
    const strict = await suite(["small"], { cwd: dir });
    assert.equal(strict.code, 2);
    assert.match(strict.err, /^\[E\] Cannot write "s\.qcow2": /m);
    // Outside of a job the same name chooses the format.
    const args = ["part-image", "--input=test", "--output=direct.qcow2", "--free-mb=1"];
    const direct = await suite(args, { cwd: dir });
    assert.equal(direct.code, 0, direct.err);
    const magic = async (name: string) => (await Deno.readFile(`${dir}/${name}`)).subarray(0, 4).toHex();
    assert.deepEqual([await magic("small.qcow2"), await magic("direct.qcow2")], ["00000000", "514649fb"]);
    await Deno.writeTextFile(`${dir}/Raptor.toml`, JOBS);
    // A name that is nearly that of a job or of a builder.
    for (const [word, meant] of [["samll", "small"], ["prat-image", "part-image"]]) {
      const wrong = await suite([word!], { cwd: dir });
      assert.equal(wrong.code, 2);
      assert.match(
        wrong.err,
        new RegExp(`Cannot find the job "${word}" in .*\\n\\[E\\] Did you mean ${meant}\\?\\n$`),
      );
    }
  });
});

Deno.test("mod.ts stops at the first job that fails and returns its exit code", async () => {
  await tempDir(async (dir) => {
    await makeTree(`${dir}/test`);
    await Deno.writeTextFile(`${dir}/Raptor.toml`, JOBS.replace('FREE_MB = "1"', 'SIZE_MB = "x"'));
    const { code, err } = await suite([], { cwd: dir });
    assert.equal(code, 2);
    assert.match(err, /^\[E\] Cannot use SIZE_MB="x"$/m);
    assert.match(err, /^\[E\] The job small failed; not built: part-image$/m);
    await assert.rejects(Deno.stat(`${dir}/named.img`), Deno.errors.NotFound);
  });
});

Deno.test("mod.ts names the program that failed and what it said", async () => {
  await tempDir(async (dir) => {
    await makeTree(`${dir}/test`);
    await Deno.writeTextFile(`${dir}/Raptor.toml`, JOBS);
    await stubProgram(
      dir,
      "mke2fs",
      "test \"$1\" = -V && { echo 'mke2fs 1.47.0' >&2; exit; }; echo 'mke2fs: the disk is on fire' >&2; exit 7",
    );
    await Deno.writeTextFile(`${dir}/small.img`, "an older image");
    await Deno.utime(`${dir}/small.img`, 1, 1);
    const env = { PATH: `${dir}:${Deno.env.get("PATH")}` };
    const text = await suite(["small"], { cwd: dir, env });
    assert.equal(text.code, 1, text.err);
    assert.match(
      text.err,
      /^\[E\] .*mke2fs failed with exit code 7: .*the disk is on fire\n\[E\] mke2fs -q /m,
    );
    const { size, mtime } = await Deno.stat(`${dir}/small.img`);
    assert.deepEqual([size, mtime?.getTime()], [0, 0]);
    // The same for a machine that reads the log.
    const json = await suite(["small", "--log=json"], { cwd: dir, env });
    assert.equal(json.code, 1, json.err);
    const lines = json.err.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.ok(lines.some((line) => JSON.stringify(line).includes("the disk is on fire")), json.err);
  });
});

Deno.test("mod.ts many times at once, with one scratch directory, makes the same images", async () => {
  await tempDir(async (dir) => {
    await makeTree(`${dir}/tree`);
    await Deno.mkdir(`${dir}/scratch`);
    await new Deno.Command("tar", { args: ["-cf", `${dir}/tree.tar`, "-C", `${dir}/tree`, "."] }).output();
    const build = async (number: number) => {
      // Every other one unpacks an archive; all of them convert, which takes a scratch image.
      const input = number % 2 ? `${dir}/tree.tar` : `${dir}/tree`;
      const output = `${dir}/${number}.qcow2`;
      const args = ["disk-image", "--input", input, "--output", output, "--output-format=qcow2"];
      const { code, err } = await suite(args, { env: { TMPDIR: `${dir}/scratch`, BOOTLOADER: "none" } });
      assert.equal(code, 0, err);
      return await sha256(output);
    };
    const sums = await Promise.all(Array.from({ length: 6 }, (_, number) => build(number)));
    // An archive of tar keeps whole seconds, so those differ from the directory, but not from each other.
    assert.equal(new Set(sums.filter((_, number) => number % 2 === 0)).size, 1);
    assert.equal(new Set(sums.filter((_, number) => number % 2 === 1)).size, 1);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(`${dir}/scratch`)), []);
  });
});

Deno.test("mod.ts passes an interruption on", async () => {
  await tempDir(async (dir) => {
    await makeTree(`${dir}/test`);
    await Deno.writeTextFile(`${dir}/Raptor.toml`, JOBS);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `${ROOT}builders/mod.ts`],
      cwd: dir,
      stderr: "piped",
    }).spawn();
    let err = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      if (!err.includes("part-image makes") && (err + text).includes("part-image makes")) {
        child.kill("SIGTERM");
      }
      err += text;
    }
    assert.equal((await child.status).code, 143, err);
    assert.match(err, /The job small failed; not built: part-image/);
    const left = await Deno.stat(`${dir}/small.img`).catch(() => undefined);
    assert.equal(left?.size ?? 0, 0);
  });
});
