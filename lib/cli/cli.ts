/**
 * The command line that all builders share: flags, `--help`, `--dry-run`, exit codes, signals.
 *
 * Exit codes: 0 done, 1 the build failed, 2 usage error, 130 and 143 interrupted by SIGINT and SIGTERM.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import type { ParseArgsConfig } from "node:util";
import config from "../../deno.json" with { type: "json" };
import { BuildError, quote } from "../core/error.ts";
import { describeFinding, strictError, warningsOf } from "../core/findings.ts";
import * as log from "../core/log.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { timeStep } from "../core/progress.ts";
import { oneOf } from "../core/suggest.ts";
import { type BuilderName, contradiction, promised } from "../image/formats.ts";
import { dateEmptyOutputs, followOutput, refuseStream } from "../image/output.ts";
import { openInput } from "../make/input.ts";
import { SIDE_FILES } from "../make/manifest.ts";
import { checkOutside, checkPlaces, type Place } from "../make/places.ts";
import { SUMS } from "../make/split.ts";
import { verityFiles } from "../make/verity.ts";
import { plainPlan, renderPlan } from "../plan/describe.ts";
import type { Plan } from "../plan/plan.ts";
import { ignoredSettings, keyFiles, misspelledSettings, readSettings } from "../plan/read-settings.ts";
import { flagOf, type SettingName, SETTINGS, type Settings } from "../plan/settings.ts";
import { reasonOf, remedyFor } from "../system/failure.ts";
import { inspectFile } from "../system/files.ts";
import { isVolatile, type Mount, mountAt, nameOutside, readMounts } from "../system/mounts.ts";
import {
  interrupt,
  interrupted,
  type Interruption,
  type SignalName,
  SIGNALS,
  throwIfInterrupted,
} from "../system/process.ts";
import { inspectTree, type OpenTree, type Tree } from "../tree/inspect.ts";
import { closeRoot } from "../tree/root.ts";
import { type Flags, readFlags } from "./flags.ts";
import { askedSetting, helpText, settingHelp } from "./help.ts";

/** A kind of image. */
export interface Builder<P extends Plan = Plan> {
  readonly name: BuilderName;
  /** One line for `--help`. */
  readonly summary: string;
  /** Where the container mounts the output file. */
  readonly output: string;
  readonly settings: readonly SettingName[];
  /** Pure. @throws {BuildError} */
  readonly plan: (settings: Settings, tree: Tree) => P;
  readonly build: (plan: P, tree: OpenTree, output: string) => Promise<void>;
}

/** Where the container mounts the tree. */
export const DEFAULT_INPUT = "/input";

/** Where the container mounts the directory for other files to keep, if any. */
export const CACHE = "/cache";

/** The version of the suite. */
export const VERSION: string = config.version;

type Environment = Readonly<Record<string, string | undefined>>;

/** The flags that are no settings. */
export const FLAGS = {
  "input": {
    type: "string",
    value: "DIR",
    help: `The tree: a directory or a tar archive [${DEFAULT_INPUT}]`,
  },
  "output": { type: "string", value: "FILE", help: "The image" },
  "dry-run": { type: "boolean", help: "Show what would be made without making it" },
  "json": { type: "boolean", help: "With --dry-run: show it as JSON" },
  "verbose": { type: "boolean", help: "Also log command lines and the output of programs" },
  "log": { type: "string", value: "FORMAT", help: `Format of the log: ${log.LOG_FORMATS.join(", ")} [text]` },
  "help": { type: "boolean", help: "Show this help; --help=NAME explains a setting" },
  "version": { type: "boolean", help: "Show the version" },
} as const satisfies Flags;

/** Runs a builder with the arguments and environment of the process, and exits. */
export async function main<P extends Plan>(builder: Builder<P>): Promise<never> {
  Deno.exit(await run(builder, Deno.args, Deno.env.toObject()));
}

/** How a builder is run for a job of a `Raptor.toml`. */
export interface JobContext {
  /** Where to keep the log of a build with errors or warnings. Default: {@link CACHE} if it is mounted. */
  readonly cache?: string | undefined;
}

/**
 * Runs a builder and returns the exit code. Never throws: errors are logged.
 *
 * SIGINT and SIGTERM stop the programs that it started, and then the builder.
 *
 * @param job set when run for a job: then it behaves as in Raptor's container, where the output's name is unknown.
 */
