import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { $ } from "../../../lib/system/sh.ts";
import { evaluate, missing, quiet, stubProgram, tempDir } from "../../lab/helpers.ts";

/** Runs a script that uses `$` in a separate process, as builders do. */
const PROCESS = new URL("../../../lib/system/process.ts", import.meta.url).href;
const LOG = new URL("../../../lib/core/log.ts", import.meta.url).href;
const run = (script: string, env = {}) => evaluate("system/sh.ts", script, env);
const runVerbosely = (script: string) =>
  run(`const log = await import("${LOG}"); log.setVerbose(true); ${script}`);

/** A program that prints its arguments, each ended by a NUL. */
const printArguments = (dir: string) => stubProgram(dir, "arguments", `printf '%s\\0' "$@"`);

const NASTY = [
  ...'plain|two words|line\nbreak|it\'s|"quoted"|$HOME|`id`|*|~|a\\b|-n|ä😀|\t|;|&&|#no|{a,b}|=x'.split("|"),
  "",
  "a|b>c<d",
];

Deno.test("$ passes interpolated values on unchanged, each as one word", () =>
  tempDir(async (dir) => {
    const program = await printArguments(dir);
    for (const value of NASTY) assert.equal(await quiet`${program} ${value}`, `${value}\0`);
    assert.equal(await quiet`${program} ${NASTY} end`, [...NASTY, "end", ""].join("\0"));
    assert.equal(await quiet`${program} a ${[]} b ${7}`, "a\0b\x007\0");
    assert.equal(await quiet`${program} --x=${"1 2"} ${"a"}/${"b c"}`, "--x=1 2\0a/b c\0");
  }));

Deno.test("$ treats a line break in a template as a space, not as a second command", () =>
  tempDir(async (dir) => {
    const program = await printArguments(dir);
    assert.equal(await quiet`${program} one\n      two ${"x"}\n three`, "one\0two\0x\0three\0");
    for (const syntax of ["; id", "&& id", "| cat", "> file", "$(id)", "& id"]) {
      const strings = Object.assign([" a ", ` ${syntax}`], { raw: ["", ""] });
      await assert.rejects(quiet(strings, program), /A command line is one program/);
    }
  }));

Deno.test("$ fails with program, exit code and the last lines of stderr", () =>
  tempDir(async (dir) => {
    const noisy = await stubProgram(dir, "noisy", "seq 1 20 >&2; echo lost; exit 3");
    await assert.rejects(quiet`${noisy} a ${"b"}`, (error: BuildError) => {
      assert.ok(error instanceof BuildError);
      assert.equal(
        error.message,
        `${noisy} failed with exit code 3: ${
          "13 14 15 16 17 18 19 20".replaceAll(" ", " / ")
        }\n'${noisy}' a b`,
      );
      assert.equal(error.kind, "build");
      return true;
    });
    await assert.rejects(quiet`${[noisy, "a"]}`, { message: new RegExp(`^${noisy} failed`) });
    await assert.rejects(quiet`false`, { message: "false failed with exit code 1\nfalse" });
    await assert.rejects($`false`.quiet().stdinText("one\ntwo\n").text(), {
      message: "false failed with exit code 1\nfalse <<'END'\none\ntwo\nEND",
    });
    await assert.rejects($`${noisy}`.quiet().noThrow(1).text(), /exit code 3/);
    assert.equal(await $`${noisy}`.quiet().noThrow(1, 3).text(), "lost\n");
    assert.equal(await $`${noisy}`.quiet().noThrow(3).code(), 3);
  }));

for (const signal of ["KILL", "SEGV", "TERM", "PIPE", "ABRT"]) {
  Deno.test(`$ treats a program killed by SIG${signal} as failed`, () =>
    tempDir(async (dir) => {
      const program = await stubProgram(dir, "suicide", `echo last words >&2; kill -${signal} $$`);
      await assert.rejects(quiet`${program}`, (error: BuildError) => {
        assert.ok(error instanceof BuildError);
        assert.equal(error.message, `${program} was killed by SIG${signal}: last words\n'${program}'`);
        assert.equal(error.hint, signal === "KILL" ? "The system may have run out of memory" : undefined);
        return true;
      });
      // Whatever exit codes are accepted: a shell would report 128 plus the signal number.
      await assert.rejects(
        $`${program}`.quiet().noThrow(137, 139, 143, 141, 134).text(),
        /killed/,
      );
    }));
}

