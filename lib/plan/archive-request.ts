/**
 * What the plans of all archives are made from.
 *
 * @module
 */

import type { Tree } from "../tree/inspect.ts";
import type { Settings } from "./settings.ts";

/** What an archive is planned from, besides its contents. */
export interface ArchiveRequest {
  readonly settings: Settings;
  readonly tree: Tree;
  /** Seconds since 1970: the time of everything that the build makes. */
  readonly time: number;
}
