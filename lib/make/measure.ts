/**
 * Makes the parts whose size is not known in advance: read-only filesystems.
 *
 * @module
 */

import { join } from "node:path";
import * as log from "../core/log.ts";
import { formatBytes } from "../core/units.ts";
import { formatOf, isInPlace } from "../image/formats.ts";
import type { PlacedVolume, Plan } from "../plan/plan.ts";
import type { Measured, Measurements } from "../plan/root.ts";
import type { Settings } from "../plan/settings.ts";
import type { OpenTree, Tree } from "../tree/inspect.ts";
import { makeVolumes } from "./filesystems.ts";
import { makeVerity } from "./verity.ts";
import type { ImageInProgress } from "./types.ts";

/**
 * Returns the final plan. If the plan is preliminary, what has no known size is made, hashed if requested, and `planner` plans
 * again with the results: in scratch files, or in the output, if it is alone there.
 */
export async function measure<P extends Plan>(
  plan: P,
  planner: (settings: Settings, tree: Tree, measured?: Measurements) => P,
  tree: OpenTree,
  image: ImageInProgress,
): Promise<P> {
  const volumes = plan.partitions.filter(({ filesystem }) => filesystem.estimate);
  // An archive is made in the output, and nothing follows it.
  if (volumes.length === 0 || formatOf(plan.format).strategy === "archive") return plan;
  const isAlone = plan.builder === "part-image" && isInPlace(plan.format) &&
    image.disk === image.output.path && !image.isDevice;
  const measured: Record<string, Measured> = {};
  for (const volume of volumes) {
    const scratch = await Deno.makeTempDir({ dir: image.scratch, prefix: "measured-" });
    const path = isAlone ? image.disk : join(scratch, "filesystem");
    if (!isAlone) await Deno.writeFile(path, new Uint8Array(), { createNew: true });
    measured[volume.name] = await measureOne(volume, tree, path, scratch);
  }
  return planner(plan.settings, tree, measured);
}

/** Makes a volume in an empty file. */
async function measureOne(
  volume: PlacedVolume,
  tree: OpenTree,
  path: string,
  scratch: string,
): Promise<Measured> {
  await makeVolumes([volume], tree, {
    place: ({ size }) => ({ path, offset: 0, size }),
    scratch,
    oneByOne: false,
  });
  const { size } = await Deno.stat(path);
  log.detail(`${volume.name} has ${formatBytes(size)}`);
  if (!volume.verity) return { path, size };
  log.step("Making the dm-verity hashes");
  const verity = await makeVerity(path, volume.verity, scratch);
  log.detail(`root hash: ${verity.rootHash}`, { rootHash: verity.rootHash });
  return { path, size, verity };
}
