/**
 * Reads the lines of repart.d definitions: `KEY=VALUE` in the section `[Partition]`.
 *
 * https://www.freedesktop.org/software/systemd/man/latest/systemd.syntax.html
 *
 * @module
 */

import { BuildError, quote } from "../../core/error.ts";

/** A file of definitions. */
export interface DefinitionFile {
  /** As messages show it. */
  readonly path: string;
  readonly text: string;
}

/** Where something is written, as messages show it: `repart.d/10-esp.conf:3`. */
export type Place = string;

/** `KEY=VALUE`, without the spaces around both. */
export interface Assignment {
  readonly place: Place;
  readonly key: string;
  readonly value: string;
}

/** The error for something in a definition. */
export function wrong(place: Place, problem: string, hint: string): BuildError {
  return new BuildError(`Cannot use ${place}: ${problem}`, { kind: "usage", hint });
}

const SECTION = "Partition";

/**
 * The assignments of a file, in order. What starts with `X-` is for other programs, and left out.
 *
 * @throws {BuildError} (usage) for a line that is none, or in another section.
 */
export function readAssignmentsOf({ path, text }: DefinitionFile): Assignment[] {
  const found: Assignment[] = [];
  let section: string | undefined;
  for (const { place, line } of logicalLines(path, text)) {
    if (line === "") continue;
    if (line.startsWith("[")) {
      section = /^\[(.+)\]$/.exec(line)?.[1];
      if (section !== SECTION && !section?.startsWith("X-")) {
        throw wrong(place, `${quote(line)} is no section of a definition`, `Write [${SECTION}]`);
      }
      continue;
    }
    if (section?.startsWith("X-")) continue;
    const [, key, value] = /^([^=]*?)\s*=\s*(.*)$/s.exec(line) ?? [];
    if (!key) throw wrong(place, `${quote(line)} is no assignment`, "Write KEY=VALUE, or # before a comment");
    if (section === undefined) {
      throw wrong(place, `${quote(key)} is in no section`, `Write [${SECTION}] before it`);
    }
    if (!key.startsWith("X-")) found.push({ place, key, value: value! });
  }
  return found;
}

/** Lines without comments; one that ends with a backslash goes on in the next, with a space between. */
function* logicalLines(path: string, text: string): Generator<{ place: Place; line: string }> {
  let started: { readonly place: Place; readonly text: string } | undefined;
  let number = 0;
  for (const raw of text.replace(/^\ufeff/, "").split(/\r\n|\n|\r/)) {
    number++;
    if (/^\s*[#;]/.test(raw)) continue;
    const place = started?.place ?? `${path}:${number}`;
    const joined = (started?.text ?? "") + raw;
    const backslashes = /\\*$/.exec(joined)![0].length;
    if (backslashes % 2 === 1) {
      started = { place, text: `${joined.slice(0, -1)} ` };
      continue;
    }
    started = undefined;
    yield { place, line: joined.trim() };
  }
  if (started) yield { place: started.place, line: started.text.trim() };
}
