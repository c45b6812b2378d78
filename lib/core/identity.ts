/**
 * Identity as an argument: every UUID and serial number of an image is derived from one seed, so that the
 * same tree and settings give the same bytes.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** The namespace of all UUIDs that this project derives (a random UUID, fixed for ever). */
const NAMESPACE = "5ac7a7a6-3a44-4c1f-9b5f-0d8f6b8c2f1e";

function digest(seed: string, name: string): Uint8Array {
  const namespace = NAMESPACE.replaceAll("-", "");
  // The length keeps ("ab", "c") and ("a", "bc") apart.
  return createHash("sha1").update(namespace, "hex").update(`${seed.length}:${seed}${name}`).digest();
}

/** The UUIDv5 (RFC 9562, section 5.5) of `name`, e.g. `root/partition`, in an image with that seed. */
export function deriveUuid(seed: string, name: string): string {
  const bytes = digest(seed, name).slice(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The volume serial number of a FAT filesystem as eight hexadecimal digits (`mkfs.vfat -i`). */
export function deriveSerial(seed: string, name: string): string {
  return Array.from(digest(seed, name).slice(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** 32 bytes in hexadecimal digits, as dm-verity takes a salt. */
export function deriveSalt(seed: string, name: string): string {
  const hex = (part: string) =>
    Array.from(digest(seed, `${name}/${part}`), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return (hex("1") + hex("2")).slice(0, 64);
}
