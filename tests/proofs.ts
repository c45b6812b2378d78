/**
 * After the tests: whether what the docs say works was tried just now. A table's row that begins with ✅ names its test
 * in the last cell. `REPORT` (JUnit) as argument.
 *
 * @module
 */

import { glob } from "node:fs/promises";
import { BuildError } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { runTask } from "../tasks/task.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** The tests that the docs name, each as `FILE: NAME`. */
export async function namedTests(): Promise<{ file: string; test: string }[]> {
  const found: { file: string; test: string }[] = [];
  for await (const file of glob(["README.md", "docs/*.md"], { cwd: ROOT })) {
    const rows = (await Deno.readTextFile(ROOT + file)).split("\n").filter((line) => line.startsWith("| ✅"));
    found.push(...rows.map((row) => ({ file, test: row.split("|").at(-2)!.trim() })));
  }
  return found;
}

/** The tests of a JUnit report by what became of them. */
function outcomes(report: string): { passed: Set<string>; skipped: Set<string> } {
  const passed = new Set<string>(), skipped = new Set<string>();
  const cases = report.matchAll(/<testcase name="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g);
  for (const [, name = "", content = ""] of cases) {
    if (/<(failure|error)/.test(content)) continue;
    (content.includes("<skipped") ? skipped : passed).add(unescape(name));
  }
  return { passed, skipped };
}

function unescape(text: string): string {
  const names: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(/&(\w+);/g, (whole, name) => names[name] ?? whole);
}

async function main(): Promise<void> {
  const { passed, skipped } = outcomes(await Deno.readTextFile(Deno.args[0]!));
  for (const { file, test } of await namedTests()) {
    if (passed.has(test)) continue;
    if (!skipped.has(test)) {
      throw new BuildError(`${file}: not proved, for lack of a test that passed: ${test}`);
    }
    log.warn(`${file}: not tried on this machine: ${test}`);
  }
}

if (import.meta.main) await runTask(main);
