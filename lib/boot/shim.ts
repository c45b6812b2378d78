/**
 * Shim: the first stage that Microsoft signed, and that starts what its distribution signed.
 *
 * - https://github.com/rhboot/shim
 *
 * @module
 */

import type { ExtraFile } from "../filesystem/contents.ts";
import type { Tree } from "../tree/inspect.ts";
import { firstFile } from "../tree/query.ts";
import { copy, type EfiNames } from "./loader.ts";

/** The shim of the tree. */
export interface Shim {
  readonly path: string;
  /**
   * The files of a directory of the ESP in which shim, under the name `first`, starts `second`. It looks for that
   * as `grub<arch>.efi` beside itself, whatever it is. The fallback program (`fb<arch>.efi`) is left out: shim
   * would run it first, and it restarts the machine.
   */
  readonly files: (directory: string, first: string, second: string) => ExtraFile[];
}

/** @returns `undefined` when the tree has no signed shim for the architecture. */
export function findShim(tree: Tree, { efi }: EfiNames): Shim | undefined {
  const signed = `/usr/lib/shim/shim${efi}.efi.signed`;
  // Ubuntu names the one that is in use so.
  const path = firstFile(tree.nodes, [`${signed}.latest`, signed]);
  if (!path) return undefined;
  // Lets a person at the console enrol keys for modules and kernels of their own.
  const manager = firstFile(tree.nodes, [`/usr/lib/shim/mm${efi}.efi.signed`, `/usr/lib/shim/mm${efi}.efi`]);
  return {
    path,
    files: (directory, first, second) => [
      copy(path, `${directory}/${first}`),
      copy(second, `${directory}/grub${efi}.efi`),
      ...manager ? [copy(manager, `${directory}/mm${efi}.efi`)] : [],
    ],
  };
}
