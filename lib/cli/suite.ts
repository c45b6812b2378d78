/**
 * The command line of the suite: runs a builder by name, or the jobs of a `Raptor.toml`.
 *
 * If the first word is the name of a builder, it always means the builder. A job with the same name can be selected
 * as `run.disk-image`, as in the file.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { readSmallFile } from "../core/small-file.ts";
import { nearest } from "../core/suggest.ts";
import { renderTable } from "../core/table.ts";
import { MiB } from "../core/units.ts";
import { misspelledSettings } from "../plan/read-settings.ts";
import { type SettingName, SETTINGS } from "../plan/settings.ts";
import { type Builder, FLAGS, isSettingFlag, print, run, VERSION } from "./cli.ts";
import { flagRows, type Flags, readFlags } from "./flags.ts";
import { askedSetting, settingHelp } from "./help.ts";
import { runJobs } from "./jobs.ts";
import { type Job, parseProject, type Project, selectJobs } from "./raptor.ts";

/** The builders by name. A plan is only ever passed to the builder that made it. */
// deno-lint-ignore no-explicit-any
export type Builders = Readonly<Record<string, Builder<any>>>;

/** The flags for jobs. */
export const JOB_FLAGS = {
  "file": { type: "string", short: "f", value: "FILE", help: "The file with the jobs [Raptor.toml]" },
  "input": {
    type: "string",
    multiple: true,
    value: "NAME=PATH",
    help: "The tree of input NAME [NAME or NAME.tar* beside the file]",
  },
  "index": {
    type: "string",
    value: "N",
    help: "Only the Nth of the jobs, from 0, as for a Kubernetes Indexed Job",
  },
  "force": { type: "boolean", help: "Build images that are up to date too" },
  "dry-run": FLAGS["dry-run"],
  "json": FLAGS.json,
  "verbose": FLAGS.verbose,
  "log": FLAGS.log,
  "help": { ...FLAGS.help, short: "h" },
  "version": FLAGS.version,
} as const satisfies Flags;

/** Those that are handed on to the builder. */
const SHARED_FLAGS = ["dry-run", "json", "verbose", "log"] as const;

/**
 * Runs the suite.
 *
 * @param env the environment. A builder that is run by name reads its settings from it.
 * @param sources files and directories of the suite itself: an image older than these is out of date.
 * @returns the exit code: 0 done, 1 failed, 2 usage error, 130 or 143 interrupted.
 * @throws {BuildError} when the jobs cannot be found or read. Errors of a builder only result in its exit code.
 */
export async function runSuite(
  builders: Builders,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  sources: readonly string[],
): Promise<number> {
  const [first = "", ...rest] = args;
  if (Object.hasOwn(builders, first)) return await run(builders[first]!, rest, env);

  const asked = askedSetting(args);
  if (asked !== undefined) {
    await print(settingHelp(asked, Object.keys(SETTINGS) as SettingName[]));
    return 0;
  }
  const names = Object.keys(builders);
  const { values, positionals } = readArguments(args, names);
  if (values.help || values.version) {
    await print(values.help ? helpText(builders) : `raptor-builders ${VERSION}\n`);
    return 0;
  }
  const file = values.file ?? "Raptor.toml";
  const text = readProject(file, names, positionals[0]);
  const project = leaveOutForeign(parseProject(text, file, names));
  project.warnings.forEach((warning) => log.warn(warning));
  const jobs = pick(selectJobs(project, positionals, names), values.index);
  for (const [name, reason] of positionals.length ? [] : project.others) {
    log.detail(`Skipping ${name}: ${reason}`);
  }
  warnOfSettings(builders, jobs);
  const flags = SHARED_FLAGS.flatMap((flag) => {
    const value = values[flag];
    return value === undefined ? [] : typeof value === "string" ? [`--${flag}=${value}`] : [`--${flag}`];
  });
  const options = {
    // A dry run shows all jobs, whether they are up to date or not.
    force: values.force === true || values["dry-run"] === true,
    given: readInputs(values.input ?? [], jobs),
    flags,
    sources,
  };
  return await runJobs(
    project,
    jobs,
    options,
    env,
    (name, args, env, job) => run(builders[name]!, args, env, job),
  );
}

/** @throws {BuildError} (usage) */
function readArguments(args: readonly string[], builders: readonly string[]) {
  const explain = (flag: string) =>
    isSettingFlag(flag)
      ? "It is a setting: put it into the env table of a job, or name a builder before it"
      : undefined;
  try {
    return readFlags({ args: [...args], options: JOB_FLAGS, allowPositionals: true }, explain);
  } catch (error) {
    // These are flags of a builder whose name is misspelt.
    const meant = nearest(args[0]!, builders);
    if (meant === undefined) throw error;
    throw new BuildError(`Cannot find the builder ${quote(args[0]!)}`, {
      kind: "usage",
      hint: `Did you mean ${meant}?`,
      cause: error,
    });
  }
}

