#!/usr/bin/env -S deno run --allow-read --allow-env --allow-sys=uid --allow-run
/**
 * `deno task setup`: installs missing packages with apt. Silent and instant if nothing is missing.
 *
 * @module
 */

import type { ParseArgsConfig } from "node:util";
import { readFlags } from "../lib/cli/flags.ts";
import { BuildError } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { isInstalled, missingPackages, type Package, type Purpose } from "../lib/system/programs.ts";
import { $ } from "../lib/system/sh.ts";
import { choose, print, runTask } from "./task.ts";

const OPTIONS = {
  for: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
} as const satisfies ParseArgsConfig["options"];

const HELP = `Install missing Debian packages

Usage: deno task setup [--for build|demo|test|bench]

  --for build   what the builders run
  --for demo    also what "deno task demo" and "deno task boot" run (default)
  --for test    also what the tests run (default when CI is set)
  --for bench   also what "deno task bench" compares with
  --help        show this text
`;

/** Asks no questions, and waits for another apt, such as one that a new machine starts automatically. */
const APT_OPTIONS = ["--yes", "--no-install-recommends", "--option", "DPkg::Lock::Timeout=600"] as const;

/** apt gets the whole environment: it may need a proxy. */
const NO_QUESTIONS = { ...Deno.env.toObject(), DEBIAN_FRONTEND: "noninteractive" };

/** The name of a package in this release, if it has been renamed. */
async function nameHere({ names }: Package): Promise<string> {
  for (const name of names.length > 1 ? names : []) {
    // Prints nothing for an unknown package.
    if (await $`apt-cache policy ${name}`.quiet().text() !== "") return name;
  }
  return names[0]!;
}

/** Installs the missing packages for `purpose`. */
export async function setUp(purpose: Purpose): Promise<void> {
  const packages = missingPackages(purpose);
  if (packages.length === 0) return;
  if (!isInstalled("apt-get")) {
    throw new BuildError("Cannot install missing packages: this system has no apt-get", {
      hint: `Install these with your system's package manager: ${packages.map(contents).join("; ")}`,
    });
  }
  if (Deno.uid() !== 0) {
    const names = packages.map(({ names }) => names[0]!);
    throw new BuildError(`Cannot install ${names.join(", ")}: not running as root`, {
      hint: `Run: sudo apt-get install --no-install-recommends ${names.join(" ")}`,
    });
  }
  try {
    await $`apt-get update`.env(NO_QUESTIONS);
  } catch (error) {
    // One of the sources may be broken, and the existing lists may be enough.
    if (!(error instanceof BuildError)) throw error;
    log.warn(error.message);
  }
  const names = await Promise.all(packages.map(nameHere));
  log.step(`Installing ${names.join(", ")}`);
  await $`apt-get install ${APT_OPTIONS} ${names}`.env(NO_QUESTIONS);
  const still = missingPackages(purpose);
  if (still.length > 0) {
    throw new BuildError(`Cannot find ${still.map(contents).join("; ")} after the installation`, {
      hint: "This release may be too old: Debian 12 and later are known to work",
    });
  }
  log.step("Installed all missing packages");
}

/** The missing programs of a package, and its name: `sfdisk (Debian: fdisk)`. */
function contents({ names, has }: Package): string {
  return `${has.filter((program) => !isInstalled(program)).join(", ")} (Debian: ${names.join(" or ")})`;
}

async function main(): Promise<void> {
  const { values } = readFlags({ args: Deno.args, options: OPTIONS });
  if (values.help) return await print(HELP);
  const purpose = values.for ?? (Deno.env.get("CI") ? "test" : "demo");
  await setUp(choose("for", purpose, ["build", "demo", "test", "bench"]));
}

if (import.meta.main) await runTask(main);
