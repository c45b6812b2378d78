import assert from "node:assert/strict";
import { BuildError, quote } from "../../../lib/core/error.ts";

Deno.test("BuildError keeps kind, hint and cause", { permissions: "none" }, () => {
  const cause = new Error("deep");
  const error = new BuildError("Cannot x", { kind: "usage", hint: "Set y", cause });
  assert.ok(error instanceof Error);
  assert.deepEqual(
    [error.name, error.message, error.kind, error.hint, error.cause],
    ["BuildError", "Cannot x", "usage", "Set y", cause],
  );
  const plain = new BuildError("Cannot x");
  assert.deepEqual([plain.kind, plain.hint, "cause" in plain], ["build", undefined, false]);
});

Deno.test("quote() shows any value on one line of visible characters", { permissions: "none" }, () => {
  assert.equal(quote("a b"), '"a b"');
  assert.equal(quote('say "hi"\n'), String.raw`"say \"hi\"\n"`);
  assert.equal(quote("ä😀"), '"ä😀"');
  let all = "";
  for (let code = 0; code < 0x3000; code++) all += String.fromCharCode(code);
  const quoted = quote(all);
  assert.doesNotMatch(quoted, /\p{Cc}|\p{Zl}|\p{Zp}|[\u200e\u200f\u202a-\u202e\u2066-\u2069]/u);
  // Nothing is lost: the original can be recovered.
  assert.equal(JSON.parse(quoted), all);
});
