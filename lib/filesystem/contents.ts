/**
 * What one filesystem holds: a subtree of the input, less some of it, plus what the plan adds.
 *
 * `select` resolves that into entries, which ext4 and FAT both start from. It reads no disk and changes no
 * tree: an entry is a row of {@link Nodes}, or one that was {@link Added}.
 *
 * @module
 */

import { isDirectoryMode } from "../core/mode.ts";
import type { Recipe } from "../efi/recipes.ts";
import { children, compareNames, nameBytes, type Nodes } from "../tree/nodes.ts";
import { type Change, countChanges, key, planChanges } from "./changes.ts";

/** Plain data. Paths of `omit` and `add` start at the root of the filesystem, not at that of the tree. */
export interface Contents {
  /** Directory of the tree that becomes the filesystem's root; absent: an empty root directory. */
  readonly from?: string;
  /** Left out with all below them; with a trailing slash only what is below them. Symlinks are not followed. */
  readonly omit: readonly string[];
  /** Rows of the tree that are left out wherever they stand, with all below them. */
  readonly without?: ReadonlySet<number>;
  /** Entries that replace or join those of the subtree. Missing parents are made (0755, root:root). */
  readonly add: readonly ExtraFile[];
}

export type ExtraFile =
  | { readonly path: string; readonly type: "directory"; readonly mode?: number }
  | { readonly path: string; readonly type: "file"; readonly mode?: number; readonly text: string }
  /** Made of files of the tree when the filesystem is. */
  | { readonly path: string; readonly type: "made"; readonly recipe: Recipe }
  /** A file of the tree under another name; symlinks on the way to it are followed inside the tree. */
  | { readonly path: string; readonly type: "copy"; readonly from: string };

/** An entry that the tree does not have as it is. */
export interface ResolvedFile {
  readonly name: Uint8Array<ArrayBuffer>;
  /** Type and permissions, as `st_mode`. */
  readonly mode: number;
  /** The row whose owner and xattrs it has; root's and none otherwise. */
  readonly attributesFrom: number | undefined;
  /** The row whose contents and modification time it has. */
  readonly contentsFrom: number | undefined;
  /** The contents of a file that was written by the plan. */
  readonly text: Uint8Array<ArrayBuffer> | undefined;
  /** What makes the contents, and their size in bytes. */
  readonly made?: { readonly recipe: Recipe; readonly size: number };
}

/** The entries of one filesystem, in the same order as {@link Nodes}: entry 0 is the root. */
export interface Selection {
  readonly nodes: Nodes;
  readonly count: number;
  /** The row of the entry, or below zero: the complement (`~`) of its place in `added`. */
  readonly source: Int32Array<ArrayBuffer>;
  readonly parent: Uint32Array<ArrayBuffer>;
  readonly firstChild: Uint32Array<ArrayBuffer>;
  readonly childCount: Uint32Array<ArrayBuffer>;
  readonly added: readonly ResolvedFile[];
}

/** What was added to an entry, or `undefined` when it is a row of the tree as it is. */
export function addedOf(selection: Selection, entry: number): ResolvedFile | undefined {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source] : undefined;
}

/** The row that an entry has its owner and xattrs from. */
export function attributesOf(selection: Selection, entry: number): number | undefined {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source]!.attributesFrom : source;
}

/** The row that an entry has its contents and modification time from. */
export function contentsOf(selection: Selection, entry: number): number | undefined {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source]!.contentsFrom : source;
}

/** Type and permissions, as `st_mode`. */
export function modeOf(selection: Selection, entry: number): number {
  return addedOf(selection, entry)?.mode ?? selection.nodes.mode[selection.source[entry]!]!;
}

/** Bytes of a file or of a link's target; 0 for everything else. */
export function sizeOf(selection: Selection, entry: number): number {
  const { text, made } = addedOf(selection, entry) ?? {};
  const node = contentsOf(selection, entry);
  if (made) return made.size;
  return text ? text.length : node === undefined ? 0 : selection.nodes.size[node]!;
}

/** The name as bytes, without a NUL; the root's is empty. */
export function nameOf(selection: Selection, entry: number): Uint8Array<ArrayBuffer> {
  return addedOf(selection, entry)?.name ?? nameBytes(selection.nodes, selection.source[entry]!);
}

/** How many bytes the name has. */
export function nameLengthOf(selection: Selection, entry: number): number {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source]!.name.length : selection.nodes.nameLength[source]!;
}

/** The path in the filesystem, for people. */
export function entryPath(selection: Selection, entry: number): string {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const names: string[] = [];
  for (let at = entry; at !== 0; at = selection.parent[at]!) {
    names.push(decoder.decode(nameOf(selection, at)));
  }
  return "/" + names.reverse().join("/");
}

/**
 * Resolves contents into the entries of one filesystem.
 *
 * @throws {BuildError} when `from` is not a directory, or a copy's source is not a file.
 */
export function select(nodes: Nodes, contents: Contents): Selection {
  const root = planChanges(nodes, contents);
  const without: ReadonlySet<number> = contents.without ?? new Set();
  const pending: [entry: number, change: Change | undefined][] = [[0, root]];
  const added: ResolvedFile[] = [];
  const limit = nodes.count + countChanges(root);
  const selection = {
    nodes,
    count: 1,
    source: new Int32Array(limit),
    parent: new Uint32Array(limit),
    firstChild: new Uint32Array(limit),
    childCount: new Uint32Array(limit),
    added,
  };
  selection.source[0] = root.added ? ~(added.push(root.added) - 1) : root.node!;
  while (pending.length > 0) {
    const [directory, change] = pending.pop()!;
    const first = selection.firstChild[directory] = selection.count;
    const below: (Change | undefined)[] = [];
    for (const [node, next] of merge(nodes, change ? change.node : selection.source[directory], change)) {
      if (!next?.added && without.has(node!)) continue;
      const entry = selection.count++;
      selection.parent[entry] = directory;
      selection.source[entry] = next?.added ? ~(added.push(next.added) - 1) : node!;
      below.push(next);
    }
    selection.childCount[directory] = below.length;
    for (let i = below.length - 1; i >= 0; i--) {
      if (isDirectoryMode(modeOf(selection, first + i))) pending.push([first + i, below[i]]);
    }
  }
  return selection;
}

/** The children of a directory, sorted, each with its row in the tree or its change or both. */
function* merge(
  nodes: Nodes,
  directory: number | undefined,
  change: Change | undefined,
): Generator<[node: number | undefined, change: Change | undefined], void> {
  const joined = [...change?.below.values() ?? []].filter((next) => next.added && !next.omitted)
    .sort((a, b) => compareNames(a.added!.name, b.added!.name));
  let next = 0;
  if (directory !== undefined && !change?.emptied) {
    for (const node of children(nodes, directory)) {
      const own = change?.below.size ? change.below.get(key(nameBytes(nodes, node))) : undefined;
      while (next < joined.length && compareNames(joined[next]!.added!.name, nameBytes(nodes, node)) < 0) {
        yield [undefined, joined[next++]];
      }
      if (own?.omitted) continue;
      if (own?.added) next++;
      yield [node, own];
    }
  }
  while (next < joined.length) yield [undefined, joined[next++]];
}
