import assert from "node:assert/strict";
import { LineSplitter, MAX_LINE } from "../../../lib/core/lines.ts";

/** What a splitter makes of a text that comes in pieces of `size` bytes. */
function split(text: string, size: number, separator = /\n/): [line: string, isCut: boolean][] {
  const lines: [string, boolean][] = [];
  const splitter = new LineSplitter(separator, (...line) => lines.push(line));
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += size) splitter.write(bytes.subarray(at, at + size));
  splitter.close();
  return lines;
}

Deno.test("LineSplitter gives the same lines however a text is cut", { permissions: "none" }, () => {
  const text = "a\n\nwörter 😀\rx\nlast";
  for (const size of [1, 2, 3, 5, 100]) {
    assert.deepEqual(split(text, size).map(([line]) => line), text.split("\n"));
    assert.deepEqual(split(text, size, /[\r\n]/).map(([line]) => line), text.split(/[\r\n]/));
  }
});

Deno.test("LineSplitter cuts a long line, once", { permissions: "none" }, () => {
  const long = "x".repeat(MAX_LINE);
  assert.deepEqual(split(`${long}\n${long}y\n${long}${long}${long}\nz`, 65536), [
    [long, false],
    [long, true],
    [long, true],
    ["z", false],
  ]);
});

Deno.test("LineSplitter holds no more of a line than it gives", { permissions: "none" }, () => {
  let cut = 0;
  const splitter = new LineSplitter(/\n/, (line, isCut) => cut += isCut ? line.length : 0);
  const piece = new Uint8Array(65536).fill(0x78);
  for (let i = 0; i < 2 ** 14; i++) splitter.write(piece);
  // A gigabyte, which no string could hold.
  assert.equal(cut, MAX_LINE);
});
