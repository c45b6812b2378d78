/**
 * Reads small files that the user names: keys, certificates, a `Raptor.toml`.
 *
 * Whatever the user names, it cannot block the build or fill its memory: a FIFO is opened without waiting for a writer,
 * and then rejected before reading, like `/dev/zero` and anything else that is not a regular file.
 *
 * - `O_NONBLOCK`: https://man7.org/linux/man-pages/man2/open.2.html
 *
 * @module
 */

import { getSystemErrorMap } from "node:util";
import { node } from "./node.ts";
import { formatBytes } from "./units.ts";

/**
 * Reads all of a regular file.
 *
 * @param limit maximum size in bytes.
 * @throws {Error} with the reason. It does not contain the path, which may be a key that was mistaken for a path.
 */
export function readSmallFile(path: string, limit: number): Uint8Array<ArrayBuffer> {
  const { fs } = node;
  let fd: number | undefined;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    if (!fs.fstatSync(fd).isFile()) throw new Unsuitable("it is no regular file");
    const bytes = new Uint8Array(limit + 1);
    let length = 0;
    for (let got; (got = fs.readSync(fd, bytes, length, bytes.length - length, length)) > 0;) length += got;
    if (length > limit) throw new Unsuitable(`it has more than ${formatBytes(limit)}`);
    return bytes.slice(0, length);
  } catch (error) {
    throw error instanceof Unsuitable ? error : new Error(reasonOf(error), { cause: error });
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

class Unsuitable extends Error {}

/** Why a system call failed, e.g. `no such file or directory`. */
function reasonOf(error: unknown): string {
  const { errno } = error as { errno?: number };
  const known = errno === undefined ? undefined : getSystemErrorMap().get(-Math.abs(errno))?.[1];
  return known ?? (error instanceof Deno.errors.NotCapable ? "Deno may not read it" : "it cannot be read");
}
