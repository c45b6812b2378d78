/**
 * Files that are made of files of the tree: unified kernel images and signed programs. A recipe is plain data,
 * and the size of what it makes is known before it is made.
 *
 * - UKI: https://uapi-group.org/specifications/specs/unified_kernel_image/
 *
 * @module
 */

import { fileAt } from "../tree/query.ts";
import { signedSize, type Signer, signProgram } from "./authenticode.ts";
import { BuildError, quote } from "../core/error.ts";
import { type Nodes } from "../tree/nodes.ts";
import { appendSections, readPe, sizeWithSections } from "./pe.ts";
import { readFile, type Root } from "../tree/root.ts";
import { alignUp } from "../core/units.ts";

export type Recipe =
  /** A file of the tree as it is. */
  | { readonly type: "copy"; readonly from: string }
  | { readonly type: "uki"; readonly stub: string; readonly sections: readonly UkiSection[] }
  | { readonly type: "signed"; readonly of: Recipe; readonly signer: Signer };

/** A section of a UKI, from a text or from files of the tree, one behind the other. */
export interface UkiSection {
  readonly name: ".osrel" | ".cmdline" | ".uname" | ".initrd" | ".linux";
  readonly content: string | readonly string[];
}

/** The kernel unpacks initrds that follow each other at multiples of this. */
const INITRD_ALIGNMENT = 4;

/** Bytes of what a recipe makes. @throws {BuildError} when a file of it is not in the tree. */
export function recipeSize(nodes: Nodes, recipe: Recipe): number {
  switch (recipe.type) {
    case "copy":
      return nodes.size[find(nodes, recipe.from)]!;
    case "signed":
      return signedSize(recipe.signer, recipeSize(nodes, recipe.of));
    case "uki":
      return sizeWithSections(
        nodes.size[find(nodes, recipe.stub)]!,
        recipe.sections.map(({ content }) =>
          typeof content === "string" ? new TextEncoder().encode(content).length : content.reduce(
            (sum, path) => alignUp(sum, INITRD_ALIGNMENT) + nodes.size[find(nodes, path)]!,
            0,
          )
        ),
      );
  }
}

/** Makes a file. @throws {BuildError} when a file of the tree cannot be read or is not what it should be. */
export function makeRecipe(root: Root, nodes: Nodes, recipe: Recipe): Uint8Array<ArrayBuffer> {
  const read = (path: string) => readFile(root, nodes, find(nodes, path), { limit: Infinity });
  switch (recipe.type) {
    case "copy":
      return read(recipe.from);
    case "signed":
      return signProgram(recipe.signer, makeRecipe(root, nodes, recipe.of), sourceOf(recipe));
    case "uki":
      return appendSections(
        read(recipe.stub),
        recipe.sections.map(({ name, content }) => {
          const contents = typeof content === "string"
            ? new TextEncoder().encode(content)
            : concatAligned(content.map(read));
          // The stub may start the kernel where it lies, which then needs room for its variables.
          const memory = name === ".linux" ? readPe(contents, "the kernel").imageSize : 0;
          return { name, contents, memory };
        }),
        recipe.stub,
      );
  }
}

/** The file of the tree that a recipe is mostly about, for messages. */
export function sourceOf(recipe: Recipe): string {
  return recipe.type === "copy" ? recipe.from : recipe.type === "uki" ? recipe.stub : sourceOf(recipe.of);
}

function find(nodes: Nodes, path: string): number {
  const node = fileAt(nodes, path);
  if (node !== undefined) return node;
  throw new BuildError(`Cannot find the file ${quote(path)} in the tree`);
}

function concatAligned(parts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  if (parts.length === 1) return parts[0]!;
  const starts: number[] = [];
  const size = parts.reduce((sum, { length }) => {
    starts.push(alignUp(sum, INITRD_ALIGNMENT));
    return starts.at(-1)! + length;
  }, 0);
  const bytes = new Uint8Array(size);
  parts.forEach((part, i) => bytes.set(part, starts[i]!));
  return bytes;
}
