/**
 * The texts of `--help` and `--help=NAME`, from the tables of flags and settings. `docs/settings.md` and the man page
 * say the same.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";
import { renderTable, wrapWords } from "../core/table.ts";
import type { BuilderName } from "../image/formats.ts";
import {
  flagOf,
  groupedSettings,
  type SettingName,
  settingRows,
  SETTINGS,
  settingTexts,
} from "../plan/settings.ts";
import { flagRows, type Flags } from "./flags.ts";

/** What the help of a builder says about it. */
export interface Helped {
  readonly name: string;
  readonly summary: string;
  /** The default of `--output`. */
  readonly output: string;
  readonly settings: readonly SettingName[];
}

/** The columns of a terminal that everybody has. */
const WIDTH = 80;

/** The text of `--help`, in lines of at most 100 columns. */
export function helpText(builder: Helped, flags: Flags & { readonly output: Flags[string] }): string {
  const output = { ...flags.output, help: `${flags.output.help} [${builder.output}]` };
  const groups = groupedSettings(builder.settings);
  const names = groups.flatMap(({ names }) => names);
  const lines = renderTable(
    settingRows(names).map(({ flag, fallback, help }) => [`  ${flag}`, `${help} [${fallback}]`]),
  );
  return [
    `${builder.name} - ${builder.summary}`,
    "",
    `Usage: ${builder.name} [FLAG...]`,
    "",
    ...renderTable(flagRows({ ...flags, output })),
    "",
    "Each setting is a flag and an environment variable: --efi-mb=64 or EFI_MB=64. The flag wins.",
    "",
    ...groups.flatMap(({ title, names }) => [`${title}:`, ...lines.splice(0, names.length), ""]),
    "--help=NAME explains one of them: --help=FREE_MB",
    "",
    "Exit codes: 0 done, 1 the build failed, 2 usage error, 130 and 143 interrupted",
    "",
  ].join("\n");
}

/** What `--help=NAME` asks about: `help` is the only flag that may have a value, or none. */
export function askedSetting(args: readonly string[]): string | undefined {
  const prefix = "--help=";
  return args.find((arg) => arg.startsWith(prefix))?.slice(prefix.length);
}

/**
 * The text of `--help=NAME`: one setting in full, in lines of at most 80 columns.
 *
 * @param builder whose values are shown. Default: those of all.
 * @param asked the setting as a variable or as a flag, in upper or lower case.
 * @throws {BuildError} (usage) naming the nearest setting, if none is called that.
 */
export function settingHelp(asked: string, taken: readonly SettingName[], builder?: BuilderName): string {
  const flag = asked.replace(/^--/, "").toLowerCase().replaceAll("_", "-");
  const name = taken.find((name) => flagOf(name) === flag);
  if (!name) {
    const variables = taken.map((name) => SETTINGS[name].env);
    const meant = nearest(flag.replaceAll("-", "_"), variables);
    throw new BuildError(`Cannot explain ${quote(asked)}: there is no such setting`, {
      kind: "usage",
      hint: meant ? `Did you mean ${meant}?` : "See --help for the settings",
    });
  }
  const { title, facts, about, examples, docs } = settingTexts(name, builder);
  const width = Math.max(...examples.map(([text]) => text.length)) + 4;
  return [
    title,
    "",
    ...facts.flatMap(([what, value]) => hang(`${what}:`.padEnd(12), value)),
    "",
    ...wrapWords(about.replaceAll("`", ""), WIDTH),
    "",
    ...examples.flatMap(([text, what]) => hang(`  ${text}`.padEnd(width), what)),
    ...docs ? ["", `More: docs/${docs}`] : [],
    "",
  ].join("\n");
}

/** Wraps a text beside a first column. */
function hang(first: string, text: string): string[] {
  return wrapWords(text, WIDTH - first.length)
    .map((line, i) => (i ? " ".repeat(first.length) : first) + line);
}
