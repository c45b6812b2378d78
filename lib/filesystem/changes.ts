/**
 * The omissions and additions of {@link Contents} as a tree that overlays the input.
 *
 * @module
 */

import { encodeText } from "../core/bytes.ts";
import { BuildError, quote } from "../core/error.ts";
import { FILE_TYPES, type FileType, fileType, PERMISSIONS_MASK } from "../core/mode.ts";
import { recipeSize } from "../efi/recipes.ts";
import {
  childNamed,
  children,
  compareNames,
  lookup,
  nameBytes,
  type Nodes,
  resolve,
  targetBytes,
  typeOf,
} from "../tree/nodes.ts";
import { directoryAt, fileAt } from "../tree/query.ts";
import type { Contents, ExtraFile, ResolvedFile } from "./entries.ts";

/** How one path of the filesystem differs from the tree. There is one for each component of a changed path. */
export interface Change {
  /** The row of the tree at this path; `undefined` if there is none. */
  node: number | undefined;
  /** What replaces it. */
  added: ResolvedFile | undefined;
  /** Whether `node` comes from elsewhere in the tree, under its own name. */
  joined: boolean;
  omitted: boolean;
  emptied: boolean;
  readonly below: Map<string, Change>;
}

/** Bytes as a map key. */
export function key(name: Uint8Array): string {
  return String.fromCharCode(...name);
}

export function countChanges(change: Change): number {
  let count = 1;
  for (const next of change.below.values()) count += countChanges(next);
  return count;
}

function newChange(node: number | undefined, omitted = false): Change {
  return { node, added: undefined, joined: false, omitted, emptied: false, below: new Map() };
}

/** Something that takes the place of something of another kind, which is lost with all below it. */
export interface Clash {
  readonly by: ExtraFile | Copy;
  /** What was there. */
  readonly type: FileType;
  /** Its row, if it is from the tree. */
  readonly node: number | undefined;
  /** Its name, otherwise. */
  readonly name: string | undefined;
}

type Copy = NonNullable<Contents["copies"]>[number];

/** What changes apply to. */
interface Ground {
  readonly nodes: Nodes;
  /** Rows that are left out. */
  readonly without: ReadonlySet<number>;
  /** Is told what is about to be replaced by something of another kind. */
  readonly replace: (change: Change) => void;
}

const encoder = new TextEncoder();
const NEW_DIRECTORY = {
  mode: FILE_TYPES.directory | 0o755,
  attributesFrom: undefined,
  contentsFrom: undefined,
  text: undefined,
};

/**
 * Builds the tree of changes.
 *
 * @param report is called for each clash.
 * @throws {BuildError} when `from` is not a directory, or a source is not a file.
 */
export function planChanges(
  nodes: Nodes,
  { from, copies = [], omit, without = new Set(), add }: Contents,
  report: (clash: Clash) => void = () => {},
): Change {
  const ground = (by?: ExtraFile | Copy): Ground => ({
    nodes,
    without,
    replace: (change) => {
      const type = typeAt(nodes, change);
      if (!by || !type) return;
      const node = change.added ? change.added.contentsFrom : change.node;
      const name = change.added && new TextDecoder().decode(change.added.name);
      report({ by, type, node, name });
    },
  });
  const node = from === undefined ? undefined : directoryAt(nodes, from);
  if (from !== undefined && node === undefined) {
    throw new BuildError(`Cannot find the directory ${quote(from)} in the tree`);
  }
  const root = newChange(node);
  for (const copy of copies) applyCopy(ground(copy), root, copy.from, splitPath(copy.path));
  if (root.node === undefined) root.added ??= { ...NEW_DIRECTORY, name: new Uint8Array() };
  for (const path of omit) {
    const change = splitPath(path).reduce((at, name) => step(ground(), at, name), root);
    if (path.endsWith("/")) change.emptied = true;
    else change.omitted = true;
  }
  for (const extra of add) {
    const names = splitPath(extra.path);
    const last = names.pop();
    if (last === undefined) throw new BuildError(`Cannot add an entry as ${quote(extra.path)}`);
    const own = ground(extra);
    if (extra.type === "directory" && extra.follow) enter(own, root, [...names, last]);
    else applyExtraFile(own, step(own, enter(own, root, names), last), extra, last);
  }
  return root;
}

