/**
 * SELinux labels of the entries of one filesystem, and so their extended attributes.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { latin1 } from "../core/bytes.ts";
import { isDirectoryMode } from "../core/mode.ts";
import { type Nodes, type Xattr, xattrsOf } from "../tree/nodes.ts";
import { attributesOf, modeOf, nameOf, type Selection } from "./contents.ts";

const SELINUX_XATTR = "security.selinux";

/** Where labels come from. */
export interface LabelSource {
  /**
   * The labels of what is in a directory.
   *
   * @param directory its path in the system, with a slash at its end. Texts have one character per byte.
   */
  readonly labelsIn: (
    directory: string,
  ) => (name: string, mode: number, attributesFrom: number | undefined) => string | undefined;
  /** Whether something that the tree does not have gets the label of its directory, as from the kernel. */
  readonly inherits?: boolean;
}

const LOST_AND_FOUND_MODE = 0o40700;
const encoder = new TextEncoder();

/** The selection with labels. `at` is the path of its root in the system: `/`, `/boot`. */
export function withLabels(selection: Selection, source: LabelSource, at: string): Selection {
  const of = new Uint16Array(selection.count);
  const values: Uint8Array<ArrayBuffer>[] = [];
  const places = new Map<string, number>();
  const place = (label: string | undefined): number => {
    if (label === undefined) return 0;
    let found = places.get(label);
    if (found === undefined) places.set(label, found = values.push(encoder.encode(label + "\0")));
    return found;
  };
  const top = latin1(encoder.encode(at.replace(/\/*$/, "")));
  const start = top.lastIndexOf("/") + 1;
  const attributes = attributesOf(selection, 0);
  of[0] = place(
    source.labelsIn(top.slice(0, start) || "/")(top.slice(start), modeOf(selection, 0), attributes),
  );
  const { nodes } = selection;
  const bytes = Buffer.from(nodes.bytes.buffer, nodes.bytes.byteOffset, nodes.bytes.length);
  const nameText = (entry: number) => {
    const node = selection.source[entry]!;
    if (node < 0) return latin1(nameOf(selection, entry));
    return bytes.toString("latin1", nodes.nameAt[node]!, nodes.nameAt[node]! + nodes.nameLength[node]!);
  };
  /** The paths of directories. */
  const paths = new Map([[0, `${top}/`]]);
  // The children of a directory stand together.
  for (let first = 1; first < selection.count;) {
    const parent = selection.parent[first]!;
    const path = paths.get(parent)!;
    const label = source.labelsIn(path);
    const last = first + selection.childCount[parent]!;
    for (; first < last; first++) {
      const mode = modeOf(selection, first), node = attributesOf(selection, first);
      const name = nameText(first);
      if (isDirectoryMode(mode)) paths.set(first, `${path}${name}/`);
      of[first] = place(label(name, mode, node)) ||
        (node === undefined && source.inherits ? of[parent]! : 0);
    }
  }
  const lostAndFound = place(source.labelsIn(`${top}/`)("lost+found", LOST_AND_FOUND_MODE, undefined)) ||
    (source.inherits ? of[0]! : 0);
  return { ...selection, labels: { of, values, lostAndFound } };
}

/** The SELinux label that a row of the tree has, without a NUL. */
export function labelInTree(nodes: Nodes, node: number): string | undefined {
  const value = xattrsOf(nodes, node).find(({ name }) => name === SELINUX_XATTR)?.value;
  return value && new TextDecoder().decode(value).replace(/\0$/, "");
}

/** A number that tells the sets of xattrs of a selection's entries apart; 0: none. */
export function xattrKey(selection: Selection, entry: number): number {
  const { nodes, labels } = selection;
  const node = attributesOf(selection, entry);
  const at = node === undefined ? 0 : nodes.xattrsAt[node]!;
  return labels ? at * (labels.values.length + 1) + labels.of[entry]! : at;
}

/** The extended attributes of an entry, sorted by name. */
export function xattrsIn(selection: Selection, entry: number): readonly Xattr[] {
  const { nodes, labels } = selection;
  const node = attributesOf(selection, entry);
  const xattrs = node === undefined ? [] : xattrsOf(nodes, node);
  if (!labels) return xattrs;
  const others = xattrs.filter(({ name }) => name !== SELINUX_XATTR);
  const value = labels.values[labels.of[entry]! - 1];
  if (!value) return others;
  return [...others, { name: SELINUX_XATTR, value }].sort((a, b) => a.name < b.name ? -1 : 1);
}
