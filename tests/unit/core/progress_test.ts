import assert from "node:assert/strict";
import { barText } from "../../../lib/core/progress.ts";
import { GiB, MiB } from "../../../lib/core/units.ts";
import { evaluate } from "../../lab/helpers.ts";

const pure = { permissions: "none" } as const;

Deno.test.each([
  [312, 840, 0.75, "root [#########---------------]  37 %  312 MiB of 840 MiB  416 MiB/s  2 s left"],
  [0, 840, 0, "root [------------------------]   0 %  0 B of 840 MiB  0 B/s"],
  [840, 840, 2, "root [########################] 100 %  840 MiB of 840 MiB  420 MiB/s  0 s left"],
  [839.9, 840, 2, "root [########################]  99 %  839.9 MiB of 840 MiB  419.9 MiB/s  1 s left"],
  // Rounding may count slightly more than the total.
  [900, 840, 2, "root [########################] 100 %  900 MiB of 840 MiB  450 MiB/s  0 s left"],
  [1, 1000, 1, "root [------------------------]   0 %  1 MiB of 1000 MiB  1 MiB/s  17 min left"],
])(
  "barText() shows share, bytes, rate and time left: %d of %d MiB in %d s",
  pure,
  (done, total, seconds, text) => {
    assert.equal(barText("root", done * MiB, total * MiB, seconds), text);
  },
);

Deno.test("barText() keeps its width while the numbers grow", pure, () => {
  const widths = [0, 1, 50, 99, 100].map((share) => barText("x", share, 100, 1).indexOf("%"));
  assert.equal(new Set(widths).size, 1);
});

const LOG = new URL("../../../lib/core/log.ts", import.meta.url).href;

/** The log of a step of 10 GiB at 100 MiB per second, for the time that the script says. */
async function logged(script: string): Promise<string[]> {
  const { code, stdout, stderr } = await evaluate(
    "core/progress.ts",
    `let now = 0; performance.now = () => now;
     const log = await import("${LOG}");
     const at = (progress, seconds) => { now = seconds * 1000; progress.update(seconds * ${100 * MiB}); };
     ${script}`,
  );
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "");
  return stderr.trimEnd().split("\n");
}

Deno.test("startProgress() logs a line every ten seconds if stderr is not a terminal", async () => {
  const lines = await logged(`
    const step = lib.startProgress("root", ${10 * GiB});
    for (let tenths = 1; tenths <= 250; tenths++) at(step, tenths / 10);
    step.end();`);
  assert.deepEqual(lines, [
    "[|] root: 1010 MiB of 10 GiB, 9 %",
    "[|] root: 2 GiB of 10 GiB, 19 %",
    "[|] root: 10 GiB in 25.00 s",
  ]);
});

Deno.test("startProgress() logs only the end of a short step, even an empty one", async () => {
  const lines = await logged(`
    const step = lib.startProgress("root", ${MiB});
    const empty = lib.startProgress("esp", 0);
    for (let i = 1; i < 90; i++) { at(step, i / 10); empty.update(0); }
    empty.end();
    step.end();`);
  assert.deepEqual(lines, ["[|] esp: 0 B in 8.90 s", "[|] root: 1 MiB in 8.90 s"]);
});

Deno.test("startProgress() logs start and end as JSON, with bytes and seconds", async () => {
  const lines = await logged(`
    log.setLogFormat("json");
    const step = lib.startProgress("root", ${MiB});
    now = 1234.5678;
    step.end();`);
  assert.deepEqual(lines.map((line) => JSON.parse(line)), [
    { level: "detail", message: "root: start", step: "root", event: "start", bytes: MiB },
    {
      level: "detail",
      message: "root: 1 MiB in 1.23 s",
      step: "root",
      event: "end",
      bytes: MiB,
      seconds: 1.235,
      start: 0,
      end: 1.235,
    },
  ]);
});

Deno.test("timeStep() logs start and end of a step without a bar, and only as JSON", async () => {
  const run = `
    now = 1000;
    const result = await lib.timeStep("table", () => { now = 1500; return 7; });
    if (result !== 7) throw new Error(result);`;
  assert.deepEqual(await logged(run), [""]);
  const lines = await logged(`log.setLogFormat("json");${run}`);
  assert.deepEqual(lines.map((line) => JSON.parse(line)), [
    { level: "detail", message: "table: start", step: "table", event: "start" },
    {
      ...{ level: "detail", message: "table: 0.50 s", step: "table", event: "end" },
      ...{ seconds: 0.5, start: 1, end: 1.5 },
    },
  ]);
});

Deno.test("a failed step is logged as failed, with or without a bar", async () => {
  const lines = await logged(`
    log.setLogFormat("json");
    const fail = () => { throw new Error("no"); };
    await lib.timeStep("table", fail).catch(() => {});
    await lib.withProgress("root", ${MiB}, fail).catch(() => {});`);
  assert.deepEqual(lines.map((line) => JSON.parse(line)).map(({ step, event }) => [step, event]), [
    ["table", "start"],
    ["table", "fail"],
    ["root", "start"],
    ["root", "fail"],
  ]);
});
