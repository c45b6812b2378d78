/**
 * What comes with a command: shell completion, a man page, and a JSON Schema of the settings. All of it
 * is generated from the tables of flags and settings.
 *
 * @module
 */

import { BUILDERS } from "../builders/mod.ts";
import config from "../deno.json" with { type: "json" };
import { type Builder, FLAGS } from "../lib/cli/cli.ts";
import { type Flag, flagRows, type Flags } from "../lib/cli/flags.ts";
import { JOB_FLAGS } from "../lib/cli/suite.ts";
import { LOG_FORMATS } from "../lib/core/log.ts";
import { wrapWords } from "../lib/core/table.ts";
import type { Parser } from "../lib/plan/setting-values.ts";
import {
  flagOf,
  groupedSettings,
  type SettingName,
  settingOf,
  settingRows,
  SETTINGS,
  settingTexts,
} from "../lib/plan/settings.ts";

/** The command that `deno task install` installs. */
export const COMMAND = "raptor-builders";

const WRITTEN = 'Written by "deno task generate".';

type Described = Pick<Builder, "name" | "summary" | "settings">;

const builders: readonly Described[] = Object.values(BUILDERS);
const settingNames = Object.keys(SETTINGS) as SettingName[];

/** A flag, for completion. */
interface CompletedFlag {
  readonly name: string;
  readonly short?: string | undefined;
  /** The placeholder for its value; absent: it takes none. */
  readonly value?: string | undefined;
  readonly help: string;
  readonly words: readonly string[];
  readonly isFile: boolean;
  /** Whether the value is a comma-separated list. */
  readonly isList: boolean;
}

/** Placeholders for paths: `DIR`, `FILE`, and (handled separately) `NAME=PATH`. */
const isPath = (value: string | undefined) => value === "DIR" || value === "FILE";

function ownFlag([name, { short, value, help }]: [string, Flag]): CompletedFlag {
  const words = name === "log" ? LOG_FORMATS : [];
  return { name, short, value, help, words, isFile: isPath(value), isList: false };
}

function settingFlag(name: SettingName, builder?: Builder["name"]): CompletedFlag {
  const { value, help, parse } = settingOf(name, builder);
  const { words = [], isList = false } = parse.schema ?? {};
  return { name: flagOf(name), value, help, words, isFile: isPath(value), isList };
}

const jobFlags = Object.entries<Flag>(JOB_FLAGS).map(ownFlag);
const flagsOf = (
  { name, settings }: Described,
) => [...Object.entries<Flag>(FLAGS).map(ownFlag), ...settings.map((setting) => settingFlag(setting, name))];
const names = builders.map(({ name }) => name);

/** Prints the names of the jobs in a Raptor.toml of the current directory. */
const LIST_JOBS = String.raw`sed -n 's/^\[run\.\([A-Za-z0-9_-]*\)\].*/\1/p' Raptor.toml 2>/dev/null`;

/** Completion for bash 4 and later, with or without the package bash-completion. */
export function bashCompletion(): string {
  const written = (flags: readonly CompletedFlag[]) =>
    flags.map(({ name, value }) => `--${name}${value ? "=" : ""}`).join(" ");
  // With the values of all builders: bash completes a value by the name of its flag.
  const flags = [...jobFlags, ...builders.flatMap(flagsOf), ...settingNames.map((name) => settingFlag(name))];
  const all = new Map(flags.map((flag) => [flag.name, flag]));
  const valued = [...all.values()].filter(({ value }) => value);
  const lists = valued.filter(({ isList }) => isList).map(({ name }) => `--${name}`);
  const files = valued.filter(({ isFile }) => isFile).map(({ name }) => `--${name}`);
  return `# bash completion for ${COMMAND}. ${WRITTEN}
_raptor_builders() {
  local line=\${COMP_LINE:0:COMP_POINT} builder='' flag='' value='' words flags word prefix=''
  read -ra words <<<"$line"
  # The word that is completed, which bash itself would split at "=".
  if [[ $line == *[[:space:]] ]]; then word=''; else word=\${words[-1]}; unset 'words[-1]'; fi
  COMPREPLY=()
  case \${words[1]-} in ${names.join("|")}) builder=\${words[1]} ;; esac
  if [[ $word == --*=* ]]; then
    flag=\${word%%=*} value=\${word#*=}
    [[ $COMP_WORDBREAKS == *=* ]] || prefix=$flag=
  elif ((\${#words[@]} > 1)); then
    case \${words[-1]} in
      ${valued.map(({ name }) => `--${name}`).join("|")}) flag=\${words[-1]} value=$word ;;
      -f) flag=--file value=$word ;;
    esac
  fi
  case $flag in
    '') ;;
    ${files.join("|")})
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -P "$prefix" -f -- "$value")
      return
      ;;
    *)
      words=''
      case $flag in
${
    valued.filter(({ words }) => words.length)
      .map(({ name, words }) => `        --${name}) words='${words.join(" ")}' ;;`).join("\n")
  }
      esac
      case $flag in
        ${lists.join("|")})
          if [[ $value == *,* ]]; then
            prefix+=\${value%,*},
            value=\${value##*,}
          fi
          ;;
      esac
      mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$value")
      return
      ;;
  esac
  case $builder in
${builders.map((builder) => `    ${builder.name}) flags='${written(flagsOf(builder))}' ;;`).join("\n")}
    *)
      flags='${written(jobFlags)}'
      ((\${#words[@]} > 1)) || flags+=' ${names.join(" ")}'
      flags+=" $(${LIST_JOBS})"
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
  [[ \${COMPREPLY[0]-} != *= ]] || compopt -o nospace
}
complete -F _raptor_builders ${COMMAND}
`;
}

