/**
 * Secure Boot with your own keys: every program that firmware or shim verifies gets an additional signature.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import type { Signer } from "../efi/authenticode.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { children, lookup, type Nodes, pathOf, typeOf } from "../tree/nodes.ts";
import { exists } from "../tree/query.ts";
import type { ChosenLoader } from "./bootloaders.ts";
import { bootableKernels, type BootFiles } from "./loader.ts";

/**
 * The files of a loader, signed: loaders, UKIs, and the kernels, which systemd-boot and shim verify.
 *
 * @throws {BuildError} (usage) for a GRUB that could not start any kernel.
 */
export function signFiles(
  { esp, xbootldr, moved }: BootFiles,
  loader: ChosenLoader,
  tree: Tree,
  signer: Signer,
): BootFiles {
  const { verifiesKernels, espInTree } = loader;
  if (typeof verifiesKernels === "object") {
    throw new BuildError(verifiesKernels.problem, { kind: "usage", hint: verifiesKernels.hint });
  }
  const sign = (file: ExtraFile): ExtraFile => {
    if (file.type !== "copy" && file.type !== "made") return file;
    const of = file.type === "made" ? file.recipe : { type: "copy", from: file.from } as const;
    return { path: file.path, type: "made", recipe: { type: "signed", of, signer } };
  };
  const kernels = new Map<string, ExtraFile>();
  if (verifiesKernels) {
    for (const { linux, recipe } of bootableKernels(tree).kernels) {
      kernels.set(linux, sign({ path: linux, type: "made", recipe }));
    }
  }
  // The programs of an ESP at /boot are among the files.
  const present = espInTree === undefined || moved ? [] : programsOf(tree, espInTree);
  return {
    ...moved && { moved },
    esp: [...present, ...esp].map((file) => /\.efi$/i.test(file.path) ? sign(file) : file),
    xbootldr: [...xbootldr.filter(({ path }) => !kernels.has(path)), ...kernels.values()],
  };
}

/** The programs on the tree's ESP. */
function programsOf({ nodes }: Tree, directory: string): ExtraFile[] {
  const found: ExtraFile[] = [];
  const pending = [lookup(nodes, directory)!];
  const base = pathOf(nodes, pending[0]!);
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    for (const child of children(nodes, node)) pending.push(child);
    const from = pathOf(nodes, node);
    if (typeOf(nodes, node) !== "file" || !isProgram(nodes, from)) continue;
    found.push({ path: from.slice(base.length), type: "copy", from });
  }
  return found;
}

/** Whether it is named like a program, and can be looked up by that name. */
function isProgram(nodes: Nodes, path: string): boolean {
  return /\.efi$/i.test(path) && exists(nodes, path);
}
