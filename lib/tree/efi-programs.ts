/**
 * The UEFI programs in a tree, identified by their contents.
 *
 * - systemd-boot and its stub name themselves in `.sdmagic`, which `bootctl` reads:
 *   https://www.freedesktop.org/software/systemd/man/latest/bootctl.html
 * - UKI: https://uapi-group.org/specifications/specs/unified_kernel_image/
 * - GRUB: `include/grub/kernel.h` has the layout of the section `mods`, which grub-mkimage adds
 *
 * @module
 */

import { latin1, viewOf } from "../core/bytes.ts";
import { type ArchitectureName, peArchitecture } from "../core/dps.ts";
import { KiB, MiB } from "../core/units.ts";
import { children, lookup, nameText, pathOf, typeOf } from "./nodes.ts";
import { peOffsets, type ReadAt, readSections, textOf } from "./pe.ts";
import { directoryAt, pathsInAnyCase } from "./query.ts";
import type { TreeFiles } from "./root.ts";

/** The facts about a UEFI program. */
export interface EfiProgram {
  readonly architecture: ArchitectureName;
  readonly kind: "systemd-boot" | "grub" | "shim" | "uki" | "unknown";
  /** The release of a systemd-boot: 257. */
  readonly release?: number;
  /** Whether it has any signature. */
  readonly signed: boolean;
  /** The kernel options of a UKI. */
  readonly options?: string;
  /** The name of what shim starts, unless it is the usual `grub<arch>.efi`. */
  readonly starts?: string;
  readonly grub?: GrubImage;
}

/** What is built into a GRUB. */
interface GrubImage {
  /** The directory of `grub.cfg`; empty: the program's own directory. */
  readonly prefix: string;
  /** Commands that run before that. */
  readonly script?: string;
  /** Whether it has the command `linux`, and not only `linuxefi`. */
  readonly hasLinux: boolean;
  /** Whether it reads boot entries (`blscfg`). */
  readonly readsEntries: boolean;
}

/** Programs by path in the tree, without symlinks. */
export type EfiPrograms = ReadonlyMap<string, EfiProgram>;

/** Directories to search, with everything below. */
const PLACES = [
  ...["/boot/efi", "/efi", "/usr/lib/shim", "/usr/share/efi", "/usr/lib64/efi", "/usr/lib/efi"],
  ...["/usr/lib/grub", "/usr/share/grub2", "/usr/lib/grub2", "/usr/lib64/grub", "/usr/lib64/grub2"],
  ...["/usr/lib/bootupd/updates", "/usr/lib/ostree-boot/efi", "/usr/lib/systemd/boot/efi"],
];

/** Names of programs, with those of Debian and Ubuntu for signed ones. */
const PROGRAM_NAME = /\.efi(\.signed)?(\.latest)?$/i;

/** At most this many programs are examined. */
const MAX_PROGRAMS = 500;

/** The section table is within this. */
const HEAD = 4 * KiB;

/** Loaders are smaller; anything beyond this is ignored. */
const LOADER = 16 * MiB;

/** Examines the programs of a tree. */
export function findPrograms({ nodes, read }: TreeFiles): EfiPrograms {
  const programs = new Map<string, EfiProgram>();
  // The ESP may be /boot itself.
  const own = pathsInAnyCase(nodes, "/boot", ["EFI"]).map((path) => lookup(nodes, path, { follow: false }));
  const pending = [...PLACES.map((path) => directoryAt(nodes, path)), ...own];
  while (pending.length > 0 && programs.size < MAX_PROGRAMS) {
    const node = pending.pop();
    if (node === undefined) continue;
    const type = typeOf(nodes, node);
    if (type === "directory") { for (const child of children(nodes, node)) pending.push(child); }
    if (type !== "file" || !PROGRAM_NAME.test(nameText(nodes, node) ?? "")) continue;
    const program = readProgram((offset, length) => read(node, offset, length));
    if (program) programs.set(pathOf(nodes, node), program);
  }
  return programs;
}

/** What a program is; `undefined`: not for UEFI. */
export function readProgram(read: ReadAt): EfiProgram | undefined {
  const head = read(0, HEAD);
  const architecture = peArchitecture(head);
  const found = architecture && readSections(head);
  if (!found) return undefined;
  const sections = new Map(found.map((section) => [section.name, section]));
  const signed = hasSignature(head);
  if (sections.has(".linux")) {
    const options = sections.get(".cmdline");
    return {
      architecture,
      kind: "uki",
      signed,
      ...options && { options: textOf(read(options.offset, Math.min(options.size, HEAD))) },
    };
  }
  const mods = sections.get("mods");
  const grub = mods && readGrub(read(mods.offset, Math.min(mods.size, LOADER)));
  if (grub) return { architecture, kind: "grub", signed, grub };
  const bytes = latin1(read(0, LOADER));
  const [, release] = /#### LoaderInfo: systemd-boot (\d*)/.exec(bytes) ?? [];
  if (release !== undefined) {
    return { architecture, kind: "systemd-boot", signed, ...release && { release: Number(release) } };
  }
  if (/UEFI SHIM\n\$Version/.test(bytes)) {
    // SUSE's: https://github.com/rhboot/shim/blob/main/BUILDING (DEFAULT_LOADER)
    const starts = bytes.includes(wide("\\grub.efi")) ? "grub.efi" : undefined;
    return { architecture, kind: "shim", signed, ...starts && { starts } };
  }
  return { architecture, kind: "unknown", signed };
}

/** UTF-16 as Latin-1. */
function wide(text: string): string {
  return [...text].map((char) => `${char}\0`).join("");
}

/** Whether the data directory has a certificate table that is not empty. */
function hasSignature(head: Uint8Array<ArrayBuffer>): boolean {
  const view = viewOf(head);
  const { directories, certificates } = peOffsets(view);
  return directories > 4 && view.getUint32(certificates + 4, true) > 0;
}

/** `GRUB_MODULE_MAGIC`, and the types of what follows. */
const MODULES = { magic: 0x676d696d, config: 2, prefix: 3 } as const;

/** Reads what grub-mkimage added; `undefined` if nothing was. */
function readGrub(mods: Uint8Array<ArrayBuffer>): GrubImage | undefined {
  const view = viewOf(mods);
  if (mods.length < 24 || view.getUint32(0, true) !== MODULES.magic) return undefined;
  // On 64-bit machines, the magic is padded, and offset and size have eight bytes.
  const is64 = view.getUint32(4, true) === 0;
  const start = view.getUint32(is64 ? 8 : 4, true), size = view.getUint32(is64 ? 16 : 8, true);
  const end = Math.min(mods.length, size);
  const found = new Map<number, string>();
  for (let at = start; at + 8 <= end;) {
    const [type, length] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    if (length < 8) break;
    if (type === MODULES.config || type === MODULES.prefix) {
      found.set(type, textOf(mods.subarray(at + 8, Math.min(at + length, end))));
    }
    at += length;
  }
  const text = latin1(mods);
  const script = found.get(MODULES.config);
  return {
    prefix: found.get(MODULES.prefix) ?? "",
    ...script && { script },
    hasLinux: text.includes("\0linux\0"),
    readsEntries: text.includes("\0blscfg\0"),
  };
}
