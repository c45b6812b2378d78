import assert from "node:assert/strict";
import { readProgram } from "../../../lib/tree/efi-programs.ts";

/** What a program's bytes are. */
function look(bytes: Uint8Array<ArrayBuffer>) {
  return readProgram((offset, length) => bytes.slice(offset, offset + length));
}

Deno.test("readProgram() takes nothing else for a program", { permissions: "none" }, () => {
  for (const text of ["", "MZ", "x".repeat(5000), `MZ${"\0".repeat(58)}\xff\xff\xff\xff`]) {
    assert.equal(look(new TextEncoder().encode(text)), undefined, text);
  }
});
