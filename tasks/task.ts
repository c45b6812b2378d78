/**
 * Shared parts of the task scripts: choices of a flag, and how a script ends.
 *
 * @module
 */

import { BuildError } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { oneOf } from "../lib/core/suggest.ts";

/** Returns `value` if it is one of `choices`. @throws {BuildError} (usage) naming them otherwise. */
export function choose<T extends string>(flag: string, value: string, choices: readonly T[]): T {
  const choice = choices.find((each) => each === value);
  if (choice !== undefined) return choice;
  throw new BuildError(`Cannot use --${flag}=${value}`, {
    kind: "usage",
    hint: `Accepted: ${oneOf(choices, value)}`,
  });
}

/** Writes requested output to stdout. A pipe to `Deno.stdout.writable` would not say that the last piece was not written. */
export async function print(text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += await Deno.stdout.write(bytes.subarray(done));
}

/** Runs a script. An expected failure ends it with a message and exit code 1, or 2 for a usage error. */
export async function runTask(task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    log.fail(error.message);
    if (error.hint) log.fail(error.hint);
    Deno.exitCode = error.kind === "usage" ? 2 : 1;
  }
}
