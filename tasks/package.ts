#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env
/**
 * `deno task package`: writes the package for npm, from which `npx raptor-builders` and `deno run npm:raptor-builders` start
 * the suite without a checkout.
 *
 * Deno takes no TypeScript from npm packages (ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING), so the package has JavaScript.
 * Its command starts Deno, which is a package of npm, too, with the permissions of the builders.
 *
 * @module
 */

import { glob } from "node:fs/promises";
import nodeModule from "node:module";
import { dirname, join, resolve } from "node:path";
import config from "../deno.json" with { type: "json" };
import { readFlags } from "../lib/cli/flags.ts";
import { BuildError, quote } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { COMMAND } from "./command-line.ts";
import { DENO } from "./generate.ts";
import { print, runTask } from "./task.ts";

const HELP = `Write the package for npm: deno task package && npm publish dist

Usage: deno task package [--output DIR]

  --output DIR   where to write it; it must not exist, or be a package that was written before [dist]
  --help         show this text
`;

const ROOT = new URL("..", import.meta.url).pathname;

/** Modules come from where npm put them, whatever the project is in whose directory the command runs. */
const OPTIONS = ["--no-lock", "--no-config", "--node-modules-dir=manual"] as const;

/** What the package has besides the code. */
const FILES = ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "docs/raptor-builders.1"] as const;

/** The types of Node.js that come with Deno do not have it yet: https://nodejs.org/api/module.html */
const { stripTypeScriptTypes } = nodeModule as unknown as {
  stripTypeScriptTypes(code: string, options: { mode: "transform" }): string;
};

/** The JavaScript of a module. Relative specifiers of imports and workers end in `.js`. */
export function toJavaScript(code: string): string {
  return stripTypeScriptTypes(code, { mode: "transform" })
    .replaceAll(/((?:\bfrom|\bimport)\s*\(?|new URL\()\s*"(\.{1,2}\/[^"]+)\.ts"/g, '$1 "$2.js"');
}

/** The command of the package: a script for Node.js, and for Deno's own Node.js. */
async function launcher(): Promise<string> {
  const [line = ""] = (await Deno.readTextFile(`${ROOT}builders/mod.ts`)).split("\n");
  const permissions = line.split(" ").filter((word) => word.startsWith("--allow-"));
  return `#!/usr/bin/env node
// Starts the builders with Deno and the permissions that they need.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Deno itself: a script between would not pass signals on. The package deno unpacks it when it is first asked. */
function findDeno() {
  if (globalThis.Deno) return globalThis.Deno.execPath();
  const script = createRequire(import.meta.url).resolve("deno/bin.cjs");
  const program = join(dirname(script), "deno");
  if (!existsSync(program)) spawnSync(process.execPath, [script, "--version"]);
  return program;
}

const script = fileURLToPath(new URL("../builders/mod.js", import.meta.url));
const args = ${JSON.stringify(["run", "--quiet", "--no-prompt", ...OPTIONS, ...permissions])};
const child = spawn(findDeno(), [...args, script, ...process.argv.slice(2)], {
  stdio: "inherit",
  // Debian's users do not have these directories on their PATH.
  env: { ...process.env, PATH: \`\${process.env.PATH}:/usr/sbin:/sbin\` },
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(\`[E] Cannot start Deno: \${error.message}\`);
  process.exit(1);
});
child.on("exit", (code) => process.exit(code ?? 1));
`;
}

/** \`package.json\`: https://docs.npmjs.com/cli/configuring-npm/package-json */
function manifest(): string {
  const { version, imports } = config;
  const dependencies = Object.entries(imports).map((
    [name, specifier],
  ) => [name, specifier.split("@").at(-1)!]);
  return `${
    JSON.stringify(
      {
        name: COMMAND,
        version,
        description: "Builds disk and partition images from OS trees",
        keywords: ["image", "disk", "uefi", "discoverable-partitions", "raptor"],
        license: "GPL-3.0-or-later",
        type: "module",
        os: ["linux"],
        bin: { [COMMAND]: `bin/${COMMAND}.js` },
        man: ["docs/raptor-builders.1"],
        dependencies: { ...Object.fromEntries(dependencies), deno: DENO },
      },
      null,
      2,
    )
  }\n`;
}

/**
 * Writes the package into a directory.
 *
 * @throws {BuildError} when the directory exists and is not such a package.
 */
export async function writePackage(directory: string): Promise<void> {
  try {
    const found = JSON.parse(await Deno.readTextFile(join(directory, "package.json")));
    if (found.name !== COMMAND) throw new Error("it is another package");
    await Deno.remove(directory, { recursive: true });
  } catch (error) {
    const isFree = await Deno.lstat(directory).then(() => false, () => true);
    if (!isFree) {
      throw new BuildError(`Cannot replace ${quote(directory)}: ${(error as Error).message}`, {
        kind: "usage",
        hint: "Remove it, or name another directory with --output",
      });
    }
  }
  const write = async (path: string, text: string) => {
    await Deno.mkdir(dirname(join(directory, path)), { recursive: true });
    await Deno.writeTextFile(join(directory, path), text);
  };
  for await (const path of glob(["lib/**/*.ts", "builders/**/*.ts"], { cwd: ROOT })) {
    await write(path.replace(/\.ts$/, ".js"), toJavaScript(await Deno.readTextFile(ROOT + path)));
  }
  for (const path of FILES) await write(path, await Deno.readTextFile(ROOT + path));
  await write(`bin/${COMMAND}.js`, await launcher());
  await Deno.chmod(join(directory, `bin/${COMMAND}.js`), 0o755);
  await write("package.json", manifest());
  // From which the code takes its version.
  await write("deno.json", `${JSON.stringify({ version: config.version })}\n`);
}

async function main(): Promise<void> {
  const options = { output: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
  const { values } = readFlags({ args: Deno.args, options });
  if (values.help) return await print(HELP);
  const directory = resolve(Deno.env.get("INIT_CWD") ?? ".", values.output ?? `${ROOT}dist`);
  await writePackage(directory);
  log.step(`Wrote ${directory}, version ${config.version}`);
}

if (import.meta.main) await runTask(main);
