/**
 * Names with equal hashes, placed so that one leaf of an ext4 directory ends with the first and the next begins with
 * the second: a lookup must continue there, which the index marks with an odd hash.
 *
 * @module
 */

import assert from "node:assert/strict";
import { hashName, type HashSeed } from "../../lib/filesystem/ext4/hash.ts";
import { bytesOf } from "./libc.ts";

/** Number of names to hash in search of equal ones: about 15 pairs among 2^31 hashes. */
const CANDIDATES = 250_000;

/** An entry takes 8 bytes and its name, in steps of 4; a leaf has room for 4084 bytes. */
const LONG = 255, LONGS = 15;
/** The name that leaves room for one of the pair, but not for both: in the first leaf, and after another pair. */
const FIRST_GAP = 92, GAP = 72;

/** The words of a UUID, as in the superblock. */
export function hashSeed(uuid: string): HashSeed {
  return new Uint32Array(Uint8Array.fromHex(uuid.replaceAll("-", "")).buffer);
}

/** Names for one directory, and how many of its leaves begin with the last hash of the one before. */
export function collidingNames(seed: HashSeed): { names: string[]; borders: number } {
  const hashOf = (name: string) => hashName(bytesOf(name), 0, name.length, seed);
  const seen = new Map<number, string>();
  const pairs: { hash: number; pair: [string, string] }[] = [];
  for (let i = 0; i < CANDIDATES; i++) {
    const name = i.toString(36).padStart(8, "0");
    const hash = hashOf(name);
    const other = seen.get(hash);
    if (other === undefined) seen.set(hash, name);
    else pairs.push({ hash, pair: [other, name] });
  }
  pairs.sort((a, b) => a.hash - b.hash);
  const names: string[] = [];
  let last = -1, borders = 0, count = 0;
  for (const { hash, pair } of pairs) {
    // There are too few names between neighbours.
    if (hash - last < 2 ** 32 / 100) continue;
    const between = (length: number) => {
      for (;;) {
        const name = (count++).toString(36).padStart(length, "-");
        const own = hashOf(name);
        if (own > last && own < hash) return name;
      }
    };
    names.push(
      ...Array.from({ length: LONGS }, () => between(LONG)),
      between(borders ? GAP : FIRST_GAP),
      ...pair,
    );
    last = hash;
    borders++;
  }
  assert(borders > 4);
  return { names, borders };
}
