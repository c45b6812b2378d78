/**
 * The SELinux policy in a tree: what `/etc/selinux/config` chooses, and the labels it gives to files.
 *
 * - https://man7.org/linux/man-pages/man5/selinux_config.5.html
 * - https://man7.org/linux/man-pages/man5/file_contexts.5.html
 *
 * @module
 */

import { BuildError, quote } from "../core/error.ts";
import { TYPE_MASK } from "../core/mode.ts";
import { formatBytes, MiB } from "../core/units.ts";
import { type LabelLookup, openLabels, type PolicyFiles } from "../system/selinux.ts";
import {
  type DirectoryLines,
  directoryOf,
  filesOf,
  isSubstituted,
  type Line,
  linesIn,
  linesOf,
  parseFileContexts,
  substitute,
} from "./file-contexts.ts";
import type { Nodes } from "./nodes.ts";
import { fileAt } from "./query.ts";
import { readFile, type Root } from "./root.ts";

/** The policy that a tree is configured for. */
export interface SelinuxPolicy {
  /** `SELINUXTYPE`, which is also the name of its directory: "targeted", "default". */
  readonly type: string;
  /** Whether the system starts in enforcing mode. */
  readonly enforcing: boolean;
  /**
   * The labels of files, from `file_contexts`; absent when the tree has no such file. libselinux is loaded at the first
   * look-up.
   *
   * @throws {BuildError} when libselinux is missing, or cannot read the policy.
   */
  readonly labelsIn?: DirectoryLabels;
}

/** The labels of what is in a directory, whose path has a slash at its end. Texts have one character per byte. */
export type DirectoryLabels = (directory: string) => (name: string, mode: number) => string | undefined;

/** What follows `file_contexts` in the names of the files that have a say. */
const SUFFIXES = ["", ".homedirs", ".local", ".subs", ".subs_dist"];

/** Fedora's has half a MiB. */
const FILE_CONTEXTS_LIMIT = 16 * MiB;

/** The policy that `config`, the contents of `/etc/selinux/config`, names; `undefined` when it names none. */
export function findPolicy(config: string, root: Root, nodes: Nodes): SelinuxPolicy | undefined {
  const values = (name: string) => [...config.matchAll(RegExp(`^[ \t]*${name}=[ \t]*(\\S+)[ \t]*$`, "gm"))];
  // As libselinux takes them: the last type, the first mode.
  const type = values("SELINUXTYPE").at(-1)?.[1];
  if (type === undefined || !/^\w[\w.+-]*$/.test(type)) return undefined;
  const enforcing = values("SELINUX")[0]?.[1]?.toLowerCase() === "enforcing";
  const path = `/etc/selinux/${type}/contexts/files/file_contexts`;
  if (fileAt(nodes, path) === undefined) return { type, enforcing };
  const open = () =>
    openPolicy(
      new Map(SUFFIXES.flatMap((suffix) => {
        const node = fileAt(nodes, path + suffix);
        return node === undefined ? [] : [[suffix, readContexts(root, nodes, node, path + suffix)] as const];
      })),
      type,
    );
  let policy: DirectoryLabels | undefined;
  return { type, enforcing, labelsIn: (directory) => (policy ??= open())(directory) };
}

/** Look-ups with few questions to libselinux: mostly one for all files to which the same lines apply. */
export function openPolicy(files: PolicyFiles, type: string, open = openLabels): DirectoryLabels {
  const contexts = parseFileContexts(files);
  const directories = new Map<string, DirectoryLines>();
  const linesAt = (directory: string): DirectoryLines => {
    let lines = directories.get(directory);
    if (!lines) {
      const above = directory === "/" ? undefined : linesAt(directoryOf(directory.slice(0, -1)));
      directories.set(directory, lines = linesIn(contexts, directory, above));
    }
    return lines;
  };
  const sets = new Map<string, LabelLookup>();
  /** What libselinux answers with these lines alone. */
  const withLines = (lines: readonly Line[], isKnown: boolean): LabelLookup => {
    const sorted = [...new Set(lines)].sort((a, b) => a.index - b.index);
    const key = [isKnown, ...sorted.map(({ index }) => index)].join();
    let label = sets.get(key);
    if (!label) sets.set(key, label = lookUp(() => open(filesOf(sorted), type), isKnown));
    return label;
  };
  const byLines = new Map<readonly Line[], LabelLookup>();
  const labelIn = (place: DirectoryLines, name: string, mode: number): string | undefined => {
    const lines = linesOf(place, name);
    // The end of an expression also matches before a line break at the end. The root has no name.
    if (name.endsWith("\n") || name === "") {
      const others = linesOf(place, name.slice(0, -1));
      return withLines([...lines, ...others], false)(place.directory + name, mode);
    }
    let label = byLines.get(lines);
    if (!label) {
      label = withLines(lines, lines.every(({ matches }) => matches !== "unknown"));
      if (lines === place.always) byLines.set(lines, label);
    }
    return label(place.directory + name, mode);
  };
  return (directory) => {
    const place = linesAt(directory);
    if (!isSubstituted(contexts, directory)) return (name, mode) => labelIn(place, name, mode);
    return (name, mode) => {
      const target = substitute(contexts, directory + name);
      const place = linesAt(directoryOf(target));
      return labelIn(place, target.slice(place.directory.length), mode);
    };
  };
}

/** Opens at the first question. @param isKnown whether the answer depends on nothing but the file type. */
function lookUp(open: () => LabelLookup, isKnown: boolean): LabelLookup {
  let label: LabelLookup | undefined;
  const answers = new Map<number, string | undefined>();
  return (path, mode) => {
    const kind = mode & TYPE_MASK;
    if (answers.has(kind)) return answers.get(kind);
    label ??= open();
    const answer = label(path, mode);
    if (isKnown) answers.set(kind, answer);
    return answer;
  };
}

function readContexts(root: Root, nodes: Nodes, node: number, path: string): Uint8Array<ArrayBuffer> {
  const size = nodes.size[node]!;
  if (size <= FILE_CONTEXTS_LIMIT) return readFile(root, nodes, node, { limit: FILE_CONTEXTS_LIMIT });
  throw new BuildError(`Cannot read ${quote(path)} of the tree: ${formatBytes(size)} are too many`, {
    hint: `At most ${formatBytes(FILE_CONTEXTS_LIMIT)} are read; SELINUX=none does without`,
  });
}
