/**
 * The worker that copies files for copy-helper.ts. It shares the open files of the process, but no objects.
 *
 * @module
 */

import { type Reported, reported } from "../../core/error.ts";
import { flush, type Image, newWriter, type Writer } from "../../image/writer.ts";
import * as posix from "../../system/posix.ts";
import type { Nodes } from "../../tree/nodes.ts";
import { closeReader, newReader } from "../../tree/reader.ts";
import { closeRoot, type Root } from "../../tree/root.ts";
import { CELL, type Copier, copyFile, DATA_BUFFER, newAbilities, PART } from "./copy.ts";
import { BLOCK_SIZE } from "./layout.ts";

/** The first message. */
export interface Start {
  readonly image: Image;
  readonly root: { readonly path: string; readonly fd: posix.Fd };
  readonly cells: Int32Array<SharedArrayBuffer>;
}

/** Some files: their part of the tree's table, and what to copy. */
export interface Piece {
  readonly nodes: Nodes;
  /** One after another: row in `nodes`, entry, first logical block, first physical block, number of blocks. */
  readonly parts: Uint32Array<ArrayBuffer>;
}

/** What the worker reports: flags of files, by entry. */
export interface Report {
  readonly flags?: readonly (readonly [entry: number, flags: number])[];
  readonly error?: Reported;
  /** There is nothing more to come. */
  readonly ended?: true;
}

/** The part of `DedicatedWorkerGlobalScope` that is used here. */
interface Scope {
  onmessage: (event: MessageEvent<Start | Piece | "end">) => void;
  readonly postMessage: (report: Report) => void;
}

interface Work {
  readonly root: Root;
  readonly data: Writer;
  readonly cells: Int32Array<SharedArrayBuffer>;
  readonly can: Copier["can"];
  hasFailed: boolean;
}

const scope = self as unknown as Scope;
let work: Work | undefined;
scope.onmessage = ({ data: message }) => {
  if (message === "end") {
    if (work) closeRoot(work.root);
    scope.postMessage({ ended: true });
    return;
  }
  try {
    if ("image" in message) work = start(message);
    else if (work && !work.hasFailed) copyPiece(work, message);
  } catch (error) {
    if (work) work.hasFailed = true;
    scope.postMessage({ error: reported(error) });
  }
};

function start({ image, root: { path, fd }, cells }: Start): Work {
  // The directories that this thread keeps open are its own.
  const root = { path, fd: posix.openAt(fd, posix.cString("."), posix.OPEN.place), places: new Map() };
  return { root, data: newWriter(image, DATA_BUFFER), cells, can: newAbilities(), hasFailed: false };
}

function copyPiece(work: Work, { nodes, parts }: Piece): void {
  const { root, data, cells } = work;
  const reader = newReader(root, nodes);
  const copier = { reader, data, can: work.can };
  const flags: [number, number][] = [];
  const isStopped = () => Atomics.load(cells, CELL.stop) === 1;
  const before = data.written;
  try {
    for (let at = 0; at < parts.length && !isStopped(); at += PART) {
      const [node = 0, entry = 0] = parts.subarray(at, at + 2);
      const extents = [...parts.subarray(at + 2, at + PART)];
      for (; parts[at + PART] === node; at += PART) {
        extents.push(...parts.subarray(at + PART + 2, at + 2 * PART));
      }
      const copying = copyFile(copier, node, extents);
      let next = copying.next();
      while (!next.done && !isStopped()) next = copying.next();
      if (!next.done) copying.return(0);
      else if (next.value) flags.push([entry, next.value]);
    }
    flush(data);
  } finally {
    closeReader(reader);
  }
  if (flags.length) scope.postMessage({ flags });
  Atomics.add(cells, CELL.blocks, (data.written - before) / BLOCK_SIZE);
  Atomics.add(cells, CELL.done, 1);
}
