/**
 * Writes the header and tables of a qcow2 image, around clusters of data that are already in the file.
 *
 * Specification: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.rst
 *
 * @module
 */

import { KiB, SECTOR } from "../../core/units.ts";
import { type Image, writeAt } from "../writer.ts";

/** Bytes per cluster: qemu-img's default. */
export const CLUSTER = 64 * KiB;

const CLUSTER_BITS = 16;
const L2_ENTRIES = CLUSTER / 8;
const REFCOUNTS_PER_BLOCK = CLUSTER / 2;

/** Flags in the top bits of an entry. */
const COPIED = 1n << 63n, COMPRESSED = 1n << 62n;
/** For compressed clusters, the bits above the offset hold the number of additional sectors. */
const SECTORS_SHIFT = BigInt(62 - (CLUSTER_BITS - 8));

const INCOMPATIBLE_COMPRESSION_TYPE = 1n << 3n, COMPRESSION_ZSTD = 1, HEADER_LENGTH = 112;

/** Maps clusters of the disk to the file, ascending by `guests`. All others read as zeros. */
interface Mapping {
  /** Cluster numbers on the disk. */
  readonly guests: readonly number[];
  /** Offsets in the file, in bytes: multiples of the cluster size, unless compressed. */
  readonly hosts: readonly number[];
  /** Compressed bytes (zstd) of each; 0 if it is not compressed. Absent: none is compressed. */
  readonly lengths?: readonly number[];
}

/**
 * Writes header and tables. The first cluster of the file must be free for the header.
 *
 * @param size of the disk, in bytes.
 * @param end of the data in the file, in bytes; the tables start at the next cluster.
 */
export function writeTables(image: Image, size: number, end: number, mapping: Mapping): void {
  const l1Entries = Math.ceil(size / CLUSTER / L2_ENTRIES);
  const l2Tables = l2TablesOf(mapping);
  const dataClusters = Math.ceil(end / CLUSTER);
  const l1Clusters = Math.max(1, Math.ceil(l1Entries * 8 / CLUSTER));
  let blocks = 0, tableClusters = 0, clusters = 0;
  // Refcount blocks have refcounts, too.
  for (let wanted = 1; blocks < wanted;) {
    blocks = wanted;
    tableClusters = Math.ceil(blocks * 8 / CLUSTER);
    clusters = dataClusters + l2Tables.size + l1Clusters + blocks + tableClusters;
    wanted = Math.ceil(clusters / REFCOUNTS_PER_BLOCK);
  }
  let next = dataClusters;
  const l1 = new DataView(new ArrayBuffer(l1Clusters * CLUSTER));
  for (const [index, table] of l2Tables) {
    writeAt(image, table, next * CLUSTER);
    l1.setBigUint64(index * 8, COPIED | BigInt(next++ * CLUSTER));
  }
  const l1At = next * CLUSTER;
  writeAt(image, new Uint8Array(l1.buffer), l1At);
  const blocksAt = l1At + l1Clusters * CLUSTER;
  writeAt(image, refcounts(clusters, dataClusters, blocks, mapping), blocksAt);
  const table = new DataView(new ArrayBuffer(tableClusters * CLUSTER));
  for (let i = 0; i < blocks; i++) table.setBigUint64(i * 8, BigInt(blocksAt + i * CLUSTER));
  const tableAt = blocksAt + blocks * CLUSTER;
  writeAt(image, new Uint8Array(table.buffer), tableAt);

  const header = new DataView(new ArrayBuffer(CLUSTER));
  header.setUint32(0, 0x514649fb);
  header.setUint32(4, 3);
  header.setUint32(20, CLUSTER_BITS);
  header.setBigUint64(24, BigInt(size));
  header.setUint32(36, l1Entries);
  header.setBigUint64(40, BigInt(l1At));
  header.setBigUint64(48, BigInt(tableAt));
  header.setUint32(56, tableClusters);
  // refcount_order: 2^4 bits per refcount.
  header.setUint32(96, 4);
  header.setUint32(100, HEADER_LENGTH);
  if (mapping.lengths) {
    header.setBigUint64(72, INCOMPATIBLE_COMPRESSION_TYPE);
    header.setUint8(104, COMPRESSION_ZSTD);
  }
  writeAt(image, new Uint8Array(header.buffer), 0);
}

/** The L2 tables that have entries, by their index in the L1 table. */
function l2TablesOf({ guests, hosts, lengths }: Mapping): Map<number, Uint8Array<ArrayBuffer>> {
  const tables = new Map<number, Uint8Array<ArrayBuffer>>();
  let view = new DataView(new ArrayBuffer(0));
  let current = -1;
  guests.forEach((guest, i) => {
    const index = Math.floor(guest / L2_ENTRIES);
    if (index !== current) {
      current = index;
      view = new DataView(new ArrayBuffer(CLUSTER));
      tables.set(index, new Uint8Array(view.buffer));
    }
    const host = hosts[i]!, length = lengths?.[i] ?? 0;
    const entry = length === 0 ? COPIED | BigInt(host) : COMPRESSED | BigInt(host) |
      // Sectors after the first.
      BigInt(Math.floor((host + length - 1) / SECTOR) - Math.floor(host / SECTOR)) << SECTORS_SHIFT;
    view.setBigUint64((guest % L2_ENTRIES) * 8, entry);
  });
  return tables;
}

/**
 * The refcount of each cluster in the file. Several compressed clusters can share one; all others are used once.
 */
function refcounts(
  clusters: number,
  dataClusters: number,
  blocks: number,
  { hosts, lengths }: Mapping,
): Uint8Array<ArrayBuffer> {
  const counts = new Uint16Array(clusters).fill(1, dataClusters);
  counts[0] = 1;
  hosts.forEach((host, i) => {
    const last = Math.floor((host + (lengths?.[i] || CLUSTER) - 1) / CLUSTER);
    for (let cluster = Math.floor(host / CLUSTER); cluster <= last; cluster++) counts[cluster]!++;
  });
  const view = new DataView(new ArrayBuffer(blocks * CLUSTER));
  counts.forEach((count, i) => view.setUint16(i * 2, count));
  return new Uint8Array(view.buffer);
}
