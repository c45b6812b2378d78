import assert from "node:assert/strict";
import { KiB, MiB } from "../../../../lib/core/units.ts";
import { type Claim, leastOf, shareOut } from "../../../../lib/plan/repart/sizes.ts";

const pure = { permissions: "none" } as const;

function claim(min: number, max: number, weight = 1000, takesRest = true): Claim {
  return { min: min * MiB, max: max * MiB, weight, takesRest, unit: MiB };
}

const share = (claims: readonly Claim[], space: number) =>
  shareOut(claims, space * MiB).map((bytes) => bytes / MiB);

Deno.test.each<[name: string, claims: Claim[], space: number, sizes: number[]]>([
  ["one gets everything", [claim(10, Infinity)], 100, [100]],
  ["everybody gets the same", [claim(1, Infinity), claim(1, Infinity)], 100, [50, 50]],
  ["by weight", [claim(1, Infinity, 3000), claim(1, Infinity)], 100, [75, 25]],
  [
    "who needs more than its share, gets it, and the others share the rest",
    [
      claim(70, Infinity),
      claim(1, Infinity),
      claim(1, Infinity),
    ],
    100,
    [70, 15, 15],
  ],
  [
    "who may have only less, leaves it to the others",
    [claim(1, 10), claim(1, Infinity), claim(1, Infinity)],
    100,
    [
      10,
      45,
      45,
    ],
  ],
  ["one need follows from another", [claim(60, Infinity), claim(30, Infinity), claim(1, Infinity)], 100, [
    60,
    30,
    10,
  ]],
  ["a fixed size", [claim(20, 20), claim(1, Infinity)], 100, [20, 80]],
  ["free space has a weight, too", [claim(1, Infinity), claim(0, Infinity, 1000, false)], 100, [50, 50]],
  ["free space takes nothing without one", [claim(1, Infinity), claim(0, Infinity, 0, false)], 100, [100, 0]],
  ["what nobody may have is left", [claim(1, 10), claim(5, 5, 0, false)], 100, [10, 5]],
  ["who has no weight gets what is left at last", [claim(10, 20), claim(10, Infinity, 0)], 100, [20, 80]],
  [
    "shares are whole MiB; the last gets the rest",
    [
      claim(1, Infinity),
      claim(1, Infinity),
      claim(1, Infinity),
    ],
    100,
    [33, 33, 34],
  ],
  ["nothing to share", [], 100, []],
])("shareOut(): %s", pure, (_, claims, space, sizes) => assert.deepEqual(share(claims, space), sizes));

Deno.test("shareOut() keeps within limits and space, whatever they are", pure, () => {
  // A linear congruential generator: the same numbers every time.
  let state = 1;
  const random = (limit: number) => (state = (state * 1103515245 + 12345) % 2 ** 31) % limit;
  for (let round = 0; round < 2000; round++) {
    const claims = Array.from({ length: random(9) }, (_, i): Claim => {
      const min = random(40) * 512 * KiB;
      return {
        min,
        max: random(2) ? Infinity : min + random(80) * 512 * KiB,
        weight: random(3) ? random(3000) : 0,
        takesRest: i % 2 === 0,
        unit: MiB,
      };
    });
    const space = leastOf(claims) + random(300) * MiB;
    const sizes = shareOut(claims, space);
    claims.forEach(({ min, max }, i) => assert.ok(sizes[i]! >= min && sizes[i]! <= max, `${round}`));
    const used = sizes.reduce((sum, size) => sum + Math.ceil(size / MiB) * MiB, 0);
    assert.ok(used <= space, `${round}: ${used} of ${space}`);
    // Nothing is left while somebody could grow.
    if (claims.some(({ max, takesRest }) => takesRest && max === Infinity)) {
      assert.ok(space - used < MiB, `${round}`);
    }
  }
});

Deno.test("shareOut() is exact for large disks", pure, () => {
  assert.deepEqual(share([claim(1, Infinity, 999_999), claim(1, Infinity, 1)], 2 ** 30), [
    2 ** 30 - 1074,
    1074,
  ]);
});
