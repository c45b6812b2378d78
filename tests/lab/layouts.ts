/**
 * Layouts for tests: definitions of partitions as texts, and plans of disks that are made as they say.
 *
 * @module
 */

import { type DiskPlan, planDisk } from "../../lib/plan/plan.ts";
import type { Layout } from "../../lib/plan/repart/files.ts";
import type { Tree } from "../../lib/tree/inspect.ts";
import { factsOf, settingsOf } from "./facts.ts";

/** A layout of these definitions, by name; `;` stands for the end of a line: `Type=root;Weight=2`. */
export function layoutOf(definitions: Readonly<Record<string, string>>): Layout {
  return {
    directory: "layout",
    files: Object.fromEntries(
      Object.entries(definitions).map((
        [name, lines],
      ) => [name.includes(".conf") ? name : `${name}.conf`, `[Partition]\n${lines.replaceAll(";", "\n")}\n`]),
    ),
  };
}

/** The plan of a disk with that layout. */
export function planLayout(
  definitions: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>> = {},
  tree: Tree = factsOf(),
): DiskPlan {
  // What is refused with LAYOUT, is refused where it is read.
  return planDisk({ ...settingsOf({ ...env, LAYOUT: "tree" }), layout: layoutOf(definitions) }, tree);
}
