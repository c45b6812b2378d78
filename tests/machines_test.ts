/**
 * `disk-image` on the machines that people have: boot loaders, Secure Boot, BIOS, 4K disks, larger disks.
 *
 * @module
 */

import assert from "node:assert/strict";
import { build } from "./builds.ts";
import { missing, tempDir, unprivileged } from "./helpers.ts";
import { quiet, tinyTree } from "./trees.ts";

const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "mcopy", "mmdebstrap") || unprivileged();

const SMALL = { EFI_MB: "33", BOOT_MB: "64", FREE_MB: "16" };

interface Partition {
  readonly start: number;
  readonly size: number;
  readonly name: string;
  readonly type: string;
  readonly uuid: string;
}

/** The partitions of an image by label. */
async function partitionsOf(image: string): Promise<Record<string, Partition>> {
  const { partitiontable: { partitions } } = JSON.parse(await quiet`sfdisk --json ${image}`);
  return Object.fromEntries((partitions as Partition[]).map((partition) => [partition.name, partition]));
}

/** The text of a file on a FAT partition. */
async function fatText(image: string, label: string, path: string): Promise<string> {
  const { start } = (await partitionsOf(image))[label]!;
  return await quiet`mtype -i ${`${image}@@${start * 512}`} ${`::${path}`}`;
}

Deno.test("KERNEL_CMDLINE joins the options of the tree, now and for later kernels", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await tinyTree(), image, { ...SMALL, KERNEL_CMDLINE: 'quiet dyndbg="a b"' });
    const { xbootldr, root } = await partitionsOf(image);
    const options = `root=PARTUUID=${root!.uuid.toLowerCase()} rw console=ttyS0 panic=-1 quiet dyndbg="a b"`;
    const listing = await quiet`mdir -b -i ${`${image}@@${xbootldr!.start * 512}`} ::/loader/entries`;
    const [, entry] = /^::(.*\.conf)$/m.exec(listing)!;
    assert.match(await fatText(image, "xbootldr", entry!), new RegExp(`^options +${options}$`, "m"));
    const at = `${image}?offset=${root!.start * 512}`;
    assert.equal(await quiet`debugfs -R ${"cat /etc/kernel/cmdline"} ${at}`, `${options}\n`);
  });
});
