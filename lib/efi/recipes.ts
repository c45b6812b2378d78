/**
 * Files made from files of the tree: unified kernel images and signed programs. A recipe is plain data, and
 * the size of the result is known before it is made.
 *
 * - UKI: https://uapi-group.org/specifications/specs/unified_kernel_image/
 *
 * @module
 */

import { encodeText } from "../core/bytes.ts";
import { BuildError, quote } from "../core/error.ts";
import { alignUp } from "../core/units.ts";
import type { Nodes } from "../tree/nodes.ts";
import { fileAt } from "../tree/query.ts";
import { signedSize, type Signer } from "./authenticode.ts";
import { sizeWithSections } from "./pe.ts";

export type Recipe =
  /** A file from the tree, unchanged. */
  | { readonly type: "copy"; readonly from: string }
  /** The contents of a gzip file in the tree; `size` is their size in bytes. */
  | { readonly type: "gunzip"; readonly from: string; readonly size: number }
  /** Files of the tree, one behind the other, as the kernel accepts initrds. */
  | { readonly type: "joined"; readonly from: readonly string[] }
  | { readonly type: "uki"; readonly stub: string; readonly sections: readonly UkiSection[] }
  /** GRUB of the tree's modules. `size` is an upper bound, up to which it is padded. */
  | {
    readonly type: "grub";
    /** Where the modules are. */
    readonly directory: string;
    /** What grub-mkimage calls the machine: `x86_64-efi`. */
    readonly format: string;
    readonly modules: readonly string[];
    readonly prefix: string;
    /** Commands that it runs first. */
    readonly script: string;
    readonly size: number;
  }
  | { readonly type: "signed"; readonly of: Recipe; readonly signer: Signer };

/** A section of a UKI, from a text, from files of the tree, one behind the other, or made itself. */
interface UkiSection {
  readonly name: ".osrel" | ".cmdline" | ".uname" | ".initrd" | ".linux";
  readonly content: string | readonly string[] | Recipe;
}

/** The kernel accepts several initrds in a row if each starts at a multiple of this. */
export const INITRD_ALIGNMENT = 4;

/** The size in bytes of the result. @throws {BuildError} when one of its files is not in the tree. */
export function recipeSize(nodes: Nodes, recipe: Recipe): number {
  switch (recipe.type) {
    case "copy":
      return nodes.size[findFile(nodes, recipe.from)]!;
    case "joined":
      return joinedSize(nodes, recipe.from);
    case "gunzip":
    case "grub":
      return recipe.size;
    case "signed":
      return signedSize(recipe.signer, recipeSize(nodes, recipe.of));
    case "uki":
      return sizeWithSections(
        nodes.size[findFile(nodes, recipe.stub)]!,
        recipe.sections.map(({ content }) =>
          typeof content === "string"
            ? encodeText(content).length
            : "type" in content
            ? recipeSize(nodes, content)
            : joinedSize(nodes, content)
        ),
      );
  }
}

function joinedSize(nodes: Nodes, paths: readonly string[]): number {
  return paths.reduce((sum, path) => alignUp(sum, INITRD_ALIGNMENT) + nodes.size[findFile(nodes, path)]!, 0);
}

/** The main source file of a recipe, for messages. */
export function sourceOf(recipe: Recipe): string {
  if (recipe.type === "grub") return recipe.directory;
  if (recipe.type === "joined") return recipe.from[0]!;
  return recipe.type === "signed" ? sourceOf(recipe.of) : recipe.type === "uki" ? recipe.stub : recipe.from;
}

/** The row of the file at a path. @throws {BuildError} when there is none. */
export function findFile(nodes: Nodes, path: string): number {
  const node = fileAt(nodes, path);
  if (node !== undefined) return node;
  throw new BuildError(`Cannot find the file ${quote(path)} in the tree`);
}
