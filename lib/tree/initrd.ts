/**
 * Tells which files an initrd has: cpio archives (newc) one behind the other, of which the last is mostly compressed.
 *
 * - https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 *
 * @module
 */

import { latin1, toHex } from "../core/bytes.ts";
import { node } from "../core/node.ts";
import { alignUp, MiB } from "../core/units.ts";

/** An initrd that is larger, or becomes larger when it is unpacked, is not looked into. */
export const INITRD_LIMIT = 512 * MiB;

/** What unpacks it, by the first bytes of the compressed part. There is nothing here for xz, lz4, lzma, lzo and bzip2. */
const UNPACKERS: readonly (readonly [magic: string, unpack: (bytes: Uint8Array) => Uint8Array])[] = [
  ["1f8b", (bytes) => node.zlib.gunzipSync(bytes, { maxOutputLength: INITRD_LIMIT })],
  ["28b52ffd", (bytes) => node.zlib.zstdDecompressSync(bytes, { maxOutputLength: INITRD_LIMIT })],
];

/** Files that hold more files: dracut's module "squash" puts all but a few of them into one. */
const NESTED = /(?:^|\/)(?:squashfs|squash|erofs)-root\.img$/;

/** The last entry of each archive. */
const TRAILER = "TRAILER!!!";

/** The fields of a header that are read: each has 8 hexadecimal digits. */
const HEADER = { length: 110, fileSize: 54, nameSize: 94 } as const;

/**
 * The paths in an initrd, without a leading slash.
 *
 * @returns `undefined` if they cannot be told: it is compressed with something that is not unpacked here, damaged, or
 * has files within files.
 */
export function readInitrd(bytes: Uint8Array): readonly string[] | undefined {
  const paths: string[] = [];
  const end = readArchives(bytes, paths);
  const rest = bytes.subarray(end);
  if (rest.length > 0) {
    const magic = toHex(rest.subarray(0, 4));
    const unpack = UNPACKERS.find(([each]) => magic.startsWith(each))?.[1];
    if (!unpack) return undefined;
    let unpacked: Uint8Array;
    try {
      unpacked = unpack(rest);
    } catch {
      return undefined;
    }
    if (readArchives(unpacked, paths) < unpacked.length) return undefined;
  }
  // Half of a compressed file may be unpacked without an error.
  const isCutOff = paths.at(-1) !== TRAILER;
  return isCutOff || paths.some((path) => NESTED.test(path))
    ? undefined
    : paths.filter((path) => path !== TRAILER);
}

/** Adds the paths in a row of archives, and returns where something else begins. */
function readArchives(bytes: Uint8Array, paths: string[]): number {
  const text = (at: number, length: number) => latin1(bytes.subarray(at, at + length));
  const number = (at: number) => parseInt(text(at, 8), 16);
  let at = 0;
  while (at < bytes.length) {
    // The kernel skips zeros between archives, and takes an archive only at a multiple of 4.
    if (bytes[at] === 0) {
      at++;
      continue;
    }
    if (!/^07070[12]$/.test(text(at, 6))) break;
    const nameSize = number(at + HEADER.nameSize), fileSize = number(at + HEADER.fileSize);
    const data = at + alignUp(HEADER.length + nameSize, 4);
    const next = data + alignUp(fileSize, 4);
    // Not a number, too.
    if (!(next <= alignUp(bytes.length, 4))) break;
    paths.push(text(at + HEADER.length, nameSize - 1).replace(/^(?:\.?\/)+/, ""));
    at = next;
  }
  return at;
}
