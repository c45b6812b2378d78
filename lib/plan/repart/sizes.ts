/**
 * Shares a disk out among partitions and the free space behind them, as repart.d(5) describes it: everybody gets the
 * share that its weight says, except those that need more or may have only less.
 *
 * - https://www.freedesktop.org/software/systemd/man/latest/repart.d.html#Weight=
 *
 * @module
 */

import { alignUp, KiB, MiB } from "../../core/units.ts";

/** What a partition, or the free space behind one, may take: bytes, and its weight. */
export interface Claim {
  readonly min: number;
  /** At least `min`. */
  readonly max: number;
  readonly weight: number;
  /** Whether it takes what is left when everybody has its share. */
  readonly takesRest: boolean;
  /** What it grows by, and where the next one can begin: whole MiB, but nothing is behind the last ones. */
  readonly unit: number;
}

/**
 * What systemd-repart finds behind the last partition of an image as it is: the last MiB, without the backup of the
 * table.
 */
export const LAST_PADDING = MiB - 20 * KiB;

/** systemd-growfs fails on a smaller ext4, even if it need not grow: `EXT4_MINIMAL_SIZE` in src/shared/resize-fs.c. */
export const SMALLEST_GROWING = 32 * MiB;

/** Bytes that claims take at least: each begins where a partition can begin. */
export function leastOf(claims: readonly Claim[]): number {
  return claims.reduce((sum, { min, unit }) => sum + alignUp(min, unit), 0);
}

/**
 * The bytes for each claim of those that share `space`, which is at least {@link leastOf} them. Whoever
 * grows gets whole units; what nobody may have is left over.
 */
export function shareOut(claims: readonly Claim[], space: number): number[] {
  const sizes = new Array<number | undefined>(claims.length).fill(undefined);
  let left = space, weights = claims.reduce((sum, { weight }) => sum + weight, 0);
  const give = (i: number, bytes: number) => {
    sizes[i] = bytes;
    left -= alignUp(bytes, claims[i]!.unit);
    weights -= claims[i]!.weight;
  };
  const shareOf = ({ weight }: Claim) => weight === 0 ? 0 : proportion(left, weight, weights);
  // First those that need more than their share, which makes all other shares smaller; then those that may have only less.
  for (
    const [isDifferent, wanted] of [
      [({ min }: Claim, share: number) => min > share, ({ min }: Claim) => min],
      [({ max }: Claim, share: number) => max < share, ({ max }: Claim) => max],
    ] as const
  ) {
    for (let again = true; again;) {
      again = false;
      claims.forEach((claim, i) => {
        if (sizes[i] !== undefined || !isDifferent(claim, shareOf(claim))) return;
        give(i, wanted(claim));
        again = true;
      });
    }
  }
  claims.forEach((claim, i) => {
    if (sizes[i] !== undefined) return;
    const share = Math.floor(shareOf(claim) / claim.unit) * claim.unit;
    give(i, Math.min(Math.max(share, claim.min), claim.max));
  });
  for (let i = 0; i < claims.length && left > 0; i++) {
    const { max, takesRest, unit } = claims[i]!;
    const size = sizes[i]!;
    if (!takesRest || size >= max) continue;
    const grown = Math.min(alignUp(size, unit) + Math.floor(left / unit) * unit, max);
    left -= alignUp(grown, unit) - alignUp(size, unit);
    sizes[i] = grown;
  }
  return sizes as number[];
}

/** `space * weight / weights`, rounded down; the product may have more bits than a number. */
function proportion(space: number, weight: number, weights: number): number {
  return Number(BigInt(space) * BigInt(weight) / BigInt(weights));
}
