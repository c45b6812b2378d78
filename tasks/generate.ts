#!/usr/bin/env -S deno run --allow-read --allow-write --allow-run=deno
/**
 * `deno task generate`: writes what must be repeated, from the one place that knows it. `--check` writes
 * nothing and names what is stale.
 *
 * @module
 */

import { dirname, relative } from "node:path";
import config from "../deno.json" with { type: "json" };
import { readFlags } from "../lib/cli/flags.ts";
import { BuildError } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { packagesFor, startedPrograms } from "../lib/system/programs.ts";
import { $ } from "../lib/system/sh.ts";
import { bashCompletion, fishCompletion, manPage, settingsSchema, zshCompletion } from "./command-line.ts";
import { renderTables } from "./tables.ts";
import { print, runTask } from "./task.ts";

const HELP = `Write what follows from the code: permissions, lists, tables, completion, the man page

Usage: deno task generate [--check]

  --check   write nothing, and fail when something is stale
`;

const ROOT = new URL("..", import.meta.url).pathname;

/** The Deno that everything is made and tested with. */
const DENO = "2.9.6";

/** Where the containers have the suite. */
const HOME = "/opt/raptor-builders";

/** Renders a file again from its old text. */
type Render = (text: string) => string | Promise<string>;

/** The files, and what of them follows from the code. */
const FILES: Readonly<Record<string, readonly Render[]>> = {
  "builders/mod.ts": [permissions],
  "builders/disk-image/build.ts": [permissions],
  "builders/part-image/build.ts": [permissions],
  "deno.json": [permissions],
  "disk-image.rapt": [permissions],
  "part-image.rapt": [permissions],
  "Containerfile": [permissions, packages, deno, version],
  "builders/base.rapt": [packages, deno],
  "builders/suite.rinc": [sources],
  ".ci/run": [deno],
  "README.md": [renderTables, deno],
  ...Object.fromEntries(
    ["boot", "contents", "findings", "formats", "requirements", "settings", "speed"]
      .map((name) => [`docs/${name}.md`, [renderTables]]),
  ),
  "docs/command-line.md": [deno],
  "CONTRIBUTING.md": [deno],
  "completions/raptor-builders.bash": [bashCompletion],
  "completions/raptor-builders.fish": [fishCompletion],
  "completions/_raptor-builders": [zshCompletion],
  "docs/raptor-builders.1": [manPage],
  "docs/settings.schema.json": [settingsSchema],
};

/** The programs that the builders may start. */
function permissions(text: string): string {
  return text.replaceAll(/--allow-run=[^\s"]+/g, `--allow-run=${startedPrograms().join(",")}`);
}

/** The packages that the builders need, in the one `apt-get install` of a container. */
function packages(text: string): string {
  const names = packagesFor("build").map(({ names }) => names[0]!);
  return text.replace(
    /(apt-get install -y --no-install-recommends)((?:[ \\\n]+[a-z0-9][a-z0-9.+-]*)+)/,
    (_, command, old) => command + (old.includes("\n") ? ` \\\n${wrap(names)}` : ` ${names.join(" ")}`),
  );
}

/** Words in lines of a shell command that goes on. */
function wrap(words: readonly string[]): string {
  const lines = [""];
  for (const word of words) {
    if (lines.at(-1)!.length + word.length > 90) lines.push("");
    lines.push(`${lines.pop()!} ${word}`.trim());
  }
  return lines.map((line) => `      ${line}`).join(" \\\n");
}

/** The pinned version of Deno. */
function deno(text: string): string {
  return text.replaceAll(
    /(deno@|deno:bin-|deno:debian-|-deno-debian-|This is not Deno )\d+\.\d+\.\d+/g,
    `$1${DENO}`,
  )
    .replaceAll(/\^deno \d+\[\.\]\d+\[\.\]\d+ /g, `^deno ${DENO.replaceAll(".", "[.]")} `);
}

/** The version of the suite. */
function version(text: string): string {
  return text.replace(/(org\.opencontainers\.image\.version=")[^"]*"/, `$1${config.version}"`);
}

/** The files that the builders consist of: Raptor copies one at a time. */
async function sources(): Promise<string> {
  const { modules } = await $`${Deno.execPath()} info --json ${ROOT}builders/mod.ts`.env(Deno.env.toObject())
    .quiet().json();
  const files = (modules as { specifier: string }[]).map(({ specifier }) => specifier)
    .filter((specifier) => /^file:.*\.ts$/.test(specifier))
    .map((specifier) => relative(ROOT, new URL(specifier).pathname)).sort();
  const folders = [...new Set(files.map((file) => file.slice(0, file.lastIndexOf("/"))))].sort();
  const copy = (from: string, to: string) => `COPY --chmod 0644 ${from} ${HOME}/${to}`;
  return [
    '# The code of the suite: every file that builders/mod.ts imports. Written by "deno task generate".',
    ...folders.map((folder) => `MKDIR -p ${HOME}/${folder}`),
    "# Once more, though the base layer has them: Raptor dates an image by the files of this layer alone.",
    ...["deno.json", "deno.lock"].map((file) => copy(`../${file}`, file)),
    ...files.map((file) => copy(relative("builders", file), file)),
    "",
  ].join("\n");
}

/** The text of a file; none where all of it is generated, and was not yet. */
async function readIfThere(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** Renders all files. @returns those that were stale. */
async function generate(write: boolean): Promise<string[]> {
  const stale: string[] = [];
  for (const [file, renders] of Object.entries(FILES)) {
    const old = await readIfThere(ROOT + file);
    let text = old;
    for (const render of renders) text = await render(text);
    if (text === old) continue;
    stale.push(file);
    if (!write) continue;
    await Deno.mkdir(dirname(ROOT + file), { recursive: true });
    await Deno.writeTextFile(ROOT + file, text);
  }
  return stale;
}

async function main(): Promise<void> {
  const { values } = readFlags({
    args: Deno.args,
    options: { check: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) return await print(HELP);
  const stale = await generate(!values.check);
  if (values.check && stale.length) {
    throw new BuildError(`${stale.join(", ")}: not what the code says`, {
      hint: 'Run "deno task generate", and commit what it writes',
    });
  }
  for (const file of stale) log.step(`Wrote ${file}`);
}

if (import.meta.main) await runTask(main);
