/**
 * Checks of the whole tree: each is one function that says what it found. They read no disk: what they look at is in the
 * {@link Tree}.
 *
 * @module
 */

import { type Finding, finding } from "../core/findings.ts";
import { PERMISSIONS_MASK } from "../core/mode.ts";
import type { Tree } from "../tree/inspect.ts";
import type { Settings } from "./settings.ts";

/** What an image is made for, as far as a check needs to know. */
export interface CheckContext {
  readonly settings: Settings;
  /** Whether the whole tree becomes the root of a system, and not only a directory of it a filesystem. */
  readonly isSystem: boolean;
}

type Check = (tree: Tree, context: CheckContext) => Iterable<Finding>;

const CHECKS: readonly Check[] = [rootDirectory];

/** All that the checks find, in their order. */
export function checkTree(tree: Tree, context: CheckContext): Finding[] {
  return CHECKS.flatMap((check) => [...check(tree, context)]);
}

/** The bits that a root directory needs: everybody may list and enter it. */
const ROOT_MODE = 0o555;

/** A tree from `mktemp -d` has a root directory of 0700, or one that belongs to whoever made it. */
function* rootDirectory({ nodes }: Tree, { isSystem }: CheckContext): Iterable<Finding> {
  if (!isSystem) return;
  const mode = nodes.mode[0]! & PERMISSIONS_MASK, owner = `${nodes.uid[0]}:${nodes.gid[0]}`;
  if ((mode & ROOT_MODE) !== ROOT_MODE) {
    const shown = mode.toString(8).padStart(4, "0");
    yield finding("root-mode", `The root directory has the mode ${shown}: only its owner can enter it`, {
      path: "/",
    });
  }
  if (owner !== "0:0") {
    yield finding("root-owner", `The root directory belongs to ${owner} instead of root`, { path: "/" });
  }
}
