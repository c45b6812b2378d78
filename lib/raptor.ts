/**
 * `Raptor.toml`: which images a project wants, read in Raptor's own dialect.
 *
 * A job `[run.NAME]` with `target = "$LINK.BUILDER"` is ours when BUILDER is one of our builders and LINK
 * is in `[raptor.link]`; what the link points to is Raptor's business. Relative paths start at the folder
 * of the file.
 *
 * - https://chrivers.github.io/raptor/make.html
 * - https://chrivers.github.io/raptor/module-name/package.html
 *
 * @module
 */

import { dirname, isAbsolute, join, normalize } from "node:path";
import { parse, TomlError } from "smol-toml";
import { BuildError, quote } from "./error.ts";

/** One image that is wanted. */
export interface Job {
  readonly name: string;
  /** The name of one of our builders: `disk-image`. */
  readonly builder: string;
  /** The Raptor target whose tree goes into the image, as written: `test`, `$book.ssh`. */
  readonly input: string;
  /** Where the image goes: relative paths start at the folder of the file. */
  readonly output: string;
  /** The settings. They are all there is: Raptor hands nothing of its own environment to a builder. */
  readonly env: Readonly<Record<string, string>>;
}

export interface Project {
  /** The path of the file, for messages. */
  readonly path: string;
  readonly folder: string;
  readonly links: ReadonlyMap<string, string>;
  /** The jobs for our builders, in the order of the file. */
  readonly jobs: readonly Job[];
  /** The other jobs: name → target. */
  readonly others: ReadonlyMap<string, string>;
  /** `[group.NAME]`: the names of its jobs. */
  readonly groups: ReadonlyMap<string, readonly string[]>;
}

/** The keys of a job that Raptor knows. `cache` and `state-dir` mean nothing to our builders. */
const JOB_KEYS = ["target", "cache", "input", "output", "entrypoint", "args", "env", "state-dir"];

type Table = Readonly<Record<string, unknown>>;

/** Reads the text of a `Raptor.toml`. `builders` are the names of ours. */
export function parseProject(text: string, path: string, builders: readonly string[]): Project {
  const problem = (what: string, hint?: string) =>
    new BuildError(`Cannot use ${quote(path)}: ${what}`, { kind: "usage", hint });

  const table = (value: unknown, key: string): Table => {
    if (value === undefined) return {};
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Table;
    throw problem(`${key} = ${JSON.stringify(value)} is not a table`, `Write [${key}]`);
  };
  const string = (value: unknown, key: string): string => {
    if (typeof value === "string") return value;
    const fix = typeof value === "object"
      ? undefined
      : `Write ${key.split(".").slice(2).join(".")} = "${value}"`;
    throw problem(`${key} = ${JSON.stringify(value)} is not a string`, fix);
  };
  /** Raptor's string_or_list. */
  const strings = (value: unknown, key: string): string[] => {
    if (value === undefined) return [];
    return Array.isArray(value) ? value.map((item) => string(item, key)) : [string(value, key)];
  };
  /** Our builders have one input and one output. */
  const single = (value: unknown, key: string, example: string): string => {
    const [first, ...rest] = strings(value, key);
    const line = `Write ${key.slice(key.lastIndexOf(".") + 1)} = ${example}`;
    if (!first) throw problem(`${key} is missing or empty`, line);
    if (rest.length) throw problem(`${key} has ${rest.length + 1} entries, and the builder takes one`, line);
    return first;
  };

  const document = readToml(text, path);
  const links = new Map(
    Object.entries(table(table(document.raptor, "raptor").link, "raptor.link"))
      .map(([name, link]) => [name, string(link, `raptor.link.${name}`)] as const),
  );
  const groups = new Map(
    Object.entries(table(document.group, "group"))
      .map(([name, group]) =>
        [name, strings(table(group, `group.${name}`).run, `group.${name}.run`)] as const
      ),
  );

  const folder = dirname(path);
  const jobs: Job[] = [];
  const others = new Map<string, string>();
  for (const [name, value] of Object.entries(table(document.run, "run"))) {
    const key = `run.${/^[\w-]+$/.test(name) ? name : quote(name)}`;
    const run = table(value, key);
    if (run.target === undefined) {
      throw problem(`${key}.target is missing`, `Write target = "$rbuild.${builders[0]}"`);
    }
    const target = string(run.target, `${key}.target`);
    const { root, parts } = moduleName(target);
    const builder = builders.find((known) => parts.length === 1 && parts[0] === known);
    if (!builder) {
      others.set(name, target);
      continue;
    }
    if (root && !links.has(root)) {
      throw problem(
        `${key}.target = ${quote(target)} names no link of [raptor.link]`,
        `Write ${/^[\w-]+$/.test(root) ? root : quote(root)} = "raptor-builders" below [raptor.link]`,
      );
    }
    const unknown = Object.keys(run).find((item) => !JOB_KEYS.includes(item));
    if (unknown) throw problem(`${key}.${unknown} is not known`, `A job has ${JOB_KEYS.join(", ")}`);
    const replaced = strings(run.entrypoint, `${key}.entrypoint`).concat(strings(run.args, `${key}.args`));
    if (replaced.length) {
      throw problem(
        `${key} replaces the command of the builder by ${quote(replaced.join(" "))}`,
        'Leave "entrypoint" and "args" out, or run the job with Raptor',
      );
    }
    const env = Object.entries(table(run.env, `${key}.env`))
      .map(([setting, text]) => [setting, string(text, `${key}.env.${setting}`)] as const);
    const file = single(run.output, `${key}.output`, '"disk.img"');
    const output = isAbsolute(file) ? normalize(file) : join(folder, file);
    const twin = jobs.find((job) => job.output === output);
    if (twin) throw problem(`run.${twin.name} and ${key} both write ${quote(output)}`);
    const input = single(run.input, `${key}.input`, '"test"');
    jobs.push({ name, builder, input, output, env: Object.fromEntries(env) });
  }
  return { path, folder, links, jobs, others, groups };
}

