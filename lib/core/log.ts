/**
 * Lines on stderr, in the voice of the original builder: `[*] step`, `[|] detail`, `[W]`, `[E]`. What programs are called
 * with and say themselves is a trace: a person asks for it with `--verbose`, programs and what is kept always get it.
 * stdout is only for what was asked for (`--help`, `--dry-run`, `--json`). For programs that read the log,
 * each line is a JSON object instead (`--log=json`).
 *
 * @module
 */

import { styleText } from "node:util";

const encoder = new TextEncoder();

type Style = Parameters<typeof styleText>[0];

/** How the log is written. */
export const LOG_FORMATS = ["text", "json"] as const;

type LogFormat = (typeof LOG_FORMATS)[number];

/** What a JSON line has besides `level` and `message`, e.g. `{ step: "root", bytes: 4096, seconds: 0.1 }`. */
export type Fields = Readonly<Record<string, unknown>>;

let format: LogFormat = "text";
let verbose = false;

/** Chooses the form of all lines from here on. */
export function setLogFormat(wanted: LogFormat): void {
  format = wanted;
}

/** Shows traces, too, from here on. */
export function setVerbose(wanted: boolean): void {
  verbose = wanted;
}

/** Whether programs read the log: they want figures that take time to find, such as a checksum. */
export function isJson(): boolean {
  return format === "json";
}

/** Whether a person watches: decides colours and the progress bar, nothing else. */
export function isInteractive(): boolean {
  return format === "text" && Deno.stderr.isTerminal();
}

/** What was logged since the last {@link startTranscript}. */
let transcript = { text: "", hasWarnings: false };

/** Begins to collect what is logged, so that it can be kept where stderr is not. */
export function startTranscript(): void {
  transcript = { text: "", hasWarnings: false };
}

/** The lines as they were logged, without colours, and whether a warning is among them. */
export function readTranscript(): { readonly text: string; readonly hasWarnings: boolean } {
  return transcript;
}

/** A line that is drawn again and again below the log, such as a progress bar; empty when there is none. */
let status = "";

function put(text: string): void {
  // One write per call: lines of children that run at the same time never mix within a line.
  const bytes = encoder.encode(text);
  for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
}

/** The levels of the log: the mark and style of a line of text. */
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
  // Names from a tree get into messages of programs: they must not steer the terminal.
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

/** Shows a status line below the log, or with an empty text takes it away. Only on a terminal. */
export function setStatus(text: string): void {
  if (!isInteractive() || text === status) return;
  // A line that wraps could not be drawn over.
  status = text.slice(0, Deno.consoleSize().columns - 1);
  put(`\r\x1b[K${status}`);
}

/** A step of the build: what is happening now. */
export function step(message: string, fields?: Fields): void {
  write("step", message, fields);
}

/** A detail of the step: a size, a choice and its reason. */
export function detail(message: string, fields?: Fields): void {
  write("detail", message, fields);
}

/** A command line, or what a program says. */
export function trace(message: string): void {
  write("trace", message);
}

/** Something a person should know though the build goes on. */
export function warn(message: string): void {
  write("warning", message);
}

/** Why the build failed, and what to do. */
export function fail(message: string): void {
  write("error", message);
}