/** Nobody writes more than that. */
const TEXT_LIMIT = MiB;

/** @throws {Error} as {@link readSmallFile} does. */
function readText(path: string): string {
  return new TextDecoder().decode(readSmallFile(path, TEXT_LIMIT));
}

/** @param wanted the first word of the command line: a job, or what should have been a builder. */
function readProject(path: string, builders: readonly string[], wanted?: string): string {
  try {
    return readText(path);
  } catch (error) {
    const { message, cause } = error as Error;
    if ((cause as { code?: string } | undefined)?.code !== "ENOENT") {
      throw new BuildError(`Cannot read ${quote(path)}: ${message}`, { kind: "usage", cause });
    }
    const meant = wanted && nearest(wanted, builders);
    const what = wanted
      ? `${quote(wanted)}: it is not a builder, and there is no ${quote(path)}`
      : quote(path);
    throw new BuildError(`Cannot find ${what}`, {
      kind: "usage",
      hint: meant
        ? `Did you mean ${meant}?`
        : `Give a Raptor.toml with --file, or the name of a builder: ${builders.join(", ")}`,
      cause,
    });
  }
}

/** The program in the `.rapt` files of our builders, and only in ours. */
const PROGRAM = "/opt/raptor-builders/builders/mod.ts";

/**
 * Excludes jobs whose builder has the name of one of ours but is someone else's. If the `.rapt` file is not visible,
 * as in our container, the name decides.
 */
function leaveOutForeign(project: Project): Project {
  const jobs: Job[] = [];
  const others = new Map(project.others);
  for (const job of project.jobs) {
    let isOurs = true;
    try {
      isOurs = readText(job.file).includes(PROGRAM);
    } catch {
      // It is not to be seen.
    }
    if (isOurs) jobs.push(job);
    else others.set(job.name, `${quote(job.target)} is somebody else's builder (${quote(job.file)})`);
  }
  return { ...project, jobs, others };
}

/** Picks one job by its number. It starts at 0, like the index of pods in a Kubernetes Indexed Job. */
function pick(jobs: readonly Job[], index: string | undefined): readonly Job[] {
  if (index === undefined) return jobs;
  const job = /^\d+$/.test(index) ? jobs[Number(index)] : undefined;
  if (job) return [job];
  throw new BuildError(`Cannot use --index=${quote(index)}`, {
    kind: "usage",
    hint: `Accepted: 0 to ${jobs.length - 1}, for ${jobs.map(({ name }) => name).join(", ")}`,
  });
}

/** Reads `--input test=PATH`, which may be repeated. */
function readInputs(given: readonly string[], jobs: readonly Job[]): Map<string, string> {
  const inputs = new Map<string, string>();
  for (const text of given) {
    const [, name, path] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
    const names = [...new Set(jobs.map((job) => job.input))];
    if (!name || !path || !names.includes(name)) {
      throw new BuildError(`Cannot use --input ${quote(text)}`, {
        kind: "usage",
        hint: `Write --input ${
          nearest(name ?? "", names) ?? names[0] ?? "test"
        }=PATH; the inputs of these jobs are ${names.join(", ")}`,
      });
    }
    inputs.set(name, path);
  }
  return inputs;
}

/** Warns about names in a job's env table that are neither settings nor misspelt settings, which the builder reports. */
function warnOfSettings(builders: Builders, jobs: readonly Job[]): void {
  const known = Object.values(SETTINGS).map(({ env }) => env as string);
  for (const job of jobs) {
    const taken = builders[job.builder]!.settings;
    const misspelled = misspelledSettings(taken, job.env).map(([name]) => name);
    for (const name of Object.keys(job.env)) {
      if (known.includes(name) || misspelled.includes(name)) continue;
      log.warn(`${job.name}: ${job.builder} has no setting ${quote(name)}: see ${job.builder} --help`);
    }
  }
}

function helpText(builders: Builders): string {
  return `Builds images from OS trees

Usage: raptor-builders [JOB...] [FLAG...]   build jobs of a Raptor.toml, or all of them
       raptor-builders BUILDER [FLAG...]    run one builder; BUILDER --help shows its settings

Builders:

${renderTable(Object.values(builders).map(({ name, summary }) => [`  ${name}`, summary])).join("\n")}

Flags for jobs:

${renderTable(flagRows(JOB_FLAGS)).join("\n")}

Name a job as NAME or run.NAME, a group of jobs as %NAME. "deno task build" in a checkout is the
same program. In the container, the first word after the image is the name of a builder.
`;
}
