/**
 * Plans archives of the tree: what they are called, and what those who read them want to know.
 *
 * @module
 */

import type { Selection } from "../filesystem/contents.ts";
import type { Contents } from "../filesystem/entries.ts";
import { type ArchiveForm, planTar } from "../filesystem/tar.ts";
import type { FormatName } from "../image/formats.ts";
import type { ArchiveRequest } from "./archive-request.ts";
import { planIncus } from "./incus.ts";
import { planOci } from "./oci.ts";
import type { Volume } from "./root.ts";
import { planWsl } from "./wsl.ts";

/** The forms of archives, by format. Those that have none are the tree alone. */
const FORMS: { readonly [F in FormatName]?: (request: ArchiveRequest, selection: Selection) => ArchiveForm } =
  {
    "oci": planOci,
    "wsl": planWsl,
    "incus": planIncus,
  };

/** Plans an archive, with everything later than `time` set to it. @throws {BuildError} for anything it cannot hold. */
export function planArchive(request: ArchiveRequest, contents: Contents, selection: Selection): Volume {
  const { settings, time } = request;
  const form = FORMS[settings.outputFormat]?.(request, selection) ?? {};
  return { contents, selection, filesystem: planTar(selection, time, form) };
}
