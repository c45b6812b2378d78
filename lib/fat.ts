/**
 * FAT filesystems as a plan: what fits into one, and under which name.
 *
 * mtools change or drop some names without a word, hang on a FIFO, and copy nothing of a file over 4 GiB with
 * exit code 0. So everything is checked here, before anything is written.
 *
 * - Microsoft's FAT specification (fatgen103); UEFI 2.10, section 13.3
 *
 * @module
 */

import { addedOf, contentsOf, entryPath, modeOf, nameOf, type Selection, sizeOf } from "./contents.ts";
import { BuildError, quote } from "./error.ts";
import { FILE_TYPES, lookup, pathOf, typeOf } from "./nodes.ts";
import { alignUp, MiB } from "./units.ts";

const SECTOR = 512;

/** Entries of the root directory of FAT12 and FAT16, where its size is fixed. */
export const FAT_ROOT_ENTRIES = 512;

/** The variants by their count of clusters, which alone tells them apart, with room for rounding. */
const VARIANTS = [
  { bits: 32, reserved: 32, min: 65525 + 16, max: 2 ** 28 - 16, clusters: [8, 4, 2, 1] },
  { bits: 16, reserved: 4, min: 4085 + 16, max: 65524 - 16, clusters: [1, 2, 4, 8, 16, 32, 64] },
  { bits: 12, reserved: 4, min: 1, max: 4084 - 16, clusters: [1, 2] },
] as const;

/** Up to here FAT16: FAT32 needs 65,525 clusters, and with 512-byte clusters that is more than 32 MiB. */
const MAX_FAT16 = 32 * MiB;

/** The largest file: its size is a 32-bit number. */
const MAX_FILE = 2 ** 32 - 1;

/** Names of DOS devices, with or without an extension. */
const RESERVED = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)/i;

export interface FatGeometry {
  readonly bits: 12 | 16 | 32;
  /** Sectors per cluster. */
  readonly perCluster: number;
  readonly reserved: number;
  /** Clusters for files and directories: never more than mkfs.vfat makes. */
  readonly clusters: number;
}

/** A file or directory of the filesystem. Paths start with a slash. */
export interface FatEntry {
  readonly path: string;
  readonly type: "directory" | "file";
  readonly size: number;
  /** The row of the tree that a file has its contents from, or its text. */
  readonly node?: number;
  readonly text?: Uint8Array<ArrayBuffer>;
}

/** How a filesystem of that size (bytes) is laid out; `undefined` when none is possible. */
export function fatGeometry(size: number): FatGeometry | undefined {
  for (const { bits, reserved, min, max, clusters: choices } of VARIANTS) {
    if (bits === 32 && size <= MAX_FAT16) continue;
    for (const perCluster of choices) {
      const rootSectors = bits === 32 ? 0 : FAT_ROOT_ENTRIES * 32 / SECTOR;
      const sectors = Math.floor(size / SECTOR) - reserved - rootSectors;
      // Two tables of `bits` per cluster; mkfs.vfat rounds each up, by less than four sectors.
      const tables = 2 * (Math.ceil(sectors / perCluster * bits / 8 / SECTOR) + 4);
      const clusters = Math.floor((sectors - tables) / perCluster);
      if (clusters >= min && clusters <= max) return { bits, perCluster, reserved, clusters };
    }
  }
}

/** Whether the entries fit into a filesystem of that layout, with every name stored as a long one. */
export function fitsFat(entries: readonly FatEntry[], geometry: FatGeometry): boolean {
  const cluster = geometry.perCluster * SECTOR;
  const slots = new Map<string, number>([["/", 1]]);
  let clusters = 0;
  for (const { path, type, size } of entries) {
    const parent = path.slice(0, path.lastIndexOf("/")) || "/";
    const name = path.slice(path.lastIndexOf("/") + 1);
    slots.set(parent, (slots.get(parent) ?? 2) + 1 + Math.ceil(name.length / 13));
    if (type === "directory") slots.set(path, slots.get(path) ?? 2);
    clusters += Math.ceil(size / cluster);
  }
  for (const [path, count] of slots) {
    if (path === "/" && geometry.bits !== 32) {
      if (count > FAT_ROOT_ENTRIES) return false;
    } else {
      clusters += Math.ceil(count * 32 / cluster);
    }
  }
  return clusters <= geometry.clusters;
}