/** Completion for zsh, for a directory of \`$fpath\`. */
export function zshCompletion(): string {
  const escape = (text: string) => text.replaceAll(/[[\]:\\]/g, "\\$&").replaceAll("'", `'\\''`);
  const action = ({ words, isFile, isList }: CompletedFlag) =>
    isFile
      ? "_files"
      : isList
      ? `_sequence compadd - ${words.join(" ")}`
      : words.length
      ? `(${words.join(" ")})`
      : "";
  const spec = (flag: CompletedFlag) => {
    const { name, short, value, help } = flag;
    const tail = `[${escape(help)}]${value ? `:${value}:${action(flag)}` : ""}`;
    const repeat = name === "input" ? "*" : "";
    return [`'${repeat}--${name}${value ? "=" : ""}${tail}'`, ...short ? [`'-${short}${tail}'`] : []];
  };
  const list = (flags: readonly CompletedFlag[], indent: string) =>
    flags.flatMap(spec).map((text) => `${indent}${text}`).join(" \\\n");
  return `#compdef ${COMMAND}
# ${WRITTEN}
_${COMMAND}() {
  local -a jobs
  if ((CURRENT > 2)); then
    case $words[2] in
${
    builders.map((builder) =>
      `      ${builder.name})
        shift words
        ((CURRENT--))
        _arguments \\
${list(flagsOf(builder), "          ")}
        return
        ;;`
    ).join("\n")
  }
    esac
  fi
  jobs=(\${(f)"$(${LIST_JOBS})"})
  _arguments \\
${list(jobFlags, "    ")} \\
    "1:builder or job:(${names.join(" ")} $jobs)" \\
    "*:job:($jobs)"
}
_${COMMAND} "$@"
`;
}

/** Completion for fish 3 and later. */
export function fishCompletion(): string {
  const quote = (text: string) => `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
  const line = (condition: string, flag: CompletedFlag) => {
    const { name, short, value, help, words, isFile, isList } = flag;
    const values = isList ? `(__fish_append , ${words.join(" ")})` : words.join(" ");
    return [
      `complete -c ${COMMAND} -n ${quote(condition)} -l ${name}`,
      ...short ? [`-s ${short}`] : [],
      ...value ? [isFile ? "-r -F" : words.length ? `-x -a ${quote(values)}` : "-x"] : [],
      `-d ${quote(help)}`,
    ].join(" ");
  };
  const none = `not __fish_seen_subcommand_from ${names.join(" ")}`;
  return [
    `# fish completion for ${COMMAND}. ${WRITTEN}`,
    `complete -c ${COMMAND} -f`,
    ...builders.map(({ name, summary }) =>
      `complete -c ${COMMAND} -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`
    ),
    `complete -c ${COMMAND} -n ${quote(none)} -a ${quote(`(${LIST_JOBS})`)} -d Job`,
    ...jobFlags.map((flag) => line(none, flag)),
    ...builders.flatMap((builder) =>
      flagsOf(builder).map((flag) => line(`__fish_seen_subcommand_from ${builder.name}`, flag))
    ),
    "",
  ].join("\n");
}

