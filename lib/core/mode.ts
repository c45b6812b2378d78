/**
 * `st_mode`: a file's type and permissions in one number.
 *
 * - https://man7.org/linux/man-pages/man7/inode.7.html
 *
 * @module
 */

/** File types: the values of the bits in {@link TYPE_MASK}. */
export const FILE_TYPES = {
  fifo: 0o010000,
  char: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const satisfies Record<string, number>;

export type FileType = keyof typeof FILE_TYPES;

/** `S_IFMT`: the type bits. */
export const TYPE_MASK = 0o170000;

/** Permissions, including setuid, setgid and sticky. */
export const PERMISSIONS_MASK = 0o7777;

const TYPE_NAMES: Readonly<Record<number, FileType>> = Object.fromEntries(
  Object.entries(FILE_TYPES).map(([name, bits]) => [bits, name as FileType]),
);

/** The type of a file with this mode. */
export function fileType(mode: number): FileType {
  return TYPE_NAMES[mode & TYPE_MASK]!;
}

/** Whether this is the mode of a directory. */
export function isDirectoryMode(mode: number): boolean {
  return (mode & TYPE_MASK) === FILE_TYPES.directory;
}

/** Whether this is the mode of a regular file. */
export function isFileMode(mode: number): boolean {
  return (mode & TYPE_MASK) === FILE_TYPES.file;
}
