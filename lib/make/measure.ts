/**
 * Makes the parts whose size is not known in advance: read-only roots.
 *
 * @module
 */

import { join } from "node:path";
import * as log from "../core/log.ts";
import { formatBytes } from "../core/units.ts";
import { formatOf } from "../image/formats.ts";
import type { Plan } from "../plan/plan.ts";
import type { Measured } from "../plan/root.ts";
import type { Settings } from "../plan/settings.ts";
import type { OpenTree, Tree } from "../tree/inspect.ts";
import { makeVolumes } from "./filesystems.ts";
import { makeVerity } from "./verity.ts";
import type { ImageInProgress } from "./types.ts";

/**
 * Returns the final plan. If the plan is preliminary, its root is made in a scratch file, hashed if requested, and
 * `planner` plans again with the results.
 */
export async function measure<P extends Plan>(
  plan: P,
  planner: (settings: Settings, tree: Tree, measured?: Measured) => P,
  tree: OpenTree,
  image: ImageInProgress,
): Promise<P> {
  const volume = plan.partitions.find(({ filesystem }) => filesystem.estimate);
  // An archive is made in the output, and nothing follows it.
  if (!volume || formatOf(plan.format).strategy === "archive") return plan;
  const scratch = join(image.scratch, "measured");
  await Deno.mkdir(scratch);
  const path = join(scratch, "filesystem");
  await Deno.writeFile(path, new Uint8Array(), { createNew: true });
  await makeVolumes([volume], tree, {
    place: ({ size }) => ({ path, offset: 0, size }),
    scratch,
    oneByOne: false,
  });
  const { size } = await Deno.stat(path);
  log.detail(`${volume.label} has ${formatBytes(size)}`);
  if (!plan.verity) return planner(plan.settings, tree, { path, size });
  log.step("Making the dm-verity hashes");
  const verity = await makeVerity(path, plan.verity, scratch);
  log.detail(`root hash: ${verity.rootHash}`, { rootHash: verity.rootHash });
  return planner(plan.settings, tree, { path, size, verity });
}
