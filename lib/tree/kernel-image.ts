/**
 * Examines a file that is named like a kernel: its architecture, its version, and what can start it.
 *
 * - x86: https://docs.kernel.org/arch/x86/boot.html
 * - arm64: https://docs.kernel.org/arch/arm64/booting.html
 * - EFI stub, and `CONFIG_EFI_ZBOOT`, whose kernels are UEFI programs that unpack themselves:
 *   https://docs.kernel.org/admin-guide/efi-stub.html
 * - UKI: https://uapi-group.org/specifications/specs/unified_kernel_image/
 *
 * @module
 */

import { toHex, viewOf } from "../core/bytes.ts";
import { type ArchitectureName, peArchitecture } from "../core/dps.ts";
import { node } from "../core/node.ts";
import { KiB, MiB } from "../core/units.ts";
import { type ReadAt, readSections, textOf } from "./pe.ts";

/** The facts in a kernel's file. */
export interface KernelImage {
  readonly architecture: ArchitectureName;
  /** As in `uname -r`; absent if the format does not record it. */
  readonly release?: string;
  /** The kernel command line in a UKI; absent for other kernels. */
  readonly unified?: { readonly options: string };
  /** It has no EFI stub: only a boot loader for BIOS starts it. */
  readonly biosOnly?: true;
  /** Unpacked size in bytes of a gzip'd kernel. */
  readonly unpackedSize?: number;
}

/** Headers are within this: x86's setup header ends at 0x270, PE's section table within the first KiB. */
const HEAD = 4 * KiB;

/** `uname -r` has room for 64 bytes, including the NUL. */
export const MAX_RELEASE = 63;

/** No kernel is larger; files that claim to be are not unpacked. */
const LARGEST = 512 * MiB;

/** The reason given for a file that nothing can start. */
const PROBLEMS: readonly (readonly [magic: string, problem: string])[] = [
  ["27051956", "it is an image for U-Boot (uImage), which UEFI cannot start"],
  ["d00dfeed", "it is an image for U-Boot (FIT), which UEFI cannot start"],
  ["fd377a58", "it is compressed with xz, and only gzip is unpacked"],
  ["28b52ffd", "it is compressed with zstd, and only gzip is unpacked"],
];

/** The facts about a file of `size` bytes, or the reason why it cannot be started. */
export function readKernelImage(read: ReadAt, size: number): KernelImage | string {
  const head = read(0, HEAD);
  if (head[0] === 0x1f && head[1] === 0x8b) return readGzip(read, size);
  const x86 = readSetupHeader(head, read);
  const architecture = peArchitecture(head);
  if (architecture) {
    return { architecture, ...x86?.release && { release: x86.release }, ...readUnified(head, read) };
  }
  if (x86) return { ...x86, biosOnly: true };
  const magic = toHex(head.subarray(0, 4));
  return PROBLEMS.find(([each]) => each === magic)?.[1] ?? "it is no kernel with an EFI stub";
}

const DAMAGED = "its gzip data is damaged";

/** A kernel that arm64's and riscv64's `make install` compresses: GRUB unpacks it, firmware does not. */
function readGzip(read: ReadAt, size: number): KernelImage | string {
  let head: Uint8Array<ArrayBuffer>;
  // Smaller than a header and a trailer.
  if (size < 18) return DAMAGED;
  try {
    // Only the beginning of the stream was read: an error about its end is expected.
    const { constants, gunzipSync } = node.zlib;
    head = new Uint8Array(gunzipSync(read(0, 64 * KiB), { finishFlush: constants.Z_SYNC_FLUSH }));
  } catch {
    return DAMAGED;
  }
  // The last four bytes of a gzip file are its contents' size: https://www.rfc-editor.org/rfc/rfc1952
  const unpackedSize = new DataView(read(size - 4, 4).buffer).getUint32(0, true);
  const architecture = peArchitecture(head);
  if (!architecture || unpackedSize < head.length || unpackedSize > LARGEST) {
    return "what is compressed in it is no kernel with an EFI stub";
  }
  return { architecture, unpackedSize };
}

/** The x86 boot protocol header: where the version is, and whether the kernel is 64-bit. */
function readSetupHeader(head: Uint8Array<ArrayBuffer>, read: ReadAt) {
  const view = viewOf(head);
  const isKernel = head.length >= 0x270 && view.getUint32(0x202, true) === 0x53726448; // "HdrS"
  if (!isKernel) return undefined;
  const at = view.getUint16(0x20e, true);
  const text = at && new TextDecoder().decode(read(0x200 + at, 256));
  const release = text && /^[\w.+~-]+/.exec(text)?.[0];
  const protocol = view.getUint16(0x206, true);
  const is64Bit = protocol >= 0x020c && (view.getUint16(0x236, true) & 1) === 1;
  return {
    architecture: is64Bit ? "x86-64" as const : "x86" as const,
    ...release && release.length <= MAX_RELEASE && { release },
  };
}

/** Of a text in a UKI, at most this many bytes are read. */
const MAX_TEXT = 4 * KiB;

/** What makes a program a UKI, and what it says of itself. */
function readUnified(head: Uint8Array<ArrayBuffer>, read: ReadAt) {
  const sections = new Map(readSections(head)?.map((section) => [section.name, section]));
  if (!sections.has(".linux")) return {};
  const text = (name: string) => {
    const section = sections.get(name);
    return section ? textOf(read(section.offset, Math.min(section.size, MAX_TEXT))) : "";
  };
  const release = text(".uname");
  return { ...isRelease(release) && { release }, unified: { options: text(".cmdline") } };
}

/** Whether a text can be a kernel version in a boot entry. */
export function isRelease(text: string): boolean {
  return /^[\w.+~-]+$/.test(text) && text.length <= MAX_RELEASE;
}
