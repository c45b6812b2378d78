/**
 * Debian 13's erofs tools, for a machine whose own are too old, such as Debian 12's.
 *
 * @module
 */

import { searchPath } from "../../lib/system/programs.ts";
import { quiet, stubProgram } from "./helpers.ts";
import { cached, unpack } from "./trees.ts";

const PROGRAMS = ["mkfs.erofs", "fsck.erofs", "dump.erofs"] as const;

/** Puts them first on this process's `PATH`, unless the machine's tools can fill a filesystem from a stream. */
export async function useErofs(): Promise<void> {
  const own = await quiet`mkfs.erofs --help`;
  if (own.includes("--tar=")) return;
  const unpacked = await unpack("trixie", "amd64", ["erofs-utils"]);
  const directory = await cached("erofs-tools", { unpacked, PROGRAMS, version: 1 }, async (dir) => {
    // With their own dynamic loader, since they also need a newer libc.
    const loader = `${unpacked}/usr/lib64/ld-linux-x86-64.so.2`;
    const libraries = `${unpacked}/usr/lib/x86_64-linux-gnu`;
    for (const name of PROGRAMS) {
      await stubProgram(
        dir,
        name,
        `exec ${loader} --library-path ${libraries} ${unpacked}/usr/bin/${name} "$@"`,
      );
    }
  });
  Deno.env.set("PATH", `${directory}:${searchPath()}`);
}