/** Text for roff: without escapes, with hyphens that can be copied, and lists may break after a comma. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll(/,(?=\S)/g, ",\\:");
}

/** A paragraph for roff, in lines of less than 80 bytes that are not requests. */
function paragraph(text: string): string {
  return wrapWords(roff(text), 76).map((line) => line.replace(/^[.']/, "\\&$&")).join("\n");
}

/** The man page, after man(7): https://man7.org/linux/man-pages/man7/man.7.html */
export function manPage(): string {
  const entry = (head: string, text: string) => [".TP", head, paragraph(text)];
  const flags = (flags: Flags) =>
    flagRows(flags).flatMap(([head, help]) => entry(`.B ${roff(head.trim())}`, `${help}.`));
  const settings = groupedSettings(settingNames).flatMap(({ title, names }) => [
    `.SS ${title}`,
    ...names.flatMap((name) => {
      const [{ flag, env, fallback, help }] = settingRows([name]) as [ReturnType<typeof settingRows>[number]];
      const takers = builders.filter(({ settings }) => settings.includes(name)).map(({ name }) => name);
      const only = takers.length < builders.length ? ` Only of ${takers.join(", ")}.` : "";
      const about = settingTexts(name).about.replaceAll("`", "");
      return entry(
        `.BR ${roff(flag)} ", " ${roff(env)}`,
        `${help}. ${about} Default: ${fallback}.${only}`,
      );
    }),
  ]);
  return [
    `.\\" ${WRITTEN}`,
    `.TH RAPTOR\\-BUILDERS 1 "" "${COMMAND} ${config.version}" "User Commands"`,
    // Some lines are full of unbreakable names.
    ".ad l",
    ".SH NAME",
    `${roff(COMMAND)} \\- build disk and partition images from OS trees`,
    ".SH SYNOPSIS",
    `.B ${roff(COMMAND)}`,
    ".I BUILDER",
    ".RI [ FLAG ...]",
    ".br",
    `.B ${roff(COMMAND)}`,
    ".RI [ JOB ...]",
    ".RI [ FLAG ...]",
    ".SH DESCRIPTION",
    paragraph(
      "Turns an OS tree, a directory or a tar archive, into an image. It needs no loop device, no mount and no " +
        "virtual machine, and runs nothing from the tree.",
    ),
    ".PP",
    "The first form runs one builder. The second builds jobs of a",
    ".I Raptor.toml",
    "whose target is one of the builders: all of them, or those that are named as",
    ".I JOB",
    "or",
    ".BI run. JOB\\fR,",
    "or by their group as",
    ".BI % GROUP\\fR.",
    ".SH BUILDERS",
    ...builders.flatMap(({ name, summary }) => entry(`.B ${roff(name)}`, `${summary}.`)),
    ".SH FLAGS OF A BUILDER",
    ...flags(FLAGS),
    ".SH FLAGS FOR JOBS",
    ...flags(JOB_FLAGS),
    ".SH SETTINGS",
    paragraph(
      "Each is a flag and an environment variable: the flag wins, an empty variable is unset. MB means MiB.",
    ),
    "The settings of a job stand in its",
    ".B env",
    "table.",
    ...settings,
    ".SH ENVIRONMENT",
    ...entry(".B TMPDIR", "Where scratch files are made. Default: /var/tmp."),
    ...entry(".B NO_COLOR", "Set to anything: no colours on a terminal."),
    ".SH FILES",
    ...entry(".I Raptor.toml", "The jobs, as Raptor reads them."),
    ".SH EXIT STATUS",
    ...entry(".B 0", "Done."),
    ...entry(".B 1", "The build failed. The output is empty, and dated 1970."),
    ...entry(".B 2", "Usage error."),
    ...entry('.BR 130 ", " 143', "Interrupted by SIGINT or SIGTERM."),
    ".SH EXAMPLES",
    ".EX",
    ...[
      `${COMMAND} disk-image --input rootfs --output disk.qcow2`,
      `${COMMAND} disk-image --input rootfs.tar.zst --output disk.img --free-mb 2048 --dry-run`,
      `${COMMAND} disk1 --input test=rootfs`,
    ].map(roff),
    ".EE",
    ".SH SEE ALSO",
    `.BR systemd\\-nspawn (1),\n.BR sfdisk (8),\n.BR qemu\\-img (1)`,
    "",
  ].join("\n");
}

/** The JSON Schema of the settings as environment variables: https://json-schema.org/draft/2020-12 */
export function settingsSchema(): string {
  const properties = (names: readonly SettingName[]) =>
    Object.fromEntries(names.map((name) => [SETTINGS[name].env, { $ref: `#/$defs/${SETTINGS[name].env}` }]));
  const defs = settingRows(settingNames).map(({ env, fallback, help }, i) => {
    const { parse, default: value }: { parse: Parser<unknown>; default?: string } =
      SETTINGS[settingNames[i]!];
    const { words, pattern } = parse.schema ?? {};
    return [env, {
      description: `${help} [${fallback}]`,
      type: "string",
      examples: Object.keys(SETTINGS[settingNames[i]!].examples),
      ...value !== undefined && { default: value },
      ...pattern !== undefined ? { pattern } : words && { enum: words },
      ...pattern !== undefined && words && { examples: words },
    }];
  });
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Settings of raptor-builders",
    description:
      "The env table of a job, or the environment of a builder. All values are texts, as Raptor wants them.",
    type: "object",
    properties: properties(settingNames),
    additionalProperties: false,
    $defs: {
      ...Object.fromEntries(defs),
      ...Object.fromEntries(builders.map(({ name, summary, settings }) => [name, {
        description: summary,
        type: "object",
        properties: properties(settings),
        additionalProperties: false,
      }])),
    },
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
