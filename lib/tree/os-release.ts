/**
 * Reads os-release: https://www.freedesktop.org/software/systemd/man/latest/os-release.html
 *
 * @module
 */

/** Where it may be; the first that exists counts. */
export const OS_RELEASE_FILES = ["/etc/os-release", "/usr/lib/os-release"];

/** The fields of an os-release file. */
export type OsRelease = Readonly<Record<string, string>>;

/** Unicode control characters: in a title or boot entry, they could start a new line. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/**
 * Parses the shell-like assignments of os-release. It never fails: other lines are skipped, and control characters
 * are removed from values, so that they are safe in a title, boot entry or table.
 */
export function parseOsRelease(text: string): OsRelease {
  const fields: Record<string, string> = Object.create(null);
  for (const line of text.split("\n")) {
    const assignment = line.trim();
    const end = assignment.indexOf("=");
    const name = assignment.slice(0, Math.max(end, 0));
    if (!/^[A-Z][A-Z0-9_]*$/.test(name)) continue;
    fields[name] = unquote(assignment.slice(end + 1)).replace(CONTROL, "");
  }
  return fields;
}

/** The IDs of a distribution and of those it derives from, the nearest first. */
export function distributionIds(osRelease: OsRelease): string[] {
  return `${osRelease["ID"] ?? ""} ${osRelease["ID_LIKE"] ?? ""}`.split(/\s+/).filter((id) => id !== "");
}

/** The row for the distribution, or for the nearest one that it derives from; `opensuse-leap` is also `opensuse`. */
export function rowFor<T extends { readonly ids: readonly string[] }>(
  osRelease: OsRelease,
  rows: readonly T[],
): T | undefined {
  const words = distributionIds(osRelease).flatMap((id) => id.toLowerCase().split("-"));
  return words.map((word) => rows.find(({ ids }) => ids.includes(word))).find((row) => row !== undefined);
}

/** Removes quotes and backslashes as a POSIX shell does, without expanding anything. */
function unquote(value: string): string {
  let text = "";
  let quote = "";
  for (let at = 0; at < value.length; at++) {
    const char = value[at]!;
    if (quote === "'") {
      if (char === "'") quote = "";
      else text += char;
    } else if (char === "\\" && at + 1 < value.length) {
      const next = value[++at]!;
      // Within double quotes, a backslash is literal unless it precedes one of these.
      text += quote && !'"\\$`'.includes(next) ? `\\${next}` : next;
    } else if (char === quote) {
      quote = "";
    } else if (!quote && (char === '"' || char === "'")) {
      quote = char;
    } else {
      text += char;
    }
  }
  return text;
}
