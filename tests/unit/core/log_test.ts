import assert from "node:assert/strict";
import { evaluate, missing, quiet, tempDir } from "../../lab/helpers.ts";

const CONFIG = new URL("../../../deno.json", import.meta.url).pathname;
const LOG = new URL("../../../lib/core/log.ts", import.meta.url).href;
const ALL = `lib.step("step"); lib.detail("one\\ntwo"); lib.warn("warning"); lib.fail("error");`;

/** Runs a script that uses `lib`; returns its stdout and stderr. */
async function run(script: string, env: Record<string, string> = {}): Promise<[string, string]> {
  const { stdout, stderr } = await evaluate("core/log.ts", script, { NO_COLOR: "", ...env });
  return [stdout, stderr];
}

/** The same, with stderr on a terminal of 40 columns; returns what the terminal got. */
async function runOnTerminal(script: string, env: Record<string, string> = {}): Promise<string> {
  return await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/script.ts`, `import * as lib from "${LOG}"; ${script}`);
    const variables = Object.entries({ TERM: "xterm", ...env }).map(([key, value]) => `${key}=${value}`);
    const command = `stty cols 40; env -u NO_COLOR ${variables.join(" ")} "${Deno.execPath()}" run --quiet ` +
      `--allow-env --config ${CONFIG} ${dir}/script.ts`;
    const output = await quiet`script --quiet --return --command ${command} /dev/null`;
    return output.replaceAll("\r\n", "\n");
  });
}

Deno.test("the log is marked lines on stderr, without colours into a file", async () => {
  const lines = "[*] step\n[|] one\n[|] two\n[W] warning\n[E] error\n";
  assert.deepEqual(await run(ALL), ["", lines]);
  // Asking for colours changes nothing: stderr is not a terminal.
  assert.deepEqual(await run(ALL, { FORCE_COLOR: "1", TERM: "xterm-256color" }), ["", lines]);
});

Deno.test(
  "the log has colours on a terminal, unless NO_COLOR is set",
  { ignore: missing("script") },
  async () => {
    const output = await runOnTerminal(`lib.fail("error");`);
    assert.ok(output.startsWith("\x1b[1m\x1b[31m[E]\x1b[") && output.endsWith("m error\n"), output);
    assert.equal(
      await runOnTerminal(ALL, { NO_COLOR: "1" }),
      "[*] step\n[|] one\n[|] two\n[W] warning\n[E] error\n",
    );
  },
);

Deno.test("a trace is shown only on request, but always part of transcript and JSON", async () => {
  const script = `lib.startTranscript(); lib.trace("mke2fs"); lib.step("s");
    console.log(JSON.stringify(lib.readTranscript().text));`;
  assert.deepEqual(await run(script), ['"[|] mke2fs\\n[*] s\\n"\n', "[*] s\n"]);
  assert.equal((await run(`lib.setVerbose(true); ${script}`))[1], "[|] mke2fs\n[*] s\n");
  assert.equal(
    (await run(`lib.setLogFormat("json"); ${script}`))[1],
    '{"level":"trace","message":"mke2fs"}\n{"level":"step","message":"s"}\n',
  );
});

Deno.test("the log has no empty lines", async () => {
  const script = `lib.detail(""); lib.detail("\\n a\\n \\n\\nb\\n"); lib.fail("\\n");`;
  assert.deepEqual(await run(script), ["", "[|]  a\n[|] b\n"]);
});

Deno.test("untrusted text does not control the terminal", async () => {
  const [, stderr] = await run(String.raw`lib.detail("a\x1b]0;title\x07b\rc\x9b2Jd\te");`);
  assert.equal(stderr, "[|] a\\x1b]0;title\\x07b\\x0dc\\x9b2Jd\te\n");
});

Deno.test("the log as JSON is one object per line, for any message", async () => {
  const script =
    `lib.setLogFormat("json"); lib.step("one\\ntwo\\u001b", { step: "root", bytes: 4096 }); lib.warn("w");`;
  const [stdout, stderr] = await run(script);
  assert.equal(stdout, "");
  assert.deepEqual(stderr.trimEnd().split("\n").map((line) => JSON.parse(line)), [
    { level: "step", message: "one\ntwo\u001b", step: "root", bytes: 4096 },
    { level: "warning", message: "w" },
  ]);
});

Deno.test("a status line is drawn on a terminal only, below the log and within its width", {
  ignore: missing("script"),
}, async () => {
  const script = `lib.setStatus("x".repeat(60)); lib.warn("w"); lib.setStatus("");`;
  assert.deepEqual(await run(script), ["", "[W] w\n"]);
  const bar = "x".repeat(39);
  const output = await runOnTerminal(script, { NO_COLOR: "1" });
  assert.equal(output, `\r\x1b[K${bar}\r\x1b[K[W] w\n${bar}\r\x1b[K`);
});

Deno.test("a reader that goes away ends neither the log nor a build, and is no bug", async () => {
  const module = new URL("../../../lib/cli/cli.ts", import.meta.url).href;
  const script = `import { print, report } from "${module}";
    const code = await report(() => print("x".repeat(1_000_000)));
    Deno.writeTextFileSync(Deno.args[0], String(code));`;
  await tempDir(async (dir) => {
    for (const [what, wanted] of [["2>&1 | true", "1"], ["2>log | true", "1"]]) {
      const { code } = await new Deno.Command("sh", {
        args: [
          "-c",
          `"$1" eval --quiet "$2" ${dir}/code ${what!.replace("log", `${dir}/log`)}`,
          "sh",
          Deno.execPath(),
          script,
        ],
        cwd: new URL("../../..", import.meta.url).pathname,
      }).output();
      assert.equal(code, 0);
      assert.equal(await Deno.readTextFile(`${dir}/code`), wanted);
    }
    assert.equal(
      await Deno.readTextFile(`${dir}/log`),
      "[E] Cannot write to stdout: nobody reads it any more\n",
    );
  });
});
