/**
 * Bytes and their hexadecimal digits.
 *
 * @module
 */

/** Two lower-case hexadecimal digits per byte. */
export function toHex(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** The bytes of hexadecimal digits; hyphens, as in UUIDs, are skipped. @throws {SyntaxError} on anything else. */
export function fromHex(digits: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(digits.replaceAll("-", ""));
}
