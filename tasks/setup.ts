#!/usr/bin/env -S deno run --allow-read --allow-env --allow-sys=uid --allow-run
/**
 * `deno task setup`: installs what the machine lacks, with apt. Silent and instant when nothing is missing.
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

const HELP = `Install the Debian packages that this machine lacks

Usage: deno task setup [--for build|demo|test|bench]

  --for build   what the builders run
  --for demo    also what "deno task demo" and "deno task boot" run (default)
  --for test    also what the tests run (default when CI is set)
  --for bench   also what "deno task bench" compares with
  --help        show this text
`;

/** Without questions, and waiting for another apt, such as the one that a new machine starts by itself. */
const APT_OPTIONS = ["--yes", "--no-install-recommends", "--option", "DPkg::Lock::Timeout=600"] as const;

/** apt gets all of the environment, since it may need a proxy. */
const NO_QUESTIONS = { ...Deno.env.toObject(), DEBIAN_FRONTEND: "noninteractive" };

/** Of the names that a package has in several releases, the one that this release has. */
async function nameHere({ names }: Package): Promise<string> {
  for (const name of names.length > 1 ? names : []) {
    // Without such a package it prints nothing.
    if (await $`apt-cache policy ${name}`.quiet().text() !== "") return name;
  }
  return names[0]!;
}

/** Installs the packages for `purpose` that are missing. */
export async function setUp(purpose: Purpose): Promise<void> {
  const packages = missingPackages(purpose);
  if (packages.length === 0) return;
  if (!isInstalled("apt-get")) {
    throw new BuildError("Cannot install what is missing: this system has no apt-get", {
      hint: `Install these by your system's own means: ${packages.map(contents).join("; ")}`,
    });
  }
  if (Deno.uid() !== 0) {
    const names = packages.map(({ names }) => names[0]!);
    throw new BuildError(`Cannot install ${names.join(", ")}: only root can`, {
      hint: `Run: sudo apt-get install --no-install-recommends ${names.join(" ")}`,
    });
  }
  try {
    await $`apt-get update`.env(NO_QUESTIONS);
  } catch (error) {
    // One source of many may be out of order, and the lists at hand may do.
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
  log.step("Installed everything that was missing");
}

/** A package with what is missing of it: `sfdisk (Debian: fdisk)`. */
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
