/**
 * A few fixed cases for each parser; `deno task fuzz` takes longer and tries new ones.
 *
 * @module
 */

import { seedFrom } from "../lab/random_tree.ts";
import { missing, unprivileged } from "../lab/helpers.ts";
import { fuzz, TARGETS } from "./fuzz.ts";

/** Targets that run a program for each case get fewer cases, those that took long to find something get more. */
const PROGRAMS: Readonly<Record<string, { ignore: boolean; cases: number }>> = {
  "GPT read-back": { ignore: missing("sfdisk"), cases: 25 },
  "trees": { ignore: false, cases: 100 },
  "PE programs": { ignore: false, cases: 1500 },
  "lines of programs": { ignore: false, cases: 1000 },
  "keys and certificates": { ignore: missing("openssl"), cases: 100 },
  "SELinux policies": { ignore: missing("libselinux.so.1"), cases: 400 },
  "tar archives": { ignore: missing("tar") || unprivileged(), cases: 25 },
};

for (const name of Object.keys(TARGETS) as (keyof typeof TARGETS)[]) {
  const { ignore, cases } = PROGRAMS[name] ?? { ignore: false, cases: 400 };
  Deno.test(`fuzzing: ${name}`, { ignore }, async () => {
    await fuzz(name, seedFrom("FUZZ_SEED"), (tried) => tried >= cases);
  });
}
