/**
 * Builds that fail on purpose: programs that fail in every possible way, and checks for what is left.
 *
 * @module
 */

import assert from "node:assert/strict";
import { searchPath } from "../../lib/system/programs.ts";
import { startBuilder } from "./builds.ts";
import { stubProgram } from "./helpers.ts";

/** The ways in which a program fails. `$real` is the program itself; `state` changes when it writes. */
export const FAULTS = {
  "fails at once": "exit 9",
  "fails after half its work": `before=$(state); "$real" "$@" & id=$!
while kill -0 $id && [ "$(state)" = "$before" ]; do :; done 2>/dev/null
kill -KILL $id; exit 9`,
  "fails after its work": '"$real" "$@"; exit 9',
  "kills itself": "kill -KILL $$",
  "hangs until it is stopped": "exec sleep 600",
  "exits 0 without working": "exit 0",
} as const;

export type FaultName = keyof typeof FAULTS;

/** The time of an image that was built before, in milliseconds since 1970. */
export const OLD = Date.UTC(2001, 0, 1);

/** A place for one build: its output, which contains an older and larger image, scratch space, and stand-ins. */
export interface Place {
  readonly output: string;
  readonly scratch: string;
  readonly stubs: string;
  /** Created by a stand-in when it is called. */
  readonly called: string;
}

export async function makePlace(dir: string): Promise<Place> {
  const place = {
    output: `${dir}/image`,
    scratch: `${dir}/scratch`,
    stubs: `${dir}/stubs`,
    called: `${dir}/called`,
  };
  await Deno.mkdir(place.scratch, { recursive: true });
  await Deno.mkdir(place.stubs);
  await Deno.writeFile(place.output, new Uint8Array(100_000).fill(0xee));
  await Deno.utime(place.output, OLD / 1000, OLD / 1000);
  return place;
}

/** Puts a stand-in before a program. For its version, it runs the program. */
export async function addStub(
  { stubs, called, output, scratch }: Place,
  program: string,
  script: string,
): Promise<void> {
  const real = searchPath().split(":").map((dir) => `${dir}/${program}`).find(isFile);
  await stubProgram(
    stubs,
    program,
    `real=${real}
case "$*" in --version|-version|version|-V|--help) exec "$real" "$@" ;; esac
: >${called}
state() { find ${output} ${scratch} -printf '%p %b %T@;'; }
${script}`,
  );
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Starts a builder in that place. */
export function start(
  { output, scratch, stubs }: Place,
  builder: string,
  input: string,
  env: Readonly<Record<string, string>>,
): Promise<Deno.ChildProcess> {
  return startBuilder(builder, {
    args: ["--input", input, "--output", output],
    env: { ...env, TMPDIR: scratch, PATH: `${stubs}:${searchPath()}` },
  });
}

/** Whether the output is as after a failed build: empty, and dated 1970. */
export async function isDiscarded({ output }: Place): Promise<boolean> {
  const { size, mtime } = await Deno.stat(output);
  return size === 0 && mtime?.getTime() === 0;
}

/** Whether the output is still the older image. */
export async function isUntouched({ output }: Place): Promise<boolean> {
  const { size, mtime } = await Deno.stat(output);
  return size === 100_000 && mtime?.getTime() === OLD;
}

/** Checks that no scratch file and no process of the build is left. */
export async function assertNothingLeft(place: Place): Promise<void> {
  assert.deepEqual(await Array.fromAsync(Deno.readDir(place.scratch)), [], "scratch files are left");
  const processes = await waitFor(async () => (await processesOf(place)).length === 0)
    ? []
    : await processesOf(place);
  assert.deepEqual(processes, [], "processes are left");
}

/** The command lines of the processes that have the place's stand-ins on their path. */
async function processesOf({ stubs }: Place): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = await Deno.readTextFile(`/proc/${name}/environ`);
      if (environment.includes(`PATH=${stubs}:`)) {
        found.push(await Deno.readTextFile(`/proc/${name}/cmdline`));
      }
    } catch {
      // It has ended, or is not ours.
    }
  }
  return found.filter(Boolean);
}

/** Waits until `condition` is true, at most ten minutes: machines may be busy. */
export async function waitFor(condition: () => Promise<boolean>): Promise<boolean> {
  for (const end = performance.now() + 600_000; performance.now() < end;) {
    if (await condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return await condition();
}

/** Shows how many cases had which outcome, as the name of a step. */
export async function showOutcomes(t: Deno.TestContext, outcomes: Iterable<string>): Promise<void> {
  const counts = new Map<string, number>();
  for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const parts = [...counts].sort().map(([outcome, count]) => `${count} ${outcome}`);
  await t.step(`${total} cases: ${parts.join(", ")}`, () => {});
}

/** Runs `fn` on all items, two at a time, and returns the results in their order. */
export async function pooled<T, R>(
  items: readonly T[],
  fn: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await fn(items[index]!, index);
    }
  };
  await Promise.all([worker(), worker()]);
  return results;
}
