/**
 * Lines on stderr, in the voice of the original builder: `[*] step`, `[|] detail`, `[W]`, `[E]`.
 * stdout is only for what was asked for (`--help`, `--dry-run`, `--json`).
 *
 * @module
 */

import { styleText } from "node:util";

const encoder = new TextEncoder();

/** Whether a person watches: decides colours and the progress bar, nothing else. */
export function isInteractive(): boolean {
  return Deno.stderr.isTerminal();
}

function write(mark: string, style: Parameters<typeof styleText>[0], text: string): void {
  const color = isInteractive() && !Deno.env.get("NO_COLOR");
  const head = color ? styleText(style, `[${mark}]`, { validateStream: false }) : `[${mark}]`;
  // One write per call: lines of children that run at the same time never mix within a line.
  const bytes = encoder.encode(text.split("\n").map((line) => `${head} ${line}\n`).join(""));
  for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
}

/** A step of the build: what is happening now. */
export function step(text: string): void {
  write("*", ["bold", "green"], text);
}

/** A detail of the step: a command, a size, a choice and its reason. */
export function detail(text: string): void {
  write("|", "gray", text);
}

/** Something a person should know though the build goes on. */
export function warn(text: string): void {
  write("W", ["bold", "yellow"], text);
}

/** Why the build failed, and what to do. */
export function fail(text: string): void {
  write("E", ["bold", "red"], text);
}
