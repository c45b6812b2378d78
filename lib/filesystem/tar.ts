/**
 * Plans archives: a stream in pax format, as GNU tar, bsdtar, podman and others unpack it.
 *
 * @module
 */

import type { Finding } from "../core/findings.ts";
import { alignUp, KiB, MiB } from "../core/units.ts";
import type { Selection } from "./contents.ts";
import { findLostFlags } from "./lost-flags.ts";
import { checkEntries, type StreamLimits } from "./squashfs-erofs.ts";
import type { PaxOptions } from "./pax-header.ts";
import type { ArchiveFile, ContainerImage, FilesystemPlan, TarPlan } from "./types.ts";

/** What a pax archive can hold: everything but sockets, and what chattr sets. */
const TAR: StreamLimits = {
  rootEntry: true,
  holes: true,
  maxIds: Infinity,
  maxXattr: Infinity,
  maxXattrs: Infinity,
  slow: false,
  pax: {
    reader: "tar",
    sparse: true,
    directory: "",
    nanoseconds: true,
    acls: "text",
    firstTime: Number.MIN_SAFE_INTEGER,
  },
};

/** More than an entry needs besides its contents: headers, and zeros up to a whole block. */
const ENTRY_ESTIMATE = 2 * KiB;

/** What an archive is besides the tree. */
export interface ArchiveForm {
  /** What differs from an archive for GNU tar and bsdtar. */
  readonly pax?: Partial<PaxOptions>;
  /** Files before the tree. */
  readonly before?: readonly ArchiveFile[];
  /** It is the layer of a container image. */
  readonly image?: ContainerImage;
  readonly findings?: readonly Finding[];
}

/** Plans an archive, with everything later than `time` set to it. @throws {BuildError} for anything it cannot hold. */
export function planTar(selection: Selection, time: number, form: ArchiveForm = {}): FilesystemPlan {
  const { findings, bytes } = checkEntries("tar", TAR, selection);
  const { pax, before = [], image } = form;
  const writer: TarPlan = {
    selection,
    pax: { ...TAR.pax, ...pax, root: true, time },
    before,
    members: before.length + selection.count - findings.filter(({ name }) => name === "socket").length,
  };
  const size = alignUp(bytes + selection.count * ENTRY_ESTIMATE, MiB);
  return {
    ...image ? { type: "oci", writer: { ...writer, image } } : { type: "tar", writer },
    size,
    estimate: true,
    label: "",
    uuid: "",
    entries: selection.count,
    bytes,
    findings: [...findings, ...findLostFlags("tar", selection, 0), ...form.findings ?? []],
  };
}
