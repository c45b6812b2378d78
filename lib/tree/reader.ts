/**
 * Reads the contents of the tree's files, in the order of a filesystem or archive.
 *
 * @module
 */

import * as posix from "../system/posix.ts";
import type { Nodes } from "./nodes.ts";
import { pathOf } from "./nodes.ts";
import { cannotRead, changed, isUnchanged, openNode, type Root } from "./root.ts";

/** Keeps the directory of the last file open: the next file is usually in the same one. */
export interface Reader {
  readonly root: Root;
  readonly nodes: Nodes;
  directory: number | undefined;
  fd: posix.Fd;
  /** For how many more questions files count as slow. At 0, they are assumed to be in memory; absent: nobody wants to know. */
  readAheadCredit: number | undefined;
  /** Counts reads: before every eighth, the kernel is asked. */
  reads: number;
}

/**
 * How many files in memory it takes to forget one that was not. Files that were read ahead look like files in memory, so it
 * must be remembered for a few hundred files. Reading ahead a file that is in memory costs only 4 µs.
 */
const READ_AHEAD_CREDIT = 64;

/** @param asks whether {@link isSlow} will be asked. */
export function newReader(root: Root, nodes: Nodes, asks = false): Reader {
  return { root, nodes, directory: undefined, fd: -1, readAheadCredit: asks ? 0 : undefined, reads: 0 };
}

/** Whether files come from disk, so that reading ahead is worthwhile. */
export function isSlow({ readAheadCredit = 0 }: Reader): boolean {
  return readAheadCredit > 0;
}

/** Asks the kernel to read a file into memory. Errors are ignored: they occur again when it is read. */
export function readAhead(reader: Reader, node: number): void {
  const { nodes } = reader;
  const fd = openBeside(reader, node);
  if (fd < 0) return;
  posix.readAhead(fd, nodes.size[node]!);
  posix.close(fd);
}

export function closeReader(reader: Reader): void {
  if (reader.directory !== undefined) posix.close(reader.fd);
  reader.directory = undefined;
}

/** Opens a regular file. @throws {BuildError} when it is missing or unreadable. */
export function openFile(reader: Reader, node: number): posix.Fd {
  const { nodes } = reader;
  const fd = openBeside(reader, node);
  if (fd === -posix.ENOENT || fd === -posix.ELOOP) throw changed(nodes, node);
  if (fd < 0) throw cannotRead(pathOf(nodes, node), fd);
  return fd;
}

function openBeside(reader: Reader, node: number): posix.Fd {
  const { root, nodes } = reader;
  const parent = nodes.parent[node]!;
  if (reader.directory !== parent) {
    closeReader(reader);
    reader.fd = openNode(root, nodes, parent, posix.OPEN.place);
    reader.directory = parent;
  }
  return posix.openAt(reader.fd, nodes.bytes.subarray(nodes.nameAt[node]!), posix.OPEN.file);
}

/** Fills `bytes`, starting at `offset`. @throws {BuildError} when the file has shrunk or cannot be read. */
export function readInto(
  reader: Reader,
  node: number,
  fd: posix.Fd,
  bytes: Uint8Array<ArrayBuffer>,
  offset: number,
): void {
  const { nodes } = reader;
  if (reader.readAheadCredit !== undefined && (++reader.reads & 7) === 0) {
    const credit = posix.isCached(fd, offset) ? reader.readAheadCredit - 1 : READ_AHEAD_CREDIT;
    reader.readAheadCredit = Math.max(0, credit);
  }
  for (let done = 0; done < bytes.length;) {
    const count = posix.pread(fd, done === 0 ? bytes : bytes.subarray(done), offset + done);
    if (count < 0) throw cannotRead(pathOf(nodes, node), count);
    if (count === 0) throw changed(nodes, node);
    done += count;
  }
}

/**
 * Call this after reading everything. @throws {BuildError} when the file has changed since the walk, which makes the
 * data that was read worthless.
 */
export function assertUnchanged({ nodes }: Reader, node: number, fd: posix.Fd): void {
  if (!isUnchanged(nodes, node, fd)) throw changed(nodes, node);
}
