/**
 * The tables of the README, as they follow from the tables of the code. Each stands between two comments with
 * its name: `<!-- settings -->` and `<!-- /settings -->`.
 *
 * @module
 */

import { BUILDERS } from "../builders/mod.ts";
import { BOOTLOADERS } from "../lib/boot/bootloaders.ts";
import { type ArchitectureName, ARCHITECTURES, efiBootPath } from "../lib/core/dps.ts";
import { FILESYSTEMS } from "../lib/filesystem/filesystems.ts";
import { FORMATS } from "../lib/image/formats.ts";
import { LEFTOVERS } from "../lib/plan/leftovers.ts";
import { PACKAGES, packagesFor } from "../lib/system/packages.ts";
import { type SettingName, settingRows, SETTINGS } from "../lib/plan/settings.ts";
import { benchmarkTable, type Results } from "./bench_results.ts";
import results from "./bench.json" with { type: "json" };

/** What the benchmark found when it was run last for the README. */
export const RESULTS: Results = results as unknown as Results;

/** The rows of each table; the first one is its head. */
export const TABLES: Readonly<Record<string, () => string[][]>> = {
  settings() {
    const builders = Object.values(BUILDERS);
    const names = Object.keys(SETTINGS) as SettingName[];
    return [
      ["Variable", "Default", ...builders.map(({ name }) => code(name)), "Meaning"],
      ...settingRows(names).map(({ env, help }, i) => {
        const { default: value, computed = "" }: { env: string; default?: string; computed?: string } =
          SETTINGS[names[i]!];
        const takes = builders.map(({ settings }) => settings.includes(names[i]!) ? "yes" : "");
        return [code(env), value === undefined ? computed : code(value), ...takes, help];
      }),
    ];
  },
  formats: () => [
    ["`OUTPUT_FORMAT`", "Also called", "For"],
    ...Object.entries<{ summary: string; driver?: string; aliases?: readonly string[] }>(FORMATS)
      .map(([name, { summary, aliases = [] }]) => [code(name), aliases.map(code).join(", "), summary]),
  ],
  filesystems: () => [
    ["Filesystem", "Made with", "For"],
    ...Object.entries(FILESYSTEMS)
      .map(([name, { summary, tools }]) => [code(name), tools.map(code).join(", "), summary]),
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
  leftovers: () => [
    ["`KEEP`", "What is left out", "Why"],
    ...Object.entries(LEFTOVERS).map(([name, { what, why }]) => [code(name), what, why]),
  ],
  packages: () => [
    ["Package", "What for", "Needed to"],
    ...packagesFor("test").map((name) => [code(name), PACKAGES[name].why, PACKAGES[name].purpose]),
  ],
  speed: () => benchmarkTable(RESULTS),
};

function code(text: string): string {
  return `\`${text}\``;
}

/** A table of Markdown with columns as wide as their widest cell, as `deno fmt` has them. */
export function renderMarkdown(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = cells[0]!.map((_, i) => Math.max(3, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(cells[0]!), line(widths.map((width) => "-".repeat(width))), ...cells.slice(1).map(line)].join(
    "\n",
  );
}

/** The README with its tables rendered again. @throws when one of them has no place in it. */
export function renderReadme(readme: string): string {
  for (const [name, rows] of Object.entries(TABLES)) {
    const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
    const from = readme.indexOf(begin), to = readme.indexOf(end);
    if (from < 0 || to < from) throw new Error(`README.md has no place for the table of ${name}`);
    readme = `${readme.slice(0, from)}${begin}\n${renderMarkdown(rows())}\n\n${readme.slice(to)}`;
  }
  return readme;
}