Deno.test("$ names the package of a missing program", () =>
  tempDir(async (dir) => {
    await assert.rejects($`mkfs.vfat --help`.quiet().env({ PATH: dir }).text(), (error: BuildError) => {
      assert.ok(error instanceof BuildError);
      assert.equal(error.message, 'Cannot run "mkfs.vfat": no such program');
      assert.match(error.hint!, /deno task setup.* dosfstools/);
      return true;
    });
    await assert.rejects($`raptor-unknown`.quiet().env({ PATH: dir }).text(), {
      hint: undefined,
      message: /"raptor-unknown"/,
    });
    await Deno.writeTextFile(`${dir}/plain`, "no program");
    await assert.rejects(quiet`${dir}/plain`, { name: "BuildError", message: /^Cannot run / });
  }));

Deno.test("$ passes on stdin if given, and otherwise none", async () => {
  assert.equal(await quiet`cat`, "");
  const text = "ä\n'$x'\n".repeat(100_000);
  assert.equal(await $`cat`.quiet().stdinText(text).text(), text);
  // If a program does not read it, only its exit code counts.
  assert.equal(await $`true`.quiet().stdinText(text).text(), "");
  await assert.rejects($`false`.quiet().stdinText(text).text(), /exit code 1/);
});

Deno.test("$ sets locale, time zone and the given variables", async () => {
  const output = await $`env`.quiet().env({ SOURCE_DATE_EPOCH: "1", TZ: "Asia/Tokyo" }).text();
  const env = new Map(output.split("\n").map((line) => line.split("=", 2) as [string, string]));
  assert.equal(env.get("LC_ALL"), "C.UTF-8");
  assert.equal(env.get("SOURCE_DATE_EPOCH"), "1");
  assert.equal(env.get("TZ"), "Asia/Tokyo");
  assert.match(await quiet`env`, /^TZ=UTC$/m);
  assert.ok(env.get("PATH")!.split(":").includes("/usr/sbin"));
});

Deno.test("$ passes on only listed variables of our environment", async () => {
  const names = [
    "VERITY_KEY",
    "TAR_OPTIONS",
    "XZ_OPT",
    "GZIP",
    "ZSTD_CLEVEL",
    "MKE2FS_CONFIG",
    "LD_PRELOAD",
    "X",
  ];
  const env = { ...Object.fromEntries(names.map((name) => [name, "1"])), LD_PRELOAD: "", TMPDIR: "/var/tmp" };
  const { code, stdout, stderr } = await run(
    `${names.map((name) => `Deno.env.set("${name}", "1");`).join(" ")}
    console.log(await lib.$\`env\`.quiet().env({ Y: "2" }).text());`,
    env,
  );
  assert.equal(code, 0, stderr);
  const got = stdout.trim().split("\n").map((line) => line.split("=")[0]).sort();
  assert.deepEqual(
    got.filter((name) => !["PWD", "SHLVL", "_"].includes(name!)),
    ["HOME", "LC_ALL", "PATH", "RAPTOR_BUILDERS_RUN", "TMPDIR", "TZ", "Y"],
  );
});

Deno.test("the guard of a build gets no other variables of our environment", async () => {
  const { code, stdout, stderr } = await evaluate(
    "system/guard.ts",
    `const guard = lib.startGuard({ scratch: "/nowhere" });
    const children = Deno.readTextFileSync("/proc/self/task/" + Deno.pid + "/children").trim().split(" ");
    for (const id of children) console.log(Deno.readTextFileSync("/proc/" + id + "/environ").replaceAll("\\0", "\\n"));
    await guard[Symbol.asyncDispose]();`,
    { VERITY_KEY: "secret" },
  );
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^PATH=/m);
  assert.doesNotMatch(stdout, /secret|VERITY/);
});

Deno.test("$ returns stdout as text or bytes, unchanged", () =>
  tempDir(async (dir) => {
    const bytes = new Uint8Array(1_000_000).map((_, i) => (i * 7) ^ (i >> 8));
    await Deno.writeFile(`${dir}/bytes`, bytes);
    const got: number[] = [];
    const collect = (chunk: Uint8Array) => chunk.forEach((byte) => got.push(byte));
    assert.equal(await $`cat ${dir}/bytes`.quiet().stdout(collect).text(), "");
    assert.deepEqual(Uint8Array.from(got), bytes);

    // Multi-byte characters, split anywhere by the pipe.
    const text = "a€😀".repeat(100_000);
    await Deno.writeTextFile(`${dir}/text`, text);
    assert.equal(await quiet`cat ${dir}/text`, text);
  }));

