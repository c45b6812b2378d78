/**
 * Progress of long steps: a bar with bytes, rate and time left on a terminal, plain lines elsewhere.
 *
 * @module
 */

import * as log from "./log.ts";
import { formatBytes } from "./units.ts";

/** One long step. */
interface Progress {
  /** Takes the bytes done so far. Cheap to call often: it redraws only now and then. */
  readonly update: (done: number) => void;
  /** Ends the step and logs how long it took. */
  readonly end: () => void;
  /** Removes the bar: the step failed, and its error says why. */
  readonly fail: () => void;
}

const DRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 10_000;
const BAR_WIDTH = 24;

/** The current bars, in the order they were started: filesystems are filled in parallel. */
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

/** The JSON fields for the end of a step. `start` and `end` are in seconds since this program started. */
function endOf(step: string, start: number, end: number): log.Fields {
  const seconds = (milliseconds: number) => Number((milliseconds / 1000).toFixed(3));
  return {
    ...{ step, event: "end", seconds: seconds(end - start) },
    ...{ start: seconds(start), end: seconds(end) },
  };
}

/** Runs a step that is too short for a bar. It is logged only as JSON. */
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

/** A failed step has a "fail" event instead of an "end" event; its error says why. */
function logFailure(step: string): void {
  if (log.isJson()) log.detail(`${step}: failed`, { step, event: "fail" });
}

/** Runs a step of `total` bytes with a progress bar; without one if `total` is 0. */
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
