/**
 * The commands of the docs: blocks of shell, and blocks of a console, which also show what the commands print.
 *
 * @module
 */

import { glob } from "node:fs/promises";

const ROOT = new URL("../..", import.meta.url).pathname;

/** A block of commands in one of the docs. */
export interface Block {
  /** The path of the page in the repository. */
  readonly page: string;
  /** `sh`: a script. `console`: commands after `$ `, each with its output. */
  readonly language: string;
  readonly text: string;
  /** The Containerfile that is shown before it. */
  readonly containerfile?: string | undefined;
  /** Why it is not run, from a comment above the block: `<!-- not run: REASON -->`. */
  readonly notRun?: string | undefined;
}

/** All blocks of shell and console in the README and in `docs/`. */
export async function docBlocks(): Promise<Block[]> {
  const pages = (await Array.fromAsync(glob(["README.md", "docs/*.md"], { cwd: ROOT }))).sort();
  const blocks = await Promise.all(pages.map(async (page) => {
    const text = await Deno.readTextFile(ROOT + page);
    const found = text.matchAll(
      /(?:^<!-- not run: (.*?) -->\n+)?(?:^```dockerfile\n(.*?)^```\n+)?^```(sh|console)\n(.*?)^```$/gms,
    );
    return [...found].map(([, notRun, containerfile, language, text]): Block => ({
      page,
      language: language!,
      text: text!,
      containerfile,
      notRun,
    }));
  }));
  // In a page of settings, most blocks only show values.
  return blocks.flat().filter(({ text }) => !text.split("\n").every((line) => /^([A-Z_]+=|$)/.test(line)));
}

/** The commands of a console, each with the lines that it prints. */
export function consoleSteps(text: string): { command: string; output: string }[] {
  return text.split(/^\$ /m).slice(1).map((part) => {
    const end = part.indexOf("\n");
    return { command: part.slice(0, end), output: part.slice(end + 1).trimEnd() };
  });
}

/** What matches a shown output: `…` stands for anything in a line, and alone on a line for any lines. */
export function outputPattern(shown: string): RegExp {
  const lines = shown.split("\n").map((line) =>
    line === "…"
      ? "(?:.*\n)*?"
      : line.split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*") + "\n"
  );
  return new RegExp(`^${lines.join("")}$`);
}
