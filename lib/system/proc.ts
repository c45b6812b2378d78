/**
 * What the kernel says in `/proc`.
 *
 * @module
 */

import { KiB } from "../core/units.ts";
import * as posix from "./posix.ts";

/** The text of a file in `/proc`; `undefined` if it cannot be read. Uses libc: Deno does not read there without --allow-all. */
export function readProc(path: string): string | undefined {
  const fd = posix.open(posix.cString(path), posix.OPEN.read);
  if (fd < 0) return undefined;
  const decoder = new TextDecoder();
  const piece = new Uint8Array(64 * KiB);
  let text = "";
  try {
    for (let at = 0, got: number; (got = posix.pread(fd, piece, at)) !== 0; at += got) {
      if (got < 0) return undefined;
      text += decoder.decode(piece.subarray(0, got), { stream: true });
    }
  } finally {
    posix.close(fd);
  }
  return text + decoder.decode();
}
