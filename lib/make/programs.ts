/**
 * Checks that the programs of a build exist, and their versions.
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
 * @returns their versions, if relevant.
 * @throws {BuildError} naming the package of a missing program, or the required version.
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

/** Checks that the programs are new enough for this tree. @throws {BuildError} naming what they cannot handle. */
export function checkNeeds(
  filesystem: string,
  needs: readonly VersionNeed[] = [],
  versions: ReadonlyMap<string, string>,
): void {
  for (const { program, version, problem } of needs) {
    const found = versions.get(program)!;
    if (compareNumerically(found, version) >= 0) continue;
    throw new BuildError(`Cannot make ${filesystem} with ${program} ${found}: it damages ${problem}`, {
      hint: `Install ${program} ${version} or later, change the tree, or set FILESYSTEM to a different one`,
    });
  }
}
