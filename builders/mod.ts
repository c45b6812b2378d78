#!/usr/bin/env -S deno run --allow-read --allow-write --allow-env --allow-ffi --allow-run=sfdisk,mke2fs,e2fsck,mkfs.vfat,fsck.vfat,mksquashfs,unsquashfs,mkfs.erofs,fsck.erofs,veritysetup,openssl,grub-mkimage,qemu-img,tar,gzip,zstd,xz,find,mknod,/bin/sh
/**
 * All builders by name: the entry point of the container and of `deno task build`.
 *
 * @module
 */

import { report, setLogFormat } from "../lib/cli/cli.ts";
import { type Builders, runSuite } from "../lib/cli/suite.ts";
import { BuildError, quote } from "../lib/core/error.ts";
import { dateEmptyOutputs } from "../lib/image/output.ts";
import { reasonOf } from "../lib/system/failure.ts";
import { diskImage } from "./disk-image/build.ts";
import { partImage } from "./part-image/build.ts";

/** One row per builder. Its `.rapt` file has the same name. */
export const BUILDERS = {
  "disk-image": diskImage,
  "part-image": partImage,
} as const satisfies Builders;

/** Images older than these are out of date, as in Raptor. */
const SOURCES = ["../builders", "../lib", "../deno.json", "../deno.lock"]
  .map((path) => new URL(path, import.meta.url).pathname);

/**
 * Runs the suite with command line arguments, and returns the exit code.
 *
 * `-C DIR`, as the first argument, runs it in DIR, like in git and make: a Deno task starts in the directory of
 * deno.json, wherever it was called.
 */
export async function main(args: readonly string[]): Promise<number> {
  // Whatever happens, an empty output in Raptor's container must not look finished.
  await dateEmptyOutputs(Object.values(BUILDERS).map(({ output }) => output));
  setLogFormat(args);
  let code = 0;
  const failed = await report(async () => {
    const [first, directory = "", ...rest] = args;
    if (first === "-C") changeDirectory(directory);
    code = await runSuite(BUILDERS, first === "-C" ? rest : args, Deno.env.toObject(), SOURCES);
  });
  return failed || code;
}

function changeDirectory(directory: string): void {
  try {
    Deno.chdir(directory);
  } catch (cause) {
    throw new BuildError(`Cannot run in the directory ${quote(directory)}: ${reasonOf(cause)}`, {
      kind: "usage",
      hint: "Name a directory that you may enter after -C",
      cause,
    });
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
