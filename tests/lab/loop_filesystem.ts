/**
 * Trees on other filesystems than the machine's, where a walk finds differences, from holes to the sizes of xattrs.
 *
 * @module
 */

import { mounted } from "./ext4_image.ts";
import { quiet, tempDir } from "./helpers.ts";
import type { RandomTreeOptions } from "./random_tree.ts";

export interface LoopFilesystemRow {
  readonly make: (image: string) => Promise<string>;
  /** What it cannot store. */
  readonly limits: RandomTreeOptions;
  /** Whether holes depend on what was read: on XFS, cached preallocated space counts as data. */
  readonly anyHoles?: boolean;
}

/** How to make each in a file. Their programs are in PROGRAMS. */
export const LOOP_FILESYSTEMS = {
  "xfs": {
    make: (image: string) => quiet`mkfs.xfs -q -f ${image}`,
    // It encodes device numbers as in System V.
    limits: { maxMajor: 511, maxMinor: 2 ** 18 - 1, longestTarget: 1023 },
    anyHoles: true,
  },
  "btrfs": { make: (image: string) => quiet`mkfs.btrfs -q -f ${image}`, limits: {} },
  "ext4 with 1 KiB blocks": {
    make: (image: string) => quiet`mke2fs -q -F -t ext4 -b 1024 -I 256 -N 20000 ${image}`,
    limits: { largest: 2 ** 40, longestTarget: 1023 },
  },
} as const satisfies Record<string, LoopFilesystemRow>;

export type LoopFilesystem = keyof typeof LOOP_FILESYSTEMS;

/** Gives `fn` an empty directory on such a filesystem of `size` bytes, made in `dir`. Needs root. */
export async function onFilesystem<T>(
  type: LoopFilesystem,
  dir: string,
  fn: (directory: string) => T | Promise<T>,
  size = 2 ** 30,
): Promise<T> {
  const image = `${dir}/loop`;
  await Deno.writeFile(image, new Uint8Array());
  await Deno.truncate(image, size);
  await LOOP_FILESYSTEMS[type].make(image);
  try {
    return await mounted(image, async (mount) => {
      await Deno.mkdir(`${mount}/own`);
      return await fn(`${mount}/own`);
    }, { options: "rw" });
  } finally {
    await Deno.remove(image);
  }
}

/** Gives `fn` these directories as one, read-only, the first above the others: as Raptor mounts a tree. Needs root. */
export async function onOverlay<T>(
  layers: readonly string[],
  fn: (directory: string) => T | Promise<T>,
): Promise<T> {
  return await tempDir(async (at) => {
    await quiet`mount -t overlay overlay -o ${`ro,lowerdir=${layers.join(":")}`} ${at}`;
    try {
      return await fn(at);
    } finally {
      await quiet`umount ${at}`;
    }
  });
}

/** Has the kernel write a file to disk and drop it from memory, see dd(1). Filesystems in memory keep it. */
export async function dropFromMemory(path: string): Promise<void> {
  await quiet`dd of=${path} oflag=nocache conv=notrunc,fdatasync count=0`;
}
