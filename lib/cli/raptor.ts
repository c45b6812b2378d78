/**
 * Reads the images that a project wants from its `Raptor.toml`, as Raptor does.
 *
 * A job `[run.NAME]` may be for us if the last part of its target is the name of one of our builders, as in
 * `$LINK.disk-image`. Links and modules are relative to the directory of the file, outputs and caches to the
 * current directory. Unknown keys are ignored with a warning.
 *
 * - https://chrivers.github.io/raptor/make.html
 * - https://chrivers.github.io/raptor/module-name/package.html
 *
 * @module
 */

import { dirname, isAbsolute, normalize, resolve } from "node:path";
import { parse, TomlError } from "smol-toml";
import { BuildError, quote } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";

/** One image to build. */
export interface Job {
  readonly name: string;
  /** The name of one of our builders, e.g. `disk-image`. */
  readonly builder: string;
  /** What Raptor runs, as written, e.g. `$rbuild.disk-image`. */
  readonly target: string;
  /** The `.rapt` file of the target: tells whether the builder is ours. */
  readonly file: string;
  /** The Raptor target whose tree goes into the image, as written, e.g. `test`, `$book.ssh`. */
  readonly input: string;
  /** Where the image goes. */
  readonly output: string;
  /** The directory that the builder sees as `/cache`. */
  readonly cache?: string;
  /** Flags for the builder. */
  readonly args: readonly string[];
  /** All of its settings: Raptor passes none of its own environment to a builder. */
  readonly env: Readonly<Record<string, string>>;
}

export interface Project {
  /** The path of the file, for messages. */
  readonly path: string;
  readonly folder: string;
  readonly links: ReadonlyMap<string, string>;
  /** The jobs for our builders, in file order. */
  readonly jobs: readonly Job[];
  /** Jobs that are not for us: name → reason. */
  readonly others: ReadonlyMap<string, string>;
  readonly groups: ReadonlyMap<string, Group>;
  /** Warnings about the file. */
  readonly warnings: readonly string[];
}

/** `[group.NAME]` */
export interface Group {
  /** The names of its jobs. */
  readonly run: readonly string[];
  /** Layers, which only Raptor can build. */
  readonly build: readonly string[];
}

/** The keys that Raptor knows. Our builders do not use `state-dir`. */
const KEYS = {
  "": ["raptor", "run", "group"],
  "raptor": ["link"],
  "group": ["run", "build"],
  "run": ["target", "cache", "input", "output", "entrypoint", "args", "env", "state-dir"],
} as const;

type Table = Readonly<Record<string, unknown>>;

/**
 * Parses a `Raptor.toml`.
 *
 * @param path of the file; links and modules are relative to its directory.
 * @param builders the names of our builders.
 * @throws {BuildError} (usage) naming a key that Raptor would also reject, or two jobs with the same output. Links
 * are not followed here: runJobs() finds two names of one file.
 */
