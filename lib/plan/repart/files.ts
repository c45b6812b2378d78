/**
 * Reads a directory of repart.d definitions.
 *
 * @module
 */

import { BuildError } from "../../core/error.ts";
import { readSmallFile } from "../../core/small-file.ts";
import { KiB } from "../../core/units.ts";

/** A directory of definitions. */
export interface Layout {
  /** As messages show it. */
  readonly directory: string;
  /** By their paths below the directory: `10-esp.conf`, `10-esp.conf.d/size.conf`. */
  readonly files: Readonly<Record<string, string>>;
}

/** Definitions are small; a larger file is a mistake. */
const LIMIT = 64 * KiB;

/** The word that means the tree's own definitions. */
export const TREE = "tree";

/** Where a tree has its definitions. Those in `/etc` belong to the administrator of one machine. */
export const TREE_DIRECTORY = "/usr/lib/repart.d";

/**
 * The value of `LAYOUT`: {@link TREE}, or a directory, which is read.
 *
 * @throws {Error} with what is accepted, and the reason as its cause.
 */
export function parseLayout(text: string): typeof TREE | Layout {
  if (text === TREE) return TREE;
  try {
    return { directory: text.replace(/(?<=.)\/+$/, ""), files: readDirectory(text) };
  } catch (error) {
    throw new Error(
      `a directory of repart.d definitions (*.conf), or ${TREE} for ${TREE_DIRECTORY} of the tree`,
      {
        cause: reasonOf(error as Error),
      },
    );
  }
}

function reasonOf(error: Error): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such directory";
  if (error instanceof Deno.errors.NotADirectory) return "it is no directory";
  return error.message;
}

function readDirectory(path: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const name of namesIn(path, /\.conf(\.d)?$/)) {
    if (name.endsWith(".conf")) {
      const text = readText(`${path}/${name}`);
      if (text !== undefined) files[name] = text;
      continue;
    }
    for (const dropIn of dropInsIn(`${path}/${name}`)) {
      const text = readText(`${path}/${name}/${dropIn}`);
      if (text !== undefined) files[`${name}/${dropIn}`] = text;
    }
  }
  return files;
}

/** The drop-ins in a directory. @throws {BuildError} that names it: the layout itself may be fine. */
function dropInsIn(path: string): string[] {
  try {
    return namesIn(path, /\.conf$/);
  } catch (error) {
    throw new BuildError(`${path}: ${reasonOf(error as Error)}`, { cause: error });
  }
}

function namesIn(path: string, pattern: RegExp): string[] {
  return [...Deno.readDirSync(path)].map(({ name }) => name)
    .filter((name) => pattern.test(name) && !isHidden(name)).sort();
}

/**
 * Whether a file is hidden, and so no definition: for example a lock of Emacs, `.#10-esp.conf`. The backups that systemd
 * knows do not end in `.conf`: `hidden_or_backup_file()` in its src/basic/path-util.c.
 */
function isHidden(name: string): boolean {
  return name.startsWith(".");
}

/** A definition's text; `undefined` for one that is masked with a link to /dev/null. */
function readText(path: string): string | undefined {
  try {
    if (Deno.lstatSync(path).isSymlink && Deno.realPathSync(path) === "/dev/null") return undefined;
    return new TextDecoder("utf-8", { fatal: true }).decode(readSmallFile(path, LIMIT));
  } catch (error) {
    const reason = error instanceof TypeError
      ? "it is not UTF-8"
      : error instanceof Deno.errors.NotFound
      ? "it links to nothing"
      : (error as Error).message;
    throw new BuildError(`${path}: ${reason}`, { cause: error });
  }
}