/** The smallest size in bytes, in whole MiB, that the entries fit into. */
export function smallestFat(entries: readonly FatEntry[]): number {
  const bytes = entries.reduce((sum, { size }) => sum + size, 0);
  for (let size = Math.max(alignUp(bytes, MiB), MiB);; size += MiB) {
    const geometry = fatGeometry(size);
    if (geometry && fitsFat(entries, geometry)) return size;
  }
}

/**
 * What of a selection goes into a FAT filesystem, in path order. Owners, permissions and xattrs cannot; a
 * symlink to something in the same filesystem is left out, one to a file elsewhere in the tree becomes a
 * copy, and `notice` is told of either.
 *
 * @throws {BuildError} for everything else that FAT would lose or change, naming the path.
 */
export function fatEntries(selection: Selection, notice: (text: string) => void): FatEntry[] {
  const inside = new Set<number>();
  for (let entry = 0; entry < selection.count; entry++) {
    const node = selection.source[entry]!;
    if (node >= 0) inside.add(selection.nodes.link[node]!);
  }
  const entries: FatEntry[] = [];
  const spellings = new Map<string, string>();
  for (let entry = 1; entry < selection.count; entry++) {
    const path = entryPath(selection, entry);
    checkName(path, selection, entry);
    const made = fatEntry(selection, entry, path, inside, notice);
    if (!made) continue;
    const other = spellings.get(path.toLowerCase());
    if (other !== undefined) {
      throw cannotHold(
        path,
        `it differs from ${quote(other)} only in case`,
        "Rename one of them in the tree",
      );
    }
    spellings.set(path.toLowerCase(), path);
    entries.push(made);
  }
  return entries.sort((a, b) => a.path < b.path ? -1 : 1);
}

function fatEntry(
  selection: Selection,
  entry: number,
  path: string,
  inside: ReadonlySet<number>,
  notice: (text: string) => void,
): FatEntry | undefined {
  const type = modeOf(selection, entry) & 0o170000;
  const size = sizeOf(selection, entry);
  const text = addedOf(selection, entry)?.text;
  const node = contentsOf(selection, entry);
  if (type === FILE_TYPES.directory) return { path, type: "directory", size: 0 };
  if (type === FILE_TYPES.file) {
    checkSize(path, size);
    return { path, type: "file", size, ...text ? { text } : { node: node! } };
  }
  const { nodes } = selection;
  if (type !== FILE_TYPES.symlink || node === undefined) {
    const name = node === undefined ? "special file" : typeOf(nodes, node);
    throw cannotHold(path, `it is a ${name}`, "Remove it from the tree");
  }
  const target = lookup(nodes, pathOf(nodes, node));
  if (target === undefined) {
    notice(`Leaving out the link ${quote(path)}: it leads nowhere`);
  } else if (inside.has(nodes.link[target]!)) {
    notice(`Leaving out the link ${quote(path)}: FAT has no links, and ${pathOf(nodes, target)} is there`);
  } else if (typeOf(nodes, target) === "file") {
    notice(`Copying ${pathOf(nodes, target)} to ${quote(path)}: FAT has no links`);
    checkSize(path, nodes.size[target]!);
    return { path, type: "file", size: nodes.size[target]!, node: target };
  } else {
    throw cannotHold(path, `it is a link to ${pathOf(nodes, target)}`, "Remove it from the tree");
  }
}

function checkSize(path: string, size: number): void {
  if (size > MAX_FILE) throw cannotHold(path, `its ${size} bytes are more than 4 GiB`, "Make it smaller");
}

function checkName(path: string, selection: Selection, entry: number): void {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const problem = !isUtf8(nameOf(selection, entry))
    ? "its name is not UTF-8"
    // deno-lint-ignore no-control-regex
    : /[\u0000-\u001f\u007f"*:<>?|\\]/.test(name)
    ? "its name has a character that FAT forbids"
    : /[. ]$/.test(name)
    ? "its name ends with a dot or a space"
    : /^ /.test(name)
    ? "its name starts with a space"
    : RESERVED.test(name)
    ? "its name is that of a DOS device"
    : name.length > 255
    ? "its name has more than 255 UTF-16 units"
    : undefined;
  if (problem) throw cannotHold(path, problem, "Rename it in the tree");
}

function isUtf8(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function cannotHold(path: string, reason: string, hint: string): BuildError {
  return new BuildError(`Cannot put ${quote(path)} into a FAT filesystem: ${reason}`, { hint });
}