export async function run<P extends Plan>(
  builder: Builder<P>,
  args: readonly string[],
  env: Environment,
  job?: JobContext,
): Promise<number> {
  setLogFormat(args);
  const outputs = [builder.output, ...valuesIn(args, "--output")];
  await dateEmptyOutputs(outputs);
  // A question is no build: it keeps no log, nor removes one.
  if (args.some((arg) => /^--(help|version)(=|$)/.test(arg))) {
    return await report(() => answer(builder, args));
  }
  log.startTranscript();
  const mounts: Mount[] = [];
  const code = await report(async () => {
    mounts.push(...readMounts());
    await runBuilder(builder, args, env, mounts, job);
  });
  const directory = job?.cache ?? (mountAt(CACHE, mounts) && CACHE);
  if (directory) {
    await keepLog(join(directory, `${nameOf(resolve(outputs.at(-1)!), mounts)}.log`), code !== 0);
  }
  return code;
}

/** The values of a flag, even if other arguments are wrong. */
function valuesIn(args: readonly string[], flag: `--${string}`): string[] {
  return args.flatMap((arg, i) =>
    arg.startsWith(`${flag}=`) ? [arg.slice(flag.length + 1)] : args[i - 1] === flag ? [arg] : []
  );
}

/**
 * Sets the format of the log before anything else is done: whoever reads JSON wants usage errors in it, too. What is no
 * format is reported later, as text.
 */
export function setLogFormat(args: readonly string[]): void {
  const asked = valuesIn(args, "--log").at(-1);
  log.setLogFormat(log.LOG_FORMATS.find((form) => form === asked) ?? "text");
}

/** The file name of an image; in a container, the name that the mounted file has outside. */
function nameOf(output: string, mounts: readonly Mount[]): string {
  return nameOutside(output, mounts) ?? basename(output);
}

/** Keeps the log of a build with errors or warnings, and removes an old log otherwise. */
async function keepLog(path: string, failed: boolean): Promise<void> {
  const { text, hasWarnings } = log.readTranscript();
  try {
    const type = inspectFile(path)?.type;
    // A FIFO would be waited for.
    if (type !== undefined && type !== FILE_TYPES.file) throw new Error("it is no regular file");
    if (failed || hasWarnings) await Deno.writeTextFile(path, text);
    else await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      log.warn(`Cannot keep the log as ${quote(path)}: ${reasonOf(error)}`);
    }
  }
}

/** Runs `task` under the signal handlers, logs its error, and returns the exit code. */
export async function report(task: () => Promise<void>): Promise<number> {
  const listeners = (Object.keys(SIGNALS) as SignalName[]).map((signal) => {
    const listener = () => interrupt(signal);
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });
  try {
    await task();
    return 0;
  } catch (error) {
    log.setStatus("");
    if (interrupted.aborted) {
      const { message, exitCode } = interrupted.reason as Interruption;
      log.fail(message);
      return exitCode;
    }
    if (error instanceof BuildError) {
      log.fail(error.message);
      if (error.hint) log.fail(error.hint);
      return error.kind === "usage" ? 2 : 1;
    }
    if (error instanceof Deno.errors.BrokenPipe) {
      log.fail("Cannot write to stdout: nobody reads it any more");
      return 1;
    }
    const remedy = remedyFor(error);
    if (remedy) {
      log.fail((error as Error).message);
      log.fail(remedy);
      return 1;
    }
    log.fail(error instanceof Error ? error.stack ?? error.message : String(error));
    log.fail("This is a bug in raptor-builders; please report it with the lines above");
    return 1;
  } finally {
    listeners.forEach((remove) => remove());
  }
}

type Asked = Pick<Builder, "name" | "summary" | "output" | "settings">;

/** Prints what `--help`, `--help=NAME` or `--version` asks for. */
async function answer(builder: Asked, args: readonly string[]): Promise<void> {
  const asked = askedSetting(args);
  if (asked !== undefined) return await print(settingHelp(asked, builder.settings, builder.name));
  const { help } = parseFlags(builder, args);
  await print(help ? helpText(builder, FLAGS) : `${builder.name} ${VERSION}\n`);
}