/**
 * The jobs that are asked for: by name (`disk1`, or `run.disk1` as in the file), by group (`%all`), or all of
 * ours when nothing is named.
 */
export function selectJobs(project: Project, names: readonly string[]): Job[] {
  const file = quote(project.path);
  const known = project.jobs.map((job) => job.name);
  const hint = known.length ? `Its jobs are ${known.join(", ")}` : undefined;
  if (names.length === 0) {
    if (known.length) return [...project.jobs];
    throw new BuildError(`Cannot find a job for our builders in ${file}`, {
      kind: "usage",
      hint: 'Add [run.NAME] with target = "$rbuild.disk-image", input and output',
    });
  }
  const selected = new Set<Job>();
  const select = (name: string) => {
    const job = project.jobs.find((job) => job.name === name || `run.${job.name}` === name);
    if (job) return selected.add(job);
    const target = project.others.get(name.replace(/^run\./, ""));
    if (target === undefined) {
      throw new BuildError(`Cannot find the job ${quote(name)} in ${file}`, { kind: "usage", hint });
    }
    throw new BuildError(`Cannot run the job ${quote(name)}: ${quote(target)} is not one of our builders`, {
      kind: "usage",
      hint: `Run it with "raptor make ${name}"`,
    });
  };
  for (const name of names) {
    if (!name.startsWith("%")) {
      select(name);
      continue;
    }
    const group = project.groups.get(name.slice(1));
    if (!group) {
      throw new BuildError(`Cannot find the group ${quote(name)} in ${file}`, {
        kind: "usage",
        hint: `Its groups are ${[...project.groups.keys()].map((group) => `%${group}`).join(", ") || "none"}`,
      });
    }
    group.forEach(select);
  }
  return [...selected];
}

/** Raptor's module name: `$LINK.folder.name`, where `$.folder.name` and `folder.name` have no link. */
export function moduleName(name: string): { root?: string; parts: string[] } {
  const parts = name.split(".");
  if (!parts[0]?.startsWith("$")) return { parts };
  const root = parts.shift()?.slice(1);
  return root ? { root, parts } : { parts };
}

function readToml(text: string, path: string): Table {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split("\n")[0]?.replace(/^Invalid TOML document: /, "");
    throw new BuildError(
      `Cannot read ${quote(path)}: line ${error.line}, column ${error.column}: ${reason}`,
      {
        kind: "usage",
        cause: error,
      },
    );
  }
}
