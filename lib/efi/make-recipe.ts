/**
 * Makes files from their recipes.
 *
 * @module
 */

import { encodeText } from "../core/bytes.ts";
import { BuildError, quote } from "../core/error.ts";
import { node } from "../core/node.ts";
import { alignUp } from "../core/units.ts";
import type { Nodes } from "../tree/nodes.ts";
import { readFile, type Root } from "../tree/root.ts";
import { signProgram } from "./authenticode.ts";
import { appendSections, readPe } from "./pe.ts";
import { findFile, INITRD_ALIGNMENT, type Recipe, sourceOf } from "./recipes.ts";

/** Makes a file. @throws {BuildError} when a file in the tree cannot be read, or is not what it should be. */
export function makeRecipe(root: Root, nodes: Nodes, recipe: Recipe): Uint8Array<ArrayBuffer> {
  const read = (path: string) => readFile(root, nodes, findFile(nodes, path), { limit: Infinity });
  switch (recipe.type) {
    case "copy":
      return read(recipe.from);
    case "gunzip":
      return unpack(read(recipe.from), recipe);
    case "joined":
      return concatAligned(recipe.from.map(read));
    case "grub":
      throw new Error("grub-mkimage makes it before the filesystem is filled");
    case "signed":
      return signProgram(recipe.signer, makeRecipe(root, nodes, recipe.of), sourceOf(recipe));
    case "uki":
      return appendSections(
        read(recipe.stub),
        recipe.sections.map(({ name, content }) => {
          const contents = typeof content === "string"
            ? encodeText(content)
            : "type" in content
            ? makeRecipe(root, nodes, content)
            : concatAligned(content.map(read));
          // The stub may run the kernel in place, which then needs memory for its uninitialised data.
          const memory = name === ".linux" ? readPe(contents, "the kernel").imageSize : 0;
          return { name, contents, memory };
        }),
        recipe.stub,
      );
  }
}

/** @throws {BuildError} when the data is damaged, or says a wrong size of itself. */
function unpack(
  packed: Uint8Array<ArrayBuffer>,
  { from, size }: { readonly from: string; readonly size: number },
): Uint8Array<ArrayBuffer> {
  let cause: unknown;
  try {
    const bytes = node.zlib.gunzipSync(packed, { maxOutputLength: size });
    if (bytes.length === size) return new Uint8Array(bytes);
  } catch (error) {
    cause = error;
  }
  throw new BuildError(`Cannot unpack ${quote(from)} of the tree: its gzip data is damaged`, {
    cause,
    hint: "Install the kernel's package again, or remove the file",
  });
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
