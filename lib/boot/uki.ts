/**
 * Unified kernel images: kernel, initrd, options and os-release in one program, which firmware can start directly.
 *
 * - https://uapi-group.org/specifications/specs/unified_kernel_image/
 * - systemd-stub: https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html
 *
 * @module
 */

import type { Recipe } from "../efi/recipes.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import type { Kernel } from "../tree/kernels.ts";
import { OS_RELEASE_FILES } from "../tree/os-release.ts";
import { firstFile } from "../tree/query.ts";
import { type BootContext, copy, firmwareOf, type FoundLoader, kernelRecipe, optionsFor } from "./loader.ts";
import { entryName, findSystemdBoot } from "./systemd-boot.ts";

/** UKIs for the tree's kernels: a single one is its own loader, several get systemd-boot as their menu. */
export function findUki(tree: Tree): FoundLoader | string {
  const names = firmwareOf(tree);
  if (!names) return "no UKI for an architecture without UEFI";
  const [kernel, ...others] = tree.kernels;
  if (!kernel) return "no kernel for a UKI";
  const stub = `/usr/lib/systemd/boot/efi/linux${names.efi}.efi.stub`;
  const needsStub = tree.kernels.some(({ unified }) => !unified);
  if (needsStub && !firstFile(tree.nodes, [stub])) return `no ${stub} (in Debian: package systemd-boot-efi)`;
  const has = needsStub ? stub : kernel.image;
  const image = (kernel: Kernel, context: BootContext, path: string): ExtraFile =>
    kernel.unified
      ? copy(kernel.image, path)
      : { path, type: "made", recipe: ukiRecipe(tree, kernel, stub, optionsFor(kernel, context)) };
  if (others.length === 0) {
    return {
      reason: `the tree has ${has} and one kernel`,
      signed: false,
      // The signature of a UKI covers its kernel.
      verifiesKernels: false,
      boot: "vfat",
      needsSmallSectors: false,
      files: (context) => ({ esp: [image(kernel, context, `/${names.path}`)], xbootldr: [] }),
    };
  }
  const menu = findSystemdBoot(tree);
  if (typeof menu === "string") return `several kernels, but ${menu}`;
  return {
    // Shim would refuse UKIs that the vendor did not sign.
    ...menu,
    reason: `the tree has ${has} and several kernels`,
    signed: false,
    verifiesKernels: false,
    needsSmallSectors: false,
    files: (context) => ({
      // On the ESP, since the mount at /boot/efi would hide /boot/EFI.
      esp: [
        ...menu.files(context).esp,
        // The others are already there.
        ...tree.kernels.filter(({ unified }) => !unified).map((kernel) =>
          image(kernel, context, `/EFI/Linux/${entryName(tree, kernel.version)}.efi`)
        ),
      ],
      xbootldr: [],
    }),
  };
}

function ukiRecipe(tree: Tree, kernel: Kernel, stub: string, options: string): Recipe {
  const osRelease = firstFile(tree.nodes, OS_RELEASE_FILES);
  return {
    type: "uki",
    stub,
    sections: [
      // Without it, systemd-boot does not recognise the file as a UKI.
      { name: ".osrel", content: osRelease ? [osRelease] : "ID=linux\nNAME=Linux\n" },
      { name: ".cmdline", content: options },
      { name: ".uname", content: kernel.version },
      ...kernel.initrds.length ? [{ name: ".initrd" as const, content: kernel.initrds }] : [],
      // Last, because it is larger in memory than in the file.
      { name: ".linux", content: kernelRecipe(kernel) },
    ],
  };
}
