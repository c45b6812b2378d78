/**
 * An initrd for the tiny tree that mounts read-only roots, verified when the command line has a root hash: the
 * partitions are found by the root hash alone, as systemd's generator does it.
 *
 * @module
 */

import { quiet, stubProgram, tempDir } from "./helpers.ts";
import { tinyUnpacked, unpack } from "./trees.ts";

/** Modules, after the ones they depend on. */
const MODULES = [
  ...["lib/libcrc32c", "fs/squashfs/squashfs", "fs/erofs/erofs"],
  ...["lib/reed_solomon/reed_solomon", "drivers/md/dm-mod", "drivers/md/dm-bufio", "drivers/md/dm-verity"],
] as const;

const INIT = `#!/bin/busybox sh
export PATH=/bin DM_DISABLE_UDEV=1
busybox mkdir -p /proc /sys /dev /new
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules); do insmod /$module.ko; done
FUNCTIONS
for word in $(cat /proc/cmdline); do
  case $word in
    root=*UUID=*) root=$(device \${word#root=}) ;;
    roothash=*) hash=\${word#roothash=} ;;
  esac
done
uuid() { echo "$1" | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12})$/PARTUUID=\\1-\\2-\\3-\\4-\\5/'; }
if [ -n "$hash" ]; then
  data=$(device $(uuid $(echo $hash | cut -c1-32)))
  hashes=$(device $(uuid $(echo $hash | cut -c33-64)))
  veritysetup open $data root $hashes $hash && root=/dev/mapper/root
fi
mount -o ro $root /new || { echo "INITRD: cannot mount $root"; poweroff -f; }
exec switch_root /new /sbin/init
`;

/** Adds an initrd for each kernel of a tiny tree (amd64). */
export async function addInitrd(tree: string): Promise<void> {
  const packages = await tinyUnpacked("amd64");
  // How the tiny tree itself finds a partition by its PARTUUID.
  const init = await Deno.readTextFile(new URL("./trees/tiny-init.sh", import.meta.url));
  const functions = init.slice(init.indexOf("guid() {"), init.indexOf("options() {"));
  const tools = await unpack("trixie", "amd64", ["cryptsetup-bin"]);
  for await (const { name } of Deno.readDir(`${tree}/usr/lib/modules`)) {
    await tempDir(async (dir) => {
      const root = `${dir}/root`;
      await Deno.mkdir(`${root}/bin`, { recursive: true });
      await stubProgram(root, "init", INIT.replace("FUNCTIONS", () => functions));
      await Deno.copyFile(`${tree}/usr/bin/busybox`, `${root}/bin/busybox`);
      const files: string[] = [];
      for (const module of MODULES) {
        const file = module.split("/").at(-1)!;
        const from = `${packages}/usr/lib/modules/${name}/kernel/${module}.ko.xz`;
        // It is built into some kernels.
        if (!await Deno.stat(from).catch(() => undefined)) continue;
        await Deno.copyFile(from, `${root}/${file}.ko.xz`);
        await quiet`xz --decompress ${root}/${file}.ko.xz`;
        files.push(file);
      }
      await Deno.writeTextFile(`${root}/modules`, files.join("\n"));
      await addProgram(tools, "usr/sbin/veritysetup", root);
      await quiet`sh -c ${'cd "$0" && find . | cpio --quiet -o -H newc | gzip -1 >"$1"'} ${root}
        ${`${tree}/boot/initrd.img-${name}`}`;
    });
  }
}

/** A program with the libraries that it loads, at their usual paths. */
async function addProgram(from: string, program: string, to: string): Promise<void> {
  const library = "usr/lib/x86_64-linux-gnu", loader = "usr/lib64/ld-linux-x86-64.so.2";
  const listed = await quiet`${from}/${loader} --library-path ${from}/${library} --list ${from}/${program}`;
  await Deno.mkdir(`${to}/lib64`);
  await Deno.mkdir(`${to}/${library}`, { recursive: true });
  await Deno.copyFile(`${from}/${loader}`, `${to}/lib64/ld-linux-x86-64.so.2`);
  for (const [, name, path] of listed.matchAll(/^\s*(\S+) => (\/\S+)/gm)) {
    await Deno.copyFile(path!, `${to}/${library}/${name!.split("/").at(-1)}`);
  }
  await Deno.copyFile(`${from}/${program}`, `${to}/bin/${program.split("/").at(-1)}`);
}
