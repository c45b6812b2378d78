/**
 * Makes squashfs and erofs from a stream of the tree.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { alignUp, compareNumerically } from "../core/units.ts";
import { paxStream } from "../filesystem/pax.ts";
import { READ_ONLY_BLOCK } from "../filesystem/squashfs-erofs.ts";
import type { StreamPlan } from "../filesystem/types.ts";
import { readTarget } from "../image/image.ts";
import type { Target } from "../image/target.ts";
import * as commands from "./commands.ts";
import type { MakeContext } from "./types.ts";

/** Offsets of the magic number and the counts in a superblock. */
interface Superblock {
  readonly program: string;
  readonly magic: number;
  readonly read: (view: DataView) => { magic: number; inodes: number; size: number };
}

/** https://docs.kernel.org/filesystems/squashfs.html#superblock */
export const SQUASHFS: Superblock = {
  program: "mksquashfs",
  magic: 0x73717368,
  read: (view) => ({
    magic: view.getUint32(0, true),
    inodes: view.getUint32(4, true),
    size: alignUp(Number(view.getBigUint64(40, true)), READ_ONLY_BLOCK),
  }),
};

/** https://erofs.docs.kernel.org/en/latest/ondisk/core_ondisk.html */
export const EROFS: Superblock = {
  program: "mkfs.erofs",
  magic: 0xe0f5e1e2,
  read: (view) => ({
    magic: view.getUint32(1024, true),
    inodes: Number(view.getBigUint64(1040, true)),
    size: view.getUint32(1060, true) * READ_ONLY_BLOCK,
  }),
};

function streamOf({ selection, pax }: StreamPlan, { root, onProgress }: MakeContext) {
  return paxStream(selection, root, pax, onProgress);
}

/** Makes a squashfs in a separate file, which ends where the filesystem does. */
export async function makeSquashfs(target: Target, plan: StreamPlan, context: MakeContext): Promise<void> {
  await checkRootOwner(plan, context.scratch);
  await commands.mksquashfs(target.path, plan, streamOf(plan, context));
}

/** Makes an erofs, like {@link makeSquashfs}. */
export async function makeErofs(target: Target, plan: StreamPlan, context: MakeContext): Promise<void> {
  await commands.mkfsErofs(target.path, plan, streamOf(plan, context), context.scratch);
}

/** Checks the superblock, which is different if the program was stopped half-way or wrote elsewhere. */
export function verifyStreamed(
  target: Target,
  { inodes }: StreamPlan,
  { program, magic, read }: Superblock,
): void {
  const found = read(new DataView(readTarget(target, 0, READ_ONLY_BLOCK).buffer));
  if (found.magic === magic && found.inodes === inodes && found.size <= target.size) return;
  throw new BuildError(`${program} did not make a filesystem with ${inodes} inodes`, {
    hint: "Build again; if it fails again, check the memory and the disk of this machine",
  });
}

/** The first mksquashfs that sets owner and time of the root from a stream. Debian 12 has 4.5, Debian 13 has 4.6. */
const ROOT_VERSION = "4.6";

/** With older versions, the root directory belongs to the current user, which is fine if that is the right owner. */
async function checkRootOwner({ root }: StreamPlan, scratch: string): Promise<void> {
  const [version = "0"] = /\d+\.\d+/.exec(await commands.askVersion("mksquashfs").text()) ?? [];
  if (compareNumerically(version, ROOT_VERSION) >= 0) return;
  // Our scratch directory belongs to the current user.
  const { uid, gid } = await Deno.stat(scratch);
  if (uid === root.uid && gid === root.gid) return;
  throw new BuildError(
    `Cannot give the root directory its owner ${root.uid}:${root.gid} with mksquashfs ${version}`,
    { hint: `Build as that user, or use ${ROOT_VERSION} or later, as in Debian 13` },
  );
}
