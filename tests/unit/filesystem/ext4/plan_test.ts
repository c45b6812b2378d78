import * as assert from "node:assert/strict";
import { GiB, MiB } from "../../../../lib/core/units.ts";
import { select } from "../../../../lib/filesystem/contents.ts";
import { planExt4 } from "../../../../lib/filesystem/ext4/plan.ts";
import { buildNodes, type NodeInput } from "../../../../lib/tree/builder.ts";
import { REQUEST, WHOLE } from "../../../lab/ext4_image.ts";

Deno.test(
  "the free space is never less than requested and at most 2 % or 2 MiB more, from no files to 50,000",
  {
    permissions: "none",
  },
  () => {
    const trees: NodeInput[][] = [
      [],
      [{ path: "/one", size: 10 * MiB }],
      Array.from({ length: 25 }, (_, i) => ({ path: `/disk-${i}`, size: 2 * GiB })),
      [{ path: "/sparse", size: 900 * GiB, data: [0, GiB, 500 * GiB, 501 * GiB] }],
      Array.from({ length: 50_000 }, (_, i) => ({ path: `/${i % 500}/${i}`, size: i % 3000 })),
    ];
    for (const tree of trees) {
      const selection = select(buildNodes(tree), WHOLE);
      for (const free of [0, 1, 10, 100, 512, 3000, 50_000]) {
        const plan = planExt4(selection, { ...REQUEST, free: free * MiB })!;
        const more = plan.available - free * MiB;
        assert.ok(
          more >= 0 && more <= Math.max(2 * MiB, 0.02 * free * MiB),
          `${tree.length} entries, ${free}: ${more}`,
        );
        assert.ok(plan.freeInodes >= Math.max(16, free * 64));
      }
    }
  },
);

Deno.test.each([
  { name: "over 16 TiB", entry: { path: "/huge", size: 2 ** 44 }, said: /"\/huge".* more than/ },
  {
    name: "with xattrs over 4 KiB",
    entry: { path: "/x", xattrs: [1, 2].map((i) => ({ name: `user.${i}`, value: new Uint8Array(2500) })) },
    said: /"\/x".*extended attributes do not fit/,
  },
  { name: "called lost+found", entry: { path: "/lost+found", size: 1 }, said: /only a directory/ },
])("an entry that ext4 cannot hold is named: $name", { permissions: "none" }, ({ entry, said }) => {
  assert.throws(() => planExt4(select(buildNodes([entry as NodeInput]), WHOLE), { ...REQUEST }), said);
});
