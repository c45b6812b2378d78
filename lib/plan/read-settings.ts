/**
 * Reads settings from flags and environment variables.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";
import { type BuilderName, type FormatName, formatNames } from "../image/formats.ts";
import { looksLikePath } from "./pem.ts";
import { flagOf, type Setting, type SettingName, settingOf, SETTINGS, type Settings } from "./settings.ts";

/**
 * Reads the settings: the flag wins over the environment variable, which wins over the default. An empty variable
 * counts as unset: pipelines often pass on variables without knowing whether they are set.
 *
 * @param taken the settings that the builder supports; the others keep their defaults.
 * @param builder whose values are accepted. Default: those of any.
 * @throws {BuildError} (usage) naming the flag or variable, the value and what is accepted; or a setting that means
 * nothing for the format, or with a layout.
 */
export function readSettings(
  taken: readonly SettingName[],
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
  builder?: BuilderName,
): Settings {
  const read = (name: SettingName) => {
    const row = settingOf(name, builder);
    const { flag, variable } = givenTexts(name, taken, flags, env);
    const text = flag ?? variable ?? row.default;
    if (text === undefined) return undefined;
    try {
      return row.parse(text);
    } catch (error) {
      const { message, cause } = error as Error;
      const source = flag === undefined ? `${row.env}=` : `--${flagOf(name)}=`;
      const reason = typeof cause === "string" ? `: ${cause}` : "";
      throw new BuildError(`Cannot use ${source}${row.secret ? "(not shown)" : quote(text)}${reason}`, {
        kind: "usage",
        hint: `Accepted: ${message}`,
        cause: error,
      });
    }
  };
  const names = Object.keys(SETTINGS) as SettingName[];
  const settings = Object.fromEntries(names.map((name) => [name, read(name)])) as Settings;
  for (const name of taken) {
    const { flag, variable } = givenTexts(name, taken, flags, env);
    if ((flag ?? variable) === undefined) continue;
    requireFormat(name, settings, builder);
    refuseWithLayout(name, settings);
  }
  return settings;
}

/**
 * Refuses a setting that means nothing for the format.
 *
 * @param builder whose formats are named as those it is for. Default: those of all.
 * @throws {BuildError} (usage)
 */
function requireFormat(
  name: SettingName,
  { outputFormat }: Settings,
  builder: BuilderName | undefined,
): void {
  if (isFor(name, outputFormat)) return;
  const { env, formats = [] } = settingOf(name);
  const made = formatNames(builder);
  throw new BuildError(`Cannot use ${env} with OUTPUT_FORMAT=${outputFormat}`, {
    kind: "usage",
    hint: `Leave ${env} out: it is for ${formats.filter((format) => made.includes(format)).join(", ")}`,
  });
}

/** Refuses a setting that says what definitions say, even if it is the default. @throws {BuildError} (usage) */
function refuseWithLayout(name: SettingName, settings: Settings): void {
  const { env, insteadInLayout } = settingOf(name);
  if (insteadInLayout === undefined || settings.layout === undefined) return;
  throw new BuildError(`Cannot use ${env}=${settings[name]} with LAYOUT: the definitions say it`, {
    kind: "usage",
    hint: insteadInLayout,
  });
}

/** Whether a setting means something for a format. */
function isFor(name: SettingName, format: FormatName): boolean {
  return settingOf(name).formats?.includes(format) ?? true;
}

function givenTexts(
  name: SettingName,
  taken: readonly SettingName[],
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): { flag: string | undefined; variable: string | undefined } {
  if (!taken.includes(name)) return { flag: undefined, variable: undefined };
  return { flag: flags[flagOf(name)], variable: env[SETTINGS[name].env] || undefined };
}

/** The files that keys and certificates are read from, by their variables. */
export function keyFiles(
  taken: readonly SettingName[],
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): { env: string; path: string }[] {
  const names = taken.filter((name) => "secret" in SETTINGS[name]);
  return names.flatMap((name) => {
    const { flag, variable } = givenTexts(name, taken, flags, env);
    const path = flag ?? variable;
    return path !== undefined && looksLikePath(path) ? [{ env: SETTINGS[name].env, path }] : [];
  });
}

/** The settings that decide on the image, by their variables: without keys, and without where files go. */
export function parametersOf(settings: Settings): Record<string, unknown> {
  const names = Object.keys(SETTINGS) as SettingName[];
  return Object.fromEntries(names.flatMap((name) => {
    const { env, secret, place }: Setting<unknown> = SETTINGS[name];
    const isLeftOut = secret === true || place || !isFor(name, settings.outputFormat);
    return settings[name] === undefined || isLeftOut ? [] : [[env, settings[name]]];
  }));
}

/** Settings in the environment that the builder does not support. */
export function ignoredSettings(
  taken: readonly SettingName[],
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  const names = Object.keys(SETTINGS) as SettingName[];
  return names.filter((name) => !taken.includes(name) && env[SETTINGS[name].env])
    .map((name) => SETTINGS[name].env);
}

/** Variables that look like misspelled settings of the builder, each with the right name. */
export function misspelledSettings(
  taken: readonly SettingName[],
  env: Readonly<Record<string, string | undefined>>,
): (readonly [name: string, meant: string])[] {
  const known = Object.values(SETTINGS).map(({ env }) => env as string);
  const names = taken.map((name) => SETTINGS[name].env);
  return Object.keys(env).filter((name) => env[name] && !known.includes(name)).flatMap((name) => {
    const meant = nearest(name, names);
    return meant ? [[name, meant] as const] : [];
  });
}
