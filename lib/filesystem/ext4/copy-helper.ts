/**
 * Has a second thread copy files beside this one. All blocks are planned, so who copies what does not matter to the bytes:
 * the thread gets the next few files whenever it runs short.
 *
 * @module
 */

import { thrown } from "../../core/error.ts";
import { MiB } from "../../core/units.ts";
import type { Image } from "../../image/writer.ts";
import { addBytes, addRow, newNodes, type NodesBuilder } from "../../tree/builder.ts";
import { nameBytes, type Nodes } from "../../tree/nodes.ts";
import type { Root } from "../../tree/root.ts";
import { CELL, PART } from "./copy.ts";
import type { Piece, Report, Start } from "./copy-worker.ts";
import { BLOCK_SIZE } from "./layout.ts";

/** Below this many bytes, everything is copied before a thread has started. */
const WORTHWHILE = 50e6;

/** A piece of work ends with this many blocks or parts: a few milliseconds, so that both threads end at the same time. */
const MOST_BLOCKS = 4 * MiB / BLOCK_SIZE, MOST_PARTS = 512;

/** Pieces on their way: one that is being copied, and one to go on with. */
const MOST_PIECES = 2;

/** A second thread that copies files. */
export interface CopyHelper extends AsyncDisposable {
  /** Bytes written so far. */
  readonly written: number;
  /** Says what to copy to where, before anything else. */
  begin(image: Image, root: Root, nodes: Nodes): void;
  /** Takes a part of a file, unless the thread has enough to do. `extents` are as in {@link copyFile}, at most 4 MiB. */
  take(entry: number, node: number, extents: ArrayLike<number>): boolean;
  /**
   * Waits until everything is copied.
   *
   * @returns those flags of files that did not come with their stat, by entry.
   * @throws what {@link copyFile} throws.
   */
  finish(): Promise<readonly (readonly [entry: number, flags: number])[]>;
}

/**
 * Starts the thread if it is worth it for this many bytes: the earlier, the sooner it helps. Dispose of it before closing what
 * {@link CopyHelper.begin} got.
 */
export function startCopyHelper(bytes: number): CopyHelper | undefined {
  if (bytes < WORTHWHILE || navigator.hardwareConcurrency < 2) return undefined;
  const worker = new Worker(new URL("./copy-worker.ts", import.meta.url), { type: "module" });
  const cells = new Int32Array(new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT));
  const flags: (readonly [number, number])[] = [];
  const ended = Promise.withResolvers<void>();
  let error: Error | undefined;
  const fail = (cause: Error) => {
    error ??= cause;
    Atomics.store(cells, CELL.stop, 1);
  };
  worker.onmessage = ({ data: report }: MessageEvent<Report>) => {
    flags.push(...report.flags ?? []);
    if (report.error) fail(thrown(report.error));
    if (report.ended) ended.resolve();
  };
  // The thread itself broke: it will not answer any more.
  worker.onerror = (event) => {
    event.preventDefault();
    fail(new Error(event.message));
    ended.resolve();
  };
  let from: Nodes | undefined;
  let piece: OpenPiece | undefined, posted = 0, isEnding = false;
  const post = () => {
    if (!piece) return;
    worker.postMessage({ nodes: piece.nodes, parts: Uint32Array.from(piece.parts) } satisfies Piece);
    piece = undefined;
    posted++;
  };
  const end = async () => {
    if (!isEnding) worker.postMessage("end");
    isEnding = true;
    await ended.promise;
  };
  return {
    get written() {
      return Atomics.load(cells, CELL.blocks) * BLOCK_SIZE;
    },
    begin(image, { path, fd }, nodes) {
      from = nodes;
      worker.postMessage({ image, root: { path, fd }, cells } satisfies Start);
    },
    take(entry, node, extents) {
      if (error) throw error;
      if (!from) throw new Error("The copy helper has not begun");
      if (!piece && posted - Atomics.load(cells, CELL.done) >= MOST_PIECES) return false;
      piece ??= { nodes: newPieceNodes(), rows: new Map([[0, 0]]), parts: [], blocks: 0 };
      const row = addFile(piece, from, node);
      for (let at = 0; at < extents.length; at += 3) {
        piece.parts.push(row, entry, extents[at]!, extents[at + 1]!, extents[at + 2]!);
        piece.blocks += extents[at + 2]!;
      }
      if (piece.blocks >= MOST_BLOCKS || piece.parts.length >= MOST_PARTS * PART) post();
      return true;
    },
    async finish() {
      post();
      await end();
      if (error) throw error;
      return flags;
    },
    async [Symbol.asyncDispose]() {
      Atomics.store(cells, CELL.stop, 1);
      await end();
      worker.terminate();
    },
  };
}

/** A piece that is being put together. */
interface OpenPiece {
  readonly nodes: NodesBuilder;
  /** The directories in it: row of the tree to row of the piece. */
  readonly rows: Map<number, number>;
  readonly parts: number[];
  blocks: number;
}

function newPieceNodes(): NodesBuilder {
  const nodes = newNodes();
  nodes.nameAt[addRow(nodes)] = addBytes(nodes, new Uint8Array());
  return nodes;
}

/** Adds a file to the table of a piece, with the directories above it. */
function addFile(piece: OpenPiece, from: Nodes, node: number): number {
  const row = addPieceRow(piece, from, node, directoryRow(piece, from, from.parent[node]!));
  const { nodes } = piece;
  nodes.size[row] = from.size[node]!;
  nodes.mtimeSeconds[row] = from.mtimeSeconds[node]!;
  nodes.mtimeNanoseconds[row] = from.mtimeNanoseconds[node]!;
  nodes.inoLow[row] = from.inoLow[node]!;
  nodes.inoHigh[row] = from.inoHigh[node]!;
  return row;
}

function directoryRow(piece: OpenPiece, from: Nodes, directory: number): number {
  const missing: number[] = [];
  let at = directory;
  for (; !piece.rows.has(at); at = from.parent[at]!) missing.push(at);
  let row = piece.rows.get(at)!;
  for (const node of missing.reverse()) piece.rows.set(node, row = addPieceRow(piece, from, node, row));
  return row;
}

function addPieceRow({ nodes }: OpenPiece, from: Nodes, node: number, parent: number): number {
  const row = addRow(nodes);
  const name = nameBytes(from, node);
  nodes.parent[row] = parent;
  nodes.nameAt[row] = addBytes(nodes, name);
  nodes.nameLength[row] = name.length;
  nodes.mode[row] = from.mode[node]!;
  return row;
}
