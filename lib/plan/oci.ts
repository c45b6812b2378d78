/**
 * Plans container images: what they are called, and how a container is run.
 *
 * - https://github.com/opencontainers/image-spec/blob/main/config.md
 * - systemd in a container: https://systemd.io/CONTAINER_INTERFACE/
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { finding } from "../core/findings.ts";
import { FILE_TYPES, TYPE_MASK } from "../core/mode.ts";
import { contentsOf, modeOf, nameOf, type Selection, treePath } from "../filesystem/contents.ts";
import type { ArchiveForm } from "../filesystem/tar.ts";
import type { Tree } from "../tree/inspect.ts";
import { firstFile } from "../tree/query.ts";
import { type ArchiveRequest, requireName } from "./archive-request.ts";
import { findInit } from "./checks.ts";
import { systemdVersion } from "./machine-id.ts";
import { IMAGE_NAME_LENGTH, IMAGE_TAG_LENGTH } from "./setting-values.ts";
import type { Settings } from "./settings.ts";

/** Where programs are looked for, as docker and podman have it. */
const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** By this systemd knows that it is in a container, of whatever engine. */
const CONTAINER = "container=oci";

/** What stops systemd: on SIGTERM, it would only start anew. */
const SYSTEMD_STOP = "SIGRTMIN+3";

/** The shells that run where nothing else is asked for, the most comfortable first. */
const SHELLS = ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"];

/** Plans a container image. @throws {BuildError} for what a layer cannot hold, or a tree without programs. */
export function planOci({ settings, tree, time }: ArchiveRequest, selection: Selection): ArchiveForm {
  checkWhiteouts(selection);
  const { nodes } = tree;
  const whole = settings.directory === "/";
  const init = whole ? findInit(nodes) : undefined;
  const command = settings.ociCommand ?? defaultCommand(settings, tree, init);
  const isSystemd = command?.length === 1 && command[0] === init && systemdVersion(nodes) !== undefined;
  const env = settings.ociEnv ?? [];
  const names = env.map((text) => text.split("=", 1)[0]);
  const defaults = [PATH, ...isSystemd ? [CONTAINER] : []];
  return {
    // Holes should not be used in layers, and ACLs are extended attributes like others:
    // https://github.com/opencontainers/image-spec/blob/main/layer.md#file-types
    pax: { sparse: false, acls: "xattrs" },
    findings: command
      ? []
      : [finding("no-command", "The image says no command: the tree has no init and no shell")],
    image: {
      tag: settings.ociTag ?? defaultTag(tree),
      architecture: requireName(tree, "go", "a container image"),
      created: new Date(time * 1000).toISOString().replace(/\.\d+Z$/, "Z"),
      config: {
        Env: [...defaults.filter((text) => !names.includes(text.split("=", 1)[0])), ...env],
        ...command && { Cmd: command },
        Labels: {
          ...defaultLabels(tree),
          ...Object.fromEntries((settings.ociLabels ?? []).map(nameAndValue)),
        },
        ...isSystemd && { StopSignal: SYSTEMD_STOP },
      },
    },
  };
}

function defaultCommand(
  { directory }: Settings,
  { nodes }: Tree,
  init: string | undefined,
): readonly string[] | undefined {
  const above = directory === "/" ? "" : directory;
  const program = init ?? firstFile(nodes, SHELLS.map((path) => above + path))?.slice(above.length);
  return program === undefined ? undefined : [program];
}

/**
 * `localhost/debian:13`: the engines show it as it is, and do not take it for an image of a registry. Whatever os-release
 * says, it is one that {@link imageName} accepts.
 */
function defaultTag({ osRelease: { ID, IMAGE_ID, IMAGE_VERSION, VERSION_ID } }: Tree): string {
  const registry = "localhost/";
  const first = (length: number, ...texts: (string | undefined)[]) =>
    texts.map((text) => plainName(text ?? "", length)).find((text) => text !== "");
  const name = first(IMAGE_NAME_LENGTH - registry.length, IMAGE_ID, ID) ?? "linux";
  return `${registry}${name}:${first(IMAGE_TAG_LENGTH, IMAGE_VERSION, VERSION_ID) ?? "latest"}`;
}

/** Letters, digits, and single dots and hyphens between them, of which names and tags can be made. */
function plainName(text: string, length: number): string {
  return text.toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, (between) => /^\.+$/.test(between) ? "." : "-")
    .replace(/^[.-]/, "")
    .slice(0, length)
    .replace(/[.-]$/, "");
}

/** https://github.com/opencontainers/image-spec/blob/main/annotations.md */
function defaultLabels({ osRelease }: Tree): Record<string, string> {
  const { PRETTY_NAME, IMAGE_VERSION, VERSION_ID = IMAGE_VERSION, HOME_URL } = osRelease;
  const version = IMAGE_VERSION ?? VERSION_ID;
  return {
    ...PRETTY_NAME && { "org.opencontainers.image.title": PRETTY_NAME },
    ...HOME_URL && { "org.opencontainers.image.url": HOME_URL },
    ...version && { "org.opencontainers.image.version": version },
  };
}

function nameAndValue(text: string): [string, string] {
  const end = text.indexOf("=");
  return [text.slice(0, end), text.slice(end + 1)];
}

/** https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts, and what overlayfs has for them. */
function checkWhiteouts(selection: Selection): void {
  const { nodes, count } = selection;
  for (let entry = 1; entry < count; entry++) {
    const isDevice = (modeOf(selection, entry) & TYPE_MASK) === FILE_TYPES.char;
    const isOverlay = isDevice && nodes.special[contentsOf(selection, entry)!] === 0;
    const name = nameOf(selection, entry);
    if (!isOverlay && !WHITEOUT.every((byte, i) => name[i] === byte)) continue;
    throw new BuildError(
      `Cannot put ${
        quote(treePath(selection, entry))
      } into a container image: it means that a file is deleted`,
      { kind: "usage", hint: "Rename or remove it, or leave whiteouts out of KEEP" },
    );
  }
}

const WHITEOUT = new TextEncoder().encode(".wh.");
