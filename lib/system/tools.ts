/**
 * The programs that a build runs: that they are there, and which versions they have.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import * as log from "../core/log.ts";
import { isInstalled, packageOf } from "./packages.ts";
import { shWith } from "./sh.ts";

interface Tool {
  /** The option that makes it say its version. */
  readonly ask: string;
  /** The oldest version that the tests run with: that of Debian 12, unless that one is too old. */
  readonly tested: string;
  /** The oldest version that can do what is asked of it. */
  readonly required?: string;
}

/** One row per program whose version matters. What tar does has not changed for decades. */
const TOOLS: Readonly<Record<string, Tool>> = {
  "sfdisk": { ask: "--version", tested: "2.38" },
  "mke2fs": { ask: "-V", tested: "1.47" },
  "mkfs.vfat": { ask: "--help", tested: "4.2" },
  "qemu-img": { ask: "--version", tested: "7.2" },
  "mksquashfs": { ask: "-version", tested: "4.5" },
  // The first that fills a filesystem from a stream. Debian 12 has 1.5, Debian 13 has 1.8.
  "mkfs.erofs": { ask: "-V", tested: "1.8", required: "1.7" },
  "veritysetup": { ask: "--version", tested: "2.6" },
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
  const versions = await Promise.all(asked.map(versionOf));
  if (asked.length) log.detail(asked.map((program, i) => `${program} ${versions[i]}`).join(", "));
  return new Map(asked.map((program, i) => [program, versions[i]!]));
}

/** What was asked ahead, until somebody wants to know. */
const ahead = new Map<string, Promise<string>>();

/** Asks programs for their versions already, which takes time, for the next {@link checkTools}. */
export function askAhead(programs: readonly string[]): void {
  for (const program of programs) {
    if (!(program in TOOLS) || !isInstalled(program)) continue;
    const answer = askVersion(program, TOOLS[program]!);
    // The one who wants to know gets the error.
    answer.catch(() => {});
    ahead.set(program, answer);
  }
}

function versionOf(program: string): Promise<string> {
  const answer = ahead.get(program) ?? askVersion(program, TOOLS[program]!);
  ahead.delete(program);
  return answer;
}

async function askVersion(program: string, { ask, tested, required }: Tool): Promise<string> {
  let said = "";
  const onStderr = (line: string) => void (said += `${line}\n`);
  // mkfs.vfat --help exits with 0 or 1, depending on its version.
  said = await shWith({ quiet: true, accept: [1], onStderr })`${program} ${ask}` + said;
  const version = VERSION.exec(said)?.[1];
  if (!version) {
    throw new BuildError(`Cannot use ${program}: it does not say its version`, { hint: packageOf(program) });
  }
  if (required && isOlder(version, required)) {
    throw new BuildError(
      `Cannot use ${program} ${version}: only ${required} and later can do what is needed`,
      {
        hint: "Debian 13 has one, and so has the container of this suite",
      },
    );
  }
  if (isOlder(version, tested)) {
    log.warn(`${program} ${version} is older than ${tested}, the oldest that is tested`);
  }
  return version;
}

function isOlder(version: string, other: string): boolean {
  return version.localeCompare(other, "en", { numeric: true }) < 0;
}
