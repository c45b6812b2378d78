import assert from "node:assert/strict";
import { partitionType } from "../../../lib/core/dps.ts";
import { deriveUuid } from "../../../lib/core/identity.ts";
import { MiB } from "../../../lib/core/units.ts";
import { GRAIN, MAX_LABEL, placePartitions, sfdiskScript, type TableEntry } from "../../../lib/image/gpt.ts";

const pure = { permissions: "none" } as const;
const entry = (name: string, offset: number, size: number, more: Partial<TableEntry> = {}): TableEntry => ({
  type: partitionType("esp", "x86-64"),
  uuid: deriveUuid("test", name),
  label: name,
  attributes: [],
  offset,
  size,
  ...more,
});

Deno.test("placePartitions() places one after another, each at a multiple of 1 MiB", pure, () => {
  assert.deepEqual(placePartitions([]), []);
  assert.deepEqual(placePartitions([32 * MiB, 512 * MiB, 1]), [MiB, 33 * MiB, 545 * MiB]);
  assert.deepEqual(placePartitions([1, MiB + 1, 5]), [MiB, 2 * MiB, 4 * MiB]);
  assert(placePartitions([3 * MiB, 5, 7 * MiB + 512]).every((offset) => offset % GRAIN === 0));
});

Deno.test("sfdiskScript() gives start, size, type and UUID of every partition", pure, () => {
  assert.equal(
    sfdiskScript({
      id: "11111111-2222-5333-8444-555555555555",
      entries: [
        entry("esp", MiB, 32 * MiB, { uuid: "u1", type: "t1" }),
        entry("root", 33 * MiB, MiB, { uuid: "u2", type: "t2", attributes: [59, 60] }),
      ],
    }),
    [
      "label: gpt",
      "label-id: 11111111-2222-5333-8444-555555555555",
      "unit: sectors",
      "",
      'start=2048, size=65536, type=t1, uuid=u1, name="esp"',
      'start=67584, size=2048, type=t2, uuid=u2, name="root", attrs="GUID:59,60"',
      "",
    ].join("\n"),
  );
});

Deno.test.each([
  'a", type=x, name="b',
  "a\nstart=1",
  "a\\b",
  "é",
  "a".repeat(MAX_LABEL + 1),
])("sfdiskScript() lets no label through that sfdisk would read as something else: %j", pure, (label) => {
  assert.throws(() => sfdiskScript({ id: "x", entries: [entry(label, MiB, MiB)] }), TypeError);
});
