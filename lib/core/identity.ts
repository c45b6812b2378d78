/**
 * Every UUID and serial number in an image is derived from one seed, so that the same tree and settings give
 * the same bytes.
 *
 * @module
 */

import { fromHex, toHex } from "./bytes.ts";
import { node } from "./node.ts";

/** The namespace of all UUIDs that this project derives: a random UUID that must never change. */
const NAMESPACE = "5ac7a7a6-3a44-4c1f-9b5f-0d8f6b8c2f1e";

function digest(seed: string, name: string): Uint8Array {
  // The length tells ("ab", "c") from ("a", "bc").
  return node.crypto.createHash("sha1").update(fromHex(NAMESPACE)).update(`${seed.length}:${seed}${name}`)
    .digest();
}

/** The UUIDv5 (RFC 9562, section 5.5) for `name`, e.g. `root/partition`, in an image with this seed. */
export function deriveUuid(seed: string, name: string): string {
  const bytes = digest(seed, name).slice(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return formatUuid(toHex(bytes));
}

/** Formats 32 hexadecimal digits as a UUID with hyphens. */
export function formatUuid(digits: string): string {
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** A UUID as people write it, with or without hyphens, in lower case with hyphens; `undefined` if it is none. */
export function parseUuid(text: string): string | undefined {
  const isUuid = /^[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}$/i.test(text);
  return isUuid ? formatUuid(text.toLowerCase().replaceAll("-", "")) : undefined;
}

/** A FAT volume serial number, as eight hexadecimal digits (`mkfs.vfat -i`). */
export function deriveSerial(seed: string, name: string): string {
  return toHex(digest(seed, name).slice(0, 4));
}

/** A salt for dm-verity: 32 bytes in hexadecimal digits. */
export function deriveSalt(seed: string, name: string): string {
  return ["1", "2"].map((part) => toHex(digest(seed, `${name}/${part}`))).join("").slice(0, 64);
}
