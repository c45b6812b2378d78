/**
 * The storeys of lib/: a file imports from its own folder and from those above it, never from below.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname, relative } from "node:path";
import { $ } from "../../lib/system/sh.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** From the top down. */
const STOREYS = [
  ...["core", "system", "tree", "efi", "image", "filesystem", "boot", "plan", "make", "cli"],
].map((name) => `lib/${name}`);

/** Parts of a folder that only these of their files show to others. */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  "lib/filesystem/ext4": ["copy-helper", "make", "plan", "verify", "layout"],
  "lib/filesystem/fat": ["make", "entries", "geometry", "verify", "directory"],
  "lib/image/qcow2": ["clusters", "compress", "wrap", "header"],
};

interface Module {
  readonly file: string;
  /** Files of this repository and other modules, with whether more than their types are used. */
  readonly imports: readonly {
    readonly name: string;
    readonly isCode: boolean;
    /** Loaded only when it is used. */
    readonly isDynamic: boolean;
  }[];
}

/** All modules that the builders and the worker consist of. */
async function readModules(): Promise<Module[]> {
  const modules = new Map<string, Module>();
  for (const entry of ["builders/mod.ts", "lib/image/worker.ts", "lib/filesystem/ext4/copy-worker.ts"]) {
    const info = await $`${Deno.execPath()} info --json ${ROOT}${entry}`.env(Deno.env.toObject()).quiet()
      .json();
    for (const { specifier, dependencies = [] } of info.modules as InfoModule[]) {
      const file = nameOf(specifier);
      if (!file.endsWith(".ts")) continue;
      const imports = dependencies.flatMap(({ code, type, isDynamic = false }) => {
        const found = code?.specifier ?? type?.specifier;
        return found === undefined ? [] : [{ name: nameOf(found), isCode: code !== undefined, isDynamic }];
      });
      modules.set(file, { file, imports });
    }
  }
  return [...modules.values()];
}

interface InfoModule {
  readonly specifier: string;
  readonly dependencies?: readonly {
    readonly code?: { specifier?: string };
    readonly type?: { specifier?: string };
    readonly isDynamic?: boolean;
  }[];
}

function nameOf(specifier: string): string {
  return specifier.startsWith("file:") ? relative(ROOT, new URL(specifier).pathname) : specifier;
}

const modules = await readModules();
const storeyOf = (file: string) => STOREYS.findIndex((storey) => file.startsWith(`${storey}/`));

Deno.test("a file of lib/ imports from its own folder and those above it", () => {
  const wrong = modules.flatMap(({ file, imports }) =>
    imports.filter(({ name }) => storeyOf(file) >= 0 && name.startsWith("lib/"))
      .filter(({ name }) => storeyOf(name) < 0 || storeyOf(name) > storeyOf(file))
      .map(({ name }) => `${file} -> ${name}`)
  );
  assert.deepEqual(wrong, []);
});

Deno.test("a file of lib/ lies in one of the storeys", () => {
  const strays = modules.map(({ file }) => file).filter((file) =>
    file.startsWith("lib/") && storeyOf(file) < 0
  );
  assert.deepEqual(strays, []);
  assert.ok(modules.length > 90, `${modules.length} modules`);
});

Deno.test("private parts are imported through their doors", () => {
  const wrong = modules.flatMap(({ file, imports }) =>
    imports.flatMap(({ name }) => {
      const folder = Object.keys(DOORS).find((folder) => name.startsWith(`${folder}/`));
      if (!folder || file.startsWith(`${folder}/`)) return [];
      return DOORS[folder]!.some((door) => name === `${folder}/${door}.ts`) ? [] : [`${file} -> ${name}`];
    })
  );
  assert.deepEqual(wrong, []);
});

Deno.test("only system/sh.ts imports dax", () => {
  const importers = modules.filter(({ imports }) => imports.some(({ name }) => name.includes("dax")));
  assert.deepEqual(importers.map(({ file }) => file), ["lib/system/sh.ts"]);
});

Deno.test("no imports go in a circle, not even those of types", () => {
  const imported = new Map(modules.map(({ file, imports }) => [file, imports.map(({ name }) => name)]));
  const reaches = (from: string, seen: Set<string>): Set<string> => {
    for (const name of imported.get(from) ?? []) if (!seen.has(name)) reaches(name, seen.add(name));
    return seen;
  };
  assert.deepEqual(modules.map(({ file }) => file).filter((file) => reaches(file, new Set()).has(file)), []);
});

Deno.test("settings and plan load neither dax nor FFI", () => {
  const loaded = loadedBy("lib/plan/settings.ts", "lib/plan/plan.ts", "lib/plan/describe.ts");
  assert.deepEqual(loaded.filter((name) => dirname(name) === "lib/system" || name.includes("dax")), []);
});

Deno.test("what takes long to load waits until it is used", () => {
  const loaded = loadedBy("builders/mod.ts", "builders/disk-image/build.ts");
  assert.ok(loaded.includes("lib/system/sh.ts"), "the builders load what starts programs");
  const slow = ["npm:dax@", "node:crypto", "node:fs", "node:zlib"];
  assert.deepEqual(loaded.filter((name) => slow.some((one) => name.startsWith(one))), []);
  const all = modules.flatMap(({ imports }) => imports.map(({ name }) => name));
  assert.ok(all.some((name) => name.startsWith("npm:dax@")), "dax is fetched with the rest");
  // By its name, it would be compiled in each run.
  assert.match(import.meta.resolve("dax"), /^file:.*\/dax\/0\..*\.js$/);
});

/** The modules that run before the first line of these files does. */
function loadedBy(...files: string[]): string[] {
  const byFile = new Map(modules.map((module) => [module.file, module]));
  const loaded = new Set<string>();
  const load = (file: string) => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const { name, isCode, isDynamic } of byFile.get(file)?.imports ?? []) {
      if (isCode && !isDynamic) load(name);
    }
  };
  files.forEach(load);
  return [...loaded];
}

/** What stands in the source of every file but these. */
async function filesWith(pattern: RegExp): Promise<string[]> {
  const found: string[] = [];
  for (const { file } of modules) {
    const text = await Deno.readTextFile(ROOT + file);
    // Not what comments say of it.
    if (pattern.test(text.replaceAll(/^\s*(\/\/|\/?\*).*$/gm, ""))) found.push(file);
  }
  return found.sort();
}

Deno.test("FFI is used in two files of system/ alone, and programs are started in system/", async () => {
  assert.deepEqual(await filesWith(/Deno\.(dlopen|Unsafe)/), [
    "lib/system/posix.ts",
    "lib/system/selinux.ts",
  ]);
  assert.deepEqual(await filesWith(/Deno\.Command\(/), ["lib/system/guard.ts", "lib/system/process.ts"]);
});
