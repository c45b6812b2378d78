/**
 * Makes GRUB for UEFI from the tree's modules, if its distribution has no ready-made program.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import type { Recipe } from "../efi/recipes.ts";
import type { FatPlan } from "../filesystem/types.ts";
import * as commands from "./commands.ts";
import type { MakeContext } from "./types.ts";
import { copyModules } from "./grub-bios.ts";

/** A plan with all contents known: programs made by grub-mkimage are texts in it. */
export async function withGrub(plan: FatPlan, context: MakeContext): Promise<FatPlan> {
  const entries = [];
  for (const entry of plan.entries) {
    const { recipe, ...rest } = entry;
    entries.push(recipe?.type === "grub" ? { ...rest, text: await makeGrubEfi(recipe, context) } : entry);
  }
  return { ...plan, entries };
}

async function makeGrubEfi(
  { directory, script, size, ...options }: Extract<Recipe, { type: "grub" }>,
  { root, nodes, scratch }: MakeContext,
): Promise<Uint8Array<ArrayBuffer>> {
  const modules = `${scratch}/modules`, config = `${scratch}/load.cfg`, image = `${scratch}/grub.efi`;
  await copyModules(root, nodes, directory, modules);
  await Deno.writeTextFile(config, script);
  await commands.grubMkimage({ ...options, directory: modules, script: config }, image);
  const program = await Deno.readFile(image);
  if (program.length > size) {
    throw new BuildError(
      `Cannot make GRUB of ${directory}: it has ${program.length} bytes, and at most ${size} were planned`,
    );
  }
  const padded = new Uint8Array(size);
  padded.set(program);
  return padded;
}
