/**
 * Turns a file that holds the parts of a disk into a qcow2 image, in place. Only the few clusters near the end are
 * copied, and there is never a second copy of the image.
 *
 * @module
 */

import { setSize } from "../../system/failure.ts";
import * as posix from "../../system/posix.ts";
import { openImageFile } from "../image.ts";
import { type Image, readAt, writeAt } from "../writer.ts";
import { dataClusters, type Piece } from "./clusters.ts";
import { CLUSTER, writeTables } from "./header.ts";

/** The number of clusters of a disk, and how many of them are stored. */
export interface Wrapped {
  readonly clusters: number;
  readonly allocated: number;
}

/** A cluster of the disk, and where it is stored now. */
interface Stored {
  readonly guest: number;
  readonly image: Image;
  host: number;
}

/**
 * Turns a file into the qcow2 image of a disk of `size` bytes. Everything in the file must belong to a piece, and its
 * first cluster must be free. Pieces in other files are copied. No two pieces may share a cluster of the disk.
 */
export async function wrapQcow2(image: Image, size: number, pieces: readonly Piece[]): Promise<Wrapped> {
  const stored: Stored[] = [];
  for (const piece of pieces) {
    for await (const host of dataClusters(piece)) {
      stored.push({ guest: (piece.guest + host - piece.host) / CLUSTER, image: piece.image, host });
    }
  }
  stored.sort((a, b) => a.guest - b.guest);
  // The file becomes dense: clusters past the new end move into gaps before it.
  const end = (1 + stored.length) * CLUSTER;
  const isUsed = new Uint8Array(1 + stored.length);
  isUsed[0] = 1;
  const moving = stored.filter((cluster) => {
    const stays = cluster.image === image && cluster.host < end;
    if (stays) isUsed[cluster.host / CLUSTER] = 1;
    return !stays;
  });
  let gap = 0;
  for (const cluster of moving) {
    gap = isUsed.indexOf(0, gap + 1);
    writeAt(image, readCluster(cluster), gap * CLUSTER);
    cluster.host = gap * CLUSTER;
  }
  setSize(image.path, end);
  writeTables(image, size, end, {
    guests: stored.map(({ guest }) => guest),
    hosts: stored.map(({ host }) => host),
  });
  return { clusters: Math.ceil(size / CLUSTER), allocated: stored.length };
}

/** Assembles the pieces into a raw image of `size` bytes. */
export async function copyPieces(pieces: readonly Piece[], path: string, size: number): Promise<void> {
  await Deno.writeFile(path, new Uint8Array(), { createNew: true });
  using raw = openImageFile(path);
  for (const { image, host, guest, ...piece } of pieces) {
    for await (const at of dataClusters({ image, host, guest, ...piece })) {
      writeAt(raw, readCluster({ image, host: at }), guest + at - host);
    }
  }
  setSize(path, size);
}

/** Reads a cluster, padded with zeros: the last one of a file may be incomplete. */
function readCluster({ image, host }: Pick<Stored, "image" | "host">): Uint8Array<ArrayBuffer> {
  const size = posix.seek(image.fd, 0, "end");
  const bytes = new Uint8Array(CLUSTER);
  bytes.set(readAt(image, Math.min(CLUSTER, size - host), host));
  return bytes;
}