/** Puts a directory or file of the tree at a path. */
function applyCopy(
  ground: Ground,
  root: Change,
  from: string,
  names: readonly Uint8Array<ArrayBuffer>[],
): void {
  const { nodes } = ground;
  const node = lookup(nodes, from);
  if (node === undefined) throw new BuildError(`Cannot find ${quote(from)} in the tree`);
  const name = names.at(-1);
  if (name === undefined) {
    if (typeOf(nodes, node) !== "directory") {
      throw new BuildError(`Cannot copy ${quote(from)} of the tree to /: it is no directory`);
    }
    if (root.node === undefined && root.below.size === 0) root.node = node;
    else {
      // What other copies put there stays, so its children are joined one by one.
      if (root.node === undefined) root.added ??= copyOf(nodes, node, new Uint8Array());
      join(ground, root, node);
    }
    return;
  }
  const change = step(ground, enter(ground, root, names.slice(0, -1)), name);
  place(ground, change, node);
  if (change.node !== node || key(nameBytes(nodes, node)) === key(name)) return;
  change.joined = false;
  change.added = copyOf(nodes, node, name);
}

/** A row of the tree under another name. */
function copyOf(nodes: Nodes, node: number, name: Uint8Array<ArrayBuffer>): ResolvedFile {
  return { name, mode: nodes.mode[node]!, attributesFrom: node, contentsFrom: node, text: undefined };
}

/** Adds the contents of a directory of the tree to a directory. */
function join(ground: Ground, directory: Change, from: number): void {
  const { nodes, without } = ground;
  for (const node of children(nodes, from)) {
    if (!without.has(node)) place(ground, step(ground, directory, nameBytes(nodes, node)), node);
  }
}

/** Puts a row of the tree in a place, or the contents of a directory into one. */
function place(ground: Ground, change: Change, node: number): void {
  const { nodes, replace } = ground;
  const wasDirectory = typeAt(nodes, change) === "directory";
  const isDirectory = typeOf(nodes, node) === "directory";
  if (wasDirectory && isDirectory) return join(ground, change, node);
  if (wasDirectory !== isDirectory) replace(change);
  change.below.clear();
  Object.assign(change, { node, added: undefined, joined: true, omitted: false });
}

function splitPath(path: string): Uint8Array<ArrayBuffer>[] {
  return path.split("/").filter((name) => name !== "" && name !== ".").map((name) => encoder.encode(name));
}

/** The change for one name in a directory, created if necessary. */
function step(
  { nodes, without }: Ground,
  directory: Change,
  name: Uint8Array<ArrayBuffer>,
): Change {
  const known = directory.below.get(key(name));
  if (known) return known;
  const hidden = directory.node === undefined || directory.emptied || directory.omitted;
  const node = hidden ? undefined : childNamed(nodes, directory.node!, name);
  const change = newChange(node, node !== undefined && without.has(node));
  directory.below.set(key(name), change);
  return change;
}

/** Descends to the directory of an extra file. Symlinks are followed if they stay in the subtree. */
function enter(ground: Ground, root: Change, names: readonly Uint8Array<ArrayBuffer>[]): Change {
  const { nodes, replace } = ground;
  const pending = [...names].reverse();
  let at = root;
  while (pending.length > 0) {
    const parent = at.node;
    const name = pending.pop()!;
    at = step(ground, at, name);
    const type = typeAt(nodes, at);
    if (type === "directory") continue;
    const linked = !at.added && type === "symlink" && parent !== undefined && root.node !== undefined
      ? namesBelow(nodes, root.node, resolve(nodes, parent, targetBytes(nodes, at.node!)))
      : undefined;
    if (linked) {
      for (const entry of linked.reverse()) pending.push(entry);
      at = root;
    } else {
      replace(at);
      makeDirectory(nodes, at, name, undefined);
    }
  }
  return at;
}

