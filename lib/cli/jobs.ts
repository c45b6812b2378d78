/**
 * Runs the jobs of a `Raptor.toml` without Raptor: finds their trees, checks which images are up to date, and runs
 * one builder after another.
 *
 * @module
 */

import { resolve } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { nearest } from "../core/suggest.ts";
import { findNewer } from "../make/commands.ts";
import { keyOf } from "../make/places.ts";
import { flagOf, type SettingName, SETTINGS } from "../plan/settings.ts";
import { reasonOf } from "../system/failure.ts";
import { CACHE, type JobContext } from "./cli.ts";
import { type Job, moduleName, type Project, showKey } from "./raptor.ts";

/** Suffixes of a tree next to `Raptor.toml`, in search order. */
const TREE_SUFFIXES = ["", ".tar", ".tar.gz", ".tar.zst", ".tar.xz"] as const;

/** The tree of a job, and other candidates that exist but were not chosen. */
interface FoundTree {
  readonly path: string;
  readonly ignored: readonly string[];
}

/**
 * Finds the tree for a job's input, which Raptor would build itself: a directory or archive of that name
 * ({@link TREE_SUFFIXES}), or its path in `given`.
 */
export async function findTree(
  project: Project,
  job: Job,
  given: ReadonlyMap<string, string>,
): Promise<FoundTree> {
  const path = given.get(job.input);
  if (path !== undefined) {
    if (await exists(path)) return { path, ignored: [] };
    throw new BuildError(`Cannot find the tree ${quote(path)} of input ${quote(job.input)}`, {
      kind: "usage",
    });
  }
  const { root, parts } = moduleName(job.input);
  const link = root ? project.links.get(root) : "";
  if (link === undefined) {
    const meant = nearest(root!, [...project.links.keys()]);
    throw new BuildError(`Cannot find the link ${quote(`$${root}`)} of input ${quote(job.input)}`, {
      kind: "usage",
      hint: meant
        ? `Did you mean $${meant}?`
        : `Add it to [raptor.link] of ${project.path}, or give --input '${job.input}=PATH'`,
    });
  }
  const base = resolve(project.folder, link, ...parts);
  const candidates: string[] = [];
  for (const suffix of TREE_SUFFIXES) if (await exists(base + suffix)) candidates.push(base + suffix);
  const [first, ...ignored] = candidates;
  if (first) return { path: first, ignored };
  throw new BuildError(`Cannot find the tree of input ${quote(job.input)} for the job ${job.name}`, {
    kind: "usage",
    hint: `Put it at ${base} (a directory) or ${base}.tar, or give --input '${job.input}=PATH'`,
  });
}

/**
 * Whether an image is newer than everything it is made from. As in Raptor, an image that is empty or dated 1970 was
 * left by a failed build, and never up to date. Neither is what is not a file: docker makes a directory where a file
 * to be mounted is missing, and of a device no date tells when it was written.
 *
 * A tree is as new as its newest mtime or ctime: files that are copied with their old mtime count as new.
 */
export async function isUpToDate(output: string, sources: readonly string[]): Promise<boolean> {
  try {
    const { isFile, size, mtime } = await Deno.stat(output);
    if (!isFile || size === 0 || !mtime || mtime.getTime() === 0) return false;
    for (const source of sources) {
      // find compares nanoseconds, handles any names, and stops at the first newer entry.
      const newer = await findNewer(source, output).text();
      if (newer) return false;
    }
    return true;
  } catch (error) {
    // No output yet, or an unreadable tree: the builder will report what is wrong.
    if (error instanceof Deno.errors.NotFound || error instanceof BuildError) return false;
    throw error;
  }
}

/** How to run the jobs. */
interface JobOptions {
  /** Also build images that are up to date. */
  readonly force: boolean;
  /** Paths of trees by input name. */
  readonly given: ReadonlyMap<string, string>;
  /** Flags for every builder, e.g. `--dry-run`. */
  readonly flags: readonly string[];
  /** The suite's own files. As in Raptor, images older than these are out of date. */
  readonly sources: readonly string[];
}

/** Runs a builder by name and returns its exit code. */
type RunBuilder = (
  name: string,
  args: string[],
  env: Record<string, string>,
  job: JobContext,
) => Promise<number>;

