/**
 * GRUB for BIOS: a program for the BIOS boot partition and 440 bytes for the first sector, made of the modules of
 * the tree without any device.
 *
 * The modules come from the tree, so that they are as old as its `/usr/lib/grub` and are replaced by its own
 * grub-install; `grub-mkimage`, which only puts them together, comes from where the build runs.
 *
 * - BIOS boot partition: https://www.gnu.org/software/grub/manual/grub/grub.html#BIOS-installation
 * - What is patched: `grub-core/boot/i386/pc/boot.S`, `diskboot.S`, `util/setup.c` of GRUB
 *
 * @module
 */

import type { Target } from "../image/target.ts";
import { entriesIn, firstFile } from "../tree/query.ts";
import { BuildError, quote } from "../core/error.ts";
import { writeAt } from "../image/writer.ts";
import type { FilesystemPlan, MakeContext } from "../filesystem/filesystems.ts";
import { readImage } from "../image/image.ts";
import { firmwareOf } from "./loader.ts";
import { type Nodes, typeOf } from "../tree/nodes.ts";
import * as posix from "../system/posix.ts";
import { readFile, type Root } from "../tree/root.ts";
import { sh } from "../system/sh.ts";
import type { Tree } from "../tree/inspect.ts";
import { alignUp, MiB, SECTOR } from "../core/units.ts";

/** Of the partition; the program takes about a quarter of it. */
const SIZE = MiB;

const DIRECTORY = "/usr/lib/grub/i386-pc";

/** What our menu needs, and what the menus that grub-mkconfig makes load: they are nowhere else on the disk. */
const MODULES = [
  ...[
    "biosdisk",
    "part_gpt",
    "part_msdos",
    "fat",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "minicmd",
    "boot",
  ],
  ...[
    "echo",
    "test",
    "true",
    "sleep",
    "search",
    "search_fs_file",
    "search_fs_uuid",
    "search_label",
    "ls",
    "cat",
  ],
  ...["gzio", "loadenv", "regexp", "all_video", "gfxterm", "font", "reboot", "halt"],
];

/** Of the boot sector: where the first sector of the program is (8 bytes), and the drive (0xff: that of BIOS). */
const BOOT = { size: 440, kernel: 0x5c, drive: 0x64, jump: 0x66 } as const;

/** Of the program's first sector: the first row of its block list, which counts down from the end. */
const BLOCKLIST = { start: 500, length: 508, segment: 510, load: 0x820 } as const;

/**
 * GRUB for BIOS from the modules of the tree, whose menu is `/grub/grub.cfg` on the partition `boot` (from 1).
 *
 * @throws {BuildError} (usage) when the machine has no BIOS or the tree no such modules.
 */
export function planGrubBios(
  tree: Tree,
  { firmware, sectorSize }: { readonly firmware: string; readonly sectorSize: number },
  boot: number,
): FilesystemPlan {
  const architecture = firmwareOf(tree)?.architecture;
  const missing = architecture !== "x86-64" && architecture !== "x86"
    ? `${architecture ?? "these"} machines have no BIOS`
    : sectorSize !== SECTOR
    ? `BIOS boots from no disk with sectors of ${sectorSize} bytes`
    : firstFile(tree.nodes, [`${DIRECTORY}/kernel.img`])
    ? undefined
    : `no ${DIRECTORY}/kernel.img (in Debian: package grub-pc-bin)`;
  if (missing) {
    throw new BuildError(`Cannot install FIRMWARE=${firmware}: ${missing}`, {
      kind: "usage",
      hint: "Add GRUB for BIOS to the tree of an x86 machine, or set FIRMWARE=uefi",
    });
  }
  return {
    type: "grub",
    size: SIZE,
    label: "bios",
    uuid: "",
    entries: 0,
    bytes: 0,
    notices: [],
    make: (target, context) => makeGrubBios(target, context, tree.nodes, boot),
    verify: (target) => Promise.resolve(verifyGrubBios(target)),
  };
}

async function makeGrubBios(
  target: Target,
  { root, scratch }: MakeContext,
  nodes: Nodes,
  boot: number,
): Promise<void> {
  const modules = `${scratch}/i386-pc`;
  await copyModules(root, nodes, modules);
  const core = `${scratch}/core.img`;
  // Without a disk before the comma: that from which BIOS booted.
  const prefix = `(,gpt${boot})/grub`;
  await sh`grub-mkimage --directory=${modules} --format=i386-pc --output=${core} --prefix=${prefix} ${MODULES}`;
  const program = padded(await Deno.readFile(core));
  if (program.length > target.size) {
    throw new BuildError(`Cannot fit GRUB for BIOS into its partition: it has ${program.length} bytes`);
  }
  const first = BigInt(target.offset / SECTOR);
  const list = new DataView(program.buffer);
  list.setBigUint64(BLOCKLIST.start, first + 1n, true);
  list.setUint16(BLOCKLIST.length, program.length / SECTOR - 1, true);
  list.setUint16(BLOCKLIST.segment, BLOCKLIST.load, true);
  const sector = (await Deno.readFile(`${modules}/boot.img`)).slice(0, BOOT.size);
  const patch = new DataView(sector.buffer);
  patch.setBigUint64(BOOT.kernel, first, true);
  patch.setUint8(BOOT.drive, 0xff);
  // Two NOPs instead of a jump that trusts what BIOS says of the drive.
  patch.setUint16(BOOT.jump, 0x9090);
  const fd = posix.open(posix.cString(target.path), posix.OPEN.readWrite);
  if (fd < 0) throw new BuildError(`Cannot open ${quote(target.path)}: ${posix.errorText(fd)}`);
  try {
    const image = { fd, path: target.path, offset: 0 };
    writeAt(image, sector, 0);
    writeAt(image, program, target.offset);
  } finally {
    posix.close(fd);
  }
}

/** Copies the modules, so that no link in the tree leads grub-mkimage astray. */
async function copyModules(root: Root, nodes: Nodes, to: string): Promise<void> {
  await Deno.mkdir(to);
  for (const { name, node } of entriesIn(nodes, DIRECTORY)) {
    if (typeOf(nodes, node) !== "file" || !/^\w[\w.-]*\.(mod|lst|img)$/.test(name)) continue;
    await Deno.writeFile(`${to}/${name}`, readFile(root, nodes, node, { limit: MiB }));
  }
}

function padded(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(alignUp(bytes.length, SECTOR));
  result.set(bytes);
  return result;
}

/** Checks that the first sector still leads to the program: the partition table is written around it. */
function verifyGrubBios({ path, offset }: Target): void {
  const sector = new DataView(readImage(path, 0, SECTOR).buffer);
  const list = new DataView(readImage(path, offset, SECTOR).buffer);
  const first = BigInt(offset / SECTOR);
  if (
    sector.getBigUint64(BOOT.kernel, true) !== first || sector.getUint16(510, true) !== 0xaa55 ||
    list.getBigUint64(BLOCKLIST.start, true) !== first + 1n
  ) throw new BuildError("GRUB for BIOS is not what was written: the first sector does not lead to it");
}
