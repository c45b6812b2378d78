/**
 * Which lines of `file_contexts` can have a say on a file.
 *
 * libselinux tries the regular expressions of thousands of lines on each path, which takes half a millisecond before 3.8.
 * So it gets only the lines that can match in a directory, and is asked once about all files to which the same lines apply.
 * No regular expression is matched here: only literal text is compared, and where that does not decide whether a line
 * matches, libselinux is asked about the path itself.
 *
 * - https://man7.org/linux/man-pages/man5/selabel_file.5.html
 * - https://www.pcre.org/current/doc/html/pcre2pattern.html
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { latin1 } from "../core/bytes.ts";
import type { PolicyFiles } from "../system/selinux.ts";

/** What the text of a regular expression shows about the paths that it matches. */
export interface Shape {
  /** What all of them begin with. */
  readonly prefix: string;
  /** What then stands in any directory: `(.*\/)?` and this; absent: nothing does. */
  readonly anywhere?: string;
  /** The name, between slashes, that all of them have which are in a directory without one of that name. */
  readonly name?: string;
  /**
   * Which paths match that begin so: those that end there; also all below it, as a directory; those without another slash;
   * all; or it takes libselinux to know.
   */
  readonly matches: "itself" | "subtree" | "names" | "all" | "unknown";
  /** What all of them contain. There are no slashes in it, so that one component of the path has each. */
  readonly contains: readonly string[];
}

/** A line of one of the files. */
export interface Line extends Shape {
  /** Its position: the last line that matches decides. */
  readonly index: number;
  /** The file that it is in, by what follows `file_contexts` in its name. */
  readonly suffix: string;
  /** The file type that it is for, such as `-d`; empty: all. */
  readonly kind: string;
  /** With one character per byte, since libselinux compares bytes. */
  readonly text: string;
}

/** The files with regular expressions, in their order, and those with paths that stand for others. */
const CONTEXTS = ["", ".homedirs", ".local"];
const SUBSTITUTIONS = [".subs", ".subs_dist"];

/** The files of a policy, taken apart. */
export interface FileContexts {
  /** The lines that match their prefix itself, by its directory and its name. */
  readonly exact: ReadonlyMap<string, ReadonlyMap<string, readonly Line[]>>;
  /** The others, by the directory of their prefix. */
  readonly patterns: ReadonlyMap<string, readonly Line[]>;
  readonly substitutions: readonly (readonly (readonly [from: string, to: string])[])[];
}

