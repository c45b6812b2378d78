/**
 * Trees with the names of distributions boot, each from a disk that only its initrd finds.
 *
 * @module
 */

import assert from "node:assert/strict";
import { build } from "../lab/builds.ts";
import { DISTRIBUTIONS, distributionTree } from "../lab/distributions.ts";
import { bootQemu, report } from "../lab/guests.ts";
import { missing, tempDir, unprivileged } from "../lab/helpers.ts";

const TOOLS = ["sfdisk", "mke2fs", "mkfs.vfat", "mmdebstrap", "cpio", "qemu-system-x86_64"];
const ignore = missing(...TOOLS, "/usr/share/OVMF/OVMF_CODE_4M.fd") || unprivileged();

const SMALL = { EFI_MB: "33", BOOT_MB: "96", FREE_MB: "16" };

Deno.test.each([...DISTRIBUTIONS])(
  "disk-image: a tree boots that is named as in $name",
  { ignore },
  (row) =>
    tempDir(async (dir) => {
      const version = await distributionTree(row, `${dir}/tree`);
      const image = `${dir}/disk.img`;
      const { stderr } = await build("disk-image", `${dir}/tree`, image, SMALL);
      assert.doesNotMatch(stderr, /^\[W\]/m);
      const seen = report(await bootQemu(image, { format: "raw", architecture: "x86-64", disk: "virtio" }));
      assert.equal(seen.get("initrd"), "right");
      assert.equal(seen.get("kernel")!.split(" ")[0], version);
      // systemd-boot names what it loads before the options of the entry.
      const loaded = row.loads.map((path) => `initrd=\\${path.replaceAll("VERSION", version)} `).join("");
      const cmdline = seen.get("cmdline")!;
      assert(cmdline.startsWith(loaded), cmdline);
      assert.match(
        cmdline.slice(loaded.length),
        /^root=UUID=[0-9a-f-]{36} rw rootfstype=ext4 console=ttyS0 panic=-1$/,
      );
      for (const [place, type] of [["/", "ext4"], ["/boot", "vfat"], ["/boot/efi", "vfat"]]) {
        assert.match(seen.get("mounts")!, new RegExp(`^\\S+ ${place} ${type} rw`, "m"));
      }
    }),
);