async function runBuilder<P extends Plan>(
  builder: Builder<P>,
  args: readonly string[],
  env: Environment,
  mounts: readonly Mount[],
  job?: JobContext,
): Promise<void> {
  const flags = parseFlags(builder, args);
  const given = flags.output as string | undefined ?? builder.output;
  refuseStream(given);
  // Absolute, since programs take "-x" for an option and qemu-img "nbd:x" for a network.
  const output = await followOutput(resolve(given));
  if (flags.log !== undefined && !log.LOG_FORMATS.some((form) => form === flags.log)) {
    throw new BuildError(`Cannot use --log=${quote(String(flags.log))}`, {
      kind: "usage",
      hint: `Accepted: ${oneOf(log.LOG_FORMATS, String(flags.log))}`,
    });
  }
  log.setVerbose(flags.verbose === true);
  if (flags.json && !flags["dry-run"]) {
    throw new BuildError("Cannot use --json alone", { kind: "usage", hint: "Add --dry-run" });
  }
  // In a container, the name of a mounted output is arbitrary.
  const isNamed = !job && !mountAt(output, mounts);
  const { formats: [promisedFormat], compressor } = isNamed
    ? promised(basename(output), builder.name)
    : { formats: [] };
  const settings = readSettings(builder.settings, flags as Record<string, string>, {
    ...env,
    OUTPUT_FORMAT: env.OUTPUT_FORMAT || promisedFormat,
    COMPRESS: env.COMPRESS || compressor,
  }, builder.name);
  const outputName = settings.outputName ?? nameOf(output, mounts);
  checkName(isNamed ? basename(output) : outputName, builder.name, settings, isNamed);
  for (const name of ignoredSettings(builder.settings, env)) {
    log.warn(`${name} is ignored: ${builder.name} does not support it`);
  }
  for (const [name, meant] of misspelledSettings(builder.settings, env)) {
    log.warn(`${name} is not a setting: did you mean ${meant}?`);
  }
  if (!flags["dry-run"]) requireOutputKept(builder, output, flags.output !== undefined, mounts);
  requireKept(builder, settings, output, mounts);
  const path = flags.input as string | undefined ?? DEFAULT_INPUT;
  const written = writtenPlaces(builder, settings, output, outputName);
  await checkPlaces(written, [
    { what: "the input", path },
    ...keyFiles(builder.settings, flags as Record<string, string>, env)
      .map(({ env, path }) => ({ what: `the file of ${env}`, path })),
  ]);
  log.step(`Reading ${path}`);
  const began = new Date();
  await using input = await openInput(path);
  const inspected = await timeStep("read the tree", () => inspectTree(input.directory, began));
  const tree = { ...inspected, findings: [...input.findings, ...inspected.findings] };
  throwIfInterrupted();
  try {
    await checkOutside(written, tree);
    const seed = settings.seed === "random" ? crypto.randomUUID() : settings.seed;
    const plan = await timeStep("plan", () => builder.plan({ ...settings, seed, outputName }, tree));
    if (flags["dry-run"]) {
      const lines = flags.json ? [JSON.stringify(plainPlan(plan), null, 2)] : renderPlan(plan);
      await print(lines.join("\n") + "\n");
    } else {
      renderPlan(plan).forEach((line) => log.detail(line));
    }
    const warnings = warningsOf(plan.findings);
    if (settings.strict && warnings.length) throw strictError(warnings);
    warnings.forEach((found) => log.warn(describeFinding(found)));
    if (!flags["dry-run"]) await builder.build(plan, tree, output);
  } finally {
    closeRoot(tree.root);
  }
}

/**
 * Checks the name of the image against its format. For the output of a job or in a container, a mismatch is only a
 * warning: not all of Raptor's containers show the name, and the result must be the same.
 *
 * @throws {BuildError} (usage) with both ways out, where the name is what was asked for.
 */
function checkName(
  name: string,
  builder: BuilderName,
  settings: Settings,
  isNamed: boolean,
): void {
  const wrong = contradiction(name, settings, builder);
  if (!wrong) return;
  const { problem, hint } = wrong;
  if (isNamed || settings.strict) {
    throw new BuildError(`Cannot write ${quote(name)}: ${problem}`, { kind: "usage", hint });
  }
  log.warn(`The name ${quote(name)} does not match the format: ${problem}`);
  log.warn(hint);
}

/** The directory for hashes beside the image; `undefined` if none are written there. */
function hashDirectory(
  { settings: taken }: Pick<Builder, "settings">,
  { verity, verityDirectory }: Settings,
  output: string,
): string | undefined {
  return taken.includes("verityDirectory") && verity !== "none"
    ? verityDirectory ?? dirname(output)
    : undefined;
}

/** What the root of a container is mounted as, by root and by other users without overlayfs of their own. */
const CONTAINER_ROOTS = ["overlay", "fuse.fuse-overlayfs"];

