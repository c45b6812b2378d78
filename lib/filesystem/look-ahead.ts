/**
 * Keeps a slow disk busy: requests files of the tree before it is their turn to be copied.
 *
 * @module
 */

import { isFileMode } from "../core/mode.ts";
import { KiB, MiB } from "../core/units.ts";
import { closeReader, isSlow, newReader, readAhead, type Reader } from "../tree/reader.ts";
import { contentsOf, modeOf, type Selection, sizeOf } from "./contents.ts";

/** Bytes to request before their turn. */
const WINDOW = 32 * MiB;

/** What an entry counts at least, so that no tree, not even one of empty files, is looked at from end to end. */
const LEAST = 4 * KiB;

/**
 * The same entries in the same order. While `reader`, which must ask, finds that files come from disk, the contents of the next
 * {@link WINDOW} bytes are on their way before an entry is yielded.
 */
export function* lookingAhead(
  selection: Selection,
  entries: Iterable<number>,
  reader: Reader,
): Generator<number, void> {
  const requests = newReader(reader.root, reader.nodes);
  const next: number[] = [];
  let bytes = 0;
  try {
    for (const entry of entries) {
      if (next.length === 0 && !isSlow(reader)) {
        yield entry;
        continue;
      }
      next.push(entry);
      bytes += weightOf(selection, entry);
      request(selection, entry, requests);
      while (bytes >= WINDOW || next.length > 0 && !isSlow(reader)) {
        const first = next.shift()!;
        bytes -= weightOf(selection, first);
        yield first;
      }
    }
    yield* next;
  } finally {
    closeReader(requests);
  }
}

function weightOf(selection: Selection, entry: number): number {
  return Math.max(LEAST, sizeOf(selection, entry));
}

function request(selection: Selection, entry: number, requests: Reader): void {
  const node = contentsOf(selection, entry);
  if (node === undefined || !isFileMode(modeOf(selection, entry)) || sizeOf(selection, entry) === 0) return;
  readAhead(requests, node);
}

/** All entries in the order of the selection. */
export function* selectionOrder({ count }: Selection): Generator<number, void> {
  for (let entry = 0; entry < count; entry++) yield entry;
}
