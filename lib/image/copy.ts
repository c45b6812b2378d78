/**
 * Copies a file into an image at an offset.
 *
 * @module
 */

import { cannot } from "../system/failure.ts";
import * as posix from "../system/posix.ts";
import { readPieces } from "./image.ts";
import type { Target } from "./target.ts";

/**
 * Copies a whole file to the start of the target. Uses libc: Deno does not open devices without `--allow-all`.
 *
 * @throws {BuildError} when the image cannot be written.
 */
export async function copyInto(
  path: string,
  { path: image, offset, size }: Target,
  onProgress: (done: number) => void = () => {},
): Promise<void> {
  const fd = posix.open(posix.cString(image), posix.OPEN.readWrite);
  const check = (result: number) => {
    if (result < 0) throw cannot("write", image, result);
    return result;
  };
  check(fd);
  try {
    let done = 0;
    for await (const piece of readPieces(path, 0, Infinity)) {
      if (done + piece.length > size) throw new Error(`${path} is larger than ${size} bytes`);
      for (let at = 0; at < piece.length;) {
        at += check(posix.pwrite(fd, piece.subarray(at), offset + done + at));
      }
      onProgress(done += piece.length);
    }
  } finally {
    posix.close(fd);
  }
}
