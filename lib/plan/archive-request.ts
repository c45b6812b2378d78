/**
 * What the plans of all archives are made from.
 *
 * @module
 */

import { type Architecture, architectureOf } from "../core/dps.ts";
import { BuildError, quote } from "../core/error.ts";
import type { Tree } from "../tree/inspect.ts";
import type { Settings } from "./settings.ts";

/** What an archive is planned from, besides its contents. */
export interface ArchiveRequest {
  readonly settings: Settings;
  readonly tree: Tree;
  /** Seconds since 1970: the time of everything that the build makes. */
  readonly time: number;
}

/** The architecture of the tree as others call it. @throws {BuildError} when they do not know it, or nobody does. */
export function requireName({ architecture, path }: Tree, column: "go" | "machine", what: string): string {
  const row: Architecture | undefined = architecture && architectureOf(architecture);
  const name = row?.[column];
  if (name) return name;
  throw new BuildError(
    row
      ? `Cannot make ${what} for ${architecture}: there is no name for this architecture`
      : `Cannot find the architecture of ${quote(path)}: no program in it is known`,
    { hint: "Set OUTPUT_FORMAT to tar, which needs none, or add a shell such as /bin/sh" },
  );
}
