/**
 * Makes GRUB for BIOS from the modules in the tree, without any device.
 *
 * - What we patch: `grub-core/boot/i386/pc/boot.S`, `diskboot.S`, `util/setup.c` in GRUB
 *
 * @module
 */

import { checkDependencies, GRUB_BIOS_MODULES, GRUB_DEPENDENCIES } from "../boot/grub-bios.ts";
import { BuildError } from "../core/error.ts";
import { alignUp, MiB, SECTOR } from "../core/units.ts";
import type { GrubBiosPlan } from "../filesystem/types.ts";
import { openImageFile, readImage } from "../image/image.ts";
import type { Target } from "../image/target.ts";
import { writeAt } from "../image/writer.ts";
import { type Nodes, typeOf } from "../tree/nodes.ts";
import { entriesIn } from "../tree/query.ts";
import { readFile, type Root } from "../tree/root.ts";
import * as commands from "./commands.ts";
import type { MakeContext } from "./types.ts";

/** Offsets in the boot sector: first sector of the program (8 bytes), drive (0xff: the one from BIOS), a jump. */
const BOOT = { size: 440, kernel: 0x5c, drive: 0x64, jump: 0x66 } as const;

/** Offsets in the program's first sector: the first row of its block list, which grows down from the end. */
const BLOCKLIST = { start: 500, length: 508, segment: 510, load: 0x820 } as const;

/** Writes GRUB to its partition, and the code that starts it to the first sector of the disk. */
export async function makeGrubBios(
  target: Target,
  { bootPartition, directory, menu }: GrubBiosPlan,
  { root, nodes, scratch }: MakeContext,
): Promise<void> {
  const modules = `${scratch}/i386-pc`;
  await copyModules(root, nodes, directory, modules);
  const core = `${scratch}/core.img`;
  // No disk before the comma: the one from which BIOS booted.
  const prefix = `(,gpt${bootPartition})${menu}`;
  await commands.grubMkimage(
    { directory: modules, format: "i386-pc", prefix, modules: GRUB_BIOS_MODULES },
    core,
  );
  const program = padded(await Deno.readFile(core));
  const boot = await Deno.readFile(`${modules}/boot.img`);
  if (program.length < 2 * SECTOR || boot.length < BOOT.size) {
    throw new BuildError(
      "Cannot install GRUB for BIOS: its kernel.img or boot.img in the tree is too short",
      {
        hint: "Reinstall GRUB for BIOS in the tree (in Debian: package grub-pc-bin)",
      },
    );
  }
  if (program.length > target.size) {
    throw new BuildError(`Cannot fit GRUB for BIOS into its partition: it has ${program.length} bytes`);
  }
  const first = BigInt(target.offset / SECTOR);
  const list = new DataView(program.buffer);
  list.setBigUint64(BLOCKLIST.start, first + 1n, true);
  list.setUint16(BLOCKLIST.length, program.length / SECTOR - 1, true);
  list.setUint16(BLOCKLIST.segment, BLOCKLIST.load, true);
  const sector = boot.slice(0, BOOT.size);
  const patch = new DataView(sector.buffer);
  patch.setBigUint64(BOOT.kernel, first, true);
  patch.setUint8(BOOT.drive, 0xff);
  // Two NOPs replace a jump that would trust BIOS about the drive.
  patch.setUint16(BOOT.jump, 0x9090);
  using image = openImageFile(target.path);
  writeAt(image, sector, 0);
  writeAt(image, program, target.offset);
}

/**
 * Copies what grub-mkimage reads, so that no link in the tree leads it astray.
 *
 * @throws {BuildError} when the list of dependencies names something that cannot be a module.
 */
export async function copyModules(root: Root, nodes: Nodes, from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  const files = entriesIn(nodes, from).filter(({ node }) => typeOf(nodes, node) === "file");
  for (const { name, node } of files) {
    if (!/^(\w[\w-]*\.mod|(kernel|boot|diskboot|lzma_decompress)\.img)$/.test(name)) continue;
    await Deno.writeFile(`${to}/${name}`, readFile(root, nodes, node, { limit: MiB }));
  }
  const list = files.find(({ name }) => name === GRUB_DEPENDENCIES);
  if (!list) return;
  const bytes = readFile(root, nodes, list.node, { limit: MiB });
  checkDependencies(new TextDecoder().decode(bytes), `${from}/${GRUB_DEPENDENCIES}`);
  await Deno.writeFile(`${to}/${GRUB_DEPENDENCIES}`, bytes);
}

function padded(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(alignUp(bytes.length, SECTOR));
  result.set(bytes);
  return result;
}

/** Checks that the first sector still points to the program: the partition table is in the same sector. */
export function verifyGrubBios({ path, offset }: Target): void {
  const sector = new DataView(readImage(path, 0, SECTOR).buffer);
  const list = new DataView(readImage(path, offset, SECTOR).buffer);
  const first = BigInt(offset / SECTOR);
  if (
    sector.getBigUint64(BOOT.kernel, true) !== first || sector.getUint16(510, true) !== 0xaa55 ||
    list.getBigUint64(BLOCKLIST.start, true) !== first + 1n
  ) throw new BuildError("GRUB for BIOS is damaged: the first sector does not point to it");
}
