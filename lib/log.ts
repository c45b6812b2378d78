/**
 * Lines on stderr, in the voice of the original builder: `[*] step`, `[|] detail`, `[W]`, `[E]`.
 * stdout is only for what was asked for (`--help`, `--dry-run`, `--json`).
 *
 * @module
 */

import { styleText } from "node:util";

const encoder = new TextEncoder();

type Style = Parameters<typeof styleText>[0];

/** Whether a person watches: decides colours and the progress bar, nothing else. */
export function isInteractive(): boolean {
  return Deno.stderr.isTerminal();
}

/** A line that is drawn again and again below the log, such as a progress bar; empty when there is none. */
let status = "";

function put(text: string): void {
  // One write per call: lines of children that run at the same time never mix within a line.
  const bytes = encoder.encode(text);
  for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
}

function write(mark: string, style: Style, text: string): void {
  const color = isInteractive() && !Deno.env.get("NO_COLOR");
  const head = color ? styleText(style, `[${mark}]`, { validateStream: false }) : `[${mark}]`;
  const lines = text.split("\n").map((line) => `${head} ${line}\n`).join("");
  put(status ? `\r\x1b[K${lines}${status}` : lines);
}

/** Shows a status line below the log, or with an empty text takes it away. Only on a terminal. */
export function setStatus(text: string): void {
  if (!isInteractive() || text === status) return;
  // A line that wraps could not be drawn over.
  status = text.slice(0, Deno.consoleSize().columns - 1);
  put(`\r\x1b[K${status}`);
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
