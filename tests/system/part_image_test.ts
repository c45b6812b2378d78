/**
 * `part-image`, end to end: real trees become filesystems that other programs read and that boot.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { build } from "../lab/builds.ts";
import { assertEqualTrees } from "../lab/compare.ts";
import { dissect, mountLoop, nspawn, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { tinyTree } from "../lab/trees.ts";

const ignore = missing("mke2fs", "qemu-img", "mmdebstrap") || unprivileged();

Deno.test("part-image: blkid, e2fsck and systemd-dissect accept it", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/part.img`;
    await build("part-image", await tinyTree(), image, { FREE_MB: "16" });
    const blkid = await quiet`blkid -p -o export ${image}`;
    assert.match(blkid, /^TYPE=ext4$/m);
    assert.match(blkid, /^LABEL=root$/m);
    assert.match(blkid, /^UUID=[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/m);
    await quiet`e2fsck -fn ${image}`;
    assert.deepEqual(
      (await dissect(image)).mounts.map(({ designator }: { designator: string }) => designator),
      ["root"],
    );
  });
});

Deno.test("part-image: holds the whole tree, /boot included", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/part.img`;
    const tree = await tinyTree();
    await build("part-image", tree, image, { FREE_MB: "16" });
    await mountLoop(image, {}, (mount) => {
      assertEqualTrees(tree, mount, { omit: ["lost+found"] });
    });
  });
});

for (const format of ["raw", "qcow2"]) {
  Deno.test(`part-image: ${format} has the size of SIZE_MB`, { ignore }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/part.${format}`;
      await build("part-image", await tinyTree(), image, { SIZE_MB: "123", OUTPUT_FORMAT: format });
      const info = JSON.parse(await quiet`qemu-img info --output=json ${image}`);
      assert.equal(info.format, format);
      assert.equal(info["virtual-size"], 123 * MiB);
    });
  });
}

Deno.test("part-image: boots in systemd-nspawn", {
  ignore: ignore || missing("systemd-nspawn"),
}, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/part.raw`;
    await build("part-image", await tinyTree(), image, { FREE_MB: "16" });
    const seen = report(await nspawn(image));
    assert.match(seen.get("os-release")!, /^ID=tiny$/m);
    assert.equal(seen.get("writable"), "yes");
    await quiet`e2fsck -fn ${image}`;
  });
});

Deno.test("part-image: the size is USED_MB + FREE_MB", { ignore }, async () => {
  await tempDir(async (dir) => {
    const image = `${dir}/part.img`;
    await build("part-image", await tinyTree(), image, { USED_MB: "100", FREE_MB: "11" });
    assert.equal((await Deno.stat(image)).size, 111 * MiB);
  });
});