/** Takes the files of a policy apart. They are named by what follows `file_contexts`. */
export function parseFileContexts(files: PolicyFiles): FileContexts {
  const words = (suffix: string) =>
    latin1(files.get(suffix) ?? new Uint8Array()).split("\n")
      .map((text) => ({ text, words: /^\s*([^\s#]\S*)(?:\s+(\S+))?/.exec(text) }))
      .flatMap(({ text, words }) => words ? [{ text, first: words[1]!, second: words[2] ?? "" }] : []);
  let index = 0;
  const lines = CONTEXTS.flatMap((suffix) =>
    words(suffix).map(({ text, first, second }): Line => ({
      ...shapeOf(first),
      index: index++,
      suffix,
      kind: second.startsWith("-") ? second : "",
      text,
    }))
  );
  const substitutions = SUBSTITUTIONS.map((suffix) =>
    words(suffix).filter(({ second }) => second !== "").map(({ first, second }) => [first, second] as const)
  );
  return {
    exact: new Map(
      [...byDirectory(lines.filter(matchesItself))].map(([directory, lines]) => [
        directory,
        Map.groupBy(lines, ({ prefix }) => prefix.slice(directory.length)),
      ]),
    ),
    patterns: byDirectory(lines.filter((line) => !matchesItself(line))),
    substitutions,
  };
}

function byDirectory(lines: readonly Line[]): Map<string, Line[]> {
  return Map.groupBy(lines, ({ prefix }) => directoryOf(prefix));
}

/** Up to the last slash, with it. */
export function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

function matchesItself({ matches, anywhere }: Line): boolean {
  return anywhere === undefined && (matches === "itself" || matches === "subtree");
}

/** Characters that stand for themselves. */
const LITERAL = /(?:[^\\^$.[|()?*+{}]|\\[^A-Za-z0-9])*/y;

/** What follows such characters when nothing else has a say. */
const ENDINGS: Readonly<Record<string, Shape["matches"]>> = {
  "": "itself",
  "(/.*)?": "subtree",
  "[^/]*": "names",
  ".*": "all",
};

const UNKNOWN: Shape = { prefix: "", matches: "unknown", contains: [] };

/**
 * Something that is not literal: an escape without operands; a class, in which a bracket may stand first or be named; a
 * repetition; a character.
 */
const TOKEN =
  /\\(?:[^A-Za-z0-9]|[dDwWsShHvVRXbBAzZGnrtfae])|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|\{\d*,?\d*\}|[^\\[]/sy;

/** What the text of an expression shows. It has no anchors: libselinux adds them. */
export function shapeOf(expression: string): Shape {
  let at = 0, depth = 0;
  const literal = () => {
    LITERAL.lastIndex = at;
    LITERAL.test(expression);
    const text = expression.slice(at, LITERAL.lastIndex);
    at = LITERAL.lastIndex;
    const plain = text.includes("\\") ? text.replace(/\\(.)/gs, "$1") : text;
    // What may be there any number of times may be missing.
    return plain !== "" && "?*{".includes(expression.charAt(at) || ".") ? plain.slice(0, -1) : plain;
  };
  const prefix = literal();
  const ending = expression.slice(at);
  const matches = ending === "[^/]+" && prefix.endsWith("/") ? "names" : ENDINGS[ending];
  if (matches) return { prefix, matches, contains: [] };
  const start = at;
  if (prefix.endsWith("/") && expression.startsWith(ANYWHERE, at)) {
    at += ANYWHERE.length;
    const anywhere = literal();
    const matches = ENDINGS[expression.slice(at)];
    if (matches && matches !== "names" && anywhere !== "") {
      // Where the name is all that is missing, it must be this.
      const name = matches !== "all" && !anywhere.includes("/") ? { name: `/${anywhere}/` } : {};
      return { prefix, anywhere, ...name, matches, contains: parts(anywhere) };
    }
    at = start;
  }
  // Options would change what characters mean.
  if (/\(\?[^:]|\(\*|\\[QE]/.test(expression)) return UNKNOWN;
  const contains: string[] = [];
  while (at < expression.length) {
    TOKEN.lastIndex = at;
    const [token] = TOKEN.exec(expression) ?? [];
    // Alternatives have nothing in common; another escape, or a class without an end.
    if (token === undefined || token === "|" && depth === 0) return UNKNOWN;
    if (token === "(") depth++;
    if (token === ")") depth--;
    at += token.length;
    const text = literal();
    if (depth === 0) contains.push(...parts(text));
  }
  return { prefix, matches: "unknown", contains };
}

const ANYWHERE = "(.*/)?";

function parts(literal: string): string[] {
  return literal.split("/").filter(Boolean);
}

/** The path that is looked up instead of another. The last row that matches counts, as in all libselinux but 3.8. */
export function substitute({ substitutions }: FileContexts, path: string): string {
  return substitutions.reduce((path, table) => {
    const row = table.findLast(([from]) => path === from || path.startsWith(`${from}/`));
    if (!row) return path;
    const rest = path.slice(row[0].length);
    return row[1] === "/" && rest !== "" ? rest : row[1] + rest;
  }, path);
}

/** Whether a substitution can change the path of something in a directory. */
export function isSubstituted({ substitutions }: FileContexts, directory: string): boolean {
  return substitutions.some((table) =>
    table.some(([from]) =>
      directory.startsWith(from) ? directory[from.length] === "/" : directoryOf(from) === directory
    )
  );
}

/** Lines that apply to some names in a directory. */
interface Conditions {
  readonly lines: readonly Line[];
  /** Matches at least their names, between slashes. */
  readonly names: RegExp;
}

/** How the lines apply to what is in a directory. */
export interface DirectoryLines {
  readonly directory: string;
  /** Those that apply to all names in it. */
  readonly always: readonly Line[];
  /** Those of them that apply to all below it, too. The array of the directory above if there are no others. */
  readonly below: readonly Line[];
  /** Those that match their prefix, by its name. */
  readonly byName: ReadonlyMap<string, readonly Line[]> | undefined;
  /** Those that apply to some names. */
  readonly sometimes: Conditions;
  /** Those of them that apply to some names in any directory below, unless its own name is among them. */
  readonly deeper: Conditions;
}

/**
 * How the lines apply to what is in a directory.
 *
 * @param directory has a slash at its end.
 * @param above the lines of the directory that it is in; absent for `/`.
 */
export function linesIn(contexts: FileContexts, directory: string, above?: DirectoryLines): DirectoryLines {
  const { exact, patterns } = contexts;
  const name = directory.slice(above?.directory.length ?? 0, -1);
  const byName = exact.get(directory);
  const own = patterns.get(directory);
  const itself = (above ? above.byName : exact.get(""))?.get(name) ?? [];
  const more = itself.filter(({ matches }) => matches === "subtree");
  if (above && !own && !above.sometimes.names.test(`/${name}/`)) {
    const below = more.length ? [...above.below, ...more] : above.below;
    return { directory, always: below, below, byName, sometimes: above.deeper, deeper: above.deeper };
  }
  const here: Line[] = [], sometimes: Line[] = [], deeper: Line[] = [];
  const pieces = new Set<string>(), deeperPieces = new Set<string>();
  for (const line of [...above?.sometimes.lines ?? patterns.get("") ?? [], ...own ?? []]) {
    const { prefix, matches, contains } = line;
    if (matches === "names" && prefix.length <= directory.length) {
      if (prefix === directory) here.push(line);
    } else if (directory.startsWith(prefix)) {
      const missing = contains.find((part) => !directory.includes(part));
      if (missing === undefined && appliesToAll(line, directory)) more.push(line);
      else {
        sometimes.push(line);
        deeper.push(line);
        const piece = line.name ?? missing ?? "";
        pieces.add(piece);
        deeperPieces.add(piece);
      }
    } else if (prefix.startsWith(directory)) {
      sometimes.push(line);
      pieces.add(prefix.slice(directory.length - 1));
    }
  }
  const below = [...above?.below ?? [], ...more];
  return {
    directory,
    always: here.length ? [...below, ...here] : below,
    below,
    byName,
    sometimes: { lines: sometimes, names: anyOf(pieces) },
    deeper: { lines: deeper, names: anyOf(deeperPieces) },
  };
}

/** Matches what contains one of the pieces. */
function anyOf(pieces: ReadonlySet<string>): RegExp {
  return new RegExp(pieces.size ? [...pieces].map((piece) => RegExp.escape(piece)).join("|") : "(?!)");
}

/** Whether a pattern, whose prefix and parts a directory has, applies to all in it. */
function appliesToAll({ prefix, anywhere, matches }: Line, directory: string): boolean {
  if (anywhere === undefined) return true;
  return matches !== "itself" &&
    directory.includes(matches === "all" ? `/${anywhere}` : `/${anywhere}/`, prefix.length - 1);
}

/** The lines that apply to a name in a directory; `always` itself if there are no others. */
export function linesOf(
  { directory, always, byName, sometimes }: DirectoryLines,
  name: string,
): readonly Line[] {
  const { lines, names } = sometimes;
  const more = names.test(`/${name}/`) ? lines.filter(applies, directory + name) : [];
  const own = byName?.get(name);
  return own || more.length ? [...always, ...more, ...own ?? []] : always;
}

/** Whether a pattern, which does not apply to all in the directory of the path, applies to that. */
function applies(this: string, { prefix, anywhere, matches, contains }: Line): boolean {
  if (!this.startsWith(prefix) || !contains.every((part) => this.includes(part))) return false;
  if (anywhere === undefined) return true;
  if (matches === "all") return this.includes(`/${anywhere}`, prefix.length - 1);
  return this.endsWith(`/${anywhere}`) && this.length >= prefix.length + anywhere.length;
}

/** Lines of a policy as its files. One alone is enough unless two have different lines for the same path. */
export function filesOf(lines: readonly Line[]): PolicyFiles {
  const literal = lines.filter(isLiteral);
  /** What other files say about the path of a line. */
  const others = ({ prefix, suffix }: Line) =>
    literal.filter((other) => other.prefix === prefix && other.suffix !== suffix);
  // What a later file says about a path counts. libselinux 3.8 takes either.
  const kept = lines.filter((line) =>
    !isLiteral(line) ||
    !others(line).some(({ index, kind }) => index > line.index && ["", line.kind].includes(kind))
  );
  const areSeparate = kept.some((line) => isLiteral(line) && others(line).length > 0);
  const texts = new Map([["", ""]]);
  for (const { suffix, text } of kept) {
    const file = areSeparate ? suffix : "";
    texts.set(file, `${texts.get(file) ?? ""}${text}\n`);
  }
  return new Map([...texts].map(([suffix, text]) => [suffix, Uint8Array.from(Buffer.from(text, "latin1"))]));
}

/** Whether a line is for one path. */
function isLiteral({ matches, anywhere }: Line): boolean {
  return matches === "itself" && anywhere === undefined;
}
