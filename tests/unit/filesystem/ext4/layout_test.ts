import * as assert from "node:assert/strict";
import { hasSuperblock, layoutOf } from "../../../../lib/filesystem/ext4/layout.ts";

Deno.test("layoutOf() returns undefined if there are too few blocks", { permissions: "none" }, () => {
  assert.equal(layoutOf(0, 28), undefined);
  assert.equal(layoutOf(20, 28), undefined);
  assert.equal(layoutOf(256, 100_000), undefined);
  assert.equal(layoutOf(256, 28)?.groups, 1);
});

Deno.test("layoutOf() is fast and uses all blocks at the largest size", { permissions: "none" }, () => {
  const layout = layoutOf(2 ** 32 - 1, 1_000_000)!;
  assert.equal(layout.blocks, 2 ** 32 - 1);
  assert.equal(layout.groups, 131_072);
  const copies = Array.from({ length: layout.groups }, (_, group) =>
    hasSuperblock(group)).filter(Boolean).length;
  const copy = 1 + layout.descriptorBlocks + layout.reservedDescriptorBlocks;
  const tables = layout.groups * (2 + layout.inodeTableBlocks);
  assert.equal(layout.freeBlocks, layout.blocks - copies * copy - tables);
});

Deno.test("hasSuperblock() is true for 0, 1 and powers of 3, 5 and 7", { permissions: "none" }, () => {
  const expected = [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343];
  assert.deepEqual(Array.from({ length: 350 }, (_, group) => group).filter(hasSuperblock), expected);
});
