/**
 * What the steps of a build hand to each other.
 *
 * @module
 */

import type { Output } from "../image/output.ts";
import type { Target } from "../image/target.ts";
import type { PlacedVolume, Plan } from "../plan/plan.ts";
import type { Nodes } from "../tree/nodes.ts";
import type { Root } from "../tree/root.ts";

/** What is needed to make a filesystem, besides its plan. */
export interface MakeContext {
  readonly root: Root;
  readonly nodes: Nodes;
  /** An empty directory for small files. */
  readonly scratch: string;
  /** Called with the bytes written so far. */
  readonly onProgress: (done: number) => void;
  /** Aborted when the build failed elsewhere or was interrupted. */
  readonly signal: AbortSignal;
}

/** The split artefacts of an image that is being built. */
export interface SplitInProgress {
  /** A directory beside where they go, for all of them at once. */
  readonly staging: string;
  /** The finished ones: their SHA-256 by name. */
  readonly sums: Map<string, string>;
}

/** An image that is being built, as the steps see it. */
export interface ImageInProgress {
  readonly output: Output;
  /** Versions of the programs. */
  readonly versions: ReadonlyMap<string, string>;
  /** The file or device in which everything is at its position on the disk, except for {@link ImageInProgress.wrapped}. */
  readonly disk: string;
  /** For a format that is written around the largest filesystem: where that is in the output. */
  readonly wrapped: Target | undefined;
  /** The raw disk: the output itself, unless it was converted. */
  raw: string;
  /** The image in its format: the output itself, unless it is packed. */
  readonly made: string;
  /** A directory for temporary files. */
  readonly scratch: string;
  /** The split artefacts, if there are any. */
  readonly split: SplitInProgress | undefined;
  readonly isDevice: boolean;
  /** The image's final file name. */
  readonly name: string;
  /** Allocates the image, which then reads as zeros. */
  stage(plan: Plan): Promise<void>;
  /** The SHA-256 of the finished output, in hex. */
  sha256(): Promise<string>;
  /** Where to make a filesystem. */
  place(volume: Pick<PlacedVolume, "offset" | "size">): Target;
}
