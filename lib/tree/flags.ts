/**
 * What chattr sets on files, as numbers of `FS_IOC_GETFLAGS`.
 *
 * Most of them come with the stat of a file (`stx_attributes` has the same numbers). The others are asked for where a file
 * is open anyway: directories when they are listed, files when they are copied.
 *
 * - https://man7.org/linux/man-pages/man2/ioctl_iflags.2.html
 * - https://man7.org/linux/man-pages/man2/statx.2.html
 *
 * @module
 */

/** The flags that mean something for an image, by the names of chattr's manual. */
export const FLAGS = {
  "synchronous": 0x8,
  "immutable": 0x10,
  "append-only": 0x20,
  "nodump": 0x40,
  "noatime": 0x80,
  "encrypted": 0x800,
  "journalled": 0x4000,
  "dirsync": 0x10000,
  "topdir": 0x20000,
  "verity": 0x100000,
  "casefold": 0x40000000,
} as const satisfies Record<string, number>;

export type FlagName = keyof typeof FLAGS;

/** All of them. */
export const ALL_FLAGS = Object.values(FLAGS).reduce((all, flag) => all | flag, 0);

/** Those that statx answers. */
export const STATX_FLAGS = FLAGS.immutable | FLAGS["append-only"] | FLAGS.nodump | FLAGS.encrypted |
  FLAGS.verity;

/** Those that our ext4 has, too: nothing but the inode says them. */
export const EXT4_FLAGS = FLAGS.synchronous | FLAGS.immutable | FLAGS["append-only"] | FLAGS.nodump |
  FLAGS.noatime |
  FLAGS.journalled | FLAGS.dirsync | FLAGS.topdir;

/** Those of files that are asked for when a file is copied. */
export const FILE_FLAGS = FLAGS.synchronous | FLAGS.noatime | FLAGS.journalled;

/** The names of flags. */
export function flagNames(flags: number): FlagName[] {
  return (Object.keys(FLAGS) as FlagName[]).filter((name) => flags & FLAGS[name]);
}
