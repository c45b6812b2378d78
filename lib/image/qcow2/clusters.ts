/**
 * Finds the clusters of a disk that are not all zeros.
 *
 * @module
 */

import { KiB } from "../../core/units.ts";
import { cannot } from "../../system/failure.ts";
import * as posix from "../../system/posix.ts";
import { throwIfInterrupted, yieldToEventLoop } from "../../system/process.ts";
import { dataExtents } from "../extents.ts";
import type { Image } from "../writer.ts";
import { CLUSTER } from "./header.ts";

/** A part of a disk, stored in a file. All numbers are in bytes; offsets are multiples of {@link CLUSTER}. */
export interface Piece {
  readonly image: Image;
  /** Where it is in the file. */
  readonly host: number;
  /** Where it is on the disk. */
  readonly guest: number;
  readonly size: number;
}

/** Handle signals after this many clusters, which take a few milliseconds. */
const CLUSTERS_PER_TURN = 4096;

/** For most clusters, this is enough to see that they are not all zeros. */
const FIRST_LOOK = 4 * KiB;

/**
 * The file offsets of all clusters of a piece that are not all zeros, ascending. Holes only save reading: whether a
 * cluster counts depends on its contents, so the result is the same on any filesystem.
 */
export async function* dataClusters({ image, host, size }: Piece): AsyncGenerator<number> {
  const end = host + size;
  let seen = 0, at = host;
  for (const extent of dataExtents(image, { start: host, end })) {
    at = Math.max(at, extent.start - (extent.start - host) % CLUSTER);
    for (; at < extent.end; at += CLUSTER) {
      if (!isZero(image, at, Math.min(CLUSTER, end - at))) yield at;
      if (++seen % CLUSTERS_PER_TURN > 0) continue;
      await yieldToEventLoop();
      throwIfInterrupted();
    }
  }
}

const buffer = new Uint8Array(CLUSTER), words = new Uint32Array(buffer.buffer);

/** Whether `length` bytes at `at` are all zeros. */
function isZero({ fd, path }: Image, at: number, length: number): boolean {
  for (let done = 0; done < length;) {
    const wanted = Math.min(done === 0 ? FIRST_LOOK : CLUSTER, length - done);
    const count = posix.pread(fd, buffer.subarray(0, wanted), at + done);
    if (count <= 0) throw cannot("read", path, count);
    const whole = count >> 2;
    for (let i = 0; i < whole; i++) if (words[i] !== 0) return false;
    for (let i = whole * 4; i < count; i++) if (buffer[i] !== 0) return false;
    done += count;
  }
  return true;
}
