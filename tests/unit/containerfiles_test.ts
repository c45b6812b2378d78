import assert from "node:assert/strict";
import { relative } from "node:path";
import { BUILDERS } from "../../builders/mod.ts";
import { CACHE, DEFAULT_INPUT } from "../../lib/cli/cli.ts";
import { copyOf, loadRapt, parseRapt } from "../lab/rapt.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const HOME = "/opt/raptor-builders/";

/** The files of this repository that the container's program imports. */
async function importedFiles(): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", `${ROOT}builders/mod.ts`],
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as { modules: { specifier: string }[] };
  return modules.filter(({ specifier }) => specifier.startsWith("file:"))
    .map(({ specifier }) => relative(ROOT, new URL(specifier).pathname)).sort();
}

/** The permissions in the first line of builders/mod.ts, which the containers have to repeat. */
async function permissions(): Promise<string[]> {
  const [shebang = ""] = (await Deno.readTextFile(`${ROOT}builders/mod.ts`)).split("\n");
  return shebang.split(" ").filter((word) => word.startsWith("--"));
}

const OFFLINE = ["--cached-only", "--no-prompt", "--frozen"];

for (const [name, builder] of Object.entries(BUILDERS)) {
  const file = `${ROOT}${name}.rapt`;

  Deno.test(`${name}.rapt makes each directory before it copies into it`, async () => {
    const made = new Set(["/"]);
    for (const step of (await loadRapt(file)).steps) {
      if (step.instruction === "MKDIR") {
        assert.ok("p" in step.options);
        const parts = step.args[0]!.split("/").slice(1);
        parts.forEach((_, index) => made.add(`/${parts.slice(0, index + 1).join("/")}`));
      } else if (step.instruction === "COPY") {
        const { destination } = copyOf(step);
        assert.ok(made.has(destination.slice(0, destination.lastIndexOf("/"))), destination);
      }
    }
  });

  Deno.test(`${name}.rapt declares its own mounts and command, where Raptor looks for them`, async () => {
    const { mounts, entrypoint, cmd } = await loadRapt(file);
    const required = { optional: false, readonly: false };
    assert.deepEqual(mounts, [
      { ...required, type: "overlay", name: "input", path: DEFAULT_INPUT },
      { ...required, type: "file", name: "output", path: builder.output },
      { ...required, type: "simple", optional: true, name: "cache", path: CACHE },
    ]);
    assert.deepEqual(cmd, [`--input=${DEFAULT_INPUT}`]);
    assert.deepEqual(entrypoint, [
      ...["/usr/bin/env", `DENO_DIR=${HOME}modules`, "deno", "run"],
      ...OFFLINE,
      ...await permissions(),
      `${HOME}builders/mod.ts`,
      name,
    ]);
  });
}

Deno.test("builders/base.rapt and builders/suite.rinc leave to the builders what only counts there", async () => {
  for (const file of ["builders/base.rapt", "builders/suite.rinc"]) {
    const names = (await parseRapt(ROOT + file)).map(({ instruction }) => instruction);
    assert.deepEqual(names.filter((name) => ["MOUNT", "ENTRYPOINT", "CMD"].includes(name)), [], file);
  }
});

Deno.test("Containerfile copies every file that the builders import, and .containerignore lets it", async () => {
  const text = await Deno.readTextFile(`${ROOT}Containerfile`);
  const copied = [...text.matchAll(/^COPY (?!--)(.+) \S+$/gm)].flatMap(([, sources]) => sources!.split(" "));
  const ignore = (await Deno.readTextFile(`${ROOT}.containerignore`)).split("\n");
  assert.ok(ignore.includes("*"));
  assert.deepEqual(ignore.filter((line) => line.startsWith("!")).map((line) => line.slice(1)), copied);
  for (const file of [...await importedFiles(), "deno.lock"]) {
    assert.ok(copied.some((source) => file === source || file.startsWith(`${source}/`)), file);
  }
});

Deno.test("Containerfile runs the builders with exactly the permissions of builders/mod.ts", async () => {
  const text = await Deno.readTextFile(`${ROOT}Containerfile`);
  const entrypoint = JSON.parse(/^ENTRYPOINT (.+)$/m.exec(text)![1]!);
  assert.deepEqual(entrypoint, ["deno", "run", ...OFFLINE, ...await permissions(), `${HOME}builders/mod.ts`]);
});

Deno.test("builders/*.ts have narrow permissions, and never the network", async () => {
  for (
    const file of [
      "builders/mod.ts",
      ...Object.keys(BUILDERS).map((name) => `builders/${name}/build.ts`),
    ]
  ) {
    const [shebang = ""] = (await Deno.readTextFile(ROOT + file)).split("\n");
    assert.match(shebang, /^#!\/usr\/bin\/env -S deno run --allow/);
    assert.doesNotMatch(shebang, / -A|--allow-all|--allow-net|--allow-run( |$)|--allow-sys/, file);
    assert.deepEqual(shebang.split(" ").filter((word) => word.startsWith("--")), await permissions(), file);
  }
});
