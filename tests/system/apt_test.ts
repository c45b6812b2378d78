/**
 * Kernels come and go by apt in a booted image, and it still boots.
 *
 * @module
 */

import assert from "node:assert/strict";
import { GiB, MiB } from "../../lib/core/units.ts";
import { build } from "../lab/builds.ts";
import { bootQemu, mountLoop, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { cached, copyTree, debianTree } from "../lab/trees.ts";

const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "mmdebstrap", "dpkg-deb") ||
  unprivileged() ||
  missing("qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.ms.fd");

const OTHER = "9.9.9-other";

/** The package of a tree's kernel, and one that is the same under another version, with few modules. */
function kernelPackages(tree: string, version: string): Promise<string> {
  return cached("kernel-packages", { version, packed: 2 }, async (dir) => {
    const script = String.raw`mkdir "$1/debs" && cd "$1/debs" &&
      APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download linux-image-${version}`;
    await quiet`mmdebstrap --quiet --mode=root --variant=custom --architectures=amd64
      ${`--customize-hook=${script}`} trixie ${dir}/apt`;
    const [deb] = await Array.fromAsync(Deno.readDir(`${dir}/apt/debs`));
    // Packed again without compression: emulated machines take minutes to unpack it.
    await quiet`dpkg-deb --raw-extract ${`${dir}/apt/debs/${deb!.name}`} ${dir}/same`;
    await quiet`dpkg-deb -Znone --build ${dir}/same ${dir}/same.deb`;
    for (const name of ["apt", "same"]) await Deno.remove(`${dir}/${name}`, { recursive: true });
    const other = `${dir}/other`;
    await Deno.mkdir(other);
    await quiet`dpkg-deb --control ${dir}/same.deb ${other}/DEBIAN`;
    for await (const { name } of Deno.readDir(`${other}/DEBIAN`)) {
      if (name === "md5sums") {
        await Deno.remove(`${other}/DEBIAN/${name}`);
        continue;
      }
      const path = `${other}/DEBIAN/${name}`;
      const { mode } = await Deno.stat(path);
      await Deno.writeTextFile(path, (await Deno.readTextFile(path)).replaceAll(version, OTHER));
      await Deno.chmod(path, mode! & 0o777);
    }
    await Deno.mkdir(`${other}/boot`);
    await Deno.mkdir(`${other}/usr/lib/modules/${OTHER}`, { recursive: true });
    for (const name of ["vmlinuz", "config"]) {
      await Deno.copyFile(`${tree}/boot/${name}-${version}`, `${other}/boot/${name}-${OTHER}`);
    }
    for (const name of ["modules.order", "modules.builtin", "modules.builtin.modinfo"]) {
      await Deno.copyFile(
        `${tree}/usr/lib/modules/${version}/${name}`,
        `${other}/usr/lib/modules/${OTHER}/${name}`,
      );
    }
    await quiet`dpkg-deb -Znone --build ${other} ${dir}/other.deb`;
    await Deno.remove(other, { recursive: true });
  });
}

async function installUpgrade(tree: string, packages: string): Promise<void> {
  const script = (name: string) => Deno.readTextFile(new URL(`../lab/trees/${name}`, import.meta.url));
  const units = `${tree}/etc/systemd/system`;
  await Deno.writeTextFile(`${tree}/usr/local/sbin/upgrade`, await script("upgrade.sh"));
  await Deno.chmod(`${tree}/usr/local/sbin/upgrade`, 0o755);
  await Deno.writeTextFile(`${units}/upgrade.service`, await script("upgrade.service"));
  await Deno.symlink("../upgrade.service", `${units}/multi-user.target.wants/upgrade.service`);
  for (const name of ["same.deb", "other.deb"]) {
    await Deno.copyFile(`${packages}/${name}`, `${tree}/root/${name}`);
  }
}

Deno.test(
  "BOOTLOADER=grub: apt installs, reinstalls and removes kernels in a grown image under Secure Boot",
  {
    ignore,
  },
  async () => {
    await tempDir(async (dir) => {
      const include = ["grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed", "systemd-repart"];
      const tree = await copyTree(await debianTree({ suite: "trixie", include }), `${dir}/tree`);
      const [version] = (await Array.fromAsync(Deno.readDir(`${tree}/usr/lib/modules`))).map(({ name }) =>
        name
      );
      await installUpgrade(tree, await kernelPackages(tree, version!));
      const image = `${dir}/disk.img`;
      const env = { FREE_MB: "64", BOOT_MB: "256", BOOTLOADER: "grub", KERNEL_CMDLINE: "net.ifnames=0" };
      await build("disk-image", tree, image, env);
      const larger = (await Deno.stat(image)).size + GiB;
      await Deno.truncate(image, larger);
      const guest = { architecture: "x86-64", format: "raw", firmware: "microsoft" } as const;

      const first = report(await bootQemu(image, { ...guest, snapshot: false }));
      assert.equal(first.get("failed"), "", first.get("logs"));
      const { partitiontable: { partitions } } = JSON.parse(await quiet`sfdisk --json ${image}`);
      const [, , { start }] = partitions;
      await mountLoop(image, { offset: start * 512 }, async (mount) => {
        const log = await Deno.readTextFile(`${mount}/var/log/upgrade.log`);
        const results = (await Deno.readTextFile(`${mount}/var/lib/upgraded`)).trim().split("\n");
        assert.equal(results.length, 6, log);
        for (const result of results) assert.match(result, /^result 0 /, log);
      });
      const { size } = JSON.parse(first.get("findmnt /")!).filesystems[0];
      const available = larger - start * 512 - MiB;
      assert.ok(size > available * 0.9 && size <= available, `${size} of ${available} bytes`);

      const second = report(await bootQemu(image, guest));
      assert.equal(second.get("failed"), "", second.get("logs"));
      assert.equal(second.get("state"), "running");
      assert.match(second.get("kernel")!, new RegExp(`^${version!.replaceAll("+", "\\+")} `));
      // The menu that update-grub made has the options of the image, and not those of Debian alone.
      assert.match(
        second.get("cmdline")!,
        /root=\S+ ro .*\brw rootfstype=ext4 console=ttyS0 .*net\.ifnames=0/,
      );
      assert.match(JSON.parse(second.get("findmnt /")!).filesystems[0].options, /^rw,/);
    });
  },
);
