/**
 * Makes a compressed qcow2 image from a raw one on several processors. The result is still reproducible: clusters
 * are compressed independently, and written in disk order.
 *
 * @module
 */

import { alignUp } from "../../core/units.ts";
import { CHUNK } from "../chunks.ts";
import type { Compressed, Job } from "../worker.ts";
import { compressInOrder } from "../workers.ts";
import { type Image, writeAt } from "../writer.ts";
import { dataClusters, type Piece } from "./clusters.ts";
import { CLUSTER, writeTables } from "./header.ts";
import type { Wrapped } from "./wrap.ts";

/** Clusters of a disk to compress: their offsets in a file. */
type Batch = Extract<Job, { method: "clusters" }>;

/** Clusters per batch. */
const BATCH = CHUNK / CLUSTER;

/** Writes the disk in `raw` to the empty file `image`. `onProgress` gets the fraction done, 0 to 1. */
export async function compressQcow2(
  raw: Piece,
  image: Image,
  onProgress: (share: number) => void,
): Promise<Wrapped> {
  const guests: number[] = [], hosts: number[] = [], lengths: number[] = [];
  let end = CLUSTER;
  const write = ({ at: offsets }: Batch, { bytes, lengths: of }: Compressed) => {
    // Writes as much as possible at once. Only uncompressed clusters must be aligned.
    let from = 0, at = 0;
    const flush = () => {
      writeAt(image, bytes.subarray(from, at), end - (at - from));
      from = at;
    };
    of.forEach((length, i) => {
      if (length === 0) {
        flush();
        end = alignUp(end, CLUSTER);
      }
      guests.push(offsets[i]! / CLUSTER);
      hosts.push(end);
      lengths.push(length);
      at += length || CLUSTER;
      end += length || CLUSTER;
    });
    flush();
    onProgress(offsets.at(-1)! / raw.size);
  };
  await compressInOrder(batchesOf(raw), write);
  writeTables(image, raw.size, end, { guests, hosts, lengths });
  onProgress(1);
  return { clusters: Math.ceil(raw.size / CLUSTER), allocated: guests.length };
}

/** The clusters that are not all zeros, in batches. */
async function* batchesOf(raw: Piece): AsyncGenerator<Batch, undefined> {
  const batch = (at: readonly number[]): Batch => ({
    method: "clusters",
    path: raw.image.path,
    at,
    size: raw.size,
  });
  let at: number[] = [];
  for await (const offset of dataClusters(raw)) {
    if (at.push(offset) < BATCH) continue;
    yield batch(at);
    at = [];
  }
  if (at.length > 0) yield batch(at);
}
