/**
 * A fixed VHD is a raw disk with a footer of one sector.
 *
 * https://learn.microsoft.com/windows/win32/vstor/about-vhd, "Hard Disk Footer Format". All numbers are big-endian.
 *
 * @module
 */

import { encodeText, fromHex } from "../core/bytes.ts";
import { deriveUuid } from "../core/identity.ts";
import { SECTOR } from "../core/units.ts";

/** Seconds from 1970 to 2000, the epoch of VHD. */
const VHD_EPOCH = 946_684_800;

/** The footer for a disk of `size` bytes that was made at `time` (seconds since 1970). */
export function vhdFooter(size: number, seed: string, time: number): Uint8Array<ArrayBuffer> {
  const footer = new Uint8Array(SECTOR);
  const view = new DataView(footer.buffer);
  footer.set(encodeText("conectix"));
  // Features: only the reserved bit, which is always set. Version 1.0.
  view.setUint32(8, 2);
  view.setUint32(12, 0x00010000);
  // There is no other header.
  view.setBigUint64(16, 0xffff_ffff_ffff_ffffn);
  view.setUint32(24, Math.max(0, time - VHD_EPOCH));
  // With this creator, the one of qemu-img's force_size, and with the largest geometry (cylinders, heads, sectors), readers
  // take the size below instead of a smaller one that the geometry gives.
  footer.set(encodeText("qem2\0\x05\0\x03Wi2k"), 28);
  view.setBigUint64(40, BigInt(size));
  view.setBigUint64(48, BigInt(size));
  view.setUint16(56, 0xffff);
  footer.set([16, 255], 58);
  // Disk type: fixed.
  view.setUint32(60, 2);
  footer.set(fromHex(deriveUuid(seed, "vpc")), 68);
  // The one's complement of the sum of all bytes.
  view.setUint32(64, ~footer.reduce((sum, byte) => sum + byte, 0));
  return footer;
}
