/**
 * Trees of a few files, made in a temporary directory and inspected.
 *
 * @module
 */

import { dirname } from "node:path";
import { inspectTree, type OpenTree } from "../../lib/tree/inspect.ts";
import { closeRoot } from "../../lib/tree/root.ts";
import { tempDir } from "./helpers.ts";

/** Contents of files by path; a text that starts with `->` is a symlink's target. */
export type Files = Readonly<Record<string, string | Uint8Array>>;

/** Makes a tree and runs `fn` on its facts. */
export function withTree(
  files: Files,
  fn: (tree: OpenTree, dir: string) => void | Promise<void>,
): Promise<void> {
  return tempDir(async (dir) => {
    for (const [path, content] of Object.entries(files)) {
      await Deno.mkdir(dirname(`${dir}${path}`), { recursive: true });
      if (typeof content !== "string") await Deno.writeFile(`${dir}${path}`, content);
      else if (content.startsWith("->")) await Deno.symlink(content.slice(2), `${dir}${path}`);
      else await Deno.writeTextFile(`${dir}${path}`, content);
    }
    const tree = await inspectTree(dir);
    try {
      await fn(tree, dir);
    } finally {
      closeRoot(tree.root);
    }
  });
}
