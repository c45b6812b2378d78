/**
 * Secure Boot with keys of one's own: all programs that firmware or shim verifies get a signature more.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import type { Signer } from "../efi/authenticode.ts";
import type { Addition } from "../filesystem/contents.ts";
import type { Tree } from "../tree/inspect.ts";
import { children, lookup, type Nodes, pathOf, typeOf } from "../tree/nodes.ts";
import { countIn, exists } from "../tree/query.ts";
import type { ChosenLoader } from "./bootloaders.ts";
import { bootableKernels, type BootFiles, ESP_DIRECTORIES } from "./loader.ts";

/**
 * The files of a loader with signatures: loaders, UKIs, and the kernels, which systemd-boot and shim verify.
 *
 * @throws {BuildError} (usage) for a GRUB that would start no kernel.
 */
export function signFiles(
  { esp, xbootldr }: BootFiles,
  loader: ChosenLoader,
  tree: Tree,
  signer: Signer,
): BootFiles {
  if (loader.name === "grub" && !loader.signed) {
    throw new BuildError("Cannot sign GRUB for Secure Boot: without shim it starts no kernel then", {
      kind: "usage",
      hint: "Add shim and the signed GRUB to the tree (in Debian: shim-signed, grub-efi-*-signed)",
    });
  }
  const sign = (addition: Addition): Addition => {
    if (addition.type !== "copy" && addition.type !== "made") return addition;
    const of = addition.type === "made" ? addition.recipe : { type: "copy", from: addition.from } as const;
    return { path: addition.path, type: "made", recipe: { type: "signed", of, signer } };
  };
  const kernels = new Map<string, Addition>();
  // The kernel in a UKI is covered by its signature.
  if (loader.name !== "uki") {
    bootableKernels(tree).kernels.forEach(({ linux }, i) => {
      const from = tree.kernels[i]!.image;
      kernels.set(linux, sign({ path: linux, type: "copy", from }));
    });
  }
  const present = loader.name === "existing" ? programsOf(tree) : [];
  return {
    esp: [...present, ...esp].map((addition) => /\.efi$/i.test(addition.path) ? sign(addition) : addition),
    xbootldr: [...xbootldr.filter(({ path }) => !kernels.has(path)), ...kernels.values()],
  };
}

/** The programs on the ESP of the tree. */
function programsOf({ nodes }: Tree): Addition[] {
  const directory = ESP_DIRECTORIES.find((path) => countIn(nodes, path) > 0)!;
  const found: Addition[] = [];
  const pending = [lookup(nodes, directory)!];
  const base = pathOf(nodes, pending[0]!);
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    pending.push(...children(nodes, node));
    const from = pathOf(nodes, node);
    if (typeOf(nodes, node) !== "file" || !isProgram(nodes, from)) continue;
    found.push({ path: from.slice(base.length), type: "copy", from });
  }
  return found;
}

/** Whether it is named like a program, and by a name that can be spelled. */
function isProgram(nodes: Nodes, path: string): boolean {
  return /\.efi$/i.test(path) && exists(nodes, path);
}
