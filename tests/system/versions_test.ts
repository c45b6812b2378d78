import assert from "node:assert/strict";
import { $ } from "../../lib/system/sh.ts";
import { compareVersions } from "../../lib/tree/versions.ts";
import { missing } from "../lab/helpers.ts";

/** Pairs of strings that are likely to be alike at first and to differ somewhere. */
function pairs(count: number): [string, string][] {
  let state = 42;
  const random = (below: number) => (state = state * 1103515245 + 12345 & 0x7fffffff) % 65521 % below;
  const parts = ["~", "-", "^", ".", "_", "+", "a", "B", "rc", "0", "00", "1", "9", "10", "12", "!"];
  const make = (length: number) => Array.from({ length }, () => parts[random(parts.length)]!).join("");
  return Array.from({ length: count }, () => {
    const start = make(random(3));
    return [start + make(random(4)), start + make(random(4))];
  });
}

Deno.test(
  "compareVersions() agrees with systemd-analyze",
  { ignore: missing("systemd-analyze") },
  async () => {
    const signs: Record<string, number> = { "<": -1, "==": 0, ">": 1 };
    const seen = new Set<number>();
    for (const [a, b] of pairs(400)) {
      const command = $`systemd-analyze compare-versions -- ${a} ${b}`.quiet().noThrow(11, 12);
      const said = (await command.text()).split(" ")[1]!;
      const sign = Math.sign(compareVersions(a, b));
      assert.equal(sign, signs[said], `${JSON.stringify(a)} ${said} ${JSON.stringify(b)}`);
      seen.add(sign);
    }
    assert.equal(seen.size, 3, "the pairs are all alike");
  },
);
