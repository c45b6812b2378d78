#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-sys=uid
/**
 * `deno task install`: puts the command `raptor-builders` on the PATH, with completion and a man page.
 *
 * `deno install --global` would copy deno.json and all modules beside its command, where they go stale, and its command
 * needs a `deno` on the PATH, which npx users do not have. This one runs the checkout where it is.
 *
 * @module
 */

import { dirname, join, resolve } from "node:path";
import type { ParseArgsConfig } from "node:util";
import { readFlags } from "../lib/cli/flags.ts";
import { BuildError, quote } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { COMMAND } from "./command-line.ts";
import { print, runTask } from "./task.ts";

const ROOT = new URL("..", import.meta.url).pathname;

const OPTIONS = {
  prefix: { type: "string" },
  uninstall: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const satisfies ParseArgsConfig["options"];

const HELP = `Put the command ${COMMAND} on the PATH, with completion for bash, zsh and fish, and a man page

Usage: deno task install [--prefix DIR] [--uninstall]

  --prefix DIR   install into DIR/bin and DIR/share [DENO_INSTALL_ROOT, or /usr/local for root, or ~/.local]
  --uninstall    remove what was installed there
  --help         show this text
`;

/** Symlinks into the checkout, by path below the prefix. */
const LINKS = {
  [`share/man/man1/${COMMAND}.1`]: `docs/${COMMAND}.1`,
  [`share/bash-completion/completions/${COMMAND}`]: `completions/${COMMAND}.bash`,
  [`share/zsh/site-functions/_${COMMAND}`]: `completions/_${COMMAND}`,
  [`share/fish/vendor_completions.d/${COMMAND}.fish`]: `completions/${COMMAND}.fish`,
};

/** This line identifies the command as ours. */
const MARK = '# Written by "deno task install" of raptor-builders.';

/** The command: a script that starts Deno with the permissions of the builders. */
async function launcher(): Promise<string> {
  const script = join(ROOT, "builders/mod.ts");
  const [line = ""] = (await Deno.readTextFile(script)).split("\n");
  const permissions = line.split(" ").filter((word) => word.startsWith("--")).join(" ");
  return `#!/bin/sh
${MARK}
script=${shellWord(script)}
deno=${shellWord(Deno.execPath())}
known=$deno
[ -x "$deno" ] || deno=$(command -v deno) || {
  echo "[E] Cannot find Deno: it was $known" >&2
  echo "[E] Install Deno, or run its task \\"install\\" in the checkout again" >&2
  exit 1
}
[ -r "$script" ] || {
  echo "[E] Cannot read $script: the checkout of ${COMMAND} was there" >&2
  echo "[E] Run \\"deno task install\\" where it is now, or where all users may read it" >&2
  exit 1
}
# Deno looks the programs up when it starts, and Debian's users do not have these directories on their PATH.
PATH=$PATH:/usr/sbin:/sbin
export PATH
exec "$deno" run --quiet --no-prompt --frozen ${permissions} "$script" "$@"
`;
}

function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Whether a path is free, or was created by an earlier installation. */
async function isOurs(path: string): Promise<boolean> {
  try {
    const { isSymlink, isFile } = await Deno.lstat(path);
    if (isFile) return (await Deno.readTextFile(path)).includes(MARK);
    const target = isSymlink ? await Deno.readLink(path) : "";
    return Object.values(LINKS).some((file) => target.endsWith(`/${file}`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}

async function removeIfThere(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/** The paths to install to. @throws {BuildError} when something else is there. */
async function pathsBelow(
  prefix: string,
): Promise<{ command: string; links: [link: string, file: string][] }> {
  const command = join(prefix, "bin", COMMAND);
  const links = Object.entries(LINKS).map((
    [link, file],
  ): [string, string] => [join(prefix, link), join(ROOT, file)]);
  for (const path of [command, ...links.map(([link]) => link)]) {
    if (await isOurs(path)) continue;
    throw new BuildError(`Cannot replace ${quote(path)}: it is not of this suite`, {
      hint: "Remove it, or name another directory with --prefix",
    });
  }
  return { command, links };
}

/** Installs the command and its files below a directory. */
export async function install(prefix: string): Promise<void> {
  const { command, links } = await pathsBelow(prefix);
  try {
    await Deno.mkdir(dirname(command), { recursive: true });
    await removeIfThere(command);
    await Deno.writeTextFile(command, await launcher());
    // The umask removes bits from writeTextFile's own mode.
    await Deno.chmod(command, 0o755);
    for (const [link, file] of links) {
      await Deno.mkdir(dirname(link), { recursive: true });
      await removeIfThere(link);
      await Deno.symlink(file, link);
    }
  } catch (cause) {
    if (!(cause instanceof Deno.errors.PermissionDenied)) throw cause;
    throw new BuildError(`Cannot install below ${quote(prefix)}: ${cause.message}`, {
      hint: "Run it as root, or name a directory of yours with --prefix",
      cause,
    });
  }
  log.step(`Installed ${command}, completion, and a man page`);
  if (!(Deno.env.get("PATH") ?? "").split(":").includes(dirname(command))) {
    log.warn(`${dirname(command)} is not on your PATH`);
    log.warn(`Add this to your shell's profile: export PATH="$PATH:${dirname(command)}"`);
  }
}

/** Removes what {@link install} made. */
export async function uninstall(prefix: string): Promise<void> {
  const { command, links } = await pathsBelow(prefix);
  for (const path of [command, ...links.map(([link]) => link)]) await removeIfThere(path);
  log.step(`Removed ${command}, and what belonged to it`);
}

async function main(): Promise<void> {
  const { values } = readFlags({ args: Deno.args, options: OPTIONS });
  if (values.help) return await print(HELP);
  const home = Deno.env.get("HOME") ?? "/";
  const usual = Deno.env.get("DENO_INSTALL_ROOT") || (Deno.uid() === 0 ? "/usr/local" : join(home, ".local"));
  // A task starts in the folder of deno.json, wherever it was run.
  const prefix = resolve(Deno.env.get("INIT_CWD") ?? ".", values.prefix ?? usual);
  await (values.uninstall ? uninstall : install)(prefix);
}

if (import.meta.main) await runTask(main);
