/**
 * What the tests share: checks for tools, scratch directories, stand-ins for programs, checksums.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { cpuUsage } from "node:process";
import { isInstalled } from "../../lib/system/programs.ts";
import { $ } from "../../lib/system/sh.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** Nothing is skipped in CI: a missing tool must fail loudly. */
const CI = Boolean(Deno.env.get("CI"));

/** Arguments of strace with which these system calls of a program and its children fail; the program follows. */
export function failingCalls(calls: string, errno: string): string[] {
  return ["-f", "-qqq", "-o", "/dev/null", "-e", `trace=${calls}`, "-e", `inject=${calls}:error=${errno}`];
}

/** For `ignore:` of a test: whether one of the programs (or files, by absolute path) is missing. Never in CI. */
export function missing(...programs: string[]): boolean {
  return !CI && !programs.every(isInstalled);
}

/** For `ignore:` of a test that needs root: whether it would run without. Never in CI. */
export function unprivileged(): boolean {
  return !CI && Deno.uid() !== 0;
}

/**
 * Gives `fn` its own directory and removes it afterwards. It is in `TMPDIR` or `/var/tmp`, because
 * images are large and `/tmp` is often kept in memory.
 */
export async function tempDir<T>(fn: (dir: string) => T | Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir({ dir: Deno.env.get("TMPDIR") ?? "/var/tmp", prefix: "raptor-test-" });
  try {
    return await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Runs a program without logging anything, and returns its stdout. */
export function quiet(...line: Parameters<typeof $>): Promise<string> {
  return $(...line).quiet().text();
}

/** Copies what git knows into a directory: the checkout of a stranger, without any state of this one. */
export async function copyCheckout(to: string): Promise<void> {
  const list =
    await quiet`git -C ${ROOT} -c safe.directory=${"*"} ls-files --cached --others --exclude-standard`;
  for (const file of list.trimEnd().split("\n")) {
    await Deno.mkdir(dirname(`${to}/${file}`), { recursive: true });
    await Deno.copyFile(ROOT + file, `${to}/${file}`);
  }
}

/** Writes a program for a test to put on `PATH`, e.g. `mke2fs` as `exit 3`. A text without `#!` is for `/bin/sh`. */
export async function stubProgram(dir: string, name: string, script: string): Promise<string> {
  const path = `${dir}/${name}`;
  await Deno.writeTextFile(path, script.startsWith("#!") ? script : `#!/bin/sh\n${script}\n`);
  // The umask removes bits from writeTextFile's own mode.
  await Deno.chmod(path, 0o755);
  return path;
}

/** The SHA-256 of a file of any size, in hex. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  return hash.digest("hex");
}

const CONFIG = `${ROOT}deno.json`;

/**
 * Runs a script in its own process, for things that would disturb other tests: signals, environment,
 * output. In it `module` of lib/ is imported as `lib`.
 */
export async function evaluate(
  module: string,
  script: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const url = new URL(`../../lib/${module}`, import.meta.url).href;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--config", CONFIG, `import * as lib from "${url}"; ${script}`],
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: decode(stdout), stderr: decode(stderr) };
}

/**
 * How much more CPU time `fn` takes for four times as many of something: 4 if linear, 16 if quadratic.
 * Wall-clock time depends on what else the machine does. Less than 20 ms counts as 20 ms.
 */
export function growth(count: number, fn: (count: number) => void): number {
  const cost = (count: number) => {
    const before = cpuUsage();
    fn(count);
    return Math.max(20_000, cpuUsage(before).user);
  };
  // The first run includes compiling.
  cost(count);
  return cost(4 * count) / cost(count);
}
