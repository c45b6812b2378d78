/**
 * What one filesystem holds: a subtree of the input, minus what is left out, plus what the plan adds.
 *
 * `select` resolves this to the entries that all filesystems are made from. It does not access the disk or change the
 * tree: an entry is a row of {@link Nodes}, or a {@link ResolvedFile}.
 *
 * @module
 */

import { isDirectoryMode } from "../core/mode.ts";
import { children, compareNames, nameBytes, type Nodes, pathOf, targetBytes } from "../tree/nodes.ts";
import type { Contents, Labels, ResolvedFile } from "./entries.ts";
import { type Change, countChanges, key, planChanges } from "./changes.ts";

/** The entries of one filesystem, in the same order as {@link Nodes}: entry 0 is the root. */
export interface Selection {
  readonly nodes: Nodes;
  readonly count: number;
  /** The row of the entry, or if negative the complement (`~`) of its index in `added`. */
  readonly source: Int32Array<ArrayBuffer>;
  readonly parent: Uint32Array<ArrayBuffer>;
  readonly firstChild: Uint32Array<ArrayBuffer>;
  readonly childCount: Uint32Array<ArrayBuffer>;
  readonly added: readonly ResolvedFile[];
  /** SELinux labels; absent: those of the tree. */
  readonly labels?: Labels;
}

/** The added file behind an entry, or `undefined` if it is an unchanged row of the tree. */
export function addedOf(selection: Selection, entry: number): ResolvedFile | undefined {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source] : undefined;
}

/** The row that an entry takes owner and xattrs from. */
export function attributesOf(selection: Selection, entry: number): number | undefined {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source]!.attributesFrom : source;
}

/** The row that an entry takes contents and modification time from. */
export function contentsOf(selection: Selection, entry: number): number | undefined {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source]!.contentsFrom : source;
}

/** Type and permissions, as `st_mode`. */
export function modeOf(selection: Selection, entry: number): number {
  return addedOf(selection, entry)?.mode ?? selection.nodes.mode[selection.source[entry]!]!;
}

/** Bytes of a file or of a link's target; 0 for anything else. */
export function sizeOf(selection: Selection, entry: number): number {
  const { text, made } = addedOf(selection, entry) ?? {};
  const node = contentsOf(selection, entry);
  if (made) return made.size;
  return text ? text.length : node === undefined ? 0 : selection.nodes.size[node]!;
}

/** The name as bytes, without a NUL; empty for the root. */
export function nameOf(selection: Selection, entry: number): Uint8Array<ArrayBuffer> {
  return addedOf(selection, entry)?.name ?? nameBytes(selection.nodes, selection.source[entry]!);
}

/** Bytes of the name. */
export function nameLengthOf(selection: Selection, entry: number): number {
  const source = selection.source[entry]!;
  return source < 0 ? selection.added[~source]!.name.length : selection.nodes.nameLength[source]!;
}

/** The target of a symlink as bytes, without a NUL. */
export function targetOf(selection: Selection, entry: number): Uint8Array<ArrayBuffer> {
  return addedOf(selection, entry)?.text ?? targetBytes(selection.nodes, contentsOf(selection, entry)!);
}

/**
 * The path in the tree, for messages: what the user can change is there, and below `/boot` or another directory that
 * becomes a filesystem it is not the path in the filesystem. What the plan adds is named as if it were in the tree.
 */
export function treePath(selection: Selection, entry: number): string {
  const { nodes, source } = selection;
  const row = contentsOf(selection, entry);
  const isNamed = (row: number) => compareNames(nameBytes(nodes, row), nameOf(selection, entry)) === 0;
  if (row !== undefined && (source[entry]! >= 0 || isNamed(row))) return pathOf(nodes, row);
  if (entry === 0) return "/";
  const directory = treePath(selection, selection.parent[entry]!);
  return `${directory === "/" ? "" : directory}/${nameText(nameOf(selection, entry))}`;
}

/** The path in the filesystem. */
export function entryPath(selection: Selection, entry: number): string {
  const names: string[] = [];
  for (let at = entry; at !== 0; at = selection.parent[at]!) names.push(nameText(nameOf(selection, at)));
  return "/" + names.reverse().join("/");
}

function nameText(name: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(name);
}

/** The first rows of files with several names. */
export function linkedRows({ nodes, source, count }: Selection): ReadonlySet<number> {
  const linked = new Set<number>();
  for (let entry = 0; entry < count; entry++) {
    const row = source[entry]!;
    if (row >= 0 && nodes.link[row]! > 0) linked.add(nodes.link[row]!);
  }
  return linked;
}

/**
 * Resolves contents to the entries of one filesystem.
 *
 * @throws {BuildError} when `from` is not a directory, or the source of a copy is not a file.
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
  const put = (directory: number, source: number) => {
    selection.parent[selection.count] = directory;
    selection.source[selection.count++] = source;
  };
  while (pending.length > 0) {
    const [directory, change] = pending.pop()!;
    const first = selection.firstChild[directory] = selection.count;
    const below: (Change | undefined)[] = [];
    if (change) {
      for (const [node, next] of merge(nodes, change.node, change)) {
        if (!next?.added && without.has(node!)) continue;
        put(directory, next?.added ? ~(added.push(next.added) - 1) : node!);
        below.push(next);
      }
    } else {
      for (const node of children(nodes, selection.source[directory]!)) {
        if (!without.has(node)) put(directory, node);
      }
    }
    const count = selection.childCount[directory] = selection.count - first;
    for (let entry = first + count - 1; entry >= first; entry--) {
      if (isDirectoryMode(modeOf(selection, entry))) pending.push([entry, below[entry - first]]);
    }
  }
  return selection;
}

/** The children of a directory with changes, sorted, each with its row in the tree, its change, or both. */
function* merge(
  nodes: Nodes,
  directory: number | undefined,
  change: Change,
): Generator<[node: number | undefined, change: Change | undefined], void> {
  const nameIn = ({ added, node }: Change) => added?.name ?? nameBytes(nodes, node!);
  const joined = [...change.below.values()].filter((next) => (next.added || next.joined) && !next.omitted)
    .sort((a, b) => compareNames(nameIn(a), nameIn(b)));
  let next = 0;
  if (directory !== undefined && !change.emptied) {
    for (const node of children(nodes, directory)) {
      const own = change.below.size ? change.below.get(key(nameBytes(nodes, node))) : undefined;
      while (next < joined.length && compareNames(nameIn(joined[next]!), nameBytes(nodes, node)) < 0) {
        yield [joined[next]!.node, joined[next++]];
      }
      if (own?.omitted) continue;
      if (own?.added || own?.joined) next++;
      yield [own?.joined ? own.node : node, own];
    }
  }
  while (next < joined.length) yield [joined[next]!.node, joined[next++]];
}
