/**
 * FAT filesystems for tests: made from a directory, and read back by other programs.
 *
 * @module
 */

import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { fatEntries } from "../../lib/filesystem/fat/entries.ts";
import { fatGeometry, smallestFat } from "../../lib/filesystem/fat/geometry.ts";
import { type FatOptions, fillVfat } from "../../lib/filesystem/fat/make.ts";
import { mkfsVfat } from "../../lib/make/commands.ts";
import { $ } from "../../lib/system/sh.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";

export const SERIAL = "0123abcd";
/** The date of everything that is created, in seconds since 1970. */
export const TIME = 1_700_000_000;
/** Where the filesystem begins in its image. */
export const OFFSET = 3 * MiB;

export interface MakeOptions extends FatOptions {
  /** In bytes; the smallest by default. */
  readonly size?: number;
  readonly sector?: number;
  /** Called after the walk, before the filesystem is made. */
  readonly between?: () => void;
}

/** Makes the filesystem of a directory and returns its image, for which mtools want `@@OFFSET`. */
export async function makeFat(
  dir: string,
  tree: string,
  { size, sector, between, ...options }: MakeOptions = {},
): Promise<string> {
  const image = `${dir}/image`;
  const root = openRoot(tree);
  try {
    const nodes = await walk(root);
    between?.();
    const entries = fatEntries(select(nodes, { from: "/", omit: [], add: [] }), () => {});
    const wanted = size ?? smallestFat(entries, sector);
    await Deno.writeFile(image, new Uint8Array());
    await Deno.truncate(image, OFFSET + wanted + MiB);
    const geometry = fatGeometry(wanted, entries, sector)!;
    const plan = { geometry, label: "TEST", serial: SERIAL, time: TIME, entries };
    const target = { path: image, offset: OFFSET, size: wanted };
    await mkfsVfat(target, plan).quiet();
    await fillVfat(target, plan, { root, nodes }, options);
    return image;
  } finally {
    closeRoot(root);
  }
}

/** The output of fsck.vfat. @throws when it finds anything wrong. */
export async function checkFat(dir: string, image: string): Promise<string> {
  await $`dd ${`if=${image}`} ${`of=${dir}/cut`} ${`skip=${OFFSET / MiB}`} bs=1M status=none conv=sparse`;
  return await $`fsck.vfat -n -v ${dir}/cut`.text();
}

/** Runs mtools without their configuration. */
export function mtools(...line: Parameters<typeof $>): Promise<string> {
  return $(...line).quiet().env({ MTOOLSRC: "/dev/null", MTOOLS_SKIP_CHECK: "1" }).text();
}
