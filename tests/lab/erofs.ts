/**
 * The erofs and squashfs tools of Debian 13 for a machine whose own are too old, as Debian 12's are.
 *
 * @module
 */

import { searchPath } from "../../lib/system/programs.ts";
import { quiet, stubProgram } from "./helpers.ts";
import { cached, unpack } from "./trees.ts";

/** Puts them first on this process's `PATH`, unless the machine's own can fill a filesystem from a stream. */
export async function useErofs(): Promise<void> {
  const own = await quiet`mkfs.erofs --help`;
  if (!own.includes("--tar=")) await useDebian13("erofs-utils", ["mkfs.erofs", "fsck.erofs", "dump.erofs"]);
}

/** The same, unless the machine's own can give the root of a stream xattrs. */
export async function useSquashfs(): Promise<void> {
  // Its version is at the beginning, and its exit code has meant different things.
  const [, version] = /version (\d+\.\d+)/.exec(await quiet`sh -c ${"mksquashfs -version || true"}`) ?? [];
  if (Number(version) < 4.6) await useDebian13("squashfs-tools", ["mksquashfs", "unsquashfs"]);
}

async function useDebian13(packageName: string, programs: readonly string[]): Promise<void> {
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
  Deno.env.set("PATH", `${directory}:${searchPath()}`);
}
