/**
 * `deno task pictures`: makes the pictures of the README, `docs/disk.svg` and `docs/build.svg`, from a real build of the
 * tests' Debian tree. They suit light and dark pages.
 *
 * @module
 */

import { formatBytes } from "../lib/core/units.ts";
import * as log from "../lib/core/log.ts";
import { BuildError } from "../lib/core/error.ts";
import { runTask } from "../tasks/task.ts";
import { tempDir } from "./lab/helpers.ts";
import { escapeXml, svg } from "./lab/svg.ts";
import { debianTree } from "./lab/trees.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** What is shown in the terminal. */
const COMMAND = ["disk-image", "--input", "rootfs", "--output", "disk.img"] as const;

/** Columns of the terminal. */
const COLUMNS = 100;

/** What the picture of the disk needs of a plan. */
interface Shown {
  readonly size: number;
  readonly partitions: readonly {
    readonly label: string;
    readonly size: number;
    readonly mountPoint?: string;
    readonly filesystem: { readonly type: string; readonly bytes?: number };
  }[];
}

/** The partitions from left to right. A partition is as wide as the root of its size, so that small ones can be read. */
export function drawDisk({ size, partitions }: Shown): string {
  const width = 760, top = 34, height = 92, table = 44;
  const room = width - 2 * 8 - 2 * table;
  const roots = partitions.map(({ size }) => Math.sqrt(size) + 9000);
  const sum = roots.reduce((a, b) => a + b);
  let x = 8 + table;
  const boxes = partitions.flatMap(({ label, size, mountPoint, filesystem: { type, bytes } }, i) => {
    const share = roots[i]! / sum * room, middle = (x + share / 2).toFixed(1);
    const texts = [
      label,
      `${type} ${mountPoint ?? ""}`,
      formatBytes(size),
      `${formatBytes(bytes ?? 0)} of files`,
    ];
    const box = `<rect class="part p${i % 3}" x="${x.toFixed(1)}" y="${top}" width="${
      share.toFixed(1)
    }" height="${height}"/>`;
    x += share;
    return [
      box,
      ...texts.map((text, row) =>
        `<text ${row ? "" : 'class="name" '}x="${middle}" y="${top + 22 + row * 19}">${
          escapeXml(text.trim())
        }</text>`
      ),
    ];
  });
  const ends = [["GPT", 8], ["GPT", width - 8 - table]] as const;
  return svg(
    `A disk of ${formatBytes(size)}: ${partitions.map(({ label }) => label).join(", ")}`,
    [width, top + height + 8],
    `text { font: 12px system-ui, sans-serif; fill: #24292f; text-anchor: middle }
.name { font-weight: 600; font-size: 14px }
.title { text-anchor: start; font-weight: 600; font-size: 14px }
rect { stroke: #6e7781; fill: none }
.p0 { fill: #2f6feb33 } .p1 { fill: #3f9b5c33 } .p2 { fill: #9a6dd733 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }`,
    [
      `<text class="title" x="8" y="20">disk.img, ${formatBytes(size)}</text>`,
      ...ends.flatMap(([name, at]) => [
        `<rect x="${at}" y="${top}" width="${table}" height="${height}"/>`,
        `<text x="${at + table / 2}" y="${top + height / 2 + 4}">${name}</text>`,
      ]),
      ...boxes,
    ],
  );
}

/** A terminal with a command and what it prints; the marks of the log are coloured as on a real one. */
export function drawTerminal(command: string, output: readonly string[]): string {
  const lines = [`$ ${command}`, ...output].map((line) =>
    line.length > COLUMNS ? `${line.slice(0, COLUMNS - 1)}…` : line
  );
  const row = 17, left = 14, top = 40;
  const width = Math.ceil(left * 2 + COLUMNS * 7.23), height = top + lines.length * row;
  const texts = lines.map((line, i) => {
    const [, mark = "", rest = line] = /^(\$|\[[*|WE]\])(.*)$/.exec(line) ?? [];
    const kind = { "$": "prompt", "[*]": "step", "[|]": "detail", "[W]": "warning" }[mark] ?? "";
    const shown = mark ? `<tspan class="${kind}">${mark}</tspan>${escapeXml(rest)}` : escapeXml(rest);
    return `<text xml:space="preserve" x="${left}" y="${top + i * row}">${shown}</text>`;
  });
  return svg(
    command,
    [width, height],
    `rect { fill: #f6f8fa; stroke: #d0d7de }
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #24292f; white-space: pre }
circle { fill: #d0d7de }
.prompt, .step { fill: #1a7f37; font-weight: 700 } .detail { fill: #6e7781 } .warning { fill: #9a6700 }
@media (prefers-color-scheme: dark) {
rect { fill: #161b22; stroke: #30363d } text { fill: #e6edf3 } circle { fill: #484f58 }
.prompt, .step { fill: #3fb950 } .detail { fill: #8b949e } .warning { fill: #d29922 } }`,
    [
      `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>`,
      ...[18, 36, 54].map((x) => `<circle cx="${x}" cy="16" r="5"/>`),
      ...texts,
    ],
  );
}

/** Builds the tests' Debian tree, and draws the pictures. */
export async function drawPictures(): Promise<{ readonly [path: string]: string }> {
  const tree = await debianTree({ suite: "trixie" });
  return await tempDir(async (cwd) => {
    await Deno.symlink(tree, `${cwd}/rootfs`);
    const run = async (...args: string[]) => {
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", "--quiet", `${ROOT}builders/mod.ts`, ...COMMAND, ...args],
        cwd,
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trimEnd()) as [
        string,
        string,
      ];
      if (!success) throw new BuildError(`Cannot build what the pictures show: ${err}`);
      return { out, err };
    };
    // The same command without the words that show the plan makes the image.
    const plan = JSON.parse((await run("--dry-run", "--json")).out) as Shown;
    const { err } = await run();
    return {
      "docs/disk.svg": drawDisk(plan),
      "docs/build.svg": drawTerminal(
        `raptor-builders ${COMMAND.join(" ")}`,
        err.replaceAll(`${cwd}/`, "").split("\n"),
      ),
    };
  });
}

async function main(): Promise<void> {
  for (const [path, picture] of Object.entries(await drawPictures())) {
    await Deno.writeTextFile(ROOT + path, picture);
    log.step(`Wrote ${path}`);
  }
}

if (import.meta.main) await runTask(main);
