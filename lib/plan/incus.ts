/**
 * Plans images for Incus: the metadata that it wants beside or before a root filesystem.
 *
 * https://linuxcontainers.org/incus/docs/main/reference/image_format/
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import type { ArchiveForm } from "../filesystem/tar.ts";
import type { ArchiveFile } from "../filesystem/types.ts";
import type { BuilderName, FormatName } from "../image/formats.ts";
import { exists } from "../tree/query.ts";
import { type ArchiveRequest, requireName } from "./archive-request.ts";
import type { Settings } from "./settings.ts";

const HOSTNAME = "/etc/hostname";

/** Plans a unified image. @throws {BuildError} for an architecture that Incus does not know. */
export function planIncus(request: ArchiveRequest): ArchiveForm {
  return { pax: { directory: "rootfs/" }, before: incusFiles(request) };
}

/**
 * The metadata of an image, and the templates of files that each instance gets.
 *
 * @throws {BuildError} for an architecture that Incus does not know.
 */
export function incusFiles(
  { tree, time }: Pick<ArchiveRequest, "tree" | "time">,
  isMachine = false,
): ArchiveFile[] {
  const {
    osRelease: { ID = "linux", NAME = ID, PRETTY_NAME = NAME, VERSION_ID, VERSION_CODENAME, IMAGE_VERSION },
    nodes,
  } = tree;
  const machine = requireName(tree, "machine", "an image for Incus");
  const release = VERSION_CODENAME ?? VERSION_ID;
  const properties = {
    architecture: machine,
    description: PRETTY_NAME,
    name: [ID, release, machine].filter(Boolean).join("-"),
    os: NAME,
    ...release && { release },
    ...IMAGE_VERSION && { version: IMAGE_VERSION },
  };
  // The agent of a virtual machine fills templates, and a tree may not have it.
  const hasHostname = !isMachine && exists(nodes, HOSTNAME);
  const lines = [
    `architecture: ${machine}`,
    `creation_date: ${time}`,
    "properties:",
    // A text in JSON is one in YAML: https://yaml.org/spec/1.2.2/#13-terminology
    ...Object.entries(properties).map(([name, value]) => `  ${name}: ${JSON.stringify(value)}`),
    ...hasHostname
      ? ["templates:", `  ${HOSTNAME}:`, "    when: [create, copy]", "    template: hostname.tpl"]
      : [],
  ];
  return [
    { name: "metadata.yaml", text: lines.map((line) => `${line}\n`).join("") },
    ...hasHostname ? [{ name: "templates/hostname.tpl", text: "{{ container.name }}\n" }] : [],
  ];
}

/** What metadata can be beside, by builder. */
const BESIDE: Readonly<
  Record<BuilderName, { readonly formats: readonly FormatName[]; readonly hint: string }>
> = {
  "disk-image": { formats: ["qcow2", "qcow2-zstd"], hint: "Set OUTPUT_FORMAT to qcow2" },
  "part-image": {
    formats: ["raw"],
    hint: "Set FILESYSTEM to squashfs and OUTPUT_FORMAT to raw, or OUTPUT_FORMAT to incus",
  },
};

/** @throws {BuildError} (usage) for metadata beside an image that Incus does not take. */
export function checkIncus(
  { incusMetadata, outputFormat, filesystem, compress }: Settings,
  builder: BuilderName,
): void {
  if (incusMetadata === undefined) return;
  const { formats, hint } = BESIDE[builder];
  const isRight = builder === "disk-image" || filesystem === "squashfs";
  if (formats.includes(outputFormat) && isRight && compress === "none") return;
  throw new BuildError(`Cannot write INCUS_METADATA for this image: Incus takes it as no root filesystem`, {
    kind: "usage",
    hint,
  });
}
