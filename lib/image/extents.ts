/**
 * Where a file has data: everything else in it is holes, which need not be read.
 *
 * @module
 */

import { cannot } from "../system/failure.ts";
import * as posix from "../system/posix.ts";
import type { Image } from "./writer.ts";

/** A range of a file, in bytes; `end` is the first byte behind it. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/**
 * The data of a file from `start` to `end`, ascending. A block device has no holes.
 *
 * @throws {BuildError} when the file cannot be read.
 */
export function* dataExtents(
  { fd, path }: Pick<Image, "fd" | "path">,
  { start, end }: Extent,
): Generator<Extent, void> {
  for (let at = start; at < end;) {
    const data = posix.seek(fd, at, "data");
    if (data === -posix.ENXIO || data >= end) return;
    if (data === -posix.EINVAL) return yield { start, end };
    const hole = data < 0 ? data : posix.seek(fd, data, "hole");
    if (hole < 0) throw cannot("read", path, hole);
    at = Math.min(end, hole);
    yield { start: data, end: at };
  }
}
