import assert from "node:assert/strict";
import {
  describeFinding,
  finding,
  type FindingName,
  FINDINGS,
  listPaths,
  strictError,
  warningsOf,
} from "../../../lib/core/findings.ts";

Deno.test("every finding has a stable name, and says what it means and what to do", () => {
  for (const [name, { what, means, hint }] of Object.entries(FINDINGS)) {
    assert.match(name, /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
    for (const text of [what, means, hint]) assert.match(text, /^[^\n]{10,200}[^.\n]$/, name);
    const found = finding(name as FindingName, "It is so");
    assert.equal(found.hint, hint);
    assert.equal(warningsOf([found]).length, found.level === "warning" ? 1 : 0);
  }
});

Deno.test("describeFinding() names the path once, without control characters, and what to do", () => {
  const path = "/boot/\u001b[31m";
  const hint = "Do this";
  assert.equal(
    describeFinding(finding("kernel-stub", "It is none", { path, hint })),
    '"/boot/\\u001b[31m": It is none (kernel-stub)\n  Do this',
  );
  assert.equal(
    describeFinding(finding("kernel-stub", 'Leaving out "/boot/x"', { path: "/boot/x", hint })),
    'Leaving out "/boot/x" (kernel-stub)\n  Do this',
  );
});

Deno.test("listPaths() shows the first five", () => {
  assert.equal(listPaths(["/a", "/b\n"]), '"/a", "/b\\n"');
  assert.equal(
    listPaths(["/1", "/2", "/3", "/4", "/5", "/6", "/7"]),
    '"/1", "/2", "/3", "/4", "/5" and 2 others',
  );
});

Deno.test("strictError() has all warnings in it", () => {
  const { message } = strictError([finding("no-boot", "One"), finding("kernel-stub", "Two", { path: "/x" })]);
  assert.match(message, /^Cannot build with STRICT=1: 2 findings are errors\nOne \(no-boot\)\n/);
  assert.match(message, /^"\/x": Two \(kernel-stub\)$/m);
});
