import assert from "node:assert/strict";
import { runProcess } from "../../../lib/system/process.ts";
import { type Activity, newJudge } from "../../../lib/system/watchdog.ts";

const PATIENCE = { idle: 60, busy: 600 };

/** What a judge says of samples that are taken every ten seconds. */
function judged(samples: readonly Activity[]): (string | undefined)[] {
  const judge = newJudge(PATIENCE);
  return samples.map((activity, i) => judge(1000 + i * 10, activity));
}

Deno.test("newJudge() lets a program be that reads or writes now and then", { permissions: "none" }, () => {
  const samples = Array.from({ length: 1000 }, (_, i) => ({ bytes: Math.floor(i / 5), cpu: 0 }));
  assert.deepEqual(new Set(judged(samples)), new Set([undefined]));
});

Deno.test(
  "newJudge() finds a program that waits, counted from what it did last",
  { permissions: "none" },
  () => {
    const samples = Array.from({ length: 12 }, (_, i) => ({ bytes: Math.min(i, 5), cpu: 7 }));
    const found = judged(samples);
    assert.equal(found.findIndex((each) => each !== undefined), 11);
    assert.equal(found[11], "did nothing for 60 s");
  },
);

Deno.test("newJudge() lets a program compute for longer, but not for ever", { permissions: "none" }, () => {
  const found = judged(Array.from({ length: 61 }, (_, i) => ({ bytes: 1, cpu: i })));
  assert.equal(found.findIndex((each) => each !== undefined), 60);
  assert.equal(found[60], "neither read nor wrote anything for 10 min");
});

/** Runs a program with hardly any patience. */
async function run(...command: readonly [string, ...string[]]) {
  const ignored = { write() {}, close() {} };
  const [program, ...args] = command;
  const streams = { stdin: undefined, stdout: ignored, stderr: ignored };
  const patience = { idle: 0.5, busy: 1 };
  return await runProcess(program, args, {}, streams, new AbortController().signal, patience);
}

Deno.test("runProcess() ends a program that waits for ever", async () => {
  const ended = await run("/bin/sleep", "infinity");
  assert(ended instanceof Error);
  assert.match(ended.message, /^\/bin\/sleep did nothing for 0\.5 s: it was ended/);
});

Deno.test("runProcess() ends a program that runs in circles", async () => {
  const ended = await run("/bin/sh", "-c", "while :; do :; done");
  assert(ended instanceof Error);
  // On a machine with much else to do it may not get to run at all.
  assert.match(
    ended.message,
    /^\/bin\/sh (neither read nor wrote anything for 1 s|did nothing for 0\.5 s): /,
  );
});
