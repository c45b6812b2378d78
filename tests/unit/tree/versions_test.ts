import assert from "node:assert/strict";
import { compareVersions } from "../../../lib/tree/versions.ts";

/** Oldest first within each row; the first is the example of the specification. */
const ORDERED = [
  [
    "122.1",
    "123~rc1-1",
    "123",
    "123-a",
    "123-a.1",
    "123-1",
    "123-1.1",
    "123^post1",
    "123.a-1",
    "123.1-1",
    "123a-1",
    "124-1",
  ],
  ["~", "", "0", "1"],
  ["6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-41-amd64", "6.12.48+deb13-amd64", "6.12.48+deb13-cloud-amd64"],
  ["5.10.0-36", "6.1.0-1", "6.12.0~rc1", "6.12.0", "6.12.1"],
  ["1.B", "1.a", "1.ab", "1.0", "1.9", "1.10", `1.${"9".repeat(40)}`, `1.1${"0".repeat(40)}`],
];

Deno.test("compareVersions() orders as the specification does", { permissions: "none" }, () => {
  for (const row of ORDERED) {
    for (const [i, a] of row.entries()) {
      for (const [j, b] of row.entries()) {
        assert.equal(Math.sign(compareVersions(a, b)), Math.sign(i - j), `${a} and ${b}`);
      }
    }
  }
});

Deno.test("compareVersions() takes marks and leading zeros for nothing", { permissions: "none" }, () => {
  for (const [a, b] of [["1_2", "1+2"], ["001", "1"], ["a!", "a"], ["_1", "1"]] as const) {
    assert.equal(compareVersions(a, b), 0, `${a} and ${b}`);
  }
});
