/**
 * Queries about paths in a tree, as a process inside it would see them: symlinks are followed within the tree.
 *
 * @module
 */

import type { FileType } from "../core/mode.ts";
import { children, lookup, nameText, type Nodes, typeOf } from "./nodes.ts";

/** The row at a path, if it is of that type. */
function nodeOfType(nodes: Nodes, path: string, type: FileType): number | undefined {
  const node = lookup(nodes, path);
  return node !== undefined && typeOf(nodes, node) === type ? node : undefined;
}

/** The regular file at a path. */
export function fileAt(nodes: Nodes, path: string): number | undefined {
  return nodeOfType(nodes, path, "file");
}

/** The directory at a path. */
export function directoryAt(nodes: Nodes, path: string): number | undefined {
  return nodeOfType(nodes, path, "directory");
}

/** The first of the paths that is a regular file. */
export function firstFile(nodes: Nodes, paths: readonly string[]): string | undefined {
  return paths.find((path) => fileAt(nodes, path) !== undefined);
}

/** Whether anything has that path, even a dangling symlink. */
export function exists(nodes: Nodes, path: string): boolean {
  return lookup(nodes, path, { follow: false }) !== undefined;
}

/** The number of entries in a directory; 0 if there is no such directory. */
export function countIn(nodes: Nodes, path: string): number {
  const directory = directoryAt(nodes, path);
  return directory === undefined ? 0 : nodes.childCount[directory]!;
}

/** An entry of a directory, with its name as text. */
interface NamedEntry {
  readonly name: string;
  readonly node: number;
}

/** The entries of a directory, sorted by name, except those with a name that is not UTF-8. */
export function entriesIn(nodes: Nodes, path: string): NamedEntry[] {
  const directory = directoryAt(nodes, path);
  if (directory === undefined) return [];
  return [...children(nodes, directory)].flatMap((node) => {
    const name = nameText(nodes, node);
    return name === undefined ? [] : [{ name, node }];
  });
}

/** The names of {@link entriesIn}. */
export function namesIn(nodes: Nodes, path: string): string[] {
  return entriesIn(nodes, path).map(({ name }) => name);
}

/** Paths below a directory that consist of these names in any case, as on FAT; `undefined` stands for any name. */
export function pathsInAnyCase(
  nodes: Nodes,
  directory: string,
  names: readonly (string | undefined)[],
): string[] {
  let paths = [directory];
  for (const wanted of names) {
    paths = paths.flatMap((path) =>
      namesIn(nodes, path)
        .filter((name) => wanted === undefined || name.toLowerCase() === wanted.toLowerCase())
        .map((name) => `${path}/${name}`)
    );
  }
  return paths;
}

/** The entries that a path with `*` in its last name stands for; symlinks are followed, but not the last one. */
export function matching(nodes: Nodes, path: string): number[] {
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  if (!name.includes("*")) {
    const node = lookup(nodes, path, { follow: false });
    return node === undefined ? [] : [node];
  }
  const pattern = new RegExp(`^${name.split("*").map(RegExp.escape).join(".*")}$`, "s");
  return entriesIn(nodes, path.slice(0, slash)).filter(({ name }) => pattern.test(name)).map(({ node }) =>
    node
  );
}

/** Whether a directory has, at any depth, a regular file with such a name. */
export function hasFileBelow(nodes: Nodes, path: string, name: RegExp): boolean {
  const directory = directoryAt(nodes, path);
  const pending = directory === undefined ? [] : [directory];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    for (const node of children(nodes, at)) {
      const type = typeOf(nodes, node);
      if (type === "directory") pending.push(node);
      else if (type === "file" && name.test(nameText(nodes, node) ?? "")) return true;
    }
  }
  return false;
}
