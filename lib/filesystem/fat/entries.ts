/**
 * Decides what goes into a FAT filesystem, and under which name.
 *
 * Everything is checked here, before anything is written: names that FAT cannot store, and those that Linux or
 * the firmware would not find.
 *
 * @module
 */

import { quote } from "../../core/error.ts";
import { type Finding, finding } from "../../core/findings.ts";
import { FILE_TYPES, TYPE_MASK } from "../../core/mode.ts";
import { inodeRow, pathOf, resolve, targetBytes, typeOf } from "../../tree/nodes.ts";
import {
  addedOf,
  contentsOf,
  modeOf,
  nameOf as nameBytesOf,
  type Selection,
  sizeOf,
  treePath,
} from "../contents.ts";
import { cannotHold, type FatEntry, nameOf } from "./geometry.ts";
import { MAX_NAME } from "./names.ts";

/** Maximum file size: it is a 32-bit number. */
const MAX_FILE = 2 ** 32 - 1;

/** Bytes of the longest path that Linux can open and fsck.vfat can check: PATH_MAX without the NUL. */
const MAX_PATH = 4095;

/**
 * What of a selection goes into a FAT filesystem, in path order. Owners, permissions and xattrs cannot; a
 * symlink to something in the same filesystem is left out, one to a file elsewhere in the tree becomes a
 * copy, and `report` is told of either.
 *
 * @throws {BuildError} for anything else that FAT would lose or change, naming the path in the tree.
 */
export function fatEntries(selection: Selection, report: (found: Finding) => void): FatEntry[] {
  const inside = new Set<number>();
  for (let entry = 0; entry < selection.count; entry++) {
    const node = selection.source[entry]!;
    if (node >= 0) inside.add(inodeRow(selection.nodes, node));
  }
  const entries: FatEntry[] = [];
  const paths: string[] = [""];
  const spellings = new Map<string, FatEntry>();
  for (let entry = 1; entry < selection.count; entry++) {
    // A directory comes before its contents.
    const path = paths[entry] = `${paths[selection.parent[entry]!]}/${nameText(selection, entry)}`;
    const shown = treePath(selection, entry);
    const made = fatEntry(selection, entry, { path, shown }, inside, report);
    if (!made) continue;
    checkName({ path, shown }, nameBytesOf(selection, entry));
    const spelling = withoutCase(path);
    const other = spellings.get(spelling);
    if (other && other.type === "directory" && made.type === "directory") {
      // One directory, with what is in both.
      paths[entry] = other.path;
      continue;
    }
    if (other) {
      throw cannotHold(
        shown,
        `its name differs from ${quote(other.treePath ?? other.path)} only in case`,
        "Rename one of them in the tree",
      );
    }
    spellings.set(spelling, made);
    entries.push(made);
  }
  return entries.sort((a, b) => a.path < b.path ? -1 : 1);
}

function nameText(selection: Selection, entry: number): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(nameBytesOf(selection, entry));
}

/** The path of an entry, and the one in the tree, for messages. */
interface Paths {
  readonly path: string;
  readonly shown: string;
}

function fatEntry(
  selection: Selection,
  entry: number,
  { path, shown }: Paths,
  inside: ReadonlySet<number>,
  report: (found: Finding) => void,
): FatEntry | undefined {
  const type = modeOf(selection, entry) & TYPE_MASK;
  const size = sizeOf(selection, entry);
  const { text, made } = addedOf(selection, entry) ?? {};
  const node = contentsOf(selection, entry);
  const paths = { path, ...shown !== path && { treePath: shown } };
  if (type === FILE_TYPES.directory) return { ...paths, type: "directory", size: 0 };
  if (type === FILE_TYPES.file) {
    checkSize(shown, size);
    return {
      ...paths,
      type: "file",
      size,
      ...text ? { text } : made ? { recipe: made.recipe } : { node: node! },
    };
  }
  const { nodes } = selection;
  if (type !== FILE_TYPES.symlink || node === undefined) {
    const name = node === undefined ? "symlink" : typeOf(nodes, node);
    throw cannotHold(shown, `it is a ${name}`, "Remove it from the tree");
  }
  const target = resolve(nodes, nodes.parent[node]!, targetBytes(nodes, node));
  const aim = target === undefined ? "" : quote(pathOf(nodes, target));
  if (target === undefined) {
    report(
      finding("fat-link", `Leaving out the link ${quote(shown)}: its target does not exist`, { path: shown }),
    );
  } else if (inside.has(inodeRow(nodes, target))) {
    report(finding(
      "fat-link",
      `Leaving out the link ${
        quote(shown)
      }: FAT has no links, and its target ${aim} is in the same filesystem`,
      { path: shown },
    ));
  } else if (typeOf(nodes, target) === "file") {
    report(finding("fat-link", `Copying ${aim} to ${quote(shown)}: FAT has no links`, { path: shown }));
    checkSize(shown, nodes.size[target]!);
    return { ...paths, type: "file", size: nodes.size[target]!, node: target };
  } else {
    throw cannotHold(shown, `it is a link to ${aim}`, "Remove it from the tree");
  }
}

function checkSize(path: string, size: number): void {
  if (size > MAX_FILE) throw cannotHold(path, `its ${size} bytes are more than 4 GiB`, "Make it smaller");
}

function checkName({ path, shown }: Paths, bytes: Uint8Array<ArrayBuffer>): void {
  const name = nameOf(path);
  const problem = !isUtf8(bytes)
    ? "its name is not UTF-8"
    // deno-lint-ignore no-control-regex
    : /["*:<>?|\\\x00-\x1f\uffff]/.test(name)
    ? "its name has a character that FAT forbids"
    // Linux strips trailing dots, and UEFI firmware strips leading and trailing spaces.
    : /[. ]$/.test(name)
    ? "its name ends with a dot or a space"
    : /^ /.test(name)
    ? "its name starts with a space"
    : name.length > MAX_NAME
    ? `its name has more than ${MAX_NAME} characters`
    : new TextEncoder().encode(path).length > MAX_PATH
    ? `its path has more than ${MAX_PATH} bytes`
    : undefined;
  if (problem) throw cannotHold(shown, problem, "Rename it in the tree");
}

/** Folds case as FAT does, one upper-case letter for each lower-case one, so that equal names compare equal. */
function withoutCase(path: string): string {
  return Array.from(path, (mark) => {
    const capital = mark.toUpperCase();
    return capital.length === mark.length ? capital : mark;
  }).join("");
}

function isUtf8(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
