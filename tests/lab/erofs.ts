/**
 * The erofs and squashfs tools of Debian 13 for a machine whose own are too old, as Debian 12's are.
 *
 * @module
 */

import { searchPath } from "../../lib/system/programs.ts";
import { quiet, stubProgram } from "./helpers.ts";
import { cached, unpack } from "./trees.ts";

/**
 * Puts erofs-utils first on the `PATH` of this process, unless the machine's own can fill a filesystem from a stream.
 * Tests that run at the same time share the `PATH`, which does no harm: the machine's own makes none of their images.
 */
export async function useErofs(): Promise<void> {
  const own = await quiet`mkfs.erofs --help`;
  if (own.includes("--tar=")) return;
  Deno.env.set("PATH", await debian13Path("erofs-utils", ["mkfs.erofs", "fsck.erofs", "dump.erofs"]));
}

/**
 * The `PATH` for a build whose squashfs has xattrs at its root, which Debian 12's tools cannot make. It is for that build
 * alone: other tests make squashfs with the machine's own, and compare the bytes.
 */
export async function squashfsPath(): Promise<string> {
  // Its version is at the beginning, and its exit code has meant different things.
  const [, version] = /version (\d+\.\d+)/.exec(await quiet`sh -c ${"mksquashfs -version || true"}`) ?? [];
  return Number(version) < 4.6
    ? await debian13Path("squashfs-tools", ["mksquashfs", "unsquashfs"])
    : searchPath();
}

async function debian13Path(packageName: string, programs: readonly string[]): Promise<string> {
  const unpacked = await unpack("trixie", "amd64", [packageName]);
  const name = `${packageName.split("-")[0]}-tools`;
  const directory = await cached(name, { unpacked, PROGRAMS: programs, version: 1 }, async (dir) => {
    // By their own dynamic loader, since they need a newer libc, too.
    const loader = `${unpacked}/usr/lib64/ld-linux-x86-64.so.2`;
    const libraries = `${unpacked}/usr/lib/x86_64-linux-gnu`;
    for (const name of programs) {
      await stubProgram(
        dir,
        name,
        `exec ${loader} --library-path ${libraries} ${unpacked}/usr/bin/${name} "$@"`,
      );
    }
  });
  return `${directory}:${searchPath()}`;
}