/**
 * Runs jobs one after another and stops at the first failure.
 *
 * @param env of this process. Builders only get `SOURCE_DATE_EPOCH` from it, besides the job's own variables.
 * @returns the exit code of the failed job, or 0.
 */
export async function runJobs(
  project: Project,
  jobs: readonly Job[],
  options: JobOptions,
  env: Readonly<Record<string, string | undefined>>,
  run: RunBuilder,
): Promise<number> {
  await checkOutputs(project);
  // Find all trees before touching the first image.
  const trees: FoundTree[] = [];
  for (const job of jobs) trees.push(await findTree(project, job, options.given));
  for (const [index, job] of jobs.entries()) {
    const { path, ignored } = trees[index]!;
    if (ignored.length) {
      log.detail(`${job.input}: using ${quote(path)}, not ${ignored.map(quote).join(", ")}`);
    }
    if (!options.force && await isUpToDate(job.output, [path, project.path, ...options.sources])) {
      log.step(`${job.name}: ${quote(job.output)} is up to date (--force builds it again)`);
      continue;
    }
    log.step(`${job.name}: ${job.builder} makes ${quote(job.output)} from ${quote(path)}`);
    if (job.cache !== undefined) await makeCache(job.name, job.cache);
    const epoch = env.SOURCE_DATE_EPOCH;
    const call = { ...job, ...translateCache(job) };
    const code = await run(
      job.builder,
      // The last flag wins: paths in the container, such as --input=/input, are overridden by those of the job.
      [...call.args, "--input", path, "--output", resolve(job.output), ...options.flags],
      { ...(epoch ? { SOURCE_DATE_EPOCH: epoch } : {}), ...call.env },
      { cache: job.cache },
    );
    if (code !== 0) {
      const left = jobs.slice(index + 1).map((job) => job.name);
      log.fail(`The job ${job.name} failed${left.length ? `; not built: ${left.join(", ")}` : ""}`);
      return code;
    }
  }
  return 0;
}

/**
 * Checks that no two jobs of a file write to one image, under whatever names. Those that are not run now count, too:
 * the image of one would be up to date for the other.
 *
 * @throws {BuildError} (usage) naming both jobs.
 */
async function checkOutputs({ path, jobs }: Project): Promise<void> {
  const seen = new Map<string, Job>();
  for (const job of jobs) {
    const key = await keyOf(job.output);
    const twin = seen.get(key);
    seen.set(key, job);
    if (!twin) continue;
    const [first, second] = [twin, job].map(({ name, output }) => `run.${showKey(name)} (${quote(output)})`);
    throw new BuildError(`Cannot use ${quote(path)}: ${first} and ${second} write to the same file`, {
      kind: "usage",
      hint: `Name another output for run.${showKey(job.name)}`,
    });
  }
}

/** Makes a job's cache directory, as Raptor does, but not its parents. */
async function makeCache(job: string, path: string): Promise<void> {
  try {
    await Deno.mkdir(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.AlreadyExists) return;
    throw new BuildError(
      `Cannot make the cache ${quote(path)} of the job ${job}: ${reasonOf(cause)}`,
      {
        kind: "usage",
        cause,
      },
    );
  }
}

/** Translates paths below `/cache`, as seen in the container, to the job's cache in its flags and settings. */
function translateCache({ args, env, cache }: Job): Pick<Job, "args" | "env"> {
  if (cache === undefined) return { args, env };
  const translate = (path: string) =>
    path === CACHE || path.startsWith(`${CACHE}/`) ? resolve(cache, `.${path.slice(CACHE.length)}`) : path;
  const isPath = (name: SettingName) => ["FILE", "DIR"].includes(SETTINGS[name].value);
  const names = (Object.keys(SETTINGS) as SettingName[]).filter(isPath);
  const variables = names.map((name) => SETTINGS[name].env as string);
  const flags = names.map((name) => `--${flagOf(name)}`);
  return {
    args: args.map((arg, i) => {
      if (flags.includes(args[i - 1] ?? "")) return translate(arg);
      const [flag = "", ...value] = arg.split("=");
      return value.length && flags.includes(flag) ? `${flag}=${translate(value.join("="))}` : arg;
    }),
    env: Object.fromEntries(
      Object.entries(env).map(([name, value]) => [name, variables.includes(name) ? translate(value) : value]),
    ),
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
