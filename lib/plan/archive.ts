/**
 * Plans an archive of the tree.
 *
 * @module
 */

import { select } from "../filesystem/contents.ts";
import type { Contents } from "../filesystem/entries.ts";
import { planTar } from "../filesystem/tar.ts";
import type { Nodes } from "../tree/nodes.ts";
import type { Volume } from "./root.ts";

/** Plans an archive, with everything later than `time` set to it. @throws {BuildError} for anything it cannot hold. */
export function planArchive(nodes: Nodes, contents: Contents, time: number): Volume {
  const selection = select(nodes, contents);
  return { contents, selection, filesystem: planTar(selection, time) };
}
