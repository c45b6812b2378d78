/**
 * Replaces the random numbers that qemu-img puts into an image with values derived from the seed, so that the same disk gives
 * the same file.
 *
 * - VDI: https://forums.virtualbox.org/viewtopic.php?t=8046
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

/** Where the identity of an image comes from. */
export interface Identity {
  readonly seed: string;
  /** The image's final file name. */
  readonly name: string;
}

/** Patches the finished image at `path`. @throws {BuildError} when qemu-img wrote something unexpected. */
export type Identify = (path: string, identity: Identity) => Promise<void>;

async function readAt(file: Deno.FsFile, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let done = 0; done < length;) {
    const got = await file.read(bytes.subarray(done));
    if (got === null) throw new BuildError("qemu-img wrote a truncated image");
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

/** The header has a UUID for the image and one for its last change. */
export const identifyVdi: Identify = async (path, { seed }) => {
  using file = await open(path);
  await writeAt(file, 0x188, fromHex(deriveUuid(seed, "vdi/image")));
  await writeAt(file, 0x198, fromHex(deriveUuid(seed, "vdi/last-change")));
};

/** The descriptor, a text after the header, has a content ID of up to eight digits, and the name of its own file. */
export const identifyVmdk: Identify = async (path, { seed, name }) => {
  using file = await open(path);
  const header = new DataView((await readAt(file, 0, SECTOR)).buffer);
  const offset = Number(header.getBigUint64(28, true)) * SECTOR;
  const length = Number(header.getBigUint64(36, true)) * SECTOR;
  if (length > 1024 * KiB) throw new BuildError("qemu-img wrote a VMDK without a descriptor");
  const bytes = await readAt(file, offset, length);
  const end = bytes.indexOf(0);
  const descriptor = new TextDecoder().decode(bytes.subarray(0, end < 0 ? length : end));
  // qemu-img writes the content ID without leading zeros, so the text can become longer.
  const id = /^CID=[0-9a-f]{1,8}$/m;
  const extent = /^(RW \d+ SPARSE) "[^]*?"$/m;
  if (!id.test(descriptor)) throw new BuildError("qemu-img wrote a VMDK without a content ID");
  if (!extent.test(descriptor)) throw new BuildError("qemu-img wrote a VMDK without an extent");
  const text = new TextEncoder().encode(
    descriptor.replace(id, `CID=${deriveSerial(seed, "vmdk/content")}`)
      .replace(extent, (_, kind) => `${kind} "${name.replace(/["\p{Cc}]/gu, "_")}"`),
  );
  if (text.length > length) {
    throw new BuildError(`Cannot store the file name ${quote(name)} in a VMDK: it is too long`);
  }
  bytes.fill(0).set(text);
  await writeAt(file, offset, bytes);
};

/** GUID of the metadata item `Page83Data`, in VHDX's byte order. */
const PAGE_83 = fromHex("ab12cabe-e6b2-2345-93ef-c309e000c746");

/** GUID of the metadata region in the region table, in VHDX's byte order. */
const METADATA = fromHex("06a27c8b-9047-9a4b-b8fe-575f050f886e");

/**
 * Both headers have a sequence number, GUIDs of the last write and a checksum; the metadata has the GUID that the
 * guest sees. The log is empty, but its old contents are still in the file.
 */
export const identifyVhdx: Identify = async (path, { seed }) => {
  using file = await open(path);
  for (const [sequence, at] of [64 * KiB, 128 * KiB].entries()) {
    const header = await readAt(file, at, 4 * KiB);
    const view = new DataView(header.buffer);
    const hasLog = header.subarray(48, 64).some((byte) => byte !== 0);
    if (hasLog) throw new BuildError("qemu-img wrote a VHDX with a log that is not empty");
    // Both headers are the same now, so it does not matter which is newer.
    view.setBigUint64(8, BigInt(sequence), true);
    header.set(fromHex(deriveUuid(seed, "vhdx/file")), 16);
    header.set(fromHex(deriveUuid(seed, "vhdx/data")), 32);
    view.setUint32(4, 0, true);
    // CRC-32C with the usual inversion at the end.
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

/** The position of the entry with `guid` in a table of 32-byte entries that start with a GUID. */
function findEntry(table: Uint8Array, guid: Uint8Array, from: number): number {
  for (let at = from; at + 32 <= table.length; at += 32) {
    if (guid.every((byte, index) => table[at + index] === byte)) return at;
  }
  throw new BuildError("qemu-img wrote a VHDX without the required metadata");
}
