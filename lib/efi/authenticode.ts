/**
 * Signs UEFI programs for Secure Boot, as `sbsign` does, but reproducibly: the signature has no date, and its
 * size is known in advance.
 *
 * - Windows Authenticode Portable Executable Signature Format (Authenticode_PE.docx); UEFI 2.10, section 32.2.4
 * - PKCS #7: RFC 2315; DER: ITU-T X.690
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { fromHex, viewOf } from "../core/bytes.ts";
import { BuildError } from "../core/error.ts";
import { node } from "../core/node.ts";
import { alignUp } from "../core/units.ts";
import { readPe } from "./pe.ts";

/** A key and its certificate. */
export interface Signer {
  /** DER. */
  readonly certificate: Uint8Array<ArrayBuffer>;
  /** PEM. */
  readonly key: string;
  /** Bytes of a signature: the size of the key. */
  readonly length: number;
}

type Bytes = Uint8Array<ArrayBuffer>;

function concat(...parts: readonly Uint8Array[]): Bytes {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
}

/** Encodes one DER value. */
function der(tag: number, ...parts: readonly Uint8Array[]): Bytes {
  const contents = concat(...parts);
  const size: number[] = [];
  for (let rest = contents.length; rest > 0; rest = Math.floor(rest / 256)) size.unshift(rest % 256);
  const length = contents.length < 128 ? [contents.length] : [0x80 | size.length, ...size];
  return concat(Uint8Array.from([tag, ...length]), contents);
}

/** The DER tags in use here. */
export const DER_TAGS = {
  integer: 2,
  bits: 3,
  octets: 4,
  null: 5,
  id: 6,
  sequence: 0x30,
  set: 0x31,
  context: 0xa0,
} as const;

const TAG = DER_TAGS;

/** Object identifiers, encoded. */
const OID = {
  signedData: der(TAG.id, fromHex("2a864886f70d010702")),
  contentType: der(TAG.id, fromHex("2a864886f70d010903")),
  messageDigest: der(TAG.id, fromHex("2a864886f70d010904")),
  rsa: der(TAG.id, fromHex("2a864886f70d010101")),
  sha256: der(TAG.id, fromHex("608648016503040201")),
  indirectData: der(TAG.id, fromHex("2b060104018237020104")),
  peImageData: der(TAG.id, fromHex("2b06010401823702010f")),
};

const NULL = der(TAG.null);
const ONE = der(TAG.integer, Uint8Array.of(1));
const SHA256 = der(TAG.sequence, OID.sha256, NULL);

/** The file link in SpcPeImageData: "<<<Obsolete>>>" in UTF-16, as every signing tool writes it. */
const OBSOLETE = der(
  TAG.context,
  der(
    TAG.context + 2,
    der(0x80, Uint8Array.from([..."<<<Obsolete>>>"].flatMap((c) => [0, c.charCodeAt(0)]))),
  ),
);

/** Where the contents of the DER value at `at` start and end. @throws {RangeError} when it is truncated. */
export function readDer(bytes: Uint8Array, at: number): { from: number; to: number } {
  const first = bytes[at + 1]!;
  const count = first < 128 ? 0 : first & 0x7f;
  let length = count ? 0 : first;
  for (let i = 0; i < count; i++) length = length * 256 + bytes[at + 2 + i]!;
  const from = at + 2 + count;
  if (!(from + length <= bytes.length)) throw new RangeError("the certificate is truncated");
  return { from, to: from + length };
}

/** The issuer and serial number that identify a certificate (IssuerAndSerialNumber). */
function nameOf(certificate: Bytes): Bytes {
  const body = readDer(certificate, readDer(certificate, 0).from);
  let at = body.from;
  // The version comes first, except in v1 certificates, which have none.
  if (certificate[at] === TAG.context) at = readDer(certificate, at).to;
  const serial = readDer(certificate, at);
  const algorithm = readDer(certificate, serial.to);
  const issuer = readDer(certificate, algorithm.to);
  return der(
    TAG.sequence,
    certificate.subarray(algorithm.to, issuer.to),
    certificate.subarray(at, serial.to),
  );
}

/**
 * Reads a signer from PEM texts.
 *
 * @param names the settings that they come from, for messages.
 * @throws {BuildError} (usage) when either is not PEM, they do not belong together, or the key is not RSA.
 */
