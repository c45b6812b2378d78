/**
 * How far the long steps are: on a terminal a bar with bytes, rate and time left, elsewhere plain lines.
 *
 * @module
 */

import * as log from "./log.ts";
import { formatBytes } from "./units.ts";

/** One long step. Call `update` as often as you like; it decides itself when to draw. */
interface Progress {
  /** `done` in the unit of the total: bytes. */
  readonly update: (done: number) => void;
  /** Ends the step and logs what it took. */
  readonly end: () => void;
  /** Takes the bar away: the step failed, and its error says why. */
  readonly fail: () => void;
}

const DRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 10_000;
const BAR_WIDTH = 24;

/** The bars that are drawn now, in the order of their start: filesystems are filled side by side. */
const running: { text: string }[] = [];

/** Starts a step of `total` bytes. */
export function startProgress(label: string, total: number): Progress {
  const start = performance.now();
  const bar = { text: "" };
  let next = start + DRAW_EVERY_MS;
  running.push(bar);
  if (log.isJson()) log.detail(`${label}: start`, { step: label, event: "start", bytes: total });
  const remove = () => {
    running.splice(running.indexOf(bar), 1);
    draw();
  };
  return {
    update(done) {
      const now = performance.now();
      if (now < next || total <= 0) return;
      const interactive = log.isInteractive();
      next = now + (interactive ? DRAW_EVERY_MS : LINE_EVERY_MS);
      const seconds = (now - start) / 1000;
      if (interactive) {
        bar.text = barText(label, done, total, seconds);
        draw();
      } else if (seconds * 1000 >= LINE_EVERY_MS) {
        log.detail(`${label}: ${formatBytes(done)} of ${formatBytes(total)}, ${percent(done, total)}`);
      }
    },
    end() {
      remove();
      const end = performance.now();
      log.detail(`${label}: ${formatBytes(total)} in ${((end - start) / 1000).toFixed(2)} s`, {
        ...endOf(label, start, end),
        bytes: total,
      });
    },
    fail() {
      remove();
      logFailure(label);
    },
  };
}

/** What programs learn of the end of a step: the times are in seconds since this program started. */
function endOf(step: string, start: number, end: number): log.Fields {
  const seconds = (milliseconds: number) => Number((milliseconds / 1000).toFixed(3));
  return {
    ...{ step, event: "end", seconds: seconds(end - start) },
    ...{ start: seconds(start), end: seconds(end) },
  };
}

/** Runs a step that is too short for a bar: only programs that read the log learn of it. */
export async function timeStep<T>(label: string, step: () => T | Promise<T>): Promise<T> {
  if (!log.isJson()) return await step();
  const start = performance.now();
  log.detail(`${label}: start`, { step: label, event: "start" });
  try {
    const result = await step();
    const end = performance.now();
    log.detail(`${label}: ${((end - start) / 1000).toFixed(2)} s`, endOf(label, start, end));
    return result;
  } catch (error) {
    logFailure(label);
    throw error;
  }
}

/** A step that failed does not end: its error says why. */
function logFailure(step: string): void {
  if (log.isJson()) log.detail(`${step}: failed`, { step, event: "fail" });
}

/** Runs a step of `total` bytes under a progress bar; without bytes there is none. */
export async function withProgress(
  label: string,
  total: number,
  step: (update: (done: number) => void) => Promise<unknown>,
): Promise<void> {
  if (total === 0) return void await step(() => {});
  const progress = startProgress(label, total);
  try {
    await step(progress.update);
    progress.end();
  } catch (error) {
    progress.fail();
    throw error;
  }
}

function draw(): void {
  log.setStatus(running.map(({ text }) => text).filter(Boolean).join("  "));
}

function percent(done: number, total: number): string {
  return `${Math.floor(100 * Math.min(done / total, 1))} %`;
}

/** `root [#########---------------]  37 %  312 MiB of 840 MiB  410 MiB/s  1 s left` */
export function barText(label: string, done: number, total: number, seconds: number): string {
  const share = Math.min(done / total, 1);
  const filled = Math.round(share * BAR_WIDTH);
  const rate = done / Math.max(seconds, 0.001);
  const left = rate > 0 ? Math.ceil(Math.max(total - done, 0) / rate) : undefined;
  return [
    `${label} [${"#".repeat(filled)}${"-".repeat(BAR_WIDTH - filled)}] ${percent(done, total).padStart(5)}`,
    `${formatBytes(done)} of ${formatBytes(total)}`,
    `${formatBytes(Math.round(rate))}/s`,
    ...left === undefined ? [] : [left >= 60 ? `${Math.ceil(left / 60)} min left` : `${left} s left`],
  ].join("  ");
}
