/**
 * Runs a program and measures its cost: wall time by our own clock, CPU time and memory as the kernel
 * accounts them for the program and its children (`wait4`, through GNU time).
 *
 * @module
 */

import { searchPath } from "../../lib/system/programs.ts";

/** The cost of one run. */
export interface Sample {
  /** Seconds from start to end. */
  readonly wall: number;
  /** CPU seconds, user and system. */
  readonly cpu: number;
  /** Peak resident MiB of its largest process. */
  readonly peak: number;
}

/** Seconds after which a program counts as hanging. */
const MOST_SECONDS = 900;

/**
 * @param directory for a small temporary file.
 * @throws with the program's last lines of output when it fails.
 */
export async function measure(command: readonly string[], directory: string): Promise<Sample> {
  const report = `${directory}/cost`;
  const child = new Deno.Command("/usr/bin/time", {
    args: ["--format=%U %S %M", `--output=${report}`, "timeout", String(MOST_SECONDS), ...command],
    env: { LC_ALL: "C.UTF-8", TZ: "UTC", PATH: searchPath() },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const start = performance.now();
  const { success, stdout, stderr } = await child.output();
  const wall = (performance.now() - start) / 1000;
  if (!success) {
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    throw new Error(`${command.join(" ")} failed:\n${said.split("\n").slice(-12).join("\n")}`);
  }
  const [user = 0, system = 0, kilobytes = 0] = (await Deno.readTextFile(report)).trim().split(" ").map(
    Number,
  );
  return { wall: round(wall), cpu: round(user + system), peak: Math.round(kilobytes / 1024) };
}

/** Rounds to milliseconds: more digits are noise. */
function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

/** Seconds from the start of a program to the first line that it logs. */
export async function timeToFirstLine(command: readonly string[]): Promise<number> {
  const [program = "", ...args] = command;
  const start = performance.now();
  const child = new Deno.Command(program, {
    args,
    env: { PATH: searchPath() },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = child.stderr.getReader();
  await reader.read();
  const seconds = (performance.now() - start) / 1000;
  while (!(await reader.read()).done);
  await child.status;
  return round(seconds);
}

/** The median. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * Uses as much memory once as a run needs: pages that the host took back from a virtual machine cost ten times as much when they
 * are touched again, and whoever comes first would pay for all.
 */
export async function touchMemory(bytes: number): Promise<void> {
  const script =
    "const pieces = []; for (let i = 0; i < Number(Deno.args[0]); i++) pieces.push(new Uint8Array(2 ** 20).fill(1));";
  await new Deno.Command(Deno.execPath(), { args: ["eval", script, String(Math.ceil(bytes / 2 ** 20))] })
    .output();
}

/** Flushes pending writes to the disk, so that nobody is slowed down by earlier writes of others. */
export async function writeOut(): Promise<void> {
  await new Deno.Command("sync").output();
}

/**
 * Drops the kernel's caches of everything read from disks.
 *
 * @throws when not root, or in a container that may not do it.
 */
export async function dropCaches(): Promise<void> {
  await Deno.writeTextFile("/proc/sys/vm/drop_caches", "3");
}