/** Whether we run in a container, which loses what is written where nothing is mounted. */
function isInContainer(mounts: readonly Mount[]): boolean {
  return CONTAINER_ROOTS.includes(mountAt("/", mounts)?.type ?? "");
}

/**
 * Checks that the image will not be lost with the container because something else was mounted for it, or nothing.
 *
 * An output that was asked for by name may well be in the container: a development container has its checkout there,
 * and a script in a container may send the image elsewhere. This gets a line in the log. But nobody asked for the
 * default, and who mounted a file beside it meant that one.
 *
 * @param isGiven whether the output is named on the command line.
 * @throws {BuildError} (usage) naming what is mounted instead.
 */
export function requireOutputKept(
  builder: Pick<Builder, "output">,
  output: string,
  isGiven: boolean,
  mounts: readonly Mount[],
): void {
  if (!isVolatile(output, mounts)) return;
  const directory = dirname(builder.output);
  const beside = dirname(output) === directory
    ? mounts.find(({ point }) => dirname(point) === directory)
    : undefined;
  if (!beside && !isInContainer(mounts)) return;
  if (!beside && isGiven) {
    log.detail(`${quote(output)} is not in a mounted directory: it will be lost with the container`);
    return;
  }
  throw new BuildError(
    `Cannot write the image to ${quote(output)}: it would be lost with the container`,
    {
      kind: "usage",
      hint: beside
        ? `Write to what is mounted (--output=${beside.point}), or mount it as ${output}`
        : `Mount a file as ${output}, or name another one with --output`,
    },
  );
}

/**
 * Checks that side files will not be lost with the container, that is, that they go to a mounted directory.
 *
 * @throws {BuildError} (usage) naming the setting.
 */
function requireKept(
  builder: Pick<Builder, "settings">,
  settings: Settings,
  output: string,
  mounts: readonly Mount[],
): void {
  const isKept = mountAt(output, mounts) || isInContainer(mounts) && !isVolatile(output, mounts);
  if (!isKept) return;
  const paths = [
    ...SIDE_FILES.map((name) => [name, settings[name]] as const),
    ["verityDirectory", hashDirectory(builder, settings, output)] as const,
    ["splitDirectory", settings.splitDirectory] as const,
  ];
  for (const [name, path] of paths) {
    if (path === undefined || !isVolatile(resolve(path), mounts)) continue;
    const { env } = SETTINGS[name];
    throw new BuildError(
      `Cannot write to ${quote(path)}: it would be lost with the container`,
      {
        kind: "usage",
        hint:
          `Set ${env} to a path in a mounted directory; with Raptor, give the job a cache and use ${CACHE}`,
      },
    );
  }
}

/** What a build writes. */
function writtenPlaces(
  builder: Pick<Builder, "settings">,
  settings: Settings,
  output: string,
  name: string,
): Place[] {
  const hashes = hashDirectory(builder, settings, output);
  return [
    { what: "the image", path: output },
    ...SIDE_FILES.flatMap((name) => {
      const path = settings[name];
      return path === undefined ? [] : [{ what: SETTINGS[name].env, path }];
    }),
    ...settings.splitDirectory === undefined
      ? []
      : [{ what: SETTINGS.splitDirectory.env, path: join(settings.splitDirectory, SUMS) }],
    ...(hashes === undefined ? [] : verityFiles(hashes, name)).map((path) => ({ what: "the hashes", path })),
  ];
}

type FlagValues = Readonly<Record<string, string | boolean | undefined>>;

/** @throws {BuildError} (usage) naming the flag that is unknown or lacks a value. */
function parseFlags(builder: Pick<Builder, "name" | "settings">, args: readonly string[]): FlagValues {
  const options: NonNullable<ParseArgsConfig["options"]> = {};
  for (const [name, { type }] of Object.entries(FLAGS)) options[name] = { type };
  for (const name of builder.settings) options[flagOf(name)] = { type: "string" };
  const explain = (flag: string) =>
    isSettingFlag(flag) ? `Leave it out: ${builder.name} does not support this setting` : undefined;
  const secrets = builder.settings.filter((name) => "secret" in SETTINGS[name]).map(flagOf);
  return readFlags({ args: [...args], options }, explain, secrets).values as FlagValues;
}

/** Whether a flag (without dashes) belongs to a setting of any builder. */
export function isSettingFlag(flag: string): boolean {
  return (Object.keys(SETTINGS) as SettingName[]).some((name) => flagOf(name) === flag);
}

/** Writes a text to stdout. */
export async function print(text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += await Deno.stdout.write(bytes.subarray(done));
}
