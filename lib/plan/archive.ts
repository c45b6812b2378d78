/**
 * Plans an archive of the tree.
 *
 * @module
 */

import type { Selection } from "../filesystem/contents.ts";
import type { Contents } from "../filesystem/entries.ts";
import { planTar } from "../filesystem/tar.ts";
import type { Volume } from "./root.ts";

/** Plans an archive, with everything later than `time` set to it. @throws {BuildError} for anything it cannot hold. */
export function planArchive(contents: Contents, selection: Selection, time: number): Volume {
  return { contents, selection, filesystem: planTar(selection, time) };
}
