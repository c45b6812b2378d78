/**
 * What the docs have of the tables in the code. Each part is between two comments with its name:
 * `<!-- settings -->` and `<!-- /settings -->`.
 *
 * @module
 */

import { BUILDERS } from "../builders/mod.ts";
import { BOOTLOADERS } from "../lib/boot/bootloaders.ts";
import { type ArchitectureName, ARCHITECTURES, efiBootPath } from "../lib/core/dps.ts";
import { FINDINGS } from "../lib/core/findings.ts";
import { renderTable } from "../lib/core/table.ts";
import { type FilesystemName, FILESYSTEMS } from "../lib/filesystem/filesystems.ts";
import { formatNames, formatOf } from "../lib/image/formats.ts";
import { MAKERS } from "../lib/make/filesystems.ts";
import { LEFTOVERS } from "../lib/plan/leftovers.ts";
import { KEYS, REFUSED } from "../lib/plan/repart/keys.ts";
import {
  groupedSettings,
  type Setting,
  type SettingName,
  settingRows,
  SETTINGS,
  type SettingTexts,
  settingTexts,
} from "../lib/plan/settings.ts";
import { packagesFor } from "../lib/system/programs.ts";
import { XATTRS } from "../lib/tree/xattrs.ts";
import results from "../tests/bench/bench.json" with { type: "json" };
import { benchmarkTable, type Results } from "../tests/bench/results.ts";

/** The benchmark results in the docs. */
export const RESULTS: Results = results as unknown as Results;

/** The settings that the README shows. */
const MAIN_SETTINGS = [
  ...[
    "outputFormat",
    "filesystem",
    "freeMb",
    "sizeMb",
    "bootloader",
    "kernelCmdline",
    "secureBootKey",
    "keep",
  ],
] as const satisfies readonly SettingName[];

/** The rows of each table, header first. */
export const TABLES: Readonly<Record<string, () => string[][]>> = {
  "main-settings": () => [
    ["Variable", "Default", "Meaning"],
    ...settingRows(MAIN_SETTINGS).map(({ env, fallback, help }) => [
      `[${code(env)}](docs/settings.md#${env.toLowerCase()})`,
      fallback,
      help,
    ]),
  ],
  formats() {
    const names = Object.values(BUILDERS).map(({ name }) => name);
    return [
      ["`OUTPUT_FORMAT`", "Also called", "Suffix", ...names.map(code), "For"],
      ...formatNames().map((format) => {
        const { summary, suffixes, builders, aliases = [] } = formatOf(format);
        const makers = names.map((name) => builders.includes(name) ? "yes" : "");
        return [code(format), aliases.map(code).join(", "), code(`.${suffixes[0]}`), ...makers, summary];
      }),
    ];
  },
  filesystems: () => [
    ["Filesystem", "Made with", "For"],
    ...(Object.keys(FILESYSTEMS) as FilesystemName[])
      .map((name) => [code(name), MAKERS[name].programs.map(code).join(", "), FILESYSTEMS[name].summary]),
  ],
  architectures: () => [
    ["Architecture", "Partition type of root", "Boot loader"],
    ...Object.entries(ARCHITECTURES).map(([name, { root }]) => {
      const path = efiBootPath(name as ArchitectureName);
      return [code(name), code(root), path ? code(path) : ""];
    }),
  ],
  "boot-loaders": () => [
    ["`BOOTLOADER`", "What is installed"],
    ...Object.entries(BOOTLOADERS).map(([name, { summary }]) => [code(name), summary]),
  ],
  "layout-keys": () => [
    ["Key", "Value", "What it means here"],
    ...Object.entries<{ value: string; help: string }>(KEYS)
      .map(([name, { value, help }]) => [code(`${name}=`), value, help]),
  ],
  "layout-refused": () => [
    ["Key", "Why"],
    ...Object.entries(REFUSED).map(([name, why]) => [code(`${name}=`), why]),
  ],
  leftovers: () => [
    ["`KEEP`", "What is left out", "Why"],
    ...Object.entries(LEFTOVERS).map(([name, { what, why }]) => [code(name), what, why]),
  ],
  xattrs: () => [
    ["Extended attributes", "Are", "Why"],
    ...XATTRS.map(({ names, fate, why }) => [names, fate, why]),
  ],
  findings: () => [
    ["Name", "What is looked for", "What it means", "What to do"],
    ...Object.entries<{ what: string; means: string; hint: string; notice?: true }>(FINDINGS)
      .map(([name, { what, means, hint, notice }]) => [
        notice ? `${code(name)} (notice)` : code(name),
        what,
        means,
        hint,
      ]),
  ],
  packages: () => [
    ["Package", "What for", "Needed to"],
    ...packagesFor("test").map(({ names, why, purpose }) => [names.map(code).join(" or "), why, purpose]),
  ],
  speed: () => benchmarkTable(RESULTS),
};

function code(text: string): string {
  return `\`${text}\``;
}

/** A Markdown table, formatted as `deno fmt` does: columns are as wide as their widest cell. */
export function renderMarkdown(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = cells[0]!.map((_, i) => Math.max(3, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(cells[0]!), line(widths.map((width) => "-".repeat(width))), ...cells.slice(1).map(line)].join(
    "\n",
  );
}

/** The settings with all that is known of them, a heading each. */
function settingSections(): string {
  const builders = Object.values(BUILDERS);
  return groupedSettings(Object.keys(SETTINGS) as SettingName[]).map(({ title, names }) =>
    [
      `## ${title}`,
      ...names.map((name) => {
        const { facts, about, examples, docs } = settingTexts(name);
        const { env, help, default: fixed }: Setting<unknown> = SETTINGS[name];
        const takers = builders.filter(({ settings }) => (settings as readonly SettingName[]).includes(name));
        const known = [...facts, ["Builders", takers.map(({ name }) => name).join(", ")] as const];
        return [
          `### \`${env}\``,
          `${help}. ${about}`,
          known.map(([what, value]) => {
            const isCode = what !== "Default" || fixed !== undefined;
            return `- ${what}: ${isCode ? value.split(", ").map(code).join(", ") : value}`;
          }).join("\n"),
          ["```sh", ...columns(examples), "```"].join("\n"),
          ...docs ? [`More: [${docs.split("#")[0]}](${docs})`] : [],
        ].join("\n\n");
      }),
    ].join("\n\n")
  ).join("\n\n");
}

/** Lines of shell, each with a comment. */
function columns(lines: SettingTexts["examples"]): string[] {
  return renderTable(lines.map(([text, what]) => [text, `# ${what}`]));
}

/** All that is generated, by the name in its comments. */
export const BLOCKS: Readonly<Record<string, () => string>> = {
  ...Object.fromEntries(Object.entries(TABLES).map(([name, rows]) => [name, () => renderMarkdown(rows())])),
  settings: settingSections,
};

/** Updates what is generated in a text. */
export function renderBlocks(text: string): string {
  for (const [name, render] of Object.entries(BLOCKS)) {
    const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
    const from = text.indexOf(begin), to = text.indexOf(end);
    if (from < 0 && to < 0) continue;
    if (to < from) throw new Error(`The closing comment of ${name} is missing`);
    text = `${text.slice(0, from)}${begin}\n${render()}\n\n${text.slice(to)}`;
  }
  return text;
}