/** What is at a path, with the changes up to now. */
function typeAt(nodes: Nodes, { node, added, omitted }: Change): FileType | undefined {
  if (added) return fileType(added.mode);
  return node === undefined || omitted ? undefined : typeOf(nodes, node);
}

function isPlainDirectory(nodes: Nodes, { node, omitted }: Change): boolean {
  return node !== undefined && !omitted && typeOf(nodes, node) === "directory";
}

/** The names on the path from one directory of the tree to another; `undefined` if that is not below it. */
function namesBelow(
  nodes: Nodes,
  top: number,
  node: number | undefined,
): Uint8Array<ArrayBuffer>[] | undefined {
  if (node === undefined || typeOf(nodes, node) !== "directory") return undefined;
  const names: Uint8Array<ArrayBuffer>[] = [];
  for (let at = node; at !== top; at = nodes.parent[at]!) {
    if (at === 0) return undefined;
    names.push(nameBytes(nodes, at));
  }
  return names.reverse();
}

/** Makes sure that there is a directory. One from the tree is kept, except for its mode if one is given. */
function makeDirectory(
  nodes: Nodes,
  change: Change,
  name: Uint8Array<ArrayBuffer>,
  mode: number | undefined,
): void {
  const node = change.node !== undefined && typeOf(nodes, change.node) === "directory"
    ? change.node
    : undefined;
  if (isPlainDirectory(nodes, change) && mode === undefined) return;
  const permissions = mode ?? (node === undefined ? 0o755 : nodes.mode[node]! & PERMISSIONS_MASK);
  change.added = {
    name,
    mode: FILE_TYPES.directory | permissions,
    attributesFrom: node,
    contentsFrom: node,
    text: undefined,
  };
  change.emptied ||= change.omitted;
  change.omitted = false;
  change.node = node;
}

/** Adds one extra file. */
function applyExtraFile(
  { nodes, replace }: Ground,
  change: Change,
  extra: ExtraFile,
  name: Uint8Array<ArrayBuffer>,
): void {
  if (extra.type === "directory") {
    if (typeAt(nodes, change) !== "directory") replace(change);
    return makeDirectory(nodes, change, name, extra.mode);
  }
  change.joined = false;
  const isFile = (node: number | undefined) => node !== undefined && typeOf(nodes, node) === "file";
  if (extra.type === "copy") {
    const copy = fileAt(nodes, extra.from);
    if (copy === undefined) throw new BuildError(`Cannot find the file ${quote(extra.from)} in the tree`);
    change.added = copyOf(nodes, copy, name);
  } else if (extra.type === "symlink") {
    const text = encodeText(extra.target);
    if (!isLinkTo(nodes, change, text)) replace(change);
    const none = { attributesFrom: undefined, contentsFrom: undefined };
    change.added = { name, mode: FILE_TYPES.symlink | 0o777, ...none, text };
  } else if (extra.type === "made") {
    const attributesFrom = isFile(change.node) ? change.node : undefined;
    const mode = attributesFrom === undefined ? FILE_TYPES.file | 0o644 : nodes.mode[attributesFrom]!;
    const made = { recipe: extra.recipe, size: recipeSize(nodes, extra.recipe) };
    change.added = { name, mode, attributesFrom, contentsFrom: undefined, text: undefined, made };
  } else {
    const attributesFrom = isFile(change.node) ? change.node : undefined;
    const permissions = extra.mode ??
      (attributesFrom === undefined ? 0o644 : nodes.mode[attributesFrom]! & PERMISSIONS_MASK);
    const mode = FILE_TYPES.file | permissions;
    change.added = {
      name,
      mode,
      attributesFrom,
      contentsFrom: undefined,
      text: encodeText(extra.text),
    };
  }
  change.omitted = false;
}

/** Whether there is a symlink with that target already. */
function isLinkTo(nodes: Nodes, change: Change, target: Uint8Array): boolean {
  if (typeAt(nodes, change) !== "symlink") return false;
  return compareNames(change.added?.text ?? targetBytes(nodes, change.node!), target) === 0;
}
