/**
 * Shim: a first stage signed by Microsoft, which starts what its distribution signed.
 *
 * - https://github.com/rhboot/shim
 *
 * @module
 */

import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { firstFile } from "../tree/query.ts";
import { copy, type EfiNames, programAt } from "./loader.ts";

/** The shim of the tree. */
export interface Shim {
  readonly path: string;
  /**
   * The files of a directory on the ESP where shim, named `first`, starts `second`. Shim looks for it as
   * `grub<arch>.efi` (SUSE's: `grub.efi`) beside itself, whatever it is. The fallback program (`fb<arch>.efi`) is left
   * out: shim would run it first, and it restarts the machine.
   */
  readonly files: (directory: string, first: string, second: string) => ExtraFile[];
}

/** The shim of Debian and Ubuntu. @returns `undefined` when the tree has no signed one for the architecture. */
export function findShim(tree: Tree, { efi }: EfiNames): Shim | undefined {
  const signed = `/usr/lib/shim/shim${efi}.efi.signed`;
  // Ubuntu's name for the one in use.
  const path = firstFile(tree.nodes, [`${signed}.latest`, signed]);
  if (!path) return undefined;
  const manager = firstFile(tree.nodes, [`/usr/lib/shim/mm${efi}.efi.signed`, `/usr/lib/shim/mm${efi}.efi`]);
  return shimAt(path, `grub${efi}.efi`, manager ? [[manager, `mm${efi}.efi`]] : []);
}

/**
 * The shim of another distribution, with its key manager beside it.
 *
 * @returns the first of these paths that is a signed shim.
 */
export function findShimAmong(paths: readonly string[], tree: Tree, { efi }: EfiNames): Shim | undefined {
  for (const path of paths) {
    const program = programAt(tree, path);
    if (program?.kind !== "shim" || !program.signed) continue;
    const directory = path.slice(0, path.lastIndexOf("/"));
    const managers = [`mm${efi}.efi`, "MokManager.efi"].filter((name) =>
      firstFile(tree.nodes, [`${directory}/${name}`])
    );
    return shimAt(
      path,
      program.starts ?? `grub${efi}.efi`,
      managers.map((name) => [`${directory}/${name}`, name]),
    );
  }
}

/** `managers` let somebody at the console enrol keys for their own modules and kernels. */
function shimAt(path: string, starts: string, managers: readonly (readonly string[])[]): Shim {
  return {
    path,
    files: (directory, first, second) => [
      copy(path, `${directory}/${first}`),
      copy(second, `${directory}/${starts}`),
      ...managers.map(([from, name]) => copy(from!, `${directory}/${name}`)),
    ],
  };
}
