/**
 * Comparison of version strings according to the UAPI group's version format specification (UAPI.10), which
 * systemd-boot, `systemd-analyze compare-versions` and kernel-install follow.
 *
 * https://uapi-group.org/specifications/specs/version_format_specification/
 *
 * @module
 */

/** Matches everything but the characters that count in a version; anything else only separates. */
const IGNORED = /^[^A-Za-z0-9~\-^.]+/;

/** Returns a negative number if `a` is older than `b`, 0 if equal, a positive one if newer. */
export function compareVersions(a: string, b: string): number {
  for (;;) {
    a = a.replace(IGNORED, "");
    b = b.replace(IGNORED, "");
    // A tilde is older than anything, even the end; the other marks are older than anything else that may follow.
    for (const mark of ["~", "-", "^", "."]) {
      if (a.startsWith(mark) !== b.startsWith(mark)) return a.startsWith(mark) ? -1 : 1;
      if (a.startsWith(mark)) [a, b] = [a.slice(1), b.slice(1)];
      if (mark === "~" && (!a || !b)) return a ? 1 : b ? -1 : 0;
    }
    const digits = /^\d/.test(a) || /^\d/.test(b);
    const run = digits ? /^\d*/ : /^[A-Za-z]*/;
    const [x, y] = [run.exec(a)![0], run.exec(b)![0]];
    const order = digits ? compareNumbers(x, y) : compareLetters(x, y);
    if (order) return order;
    [a, b] = [a.slice(x.length), b.slice(y.length)];
  }
}

/** Compares digit sequences of any length; an empty one is older than zero. */
function compareNumbers(a: string, b: string): number {
  if (!a || !b) return a.length - b.length;
  const [x, y] = [BigInt(a), BigInt(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Upper-case letters are older than lower-case ones, as in ASCII; a prefix is older than the whole. */
function compareLetters(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
