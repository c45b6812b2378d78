/**
 * `deno task bench --steps`: when which step of a build ran, from its own log.
 *
 * @module
 */

import { renderTable } from "../../lib/core/table.ts";
import { print } from "../../tasks/task.ts";
import { DISK_FORMATS } from "./contenders.ts";
import { runBuilder } from "../lab/builds.ts";
import { tempDir } from "../lab/helpers.ts";

/** A line of the log that ends a step. Times are in seconds since the program started. */
interface StepEnd {
  readonly step: string;
  readonly event: "end";
  readonly start: number;
  readonly end: number;
  readonly bytes?: number;
}

const BAR_WIDTH = 40;

/** Builds a disk image of the tree in each format and prints its steps side by side in time. */
export async function printSteps(tree: string): Promise<void> {
  await tempDir(async (dir) => {
    for (const format of DISK_FORMATS) {
      const args = ["--log=json", "--input", tree, "--output", `${dir}/image`, `--output-format=${format}`];
      const { code, stderr } = await runBuilder("disk-image", { args });
      if (code !== 0) throw new Error(stderr);
      const lines = stderr.trim().split("\n").map((line) => JSON.parse(line));
      const steps: StepEnd[] = lines.filter(({ event, step }) => step && event === "end");
      await print([`disk-image, ${format}`, ...renderSteps(steps), "", ""].join("\n"));
    }
  });
}

/** Steps as a table with bars, in the order of their start. */
export function renderSteps(steps: readonly StepEnd[]): string[] {
  const last = Math.max(...steps.map(({ end }) => end));
  const rows = steps.toSorted((a, b) => a.start - b.start).map(({ step, start, end, bytes }) => {
    const from = Math.floor(start / last * BAR_WIDTH);
    const to = Math.max(from + 1, Math.round(end / last * BAR_WIDTH));
    const megabytes = bytes === undefined ? "" : (bytes / 1e6).toFixed(1);
    const rate = bytes === undefined || end === start ? "" : (bytes / 1e6 / (end - start)).toFixed(0);
    const bar = " ".repeat(from) + "#".repeat(to - from);
    return [step, start.toFixed(3), end.toFixed(3), (end - start).toFixed(3), megabytes, rate, bar];
  });
  return renderTable([["step", "start", "end", "s", "MB", "MB/s", "time"], ...rows]);
}
