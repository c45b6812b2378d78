import assert from "node:assert/strict";
import { alignUp, formatBytes, GiB, KiB, MiB } from "../../../lib/core/units.ts";

Deno.test("alignUp() finds the next multiple", { permissions: "none" }, () => {
  for (const unit of [1, 512, 4096, MiB]) {
    for (const bytes of [0, 1, 511, 512, 513, MiB - 1, MiB, MiB + 1, 8 * 1024 * GiB + 12345]) {
      const up = alignUp(bytes, unit);
      assert.ok(bytes <= up && up - bytes < unit, `${bytes} by ${unit}`);
      assert.equal(up % unit, 0);
    }
  }
});

Deno.test.each(
  [
    [0, "0 B"],
    [1023, "1023 B"],
    [KiB, "1 KiB"],
    [20 * KiB, "20 KiB"],
    [1023 * KiB, "1023 KiB"],
    [MiB - 1, "1 MiB"],
    [612 * MiB, "612 MiB"],
    [612.34 * MiB, "612.3 MiB"],
    [1536 * MiB, "1.5 GiB"],
    [3 * 1024 * GiB, "3 TiB"],
  ] as const,
)("formatBytes(%i) is %s", { permissions: "none" }, (bytes, text) => {
  assert.equal(formatBytes(bytes), text);
});
