/**
 * The heads of programs: enough of an ELF or PE file to tell its machine.
 *
 * @module
 */

import { type ArchitectureName, ARCHITECTURES } from "../../lib/core/dps.ts";

/** The ELF header of a program. */
export function elf(architecture: ArchitectureName): Uint8Array {
  const row: { elf: readonly number[]; bits: readonly number[]; endian: string } =
    ARCHITECTURES[architecture];
  const bytes = new Uint8Array(64);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, row.bits[0] === 64 ? 2 : 1, row.endian === "big" ? 2 : 1, 1]);
  new DataView(bytes.buffer).setUint16(18, row.elf[0]!, row.endian === "little");
  return bytes;
}

/** The head of a Linux kernel with an EFI stub, or of another UEFI program. */
export function pe(architecture: ArchitectureName): Uint8Array {
  const row: { root: string; pe?: number } = ARCHITECTURES[architecture];
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x5a4d, true);
  view.setUint32(0x3c, 0x80, true);
  view.setUint32(0x80, 0x4550, true);
  view.setUint16(0x84, row.pe ?? 0, true);
  return bytes;
}

/**
 * The head of an x86 kernel of this version, after the kernel's boot protocol; `build` makes it a different kernel of the
 * same version.
 */
export function bzImage(
  release: string,
  { stub = true, build = "#1" }: { readonly stub?: boolean; readonly build?: string } = {},
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(0x800);
  if (stub) bytes.set(pe("x86-64"));
  const view = new DataView(bytes.buffer);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, 0x020f, true);
  view.setUint16(0x20e, 0x400, true);
  view.setUint16(0x236, 1, true);
  bytes.set(new TextEncoder().encode(`${release} (builder@host) ${build}\0`), 0x600);
  return bytes;
}

/** A UKI's headers and the sections that describe it. */
export function uki(sections: Readonly<Record<string, string>>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(0x1000);
  bytes.set(pe("x86-64"));
  const view = new DataView(bytes.buffer);
  const all = Object.entries({ ".linux": "MZ", ...sections });
  view.setUint16(0x86, all.length, true);
  view.setUint16(0x94, 0, true);
  all.forEach(([name, text], i) => {
    const [row, at] = [0x98 + i * 40, 0x400 + i * 0x200];
    bytes.set(new TextEncoder().encode(name), row);
    view.setUint32(row + 8, text.length, true);
    view.setUint32(row + 16, 0x200, true);
    view.setUint32(row + 20, at, true);
    bytes.set(new TextEncoder().encode(text), at);
  });
  return bytes;
}
