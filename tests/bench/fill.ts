/**
 * The fill alone, as a program: walk, plan, format and fill one ext4 filesystem. `TREE IMAGE` as arguments.
 *
 * @module
 */

import { MiB } from "../../lib/core/units.ts";
import { makeImage } from "../lab/ext4_image.ts";

const [tree, image] = Deno.args;
await makeImage(tree!, image!, { free: 512 * MiB });