export function parseProject(text: string, path: string, builders: readonly string[]): Project {
  const problem = (what: string, hint?: string) =>
    new BuildError(`Cannot use ${quote(path)}: ${what}`, { kind: "usage", hint });
  const warnings: string[] = [];
  /** Shows a value as in TOML, except that anything below `env` or `args` may be or contain a key. */
  const show = (value: unknown, key: string) =>
    /\.(env|args)(\.|$)/.test(key) && ["string", "object"].includes(typeof value)
      ? "…"
      : JSON.stringify(value);

  const table = (value: unknown, key: string): Table => {
    if (value === undefined) return {};
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Table;
    throw problem(`${key} = ${show(value, key)} is not a table`, `Write [${key}]`);
  };
  const string = (value: unknown, key: string): string => {
    if (typeof value === "string") return value;
    const fix = typeof value === "object"
      ? undefined
      : `Write ${key.split(".").slice(2).join(".")} = "${value}"`;
    throw problem(`${key} = ${show(value, key)} is not a string`, fix);
  };
  const list = (value: unknown, key: string): string[] => {
    if (value === undefined) return [];
    if (Array.isArray(value)) return value.map((item) => string(item, key));
    throw problem(
      `${key} = ${show(value, key)} is not a list`,
      `Write ${key.slice(key.lastIndexOf(".") + 1)} = [${show(value, key)}]`,
    );
  };
  /** Raptor's `string_or_list`. */
  const strings = (value: unknown, key: string): string[] =>
    Array.isArray(value) || value === undefined ? list(value, key) : [string(value, key)];
  /** Our builders have at most one mount of each kind. */
  const single = (value: unknown, key: string): string | undefined => {
    const [first, ...rest] = strings(value, key);
    if (rest.length) throw problem(`${key} has ${rest.length + 1} entries, but the builder accepts only one`);
    return first;
  };
  const required = (value: unknown, key: string, example: string): string => {
    const found = single(value, key);
    if (found) return found;
    throw problem(
      `${key} is missing or empty`,
      `Write ${key.slice(key.lastIndexOf(".") + 1)} = ${example}`,
    );
  };
  const warnOfKeys = (value: Table, kind: keyof typeof KEYS, key: string) => {
    const known: readonly string[] = KEYS[kind];
    for (const name of Object.keys(value).filter((name) => !known.includes(name))) {
      const meant = nearest(name, known);
      const place = key ? `${key}.${showKey(name)}` : showKey(name);
      warnings.push(`${path}: Raptor ignores ${place}${meant ? `: did you mean ${meant}?` : ""}`);
    }
  };

  const document = readToml(text, path);
  warnOfKeys(document, "", "");
  const raptor = table(document.raptor, "raptor");
  warnOfKeys(raptor, "raptor", "raptor");
  if (document.raptor !== undefined && raptor.link === undefined) {
    throw problem("[raptor] has no links", "Write [raptor.link], or leave [raptor] out");
  }
  const links = new Map(
    Object.entries(table(raptor.link, "raptor.link"))
      .map(([name, link]) => [name, string(link, `raptor.link.${showKey(name)}`)] as const),
  );
  const groups = new Map(
    Object.entries(table(document.group, "group")).map(([name, value]) => {
      const key = `group.${showKey(name)}`;
      const group = table(value, key);
      warnOfKeys(group, "group", key);
      return [name, {
        run: list(group.run, `${key}.run`),
        build: list(group.build, `${key}.build`),
      }] as const;
    }),
  );

  const noLink = (key: string, value: string, link: string, hint: string | undefined) => {
    const meant = nearest(link, [...links.keys()]);
    return problem(
      `${key} = ${quote(value)} uses a link that is not in [raptor.link]`,
      meant === undefined ? hint : `Did you mean $${meant}?`,
    );
  };
  const folder = dirname(path);
  /** Resolves components that are links, such as `$rbuild`, in a path. */
  const logical = (file: string, key: string): string => {
    const parts = file.split("/").map((part) => {
      if (!part.startsWith("$")) return part;
      const link = links.get(part.slice(1));
      if (link === undefined) throw noLink(key, file, part.slice(1), undefined);
      return link;
    });
    // Raptor joins them like paths: an absolute one starts over.
    const start = parts.findLastIndex((part) => isAbsolute(part));
    return normalize(start > 0 ? parts.slice(start).join("/") : parts.join("/"));
  };
  const jobs: Job[] = [];
  const others = new Map<string, string>();
  for (const [name, value] of Object.entries(table(document.run, "run"))) {
    const key = `run.${showKey(name)}`;
    const run = table(value, key);
    if (run.target === undefined) {
      throw problem(`${key}.target is missing`, `Write target = "$rbuild.${builders[0]}"`);
    }
    const target = string(run.target, `${key}.target`);
    warnOfKeys(run, "run", key);
    const { root, parts } = moduleName(target);
    const inputs = strings(run.input, `${key}.input`);
    const outputs = strings(run.output, `${key}.output`);
    const caches = strings(run.cache, `${key}.cache`);
    const entrypoint = list(run.entrypoint, `${key}.entrypoint`);
    const args = list(run.args, `${key}.args`);
    if (run["state-dir"] !== undefined) string(run["state-dir"], `${key}.state-dir`);
    const env = Object.entries(table(run.env, `${key}.env`))
      .map(([setting, text]) => [setting, string(text, `${key}.env.${setting}`)] as const);

    const builder = builders.find((known) => known === parts.at(-1));
    if (!builder) {
      const meant = nearest(parts.at(-1) ?? "", builders);
      if (meant) warnings.push(`${path}: ${key}.target = ${quote(target)}: did you mean ${meant}?`);
      others.set(name, `${quote(target)} is not one of our builders`);
      continue;
    }
    if (entrypoint.length) {
      others.set(name, `it runs ${quote(entrypoint[0]!)} in the container of ${builder}`);
      continue;
    }
    const link = root === undefined ? "" : links.get(root);
    if (link === undefined) {
      const hint = `Write ${showKey(root!)} = "raptor-builders" below [raptor.link]`;
      throw noLink(`${key}.target`, target, root!, hint);
    }
    const output = logical(required(outputs, `${key}.output`, '"disk.img"'), `${key}.output`);
    const twin = jobs.find((job) => job.output === output);
    if (twin) throw problem(`run.${twin.name} and ${key} both write ${quote(output)}`);
    const cache = single(caches, `${key}.cache`);
    jobs.push({
      name,
      builder,
      target,
      file: `${resolve(folder, link, ...parts)}.rapt`,
      input: required(inputs, `${key}.input`, '"test"'),
      output,
      ...cache && { cache: logical(cache, `${key}.cache`) },
      args,
      env: Object.fromEntries(env),
    });
  }
  return { path, folder, links, jobs, others, groups, warnings };
}

/** Shows a key as in TOML, without control characters. */
export function showKey(name: string): string {
  return /^[\w-]+$/.test(name) ? name : quote(name);
}

/**
 * Selects jobs by name (`disk1`, or `run.disk1` as in the file), by group (`%all`), or all of ours if none is named.
 *
 * @param builders the names of our builders, to suggest one for an unknown name.
 */
export function selectJobs(
  project: Project,
  names: readonly string[],
  builders: readonly string[] = [],
): Job[] {
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
    const reason = project.others.get(name.replace(/^run\./, ""));
    if (reason === undefined) {
      const meant = nearest(name, [...known, ...builders]);
      throw new BuildError(`Cannot find the job ${quote(name)} in ${file}`, {
        kind: "usage",
        hint: meant ? `Did you mean ${meant}?` : hint,
      });
    }
    throw new BuildError(`Cannot run the job ${quote(name)}: ${reason}`, {
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
      const groups = [...project.groups.keys()].map((group) => `%${group}`);
      const meant = nearest(name, groups);
      throw new BuildError(`Cannot find the group ${quote(name)} in ${file}`, {
        kind: "usage",
        hint: meant ? `Did you mean ${meant}?` : `Its groups are ${groups.join(", ") || "none"}`,
      });
    }
    if (group.build.length) {
      throw new BuildError(`Cannot build the layers of the group ${quote(name)}: ${group.build.join(", ")}`, {
        kind: "usage",
        hint: `Run it with "raptor make ${name}", or name its jobs: ${group.run.join(", ") || "it has none"}`,
      });
    }
    group.run.forEach(select);
  }
  return [...selected];
}

/** Splits a Raptor module name `$LINK.folder.name`; `$.folder.name` and `folder.name` have no link. */
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
