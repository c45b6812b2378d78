/**
 * Real Debian trees, booted: what the system inside sees is what was promised.
 *
 * @module
 */

import assert from "node:assert/strict";

import { build } from "../lab/builds.ts";
import { bootQemu, nspawn, report } from "../lab/guests.ts";
import { missing, tempDir, unprivileged } from "../lab/helpers.ts";
import { debianTree } from "../lab/trees.ts";

const ignore = missing("mmdebstrap", "mke2fs", "mkfs.vfat", "sfdisk") || unprivileged();
const QEMU = ["qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd"];

/** Of `findmnt --json` for one mount point. */
interface Mount {
  readonly fstype: string;
  readonly options: string;
  readonly partlabel: string;
  readonly partuuid: string;
}

function mountOf(seen: Map<string, string>, directory: string): Mount {
  const text = seen.get(`findmnt ${directory}`);
  assert.ok(text, `nothing is mounted on ${directory}`);
  return JSON.parse(text).filesystems[0];
}

for (const suite of ["bullseye", "bookworm", "trixie"] as const) {
  Deno.test(`disk-image: a ${suite} tree boots with all partitions mounted and no failed unit`, {
    ignore: ignore || missing(...QEMU),
  }, async () => {
    await tempDir(async (dir) => {
      const image = `${dir}/disk.img`;
      await build("disk-image", await debianTree({ suite }), image, { FREE_MB: "64", BOOT_MB: "256" });
      const options = { architecture: "x86-64", format: "raw" } as const;
      const seen = report(await bootQemu(image, options));
      assert.equal(seen.get("failed"), "", seen.get("logs"));
      assert.equal(seen.get("state"), "running");
      const [root, boot, esp] = ["/", "/boot", "/boot/efi"].map((path) => mountOf(seen, path));
      assert.deepEqual([root, boot, esp].map((mount) => [mount!.fstype, mount!.partlabel]), [
        ["ext4", "root"],
        ["vfat", "xbootldr"],
        ["vfat", "esp"],
      ]);
      for (const mount of [root, boot, esp]) assert.match(mount!.options, /^rw,/);
      const [disk] = JSON.parse(seen.get("lsblk")!).blockdevices
        .filter(({ children }: { children?: unknown[] }) => children?.length === 3);
      const { uuid } = disk.children.find(({ mountpoint }: { mountpoint: string }) => mountpoint === "/");
      assert.match(seen.get("cmdline")!, new RegExp(`(^| )root=UUID=${uuid} rw rootfstype=ext4( |$)`));
      assert.deepEqual(disk.children.map(({ parttype }: { parttype: string }) => parttype), [
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "bc13c2ff-59e6-4262-a352-b275fd6f7172",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
      ]);
      assert.match(seen.get("efi")!, new RegExp(`^LoaderDevicePartUUID=${esp!.partuuid}$`, "im"));
    });
  });
}

Deno.test("disk-image, part-image: a trixie tree boots in systemd-nspawn with no failed unit", {
  ignore: ignore || missing("systemd-nspawn"),
}, async () => {
  await tempDir(async (dir) => {
    const tree = await debianTree({ suite: "trixie" });
    for (const [builder, env] of [["disk-image", { BOOT_MB: "256" }], ["part-image", {}]] as const) {
      const image = `${dir}/${builder}.raw`;
      await build(builder, tree, image, { FREE_MB: "64", ...env });
      const seen = report(await nspawn(image));
      assert.equal(seen.get("virtualization"), "systemd-nspawn");
      assert.equal(seen.get("failed"), "", `${builder}: ${seen.get("logs")}`);
      assert.match(seen.get("os-release")!, /^VERSION_CODENAME=trixie$/m);
    }
  });
});
