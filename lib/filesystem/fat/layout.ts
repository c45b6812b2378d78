/**
 * The layout of a FAT filesystem that mkfs.vfat made, from its boot sector.
 *
 * - Microsoft's FAT specification (fatgen103), "Boot Sector and BPB", "FAT32 FSInfo Sector Structure"
 *
 * @module
 */

import { SLOT } from "./directory.ts";
import { FAT_ROOT_ENTRIES, type FatGeometry } from "./geometry.ts";

/** Positions and lengths are in bytes; positions count from the start of the filesystem. */
export interface FatLayout {
  /** The first of the two adjacent tables. */
  readonly tables: number;
  readonly tableLength: number;
  /** The root directory. */
  readonly root: number;
  /** The first cluster, number {@link FIRST_CLUSTER}. */
  readonly data: number;
  readonly clusterLength: number;
  /** The number of clusters. */
  readonly clusters: number;
  /** Where FSInfo is, with the number of free clusters: two copies for FAT32, none for the others. */
  readonly infos: readonly number[];
}

/** The first two table entries do not belong to clusters. */
export const FIRST_CLUSTER = 2;

/** Bytes in use in the boot sector, whatever the sector size. */
export const BOOT_LENGTH = 512;

/** Offsets in FSInfo: its signature, the number of free clusters, and the last allocated cluster. */
export const INFO = { lead: 0, free: 488, last: 492 } as const;
export const INFO_LEAD = 0x41615252;

/**
 * Reads a boot sector.
 *
 * @param size of the filesystem, in bytes.
 * @returns a text if it is not as planned: what is wrong.
 */
export function readLayout(boot: DataView, geometry: FatGeometry, size: number): FatLayout | string {
  if (boot.getUint16(510, true) !== 0xaa55) return "it has no boot sector";
  const { bits, sector, perCluster, reserved } = geometry;
  const short = (at: number) => boot.getUint16(at, true);
  const long = (at: number) => boot.getUint32(at, true);
  const isWide = bits === 32;
  const rootEntries = isWide ? 0 : FAT_ROOT_ENTRIES;
  const sectors = short(19) || long(32);
  const tableSectors = isWide ? long(36) : short(22);
  const data = reserved + 2 * tableSectors + rootEntries * SLOT / sector;
  const clusters = Math.floor((sectors - data) / perCluster);
  const checks: readonly [what: string, found: number, planned: number][] = [
    ["bytes per sector", short(11), sector],
    ["sectors per cluster", boot.getUint8(13), perCluster],
    ["reserved sectors", short(14), reserved],
    ["tables", boot.getUint8(16), 2],
    ["entries of the root directory", short(17), rootEntries],
    ["sectors", sectors, Math.floor(size / sector)],
    ["bits of an entry", clusters < 4085 ? 12 : clusters < 65525 ? 16 : 32, bits],
    ["root cluster", isWide ? long(44) : FIRST_CLUSTER, FIRST_CLUSTER],
  ];
  const wrong = checks.find(([, found, planned]) => found !== planned);
  if (wrong) return `${wrong[0]}: ${wrong[1]} instead of ${wrong[2]}`;
  if (clusters < geometry.clusters) return `${clusters} clusters instead of ${geometry.clusters}`;
  if (tableSectors * sector * 8 < (clusters + FIRST_CLUSTER) * bits) return "its tables are too short";
  // The backup of the boot sector is followed by one of FSInfo.
  const [info, backup] = isWide ? [short(48), short(50)] : [0, 0];
  return {
    tables: reserved * sector,
    tableLength: tableSectors * sector,
    root: (reserved + 2 * tableSectors) * sector,
    data: data * sector,
    clusterLength: perCluster * sector,
    clusters,
    infos: info === 0 ? [] : [info, ...backup === 0 ? [] : [backup + info]].map((at) => at * sector),
  };
}
