import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { BUILDERS } from "../builders/mod.ts";
import { SETTINGS } from "../lib/plan/settings.ts";
import { renderMarkdown, renderReadme, TABLES } from "./readme.ts";

const README = new URL("../README.md", import.meta.url);

Deno.test("README.md has the tables of the code (UPDATE_README=1 renders them again)", async () => {
  const text = await Deno.readTextFile(README);
  const rendered = renderReadme(text);
  if (Deno.env.get("UPDATE_README")) return await Deno.writeTextFile(README, rendered);
  const [lines, wanted] = [text, rendered].map((all) => all.split("\n")) as [string[], string[]];
  const line = wanted.findIndex((line, i) => line !== lines[i]);
  assert.equal(lines[line], wanted[line], `line ${line + 1}: render it again with UPDATE_README=1`);
  assert.equal(lines.length, wanted.length);
});

Deno.test("README.md names only variables, tasks and files that exist", async () => {
  const text = await Deno.readTextFile(README);
  const known = new Set<string>(Object.values(SETTINGS).map(({ env }) => env));
  for (const [, name] of text.matchAll(/`([A-Z]+_(?:MB|FORMAT|CMDLINE|SIZE|KEY|CERT))(?:=[^`]*)?`/g)) {
    assert(known.has(name!), `${name} is no setting`);
  }
  for (const [, task] of text.matchAll(/deno(?:@[\d.]+)? task (\w+)/g)) {
    assert(task! in config.tasks, `${task} is no task`);
  }
  const root = new URL("..", import.meta.url).pathname;
  for (const [, path] of text.matchAll(/`((?:lib|builders|tests|examples)\/[a-z\d./_-]+\.\w+)`/g)) {
    assert((await Deno.stat(`${root}${path}`)).isFile, path);
  }
  for (const name of Object.keys(BUILDERS)) assert(text.includes(`**\`${name}\`**`), name);
});

Deno.test(
  "renderReadme() replaces what stands between the marks and nothing else",
  { permissions: "none" },
  () => {
    const marks = Object.keys(TABLES).map((name) =>
      `before\n\n<!-- ${name} -->\nto be replaced\n<!-- /${name} -->\nafter\n`
    );
    const once = renderReadme(marks.join(""));
    assert(!once.includes("to be replaced"));
    assert.equal(once.match(/^before$/gm)!.length, marks.length);
    assert.equal(renderReadme(once), once);
    assert.throws(() => renderReadme("nothing"), /no place for the table of settings/);
  },
);

Deno.test("renderMarkdown() makes tables as deno fmt wants them", { permissions: "none" }, () => {
  assert.equal(
    renderMarkdown([["A", "Long head"], ["a|b", "x"]]),
    ["| A    | Long head |", "| ---- | --------- |", "| a\\|b | x         |"].join("\n"),
  );
});
