/**
 * Makes ext4 images for tests, and reads them back with the kernel and e2fsprogs.
 *
 * @module
 */

import * as assert from "node:assert/strict";
import { select } from "../../lib/filesystem/contents.ts";
import type { Contents } from "../../lib/filesystem/entries.ts";
import { type Ext4Plan, type Ext4Request, planExt4 } from "../../lib/filesystem/ext4/plan.ts";
import { makeExt4 } from "../../lib/make/filesystems.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { quiet } from "./helpers.ts";

export const REQUEST = {
  label: "root",
  uuid: "0f7a3c52-5c1b-4f0e-9f5e-6c9b9c0a1d2e",
  hashSeed: "b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e",
  time: 1_750_000_000,
} as const;

export const WHOLE: Contents = { from: "/", omit: [], add: [] };

export interface ImageOptions extends Partial<Ext4Request> {
  readonly contents?: Contents;
  /** Bytes before the filesystem. */
  readonly offset?: number;
}

/** Walks, plans, formats and fills: the image is a file of `offset` and the filesystem's size. */
export async function makeImage(tree: string, path: string, options: ImageOptions = {}): Promise<Ext4Plan> {
  const { contents = WHOLE, offset = 0, ...request } = options;
  const root = openRoot(tree);
  try {
    const plan = planExt4(select(await walk(root), contents), { ...REQUEST, ...request });
    assert.ok(plan, "the tree fits");
    await Deno.writeFile(path, new Uint8Array());
    await Deno.truncate(path, offset + plan.size);
    await makeExt4({ path, offset, size: plan.size }, plan, root);
    return plan;
  } finally {
    closeRoot(root);
  }
}

/** Fails unless e2fsck prints only its passes and its summary. */
export async function assertClean(image: string, offset = 0): Promise<void> {
  const output = await quiet`e2fsck -fn ${offset === 0 ? image : `${image}?offset=${offset}`}`;
  const remarks = output.split("\n").filter((line) =>
    line && !/^(Pass [1-5]:|.*: \d+\/\d+ files )/.test(line)
  );
  assert.deepEqual(remarks, []);
}

/** Mounts a filesystem of the image for `fn`. Needs root. */
export async function mounted<T>(
  image: string,
  fn: (directory: string) => T | Promise<T>,
  { offset = 0, size, options = "ro" }: { offset?: number; size?: number; options?: string } = {},
): Promise<T> {
  const directory = await Deno.makeTempDir({ prefix: "raptor-mount-" });
  const limit = size === undefined ? "" : `,sizelimit=${size}`;
  try {
    await quiet`mount -o ${`loop,offset=${offset}${limit},${options}`} ${image} ${directory}`;
    try {
      return await fn(directory);
    } finally {
      await quiet`umount ${directory}`;
    }
  } finally {
    await Deno.remove(directory);
  }
}

/** The fields of `dumpe2fs -h`. */
export async function superblock(image: string): Promise<Record<string, string>> {
  const output = await quiet`dumpe2fs -h ${image}`;
  return Object.fromEntries(
    output.split("\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
}

/** Bytes that df shows as available. */
export async function available(directory: string): Promise<number> {
  return Number((await quiet`df --output=avail -B1 ${directory}`).split("\n")[1]);
}
