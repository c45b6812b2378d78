/**
 * File attributes set by chattr that a filesystem of the image does not support.
 *
 * @module
 */

import { type Finding, finding, listPaths } from "../core/findings.ts";
import { flagNames } from "../tree/flags.ts";
import { attributesOf, type Selection, treePath } from "./contents.ts";

/** @param kept the flags that the filesystem supports. */
export function findLostFlags(type: string, selection: Selection, kept: number): Finding[] {
  const { nodes } = selection;
  if (nodes.flags.size === 0) return [];
  const paths: string[] = [];
  let lost = 0;
  for (let entry = 0; entry < selection.count; entry++) {
    const node = attributesOf(selection, entry);
    const flags = node === undefined ? 0 : (nodes.flags.get(node) ?? 0) & ~kept;
    if (flags === 0) continue;
    lost |= flags;
    paths.push(treePath(selection, entry));
  }
  if (paths.length === 0) return [];
  return [
    finding(
      "flags-lost",
      `${listPaths(paths)}: no longer ${flagNames(lost).join(", ")}, which ${type} does not have here`,
      {
        path: paths[0]!,
      },
    ),
  ];
}
