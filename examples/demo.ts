/**
 * `deno task demo`: makes the tree that `test.rapt` describes, here with mmdebstrap instead of Raptor, and
 * runs the jobs of `Raptor.toml` beside it.
 *
 * The tree is kept: remove `examples/test` to have it made anew.
 *
 * @module
 */

import { main as build } from "../builders/mod.ts";
import { report } from "../lib/cli/cli.ts";
import { BuildError } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { $ } from "../lib/system/sh.ts";
import { setUp } from "../tasks/setup.ts";

const FOLDER = new URL(".", import.meta.url).pathname;
const TREE = `${FOLDER}test`;

/** What differs between the machines that this may run on. */
const MACHINES = {
  "x86_64": { debian: "amd64", console: "ttyS0" },
  "aarch64": { debian: "arm64", console: "ttyAMA0" },
} as const;

/** The packages of `test.rapt`. */
export function packages(debian: string): string[] {
  return ["init", "udev", `linux-image-${debian}`, "initramfs-tools", "systemd-boot"];
}

/** Makes the tree under another name first, so that one that was interrupted is never used. */
async function makeTree(): Promise<void> {
  if (await exists(TREE)) return log.step(`Using the tree ${TREE}, which is there (remove it for a new one)`);
  if (Deno.uid() !== 0) {
    throw new BuildError(`Cannot make the tree ${TREE}: only root can set its owners`, {
      hint: "Run it with sudo",
    });
  }
  log.step(`Making a tree of Debian 13 in ${TREE}; this takes a minute or two`);
  const { debian, console } = MACHINES[Deno.build.arch];
  const partial = `${TREE}.partial`;
  if (await exists(partial)) await Deno.remove(partial, { recursive: true });
  const hooks = [
    // Before the kernel is installed. The kernel's messages go to the screen and to the serial console.
    '--essential-hook=install -d -m 755 "$1/etc/kernel"',
    `--essential-hook=echo "console=tty0 console=${console}" > "$1/etc/kernel/cmdline"`,
    // For trying it out: root logs in at the console without a password.
    '--customize-hook=chroot "$1" passwd --delete root',
    // mmdebstrap leaves the build machine's own there.
    '--customize-hook=echo demo > "$1/etc/hostname"; : > "$1/etc/resolv.conf"',
  ];
  await $`mmdebstrap --variant=minbase --mode=root
    --architectures=${debian} --include=${packages(debian).join(",")} ${hooks} trixie ${partial}`.env({
    // It may need a proxy.
    ...Deno.env.toObject(),
    DEBIAN_FRONTEND: "noninteractive",
  });
  await Deno.rename(partial, TREE);
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function main(): Promise<void> {
  await setUp("demo");
  await makeTree();
}

/** Deno as it was started: from npm there is no program of that name afterwards. */
const DENO = Deno.execPath().includes("node_modules") ? `npx --yes deno@${Deno.version.deno}` : "deno";

function sayWhatNext(): void {
  log.step("Made examples/disk.img, examples/disk.qcow2 and examples/part.img. Now try:");
  log.step(`  ${DENO} task boot examples/disk.qcow2        (as root without a password; Ctrl-A X ends it)`);
  log.step("  systemd-nspawn --image=examples/disk.img --boot");
  log.step("  systemd-nspawn --image=examples/part.img --boot");
}

if (import.meta.main) {
  const made = await report(main);
  const code = made || await build(["-C", FOLDER]);
  if (code === 0) sayWhatNext();
  Deno.exit(code);
}
