import assert from "node:assert/strict";
import { relative } from "node:path";
import { BUILDERS } from "../builders/mod.ts";
import { CACHE, DEFAULT_INPUT } from "../lib/cli/cli.ts";
import { packagesFor } from "../lib/system/packages.ts";
import { copyOf, loadRapt, parseRapt } from "./rapt.ts";

const ROOT = new URL("..", import.meta.url).pathname;
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

/** The packages of every "apt-get install" in a text. */
function installed(text: string): string[] {
  return [
    ...text.replaceAll("\\\n", " ").matchAll(/apt-get install -y --no-install-recommends +([a-z0-9 +.-]+)/g),
  ]
    .flatMap(([, packages]) => packages!.trim().split(/ +/)).sort();
}

for (const [name, builder] of Object.entries(BUILDERS)) {
  const file = `${ROOT}${name}.rapt`;

  Deno.test(`${name}.rapt copies every file that the builder imports, and no other`, async () => {
    const program = await loadRapt(file);
    const copies = program.steps.filter(({ instruction }) => instruction === "COPY").map(copyOf);
    const wanted = [...new Set([...await importedFiles(), "deno.json", "deno.lock"])].sort();
    assert.deepEqual([...new Set(copies.map(({ source }) => relative(ROOT, source)))].sort(), wanted);
    for (const { source, destination, mode } of copies) {
      assert.equal(destination, HOME + relative(ROOT, source));
      assert.equal(mode, 0o644, `${destination} is not to be read by another user`);
    }
  });

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

Deno.test("builders/base.rapt installs what setup installs", async () => {
  const text = await Deno.readTextFile(`${ROOT}builders/base.rapt`);
  assert.deepEqual(installed(text), packagesFor("build"));
});

Deno.test("builders/base.rapt and builders/suite.rinc leave to the builders what only counts there", async () => {
  for (const file of ["builders/base.rapt", "builders/suite.rinc"]) {
    const names = (await parseRapt(ROOT + file)).map(({ instruction }) => instruction);
    assert.deepEqual(names.filter((name) => ["MOUNT", "ENTRYPOINT", "CMD"].includes(name)), [], file);
  }
});

Deno.test("Containerfile installs what setup installs", async () => {
  assert.deepEqual(installed(await Deno.readTextFile(`${ROOT}Containerfile`)), packagesFor("build"));
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

Deno.test("The containers have the version of Deno that this is tested with", async () => {
  for (const file of ["Containerfile", "builders/base.rapt"]) {
    const [, version] = /denoland\/deno:\w+-([\d.]+)/.exec(await Deno.readTextFile(ROOT + file))!;
    assert.equal(version, Deno.version.deno, file);
  }
});
