import assert from "node:assert/strict";
import { consoleSteps, docBlocks, outputPattern } from "../lab/doc_blocks.ts";

Deno.test("docBlocks() finds the commands of the docs, and why some are not run", async () => {
  const blocks = await docBlocks();
  assert(blocks.filter(({ notRun }) => notRun === undefined).length > 12);
  for (const { page, text, notRun } of blocks) assert(notRun !== "", `${page}: ${text}`);
  assert(
    blocks.some(({ page, containerfile }) => page === "README.md" && containerfile?.startsWith("FROM ")),
  );
});

Deno.test("consoleSteps() and outputPattern() compare what a command prints with what is shown", () => {
  assert.deepEqual(consoleSteps("$ a b\none\ntwo\n$ c\n"), [
    { command: "a b", output: "one\ntwo" },
    { command: "c", output: "" },
  ]);
  const matches = (shown: string, printed: string) => outputPattern(shown).test(printed);
  assert(matches("a (1.5)", "a (1.5)\n"));
  assert(!matches("a (1.5)", "a (1x5)\n"));
  assert(!matches("a", "a\nb\n"));
  assert(matches("set … or more", "set 756 or more\n"));
  assert(!matches("set … or more", "set 756\nor more\n"));
  assert(matches("a\n…\nz", "a\nb\nc\nz\n"));
  assert(!matches("a\n…\nz", "a\nb\nc\n"));
});
