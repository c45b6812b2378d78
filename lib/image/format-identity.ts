/**
 * Replaces what qemu-img makes up in an image, random numbers and the time, by what is derived from the seed:
 * the same disk becomes the same file.
 *
 * - VDI: https://forums.virtualbox.org/viewtopic.php?t=8046
 * - VHD: https://learn.microsoft.com/windows/win32/vstor/about-vhd
 * - VHDX: https://learn.microsoft.com/openspecs/windows_protocols/ms-vhdx
 * - VMDK: https://www.vmware.com/support/developer/vddk/vmdk_50_technote.pdf
 *
 * @module
 */

import { fromHex } from "../core/bytes.ts";
import { crc32c } from "../core/crc32c.ts";
import { BuildError, quote } from "../core/error.ts";
import { deriveSerial, deriveUuid } from "../core/identity.ts";
import { KiB, SECTOR } from "../core/units.ts";

/** What identity and time are derived from. */
export interface Identity {
  readonly seed: string;
  /** Seconds since 1970. */
  readonly time: number;
  /** The file name that the image will have. */
  readonly name: string;
}

/** Changes the finished image in the file `path`. */
export type Identify = (path: string, identity: Identity) => Promise<void>;

async function readAt(file: Deno.FsFile, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let done = 0; done < length;) {
    const got = await file.read(bytes.subarray(done));
    if (got === null) throw new BuildError("qemu-img wrote an image that is too short");
    done += got;
  }
  return bytes;
}

async function writeAt(file: Deno.FsFile, offset: number, bytes: Uint8Array): Promise<void> {
  await file.seek(offset, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

function open(path: string): Promise<Deno.FsFile> {
  return Deno.open(path, { read: true, write: true });
}

/** The header has the UUID of the image and that of its last change. */
export const identifyVdi: Identify = async (path, { seed }) => {
  using file = await open(path);
  await writeAt(file, 0x188, fromHex(deriveUuid(seed, "vdi/image")));
  await writeAt(file, 0x198, fromHex(deriveUuid(seed, "vdi/last-change")));
};

/** The descriptor, a text behind the header, has a content ID of up to eight digits, and the name of its own file. */
export const identifyVmdk: Identify = async (path, { seed, name }) => {
  using file = await open(path);
  const header = new DataView((await readAt(file, 0, SECTOR)).buffer);
  const offset = Number(header.getBigUint64(28, true)) * SECTOR;
  const length = Number(header.getBigUint64(36, true)) * SECTOR;
  if (length > 1024 * KiB) throw new BuildError("qemu-img wrote a VMDK without a descriptor");
  const bytes = await readAt(file, offset, length);
  const end = bytes.indexOf(0);
  const descriptor = new TextDecoder().decode(bytes.subarray(0, end < 0 ? length : end));
  // It is written without leading zeros, so that the text can become longer.
  const id = /^CID=[0-9a-f]{1,8}$/m;
  const extent = /^(RW \d+ SPARSE) "[^]*?"$/m;
  if (!id.test(descriptor)) throw new BuildError("qemu-img wrote a VMDK without a content ID");
  if (!extent.test(descriptor)) throw new BuildError("qemu-img wrote a VMDK without an extent");
  const text = new TextEncoder().encode(
    descriptor.replace(id, `CID=${deriveSerial(seed, "vmdk/content")}`)
      .replace(extent, (_, kind) => `${kind} "${name.replace(/["\p{Cc}]/gu, "_")}"`),
  );
  if (text.length > length) {
    throw new BuildError(`Cannot write the name ${quote(name)} into a VMDK: it is too long`);
  }
  bytes.fill(0).set(text);
  await writeAt(file, offset, bytes);
};

/** Seconds from 1970 to 2000, where time begins in a VHD. */
const VHD_EPOCH = 946_684_800;

/** The footer, the last sector, has the time of creation, a UUID and a checksum. */
export const identifyVpc: Identify = async (path, { seed, time }) => {
  using file = await open(path);
  const at = (await file.stat()).size - SECTOR;
  const footer = await readAt(file, at, SECTOR);
  const view = new DataView(footer.buffer);
  view.setUint32(24, Math.max(0, time - VHD_EPOCH));
  footer.set(fromHex(deriveUuid(seed, "vpc")), 68);
  view.setUint32(64, 0);
  // The one's complement of the sum of all bytes.
  view.setUint32(64, ~footer.reduce((sum, byte) => sum + byte, 0));
  await writeAt(file, at, footer);
};

/** `Page83Data` in the metadata of a VHDX, as it is stored. */
const PAGE_83 = fromHex("ab12cabe-e6b2-2345-93ef-c309e000c746");

/** The region table names the region of the metadata by this GUID, as it is stored. */
const METADATA = fromHex("06a27c8b-9047-9a4b-b8fe-575f050f886e");

/**
 * Both headers have a sequence number, GUIDs of the last write and a checksum, the metadata the GUID that the guest sees. The log
 * is empty, but what was in it is still there.
 */
export const identifyVhdx: Identify = async (path, { seed }) => {
  using file = await open(path);
  for (const [sequence, at] of [64 * KiB, 128 * KiB].entries()) {
    const header = await readAt(file, at, 4 * KiB);
    const view = new DataView(header.buffer);
    const hasLog = header.subarray(48, 64).some((byte) => byte !== 0);
    if (hasLog) throw new BuildError("qemu-img wrote a VHDX whose log is not empty");
    // They are the same now, so that it does not matter which is the newer one.
    view.setBigUint64(8, BigInt(sequence), true);
    header.set(fromHex(deriveUuid(seed, "vhdx/file")), 16);
    header.set(fromHex(deriveUuid(seed, "vhdx/data")), 32);
    view.setUint32(4, 0, true);
    // The checksum is CRC-32C with its usual inversion at the end.
    view.setUint32(4, ~crc32c(~0, header), true);
    await writeAt(file, at, header);
    const log = Number(view.getBigUint64(72, true));
    await writeAt(file, log, new Uint8Array(view.getUint32(68, true)));
  }
  const regions = await readAt(file, 192 * KiB, 64 * KiB);
  const region = findEntry(regions, METADATA, 16);
  const metadata = Number(new DataView(regions.buffer).getBigUint64(region + 16, true));
  const table = await readAt(file, metadata, 64 * KiB);
  const entry = findEntry(table, PAGE_83, 32);
  const page83 = metadata + new DataView(table.buffer).getUint32(entry + 16, true);
  await writeAt(file, page83, fromHex(deriveUuid(seed, "vhdx/page-83")));
};

/** Where in a table of 32-byte entries that begin with a GUID the one with `guid` is. */
function findEntry(table: Uint8Array, guid: Uint8Array, from: number): number {
  for (let at = from; at + 32 <= table.length; at += 32) {
    if (guid.every((byte, index) => table[at + index] === byte)) return at;
  }
  throw new BuildError("qemu-img wrote a VHDX without the metadata that it needs");
}
