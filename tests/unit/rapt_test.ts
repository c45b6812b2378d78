import assert from "node:assert/strict";
import { glob } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BUILDERS } from "../../builders/mod.ts";
import { tempDir } from "../lab/helpers.ts";
import { commandOf, expand, loadRapt, parseRapt, show } from "../lab/rapt.ts";
import { CASES, INCLUDED } from "../lab/raptor_cases.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** What Raptor takes, and our files do without: COPY of other than one file, modules from where Raptor was started. */
const STRICTER = ["COPY a b /c", "COPY a", "INCLUDE $.inc"];

Deno.test("The interpreter of build files accepts and refuses what Raptor does", () =>
  tempDir(async (dir) => {
    const file = `${dir}/x.rapt`;
    await Deno.writeTextFile(`${dir}/inc.rinc`, INCLUDED);
    for (const [text, printed] of CASES) {
      await Deno.writeTextFile(file, `FROM docker://debian\n${text}\n`);
      const wanted = STRICTER.includes(text) ? null : printed;
      const found = await parseRapt(file).then(expand).then((all) => all.slice(1).map(show), () => null);
      assert.deepEqual(found, wanted, JSON.stringify(text));
    }
  }));

const FILES = ["builders", "examples", "examples/efibootguard", "."].map((dir) => `${ROOT}${dir}`);

Deno.test("All build files of this repository are what Raptor reads", async () => {
  const found: string[] = [];
  for (const dir of FILES) {
    for await (const { name } of Deno.readDir(dir)) {
      if (!/\.(rapt|rinc)$/.test(name)) continue;
      found.push(name);
      await expand(await parseRapt(`${dir}/${name}`));
      if (name.endsWith(".rapt")) await loadRapt(`${dir}/${name}`);
    }
  }
  assert.ok(found.length >= 6, found.join());
});

Deno.test("No two builders are one layer to Raptor", async () => {
  const programs = await Promise.all(Object.keys(BUILDERS).map((name) => loadRapt(`${ROOT}${name}.rapt`)));
  assert.equal(new Set(programs.map(({ hash }) => hash)).size, programs.length);
});

Deno.test("The hash of a layer covers what Raptor's does, and nothing else", () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/a`, "a");
    const hash = async (text: string) => {
      await Deno.writeTextFile(`${dir}/x.rapt`, `FROM docker://debian\n${text}\n`);
      return (await loadRapt(`${dir}/x.rapt`)).hash;
    };
    const before = await hash("COPY a /a\nENV A=b");
    // As with the real one: two builders that differ only here are the same layer.
    const same = 'COPY a /a\nENV A="b"\nMOUNT a /b\nENTRYPOINT x\nCMD y\n# z';
    assert.equal(await hash(same), before);
    assert.notEqual(await hash("COPY a /a\nENV A=c"), before);
    await Deno.writeTextFile(`${dir}/a`, "b");
    assert.notEqual(await hash("COPY a /a\nENV A=b"), before);
  }));

for (const name of Object.keys(BUILDERS)) {
  Deno.test(`${name}.rapt: flags replace what stands in CMD, and the builder stays`, async () => {
    const program = await loadRapt(`${ROOT}${name}.rapt`);
    assert.deepEqual(commandOf(program).slice(-2), [name, "--input=/input"]);
    assert.deepEqual(commandOf(program, ["--free-mb=16"]).slice(-2), [name, "--free-mb=16"]);
  });

  Deno.test(`${name}.rapt: an image is older than a change of any of its files`, async () => {
    const { dated } = await loadRapt(`${ROOT}${name}.rapt`);
    for (
      const file of ["deno.json", "deno.lock", "lib/cli/cli.ts", "builders/suite.rinc", "builders/base.rapt"]
    ) {
      assert.ok(dated.includes(ROOT + file), file);
    }
  });
}

Deno.test("builders/suite.rinc copies the workers, which nothing imports but for their types", async () => {
  const copied = await Deno.readTextFile(new URL("../../builders/suite.rinc", import.meta.url));
  const lib = new URL("../../lib/", import.meta.url).pathname;
  let count = 0;
  for await (const path of glob("**/*.ts", { cwd: lib })) {
    const text = await Deno.readTextFile(lib + path);
    for (const [, worker] of text.matchAll(/new Worker\(new URL\("\.\/([\w.-]+)"/g)) {
      assert(copied.includes(` ../lib/${join(dirname(path), worker!)} `), `${path}: ${worker}`);
      count++;
    }
  }
  assert(count >= 2);
});
