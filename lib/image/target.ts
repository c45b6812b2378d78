/**
 * Where a filesystem goes.
 *
 * @module
 */

/** A place in a file or block device, which has its full size and reads as zeros there. All numbers are in bytes. */
export interface Target {
  readonly path: string;
  readonly offset: number;
  /** Where the filesystem starts on the disk, which FAT notes. Absent: at the offset. */
  readonly start?: number;
  readonly size: number;
}
