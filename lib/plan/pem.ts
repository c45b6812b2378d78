/**
 * Reads keys and certificates in the forms that people and pipelines provide them.
 *
 * A pipeline's secret is often not quite a PEM file: it has leading spaces, Windows line endings, `\n` or spaces in place
 * of line breaks, or quotes around it; it is base64-encoded again, or only the base64 part of the PEM. We accept all of
 * these, and return a single PEM block with nothing else in it.
 *
 * - PEM: RFC 7468; the labels: https://docs.openssl.org/3.5/man3/PEM_read_bio_PrivateKey/
 * - PKCS #8: RFC 5958; PKCS #1: RFC 8017, appendix A.1.2; EC keys: RFC 5915; certificates: RFC 5280
 *
 * @module
 */

import { readSmallFile } from "../core/small-file.ts";
import { KiB } from "../core/units.ts";
import { DER_TAGS, readDer } from "../efi/authenticode.ts";

/** What to look for in a text. */
type Kind = "PRIVATE KEY" | "CERTIFICATE";

type Bytes = Uint8Array<ArrayBuffer>;

/** Keys of 16,384 bits have 13 KiB in PEM. */
const LIMIT = 64 * KiB;

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----((?:(?!-----)[^])*)-----END \1-----/g;

/** Labels of DER values, which we recognise by the tags of their first two members. */
const LABELS: readonly (readonly [label: string, first: number, second: number])[] = [
  ["PRIVATE KEY", DER_TAGS.integer, DER_TAGS.sequence],
  ["RSA PRIVATE KEY", DER_TAGS.integer, DER_TAGS.integer],
  ["EC PRIVATE KEY", DER_TAGS.integer, DER_TAGS.octets],
  ["ENCRYPTED PRIVATE KEY", DER_TAGS.sequence, DER_TAGS.octets],
  ["CERTIFICATE", DER_TAGS.sequence, DER_TAGS.sequence],
];

/**
 * Makes the parser for a setting whose value is a key or a certificate: a text, or the path of a file.
 *
 * @returns the parser. It returns the first block of that kind as PEM. Its errors say what is accepted, with the reason as
 * the cause; neither contains any part of the value.
 */
export function pem(kind: Kind): (text: string) => string {
  const what = kind === "CERTIFICATE" ? "an X.509 certificate" : "a private key without a passphrase";
  return (text) => {
    try {
      return looksLikePath(text) ? inFile(text, kind) : inText(text, kind);
    } catch (error) {
      throw new Error(`${what} as PEM or DER: a file, or its text (DER in base64)`, {
        cause: (error as Error).message,
      });
    }
  };
}

/** Whether a value can only be a path: whatever may be a text is none. */
export function looksLikePath(text: string): boolean {
  const plain = unwrap(text);
  return !/-----|\n/.test(plain) && innerOf(plain) === undefined;
}

function inFile(path: string, kind: Kind): string {
  const bytes = readSmallFile(path, LIMIT);
  return isDer(bytes) ? block(bytes, kind) : inText(new TextDecoder().decode(bytes), kind);
}

function inText(text: string, kind: Kind): string {
  const plain = unwrap(text);
  const inner = innerOf(plain);
  if (inner !== undefined) {
    return isDer(inner) ? block(inner, kind) : inText(new TextDecoder().decode(inner), kind);
  }
  const blocks = [...plain.matchAll(BLOCK)];
  const own = blocks.find(([, label]) => label!.endsWith(kind));
  if (!own) {
    const labels = [...new Set(blocks.map(([, label]) => label))];
    throw new Error(labels.length ? `it contains only: ${labels.join(", ")}` : "it is not PEM");
  }
  if (/ENCRYPTED/.test(own[0])) throw new Error("it has a passphrase");
  const bytes = decode(own[2]!);
  if (!bytes) throw new Error(`its ${own[1]} is damaged`);
  return block(bytes, kind);
}

/** Removes what variables, env files and templates add around a text. */
function unwrap(text: string): string {
  const plain = text.replaceAll(/\\r\\n|\\n|\r\n?/g, "\n").trim();
  return /^(["'])[^"']*\1$/.test(plain) ? plain.slice(1, -1).trim() : plain;
}

/** Decodes base64 around everything: it contains DER, PEM, or one of them base64-encoded again. */
function innerOf(text: string): Bytes | undefined {
  const bytes = decode(text);
  if (!bytes || isDer(bytes)) return bytes;
  const inner = unwrap(new TextDecoder().decode(bytes));
  return inner.includes("-----BEGIN ") || innerOf(inner) ? bytes : undefined;
}

/** Decodes base64 or base64url, also with line breaks or without padding. */
function decode(text: string): Bytes | undefined {
  const digits = text.replaceAll(/\s/g, "").replace(/=+$/, "").replaceAll("-", "+").replaceAll("_", "/");
  if (!/^[A-Za-z0-9+/]+$/.test(digits) || digits.length % 4 === 1) return undefined;
  return Uint8Array.fromBase64(digits);
}

/** The tags of the first two members of a sequence at the start of `bytes`, and where it ends. */
function tagsOf(bytes: Bytes): { first: number | undefined; second: number | undefined; end: number } {
  if (bytes[0] !== DER_TAGS.sequence) throw new RangeError("no sequence");
  const { from, to } = readDer(bytes, 0);
  const body = bytes.subarray(0, to);
  const second = readDer(body, from).to;
  return { first: body[from], second: body[second], end: to };
}

function isDer(bytes: Bytes): boolean {
  try {
    return tagsOf(bytes).end === bytes.length;
  } catch {
    return false;
  }
}

function block(bytes: Bytes, kind: Kind): string {
  let found: ReturnType<typeof tagsOf>;
  try {
    found = tagsOf(bytes);
  } catch {
    throw new Error("it is damaged");
  }
  const [label] = LABELS.find(([, first, second]) => found.first === first && found.second === second) ?? [];
  if (label === "ENCRYPTED PRIVATE KEY" && kind === "PRIVATE KEY") throw new Error("it has a passphrase");
  if (!label?.endsWith(kind)) throw new Error(`it is ${label ? `a ${label}` : "something else"}`);
  // OpenSSL's "trusted certificates" have additional data after the certificate.
  const lines = bytes.subarray(0, found.end).toBase64().match(/.{1,64}/g)!;
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
