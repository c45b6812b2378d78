/**
 * Suggestions for mistyped names.
 *
 * @module
 */

/**
 * The candidate nearest to `word`, if any is near enough: one edit (a wrong, missing, extra or swapped letter) per
 * three letters, and at least one. Case is ignored.
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = Math.max(1, Math.floor(word.length / 3));
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of candidates) {
    if (Math.abs(name.length - word.length) > limit) continue;
    const distance = editDistance(word.toLowerCase(), name.toLowerCase(), limit);
    if (distance <= limit && distance < (best?.distance ?? Infinity)) best = { name, distance };
  }
  return best?.name;
}

/** The accepted names, with a suggestion for a word that is not one of them: `one of raw, qcow2; did you mean raw?` */
export function oneOf(names: readonly string[], word: string): string {
  const meant = nearest(word, names);
  return `one of ${names.join(", ")}${meant === undefined ? "" : `; did you mean ${meant}?`}`;
}

/**
 * Optimal string alignment distance: how many letters must be changed, removed, added, or swapped with the next; infinite
 * if it turns out to be greater than `limit`.
 */
function editDistance(a: string, b: string, limit: number): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
        ? rows[i - 2]![j - 2]! + 1
        : Infinity;
      row.push(Math.min(change, swap, rows[i - 1]![j]! + 1, row[j - 1]! + 1));
    }
    // No later row can have less.
    if (Math.min(...row) > limit) return Infinity;
    rows.push(row);
  }
  return rows.at(-1)!.at(-1)!;
}
