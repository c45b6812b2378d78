/**
 * The heads of programs: as much of an ELF or PE file as says which machine it is for.
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
