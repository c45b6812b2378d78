#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-ffi --allow-run=sfdisk,mke2fs,mkfs.vfat,mmd,mcopy,mdir,qemu-img,tar,find,mknod,df
/**
 * All builders by name: the entry point of the container and of `deno task build`.
 *
 * @module
 */

import { report } from "../lib/cli.ts";
import { type Builders, runSuite } from "../lib/suite.ts";
import { diskImage } from "./disk-image/build.ts";
import { partImage } from "./part-image/build.ts";

/** One row per builder; its name is also that of its `.rapt` file. */
export const BUILDERS = {
  "disk-image": diskImage,
  "part-image": partImage,
} as const satisfies Builders;

/** Images older than these are out of date, as with Raptor. */
const SOURCES = [new URL(".", import.meta.url).pathname, new URL("../lib", import.meta.url).pathname];

/** Runs the suite with the arguments of the process, and returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  let code = 0;
  const failed = await report(async () => {
    code = await runSuite(BUILDERS, args, Deno.env.toObject(), SOURCES);
  });
  return failed || code;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
