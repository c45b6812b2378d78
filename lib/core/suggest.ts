/**
 * The name that was probably meant by one with a typing error.
 *
 * @module
 */

/**
 * The candidate that is nearest to `word`, if one is near enough: of 3 letters at most one is wrong, missing, too
 * many or swapped with the next, of 6 two, and so on. Letters count the same in both cases.
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = Math.max(1, Math.floor(word.length / 3));
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of candidates) {
    if (Math.abs(name.length - word.length) > limit) continue;
    const distance = editDistance(word.toLowerCase(), name.toLowerCase());
    if (distance <= limit && distance < (best?.distance ?? Infinity)) best = { name, distance };
  }
  return best?.name;
}

/** What is accepted in place of a word that is not among these: `one of raw, qcow2; did you mean raw?` */
export function oneOf(names: readonly string[], word: string): string {
  const meant = nearest(word, names);
  return `one of ${names.join(", ")}${meant === undefined ? "" : `; did you mean ${meant}?`}`;
}

/** Optimal string alignment: how many letters have to be changed, removed, added, or swapped with the next. */
function editDistance(a: string, b: string): number {
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
    rows.push(row);
  }
  return rows.at(-1)!.at(-1)!;
}
