/**
 * Plans the parts of a disk as files of their own (`SPLIT_DIR`), for what updates a system one partition at a time, and for
 * booting over the network. Their names are `NAME_VERSION.TYPE.raw` and the like:
 *
 * - systemd-sysupdate: https://www.freedesktop.org/software/systemd/man/latest/sysupdate.d.html
 * - The types and suffixes are those of mkosi and systemd-repart --split.
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import type { Recipe } from "../efi/recipes.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import { stemOf } from "../image/formats.ts";
import type { Tree } from "../tree/inspect.ts";
import { kernelRecipe } from "../boot/loader.ts";
import { type Settings, VERSION } from "./settings.ts";

/** A file besides the partitions. */
export type BootArtefact =
  | { readonly suffix: string; readonly text: string }
  | { readonly suffix: string; readonly recipe: Recipe };

/** The files, without the partitions, which are those of the disk. */
export interface SplitPlan {
  /** What all names begin with: `NAME_VERSION`. */
  readonly prefix: string;
  /** UKI, kernel, initrd and command line of the default boot entry, as far as there are any. */
  readonly boot: readonly BootArtefact[];
}

/** Fields of os-release with a version, the preferred one first. */
const VERSION_FIELDS = ["IMAGE_VERSION", "VERSION_ID", "BUILD_ID"];

/**
 * Plans the split artefacts if they are asked for.
 *
 * @throws {BuildError} (usage) when the version is not known, or when SHA256SUMS cannot list such names.
 */
export function planSplit(
  { splitDirectory, imageVersion, outputName }: Settings,
  { osRelease, kernels: [kernel] }: Pick<Tree, "osRelease" | "kernels">,
  esp: readonly ExtraFile[],
  options: string,
): SplitPlan | undefined {
  if (splitDirectory === undefined) return undefined;
  const field = VERSION_FIELDS.find((name) => osRelease[name]);
  const version = imageVersion ?? (field === undefined ? undefined : osRelease[field]!);
  if (version === undefined || !VERSION.test(version)) {
    throw new BuildError(
      version === undefined
        ? "Cannot name the files of SPLIT_DIR: the tree's os-release has no version"
        : `Cannot name the files of SPLIT_DIR with ${field}=${quote(version)} of the tree's os-release`,
      { kind: "usage", hint: "Set IMAGE_VERSION" },
    );
  }
  if (/\p{Cc}/u.test(outputName ?? "")) {
    throw new BuildError(
      `Cannot name the files of SPLIT_DIR after ${quote(outputName!)}: it has control characters`,
      {
        kind: "usage",
        hint: "Set OUTPUT_NAME, or name the output differently",
      },
    );
  }
  const stem = stemOf(outputName ?? "disk", "disk-image");
  const name = stem.endsWith(`_${version}`) ? stem.slice(0, -version.length - 1) : stem;
  const uki = ukiOf(esp) ?? (kernel?.unified && copyOf(kernel.image));
  return {
    prefix: `${name}_${version}`,
    boot: [
      ...uki ? [{ suffix: "efi", recipe: uki }] : [],
      ...kernel && !kernel.unified ? [{ suffix: "vmlinuz", recipe: kernelRecipe(kernel) }] : [],
      ...kernel?.initrds.length
        ? [{ suffix: "initrd", recipe: { type: "joined", from: kernel.initrds } as const }]
        : [],
      ...kernel ? [{ suffix: "cmdline", text: `${options}\n` }] : [],
    ],
  };
}

function copyOf(from: string): Recipe {
  return { type: "copy", from };
}

/** The first UKI that is made for the ESP, with its signature. */
function ukiOf(esp: readonly ExtraFile[]): Recipe | undefined {
  const made = esp.flatMap((file) => file.type === "made" ? [file.recipe] : []);
  return made.find((recipe) => recipe.type === "uki" || recipe.type === "signed" && recipe.of.type === "uki");
}
