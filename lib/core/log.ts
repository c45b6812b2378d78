/**
 * The log: lines on stderr, in the style of the original builder: `[*] step`, `[|] detail`, `[W]`, `[E]`. Command lines
 * and the output of programs are traces: shown on stderr only with `--verbose`, but always part of JSON and transcript.
 * stdout is only for requested output (`--help`, `--dry-run`, `--json`). For programs that read the log, each line is a
 * JSON object (`--log=json`).
 *
 * @module
 */

import { styleText } from "node:util";

const encoder = new TextEncoder();

type Style = Parameters<typeof styleText>[0];

/** How the log is written. */
export const LOG_FORMATS = ["text", "json"] as const;

type LogFormat = (typeof LOG_FORMATS)[number];

/** The fields of a JSON line besides `level` and `message`, e.g. `{ step: "root", bytes: 4096, seconds: 0.1 }`. */
export type Fields = Readonly<Record<string, unknown>>;

let format: LogFormat = "text";
let verbose = false;

/** Sets the format of all following lines. */
export function setLogFormat(wanted: LogFormat): void {
  format = wanted;
}

/** Sets whether to show traces from now on. */
export function setVerbose(wanted: boolean): void {
  verbose = wanted;
}

/** Whether a program reads the log. If so, it also gets figures that are slow to compute, such as checksums. */
export function isJson(): boolean {
  return format === "json";
}

/** Whether a person is watching. This decides on colours and the progress bar, nothing else. */
export function isInteractive(): boolean {
  return format === "text" && Deno.stderr.isTerminal();
}

/** Everything logged since the last {@link startTranscript}. */
let transcript = { text: "", hasWarnings: false };

/** Starts recording the log, for when stderr itself is not kept. */
export function startTranscript(): void {
  transcript = { text: "", hasWarnings: false };
}

/** The lines logged so far, without colours, and whether any is a warning. */
export function readTranscript(): { readonly text: string; readonly hasWarnings: boolean } {
  return transcript;
}

/** The line that is redrawn below the log, such as a progress bar; empty if there is none. */
let status = "";

function put(text: string): void {
  // One write per call: output of child processes must not end up within our lines.
  const bytes = encoder.encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
  } catch (error) {
    // Nobody reads the log any more: no reason to lose the image.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** The log levels, each with its mark and style in text format. */
const LEVELS = {
  step: { mark: "*", style: ["bold", "green"] },
  detail: { mark: "|", style: "gray" },
  trace: { mark: "|", style: "gray" },
  warning: { mark: "W", style: ["bold", "yellow"] },
  error: { mark: "E", style: ["bold", "red"] },
} as const satisfies Record<string, { mark: string; style: Style }>;

function write(level: keyof typeof LEVELS, message: string, fields: Fields = {}): void {
  transcript.hasWarnings ||= level === "warning";
  if (format === "json") {
    const line = `${JSON.stringify({ level, message, ...fields })}\n`;
    transcript.text += line;
    return put(line);
  }
  const { mark, style } = LEVELS[level];
  // File names from the tree end up in messages of programs. They must not control the terminal.
  message = message.replace(
    // deno-lint-ignore no-control-regex
    /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  const lines = message.split("\n").filter((line) => line.trim() !== "");
  transcript.text += lines.map((line) => `[${mark}] ${line}\n`).join("");
  if (level === "trace" && !verbose || lines.length === 0) return;
  const color = isInteractive() && !Deno.env.get("NO_COLOR");
  const head = color ? styleText(style, `[${mark}]`, { validateStream: false }) : `[${mark}]`;
  const text = lines.map((line) => `${head} ${line}\n`).join("");
  put(status ? `\r\x1b[K${text}${status}` : text);
}

/** Shows a status line below the log; an empty text removes it. Does nothing unless stderr is a terminal. */
export function setStatus(text: string): void {
  if (!isInteractive() || text === status) return;
  // A line that wraps could not be overwritten.
  status = text.slice(0, Deno.consoleSize().columns - 1);
  put(`\r\x1b[K${status}`);
}

/** Logs a step of the build: what is happening now. */
export function step(message: string, fields?: Fields): void {
  write("step", message, fields);
}

/** Logs a detail of the current step: a size, a choice and its reason. */
export function detail(message: string, fields?: Fields): void {
  write("detail", message, fields);
}

/** Logs a command line, or the output of a program. */
export function trace(message: string): void {
  write("trace", message);
}

/** Logs something the user should know, although the build goes on. */
export function warn(message: string): void {
  write("warning", message);
}

/** Logs why the build failed, and what to do. */
export function fail(message: string): void {
  write("error", message);
}