Deno.test("$ traces commands and their stderr on stderr, never on stdout, without control codes or empty lines", () =>
  tempDir(async (dir) => {
    const program = await stubProgram(
      dir,
      "talk",
      `echo out; echo warning >&2; printf 'a\\rb\\033[2Jc\\n\\n \\n' >&2`,
    );
    const script = (methods: string) => `await lib.$\`${program} \${"two words"}\`${methods};`;
    const { code, stdout, stderr } = await runVerbosely(script(""));
    assert.deepEqual({ code, stdout }, { code: 0, stdout: "" });
    assert.equal(stderr, `[|] ${program} 'two words'\n[|]   warning\n[|]   a\n[|]   b\\x1b[2Jc\n`);
    assert.deepEqual(await runVerbosely(script(".quiet()")), { code: 0, stdout: "", stderr: "" });
    assert.deepEqual(await run(script("")), { code: 0, stdout: "", stderr: "" });
  }));

Deno.test("commands that $ logs can be run again by hand", () =>
  tempDir(async (dir) => {
    const program = await printArguments(dir);
    const words = [...NASTY, "plain-word", "/path/to.file", "a=b"];
    const { stderr } = await runVerbosely(`await lib.$\`${program} \${${JSON.stringify(words)}}\`;`);
    const command = stderr.trimEnd().replaceAll(/^\[\|\] /gm, "");
    assert.equal(await quiet`bash -c ${command}`, words.map((word) => `${word}\0`).join(""));
    // A script on stdin is logged, too.
    const stdin = await runVerbosely(`await lib.$\`cat\`.stdinText("one\\n$HOME\\n");`);
    assert.equal(await quiet`bash -c ${stdin.stderr.replaceAll(/^\[\|\] /gm, "")}`, "one\n$HOME\n");
  }));

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`interrupt("${signal}") stops running programs, and any that are started later`, () =>
    tempDir(async (dir) => {
      const program = await stubProgram(dir, "sleeper", `echo $$ >"$1"; exec sleep 600`);
      const { code, stdout } = await run(
        `
        const { $ } = lib;
        const { interrupt, throwIfInterrupted } = await import("${PROCESS}");
        const runs = ["a", "b"].map((name) => $\`${program} ${dir}/\${name}\`.text());
        const ends = Promise.allSettled(runs);
        const read = (name) => { try { return Deno.readTextFileSync("${dir}/" + name); } catch { return ""; } };
        while (!read("a").endsWith("\\n") || !read("b").endsWith("\\n")) await new Promise((r) => setTimeout(r, 20));
        interrupt("${signal}");
        const messages = (await ends).map(({ reason }) => reason.name + ": " + reason.message);
        const later = await $\`true\`.text().catch((error) => error.message);
        let loop; try { throwIfInterrupted(); } catch (error) { loop = error.message; }
        console.log(JSON.stringify([...messages, later, loop]));`,
      );
      assert.equal(code, 0);
      const text = `Interrupted by ${signal}`;
      assert.deepEqual(JSON.parse(stdout), [`BuildError: ${text}`, `BuildError: ${text}`, text, text]);
      for (const name of ["a", "b"]) {
        const id = (await Deno.readTextFile(`${dir}/${name}`)).trim();
        await assert.rejects(Deno.stat(`/proc/${id}`), Deno.errors.NotFound);
      }
    }));
}

Deno.test("$ feeds a stream piece by piece, and kills the program when the stream fails", async () => {
  const buffer = new Uint8Array(100_000);
  function* stream(pieces: number, fails: boolean) {
    for (let i = 0; i < pieces; i++) {
      // The same buffer each time: it may be reused when the next piece is requested.
      buffer.fill(i);
      yield buffer;
    }
    if (fails) throw new Error("cannot read on");
  }
  const sums = await $`cksum`.quiet().stdin(stream(50, false)).text();
  const whole = new Uint8Array(50 * buffer.length);
  for (let i = 0; i < 50; i++) whole.fill(i, i * buffer.length, (i + 1) * buffer.length);
  const child = new Deno.Command("cksum", { stdin: "piped", stdout: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(whole);
  await writer.close();
  assert.equal(sums, new TextDecoder().decode((await child.output()).stdout));
  // If a program does not read all of it, its exit code counts.
  assert.equal((await $`head -c 3`.quiet().stdin(stream(50, false)).text()).length, 3);
  await assert.rejects($`cat`.quiet().stdin(stream(3, true)).text(), /cannot read on/);
});

Deno.test("$ gives a program that reads a stream a pipe of 1 MiB", { ignore: missing("perl") }, async () => {
  const F_GETPIPE_SZ = 1032;
  // It is enlarged before the first byte comes.
  const script = `sysread(STDIN, $_, 1); print fcntl(STDIN, ${F_GETPIPE_SZ}, 0)`;
  assert.equal(await $`perl -e ${script}`.quiet().stdin([new Uint8Array(1)]).text(), "1048576");
});
