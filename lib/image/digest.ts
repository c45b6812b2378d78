/**
 * The checksum of a part of an image, computed in this thread.
 *
 * @module
 */

import { node } from "../core/node.ts";
import { readPieces } from "./image.ts";

/** A part of a file, in bytes. */
export interface FileRange {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

/** The SHA-256, in hex. */
export async function digest({ path, offset, length }: FileRange): Promise<string> {
  const hash = node.crypto.createHash("sha256");
  for await (const piece of readPieces(path, offset, length)) hash.update(piece);
  return hash.digest("hex");
}
