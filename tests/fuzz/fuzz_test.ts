/**
 * A second of fuzzing for each parser; `deno task fuzz` takes longer.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fuzz, TARGETS } from "./fuzz.ts";
import { missing, unprivileged } from "../lab/helpers.ts";

const SECONDS = 1;

for (const name of Object.keys(TARGETS) as (keyof typeof TARGETS)[]) {
  const ignore = name === "GPT read-back"
    ? missing("sfdisk")
    : name === "tar archives" && (missing("tar") || unprivileged());
  Deno.test(`fuzzing: ${name}`, { ignore }, async () => {
    assert(await fuzz(name, SECONDS) > 0);
  });
}