export function readSigner(
  key: string,
  certificate: string,
  names = "SECURE_BOOT_KEY and SECURE_BOOT_CERT",
): Signer {
  const fail = (reason: string, cause?: unknown) =>
    new BuildError(`Cannot sign with ${names}: ${reason}`, {
      kind: "usage",
      hint: "Give an RSA key without a passphrase and its X.509 certificate, both as PEM",
      cause,
    });
  const [, base64] = /-----BEGIN CERTIFICATE-----([\sA-Za-z0-9+/=]+)-----END/.exec(certificate) ?? [];
  if (!base64) throw fail("the certificate is not PEM");
  try {
    const body = Uint8Array.from(Buffer.from(base64, "base64"));
    nameOf(body);
    const { createPrivateKey, createPublicKey, sign } = node.crypto;
    const secret = createPrivateKey(key);
    const [own, certified] = [createPublicKey(secret), createPublicKey(certificate)]
      .map((key) => key.export({ type: "spki", format: "der" }).toString("base64"));
    if (secret.asymmetricKeyType !== "rsa") throw new Error("the key is not RSA");
    if (own !== certified) throw new Error("the certificate belongs to a different key");
    return { certificate: body, key, length: sign("sha256", new Uint8Array(), secret).length };
  } catch (error) {
    throw fail((error as Error).message, error);
  }
}

/** The digest of a program (padded to a multiple of eight bytes), leaving out what signing changes. */
function digest(bytes: Bytes, path: string): Uint8Array {
  const { optional, certificates } = readPe(bytes, path);
  const table = viewOf(bytes).getUint32(certificates, true);
  const hash = node.crypto.createHash("sha256");
  hash.update(bytes.subarray(0, optional + 64)).update(bytes.subarray(optional + 68, certificates));
  return hash.update(bytes.subarray(certificates + 8, table || bytes.length)).digest();
}

/** The PKCS #7 message for a digest. */
function message(
  { certificate, length }: Signer,
  digest: Uint8Array,
  signature?: (text: Bytes) => Uint8Array,
): Bytes {
  const image = der(
    TAG.sequence,
    OID.peImageData,
    der(TAG.sequence, der(TAG.bits, Uint8Array.of(0)), OBSOLETE),
  );
  const content = concat(image, der(TAG.sequence, SHA256, der(TAG.octets, digest)));
  const contentDigest = node.crypto.createHash("sha256").update(content).digest();
  const attributes = concat(
    der(TAG.sequence, OID.contentType, der(TAG.set, OID.indirectData)),
    der(TAG.sequence, OID.messageDigest, der(TAG.set, der(TAG.octets, contentDigest))),
  );
  // The attributes are signed with the tag of a set, but stored with a context tag (RFC 2315, section 9.3).
  const signed = signature?.(der(TAG.set, attributes)) ?? new Uint8Array(length);
  const signer = der(
    TAG.sequence,
    ONE,
    nameOf(certificate),
    SHA256,
    der(TAG.context, attributes),
    der(TAG.sequence, OID.rsa, NULL),
    der(TAG.octets, signed),
  );
  const data = der(
    TAG.sequence,
    ONE,
    der(TAG.set, SHA256),
    der(TAG.sequence, OID.indirectData, der(TAG.context, der(TAG.sequence, content))),
    der(TAG.context, certificate),
    der(TAG.set, signer),
  );
  return der(TAG.sequence, OID.signedData, der(TAG.context, data));
}

/** Header of an entry in the certificate table: its length, revision 2.0 and type 2 (PKCS #7). */
const ENTRY = 8;

/** The size of a program of `size` bytes once it is signed. */
export function signedSize(signer: Signer, size: number): number {
  return alignUp(size, 8) + alignUp(ENTRY + message(signer, new Uint8Array(32)).length, 8);
}

/** Signs a program. Existing signatures are kept and stay valid. @throws {BuildError} when it cannot be signed. */
export function signProgram(signer: Signer, program: Uint8Array, path: string): Bytes {
  const padded = concat(program, new Uint8Array(alignUp(program.length, 8) - program.length));
  const { createPrivateKey, sign } = node.crypto;
  const key = createPrivateKey(signer.key);
  const text = message(signer, digest(padded, path), (attributes) => sign("sha256", attributes, key));
  const entry = new Uint8Array(alignUp(ENTRY + text.length, 8));
  const header = viewOf(entry);
  header.setUint32(0, ENTRY + text.length, true);
  header.setUint16(4, 0x200, true);
  header.setUint16(6, 2, true);
  entry.set(text, ENTRY);
  const signed = concat(padded, entry);
  const view = viewOf(signed);
  const { certificates } = readPe(signed, path);
  const table = view.getUint32(certificates, true);
  if (table && table + view.getUint32(certificates + 4, true) !== padded.length) {
    throw new BuildError(`Cannot sign ${path}: it has data after its certificate table`);
  }
  view.setUint32(certificates, table || padded.length, true);
  view.setUint32(certificates + 4, signed.length - (table || padded.length), true);
  return signed;
}
