/**
 * The programs that a build runs: that they are there, and which versions they have.
 *
 * @module
 */

import { BuildError } from "./error.ts";
import * as log from "./log.ts";
import { isInstalled, packageOf } from "./packages.ts";
import { shWith } from "./sh.ts";

interface Tool {
  /** The option that makes it say its version. */
  readonly ask: string;
  /** The oldest version that the tests run with: that of Debian 12. */
  readonly tested: string;
}

/** One row per program whose version matters. What mtools and tar do has not changed for decades. */
const TOOLS: Readonly<Record<string, Tool>> = {
  "sfdisk": { ask: "--version", tested: "2.38" },
  "mke2fs": { ask: "-V", tested: "1.47" },
  "mkfs.vfat": { ask: "--help", tested: "4.2" },
  "mcopy": { ask: "--version", tested: "4.0" },
  "qemu-img": { ask: "--version", tested: "7.2" },
};

/** The first version number in what a program says. */
const VERSION = /\b(\d+(?:\.\d+)+)\b/;

/**
 * Checks that all programs are there, before the first effect.
 *
 * @returns their versions, where they are known.
 * @throws {BuildError} naming the package of a missing one.
 */
export async function checkTools(programs: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const missing = programs.find((program) => !isInstalled(program));
  if (missing) throw new BuildError(`Cannot find the program ${missing}`, { hint: packageOf(missing) });
  const asked = programs.filter((program) => program in TOOLS);
  const versions = await Promise.all(asked.map((program) => askVersion(program, TOOLS[program]!)));
  log.detail(asked.map((program, i) => `${program} ${versions[i]}`).join(", "));
  return new Map(asked.map((program, i) => [program, versions[i]!]));
}

async function askVersion(program: string, { ask, tested }: Tool): Promise<string> {
  let said = "";
  const onStderr = (line: string) => void (said += `${line}\n`);
  // mkfs.vfat --help exits with 0 or 1, depending on its version.
  said = await shWith({ quiet: true, accept: [1], onStderr })`${program} ${ask}` + said;
  const version = VERSION.exec(said)?.[1];
  if (!version) {
    throw new BuildError(`Cannot use ${program}: it does not say its version`, { hint: packageOf(program) });
  }
  if (version.localeCompare(tested, "en", { numeric: true }) < 0) {
    log.warn(`${program} ${version} is older than ${tested}, the oldest that is tested`);
  }
  return version;
}
