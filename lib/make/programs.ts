/**
 * The programs that a build runs: that they are there, and which versions they have.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import * as log from "../core/log.ts";
import { compareNumerically } from "../core/units.ts";
import type { VersionNeed } from "../filesystem/types.ts";
import { checkVersion, type ProgramName, requirePrograms, versionedPrograms } from "../system/programs.ts";
import * as commands from "./commands.ts";

/**
 * Checks all programs before the first effect.
 *
 * @returns their versions, where they matter.
 * @throws {BuildError} naming the package of a missing one, or the version that is needed.
 */
export async function checkPrograms(programs: readonly ProgramName[]): Promise<ReadonlyMap<string, string>> {
  requirePrograms(programs);
  const asked = versionedPrograms(programs);
  const versions = await Promise.all(
    asked.map(async (program) => checkVersion(program, await commands.askVersion(program).text("combined"))),
  );
  if (asked.length) log.trace(asked.map((program, i) => `${program} ${versions[i]}`).join(", "));
  return new Map(asked.map((program, i) => [program, versions[i]!]));
}

/** Checks that the programs are new enough for what the tree holds. @throws {BuildError} naming what is in the way. */
export function checkNeeds(
  filesystem: string,
  needs: readonly VersionNeed[] = [],
  versions: ReadonlyMap<string, string>,
): void {
  for (const { program, version, problem } of needs) {
    const found = versions.get(program)!;
    if (compareNumerically(found, version) >= 0) continue;
    throw new BuildError(`Cannot make ${filesystem} with ${program} ${found}: it damages ${problem}`, {
      hint: `Install ${program} ${version} or later, change the tree, or set FILESYSTEM to another one`,
    });
  }
}
