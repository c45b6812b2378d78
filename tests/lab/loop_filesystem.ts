/**
 * Trees on other filesystems than the machine's: what a walk finds there differs, from holes to the sizes of xattrs.
 *
 * @module
 */

import { mounted } from "./ext4_image.ts";
import { quiet } from "./helpers.ts";

/** How each is made, in a file. Their programs are in PROGRAMS. */
export const LOOP_FILESYSTEMS = {
  "xfs": (image: string) => quiet`mkfs.xfs -q -f ${image}`,
  "btrfs": (image: string) => quiet`mkfs.btrfs -q -f ${image}`,
  "ext4 with 1 KiB blocks": (image: string) => quiet`mke2fs -q -F -t ext4 -b 1024 -I 256 -N 20000 ${image}`,
} as const;

export type LoopFilesystem = keyof typeof LOOP_FILESYSTEMS;

/** Gives `fn` an empty directory on such a filesystem of 1 GiB, made in `dir`. Needs root. */
export async function onFilesystem<T>(
  type: LoopFilesystem,
  dir: string,
  fn: (directory: string) => T | Promise<T>,
): Promise<T> {
  const image = `${dir}/loop`;
  await Deno.writeFile(image, new Uint8Array());
  await Deno.truncate(image, 2 ** 30);
  await LOOP_FILESYSTEMS[type](image);
  try {
    return await mounted(image, async (mount) => {
      await Deno.mkdir(`${mount}/own`);
      return await fn(`${mount}/own`);
    }, { options: "rw" });
  } finally {
    await Deno.remove(image);
  }
}
