/**
 * Bytes as numbers, as hexadecimal digits, and as text that may be no UTF-8.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** A view of just these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Each byte as the character with its number, so that texts in it can be searched for, and no two are the same. */
export function latin1(bytes: Uint8Array): string {
  // TextDecoder takes eight times as long, and its "latin1" is windows-1252.
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Two lower-case hexadecimal digits per byte. */
export function toHex(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** Decodes hexadecimal digits. Hyphens, as in UUIDs, are ignored. @throws {SyntaxError} on anything else. */
export function fromHex(digits: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(digits.replaceAll("-", ""));
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lossy = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

/** Where a byte that is not part of UTF-8 goes in a text: a lone surrogate, as in Python's PEP 383. */
const ESCAPED = 0xdc00;

/** Bytes as text. What is not UTF-8 in it comes through, so that {@link encodeText} gives the same bytes. */
export function decodeText(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes);
  } catch {
    // Below, character by character.
  }
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const lead = bytes[at]!;
    const length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    const character = lossy.decode(bytes.subarray(at, at + length));
    const isOne = character.length === 1 + Number(character.codePointAt(0)! > 0xffff);
    const isValid = isOne && (character !== "\ufffd" || (lead === 0xef && bytes[at + 1] === 0xbf));
    text += isValid ? character : String.fromCharCode(ESCAPED + lead);
    at += isValid ? length : 1;
  }
  return text;
}

/** Text as UTF-8, and what {@link decodeText} found to be none as the bytes that it was. */
export function encodeText(text: string): Uint8Array<ArrayBuffer> {
  if (text.isWellFormed()) return encoder.encode(text);
  const bytes: number[] = [];
  // With the flag `u` no half of a pair matches.
  for (const part of text.split(/([\udc80-\udcff])/u)) {
    if (/^[\udc80-\udcff]$/u.test(part)) bytes.push(part.charCodeAt(0) - ESCAPED);
    else for (const byte of encoder.encode(part)) bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
