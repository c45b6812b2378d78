/**
 * Plans archives: a stream in pax format, as GNU tar, bsdtar, podman and others unpack it.
 *
 * @module
 */

import { alignUp, KiB, MiB } from "../core/units.ts";
import type { Selection } from "./contents.ts";
import { findLostFlags } from "./lost-flags.ts";
import { checkEntries, type StreamLimits } from "./squashfs-erofs.ts";
import type { FilesystemPlan } from "./types.ts";

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
    acls: true,
    firstTime: Number.MIN_SAFE_INTEGER,
  },
};

/** More than an entry needs besides its contents: headers, and zeros up to a whole block. */
const ENTRY_ESTIMATE = 2 * KiB;

/** Plans an archive, with everything later than `time` set to it. @throws {BuildError} for anything it cannot hold. */
export function planTar(selection: Selection, time: number): FilesystemPlan {
  const { findings, bytes } = checkEntries("tar", TAR, selection);
  return {
    type: "tar",
    size: alignUp(bytes + selection.count * ENTRY_ESTIMATE, MiB),
    estimate: true,
    label: "",
    uuid: "",
    entries: selection.count,
    bytes,
    findings: [...findings, ...findLostFlags("tar", selection, 0)],
    writer: {
      selection,
      pax: { ...TAR.pax, root: true, time },
      members: selection.count - findings.filter(({ name }) => name === "socket").length,
    },
  };
}
