/**
 * Where a filesystem goes.
 *
 * @module
 */

/** A range of a file or block device that exists already and reads as zeros. All numbers are in bytes. */
export interface Target {
  readonly path: string;
  readonly offset: number;
  /** Where the filesystem starts on the disk: FAT records it. Absent: same as the offset. */
  readonly start?: number;
  readonly size: number;
}
