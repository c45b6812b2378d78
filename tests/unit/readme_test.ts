import assert from "node:assert/strict";
import { glob } from "node:fs/promises";
import { BUILDERS } from "../../builders/mod.ts";
import config from "../../deno.json" with { type: "json" };
import { SETTINGS } from "../../lib/plan/settings.ts";
import { namedTests } from "../proofs.ts";
import { renderMarkdown, renderTables, TABLES } from "../../tasks/tables.ts";

const README = new URL("../../README.md", import.meta.url);

/** What the README writes like a setting, but is none: fields of os-release, the unit, tables of the code. */
const OTHER_NAMES = [
  ...["ID", "VERSION_ID", "BUILD_ID", "IMAGE_ID", "IMAGE_VERSION"],
  ...["MB", "SETTINGS", "FORMATS", "FILESYSTEMS", "MAKERS", "BOOTLOADERS", "ARCHITECTURES", "PROGRAMS"],
];

Deno.test("README.md names only variables, tasks and files that exist", async () => {
  const text = await Deno.readTextFile(README);
  const known = new Set<string>([...Object.values(SETTINGS).map(({ env }) => env), ...OTHER_NAMES]);
  for (const [, name] of text.matchAll(/`([A-Z][A-Z\d]*(?:_[A-Z\d]+)*)(?:=[^`]*)?`/g)) {
    assert(known.has(name!), `${name} is not a setting`);
  }
  for (const [, task] of text.matchAll(/deno(?:@[\d.]+)? task (\w+)/g)) {
    assert(task! in config.tasks, `${task} is no task`);
  }
  const root = new URL("../..", import.meta.url).pathname;
  for (const [, path] of text.matchAll(/`((?:lib|builders|tasks|tests|examples)\/[a-z\d./_-]+\.\w+)`/g)) {
    assert((await Deno.stat(`${root}${path}`)).isFile, path);
  }
  for (const name of Object.keys(BUILDERS)) assert(text.includes(`**\`${name}\`**`), name);
});

Deno.test("renderTables() replaces what stands between the marks and nothing else", {
  permissions: "none",
}, () => {
  const marks = Object.keys(TABLES).map((name) =>
    `before\n\n<!-- ${name} -->\nto be replaced\n<!-- /${name} -->\nafter\n`
  );
  const once = renderTables(marks.join(""));
  assert(!once.includes("to be replaced"));
  assert.equal(once.match(/^before$/gm)!.length, marks.length);
  assert.equal(renderTables(once), once);
  assert.equal(renderTables("no marks"), "no marks");
  assert.throws(() => renderTables("<!-- settings -->\n"), /table settings has no end/);
});

Deno.test("renderMarkdown() makes tables as deno fmt wants them", { permissions: "none" }, () => {
  assert.equal(
    renderMarkdown([["A", "Long head"], ["a|b", "x"]]),
    ["| A    | Long head |", "| ---- | --------- |", "| a\\|b | x         |"].join("\n"),
  );
});

/** The names of all tests, as patterns where they are made of something. */
async function testNames(): Promise<RegExp[]> {
  const names: RegExp[] = [];
  const tests = new URL("..", import.meta.url).pathname;
  for await (const path of glob("**/*_test.ts", { cwd: tests })) {
    const text = await Deno.readTextFile(`${tests}${path}`);
    for (const [, , found] of text.matchAll(/\bDeno\.test\(\s*(["`])(.+?)\1,/g)) {
      const parts = found!.split(/\$\{[^}]*\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      names.push(new RegExp(`^${parts.join(".+")}$`));
    }
  }
  return names;
}

Deno.test("the docs prove what works by tests that exist", async () => {
  const [names, named] = await Promise.all([testNames(), namedTests()]);
  assert(named.length > 20);
  for (const { file, test } of named) {
    assert.ok(names.some((name) => name.test(test)), `${file}: there is no test ${test}`);
  }
});
