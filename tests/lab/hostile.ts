/**
 * Malicious trees, and files outside of them.
 *
 * @module
 */

import { dirname } from "node:path";
import { type DiskPlan, planDisk, planPart } from "../../lib/plan/plan.ts";
import { inspectTree } from "../../lib/tree/inspect.ts";
import { closeRoot } from "../../lib/tree/root.ts";
import { settingsOf } from "./facts.ts";
import { quiet } from "./helpers.ts";
import { elf, pe } from "./program_heads.ts";

/** Text in the files outside the tree, which must never be in an image. */
export const SECRET = "stolen from outside the tree";

export const LOADER = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/** Files by path; a value that starts with "->" is a symlink, and a list is a command that creates the file. */
export type Files = Readonly<Record<string, string | Uint8Array | readonly string[]>>;

/** A tree that looks bootable to a builder. */
export const GOOD: Files = {
  "/usr/sbin/init": elf("x86-64"),
  "/sbin": "->usr/sbin",
  "/usr/lib/os-release": 'ID=good\nPRETTY_NAME="Good 1"\n',
  "/etc/os-release": "->../usr/lib/os-release",
  "/etc/fstab": "",
  "/boot/vmlinuz-1": pe("x86-64"),
  "/boot/initrd.img-1": "initrd",
  [LOADER]: pe("x86-64"),
};

/** Makes a tree of files. */
export async function makeTree(tree: string, files: Files): Promise<string> {
  await Deno.mkdir(tree, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    const at = `${tree}${path}`;
    await Deno.mkdir(dirname(at), { recursive: true });
    if (content instanceof Uint8Array) await Deno.writeFile(at, content);
    else if (typeof content !== "string") await quiet`${content[0]!} ${content.slice(1)} ${at}`;
    else if (content.startsWith("->")) await Deno.symlink(content.slice(2), at);
    else await Deno.writeTextFile(at, content);
  }
  return tree;
}

/** The files outside of the tree, with everything that a link might lead to. */
export function makeOutside(dir: string): Promise<string> {
  const kernel = new Uint8Array(4096);
  kernel.set(pe("x86-64"));
  new TextEncoder().encodeInto(SECRET, kernel.subarray(1024));
  return makeTree(`${dir}/outside`, {
    "/os-release": `ID=stolen\nPRETTY_NAME="${SECRET}"\n`,
    "/fstab": `# ${SECRET}\n`,
    "/cmdline": `${SECRET.replaceAll(" ", "-")}\n`,
    "/machine-id": "0123456789abcdef0123456789abcdef\n",
    "/boot/vmlinuz-9": kernel,
    "/boot/initrd.img-9": SECRET,
    "/boot/efi/EFI/BOOT/BOOTX64.EFI": kernel,
    "/systemd-bootx64.efi": kernel,
    "/init": elf("arm64"),
  });
}

/** Decides on a disk from a tree on the disk. */
export async function planOf(tree: string, env: Record<string, string> = {}): Promise<DiskPlan> {
  const facts = await inspectTree(tree);
  try {
    planPart(settingsOf(), facts);
    return planDisk(settingsOf(env), facts);
  } finally {
    closeRoot(facts.root);
  }
}

/** The path of a link, and the file outside to which it would lead. */
export const LINKS = {
  "/boot": "/boot",
  "/boot/vmlinuz-9": "/boot/vmlinuz-9",
  "/boot/initrd.img-1": "/boot/initrd.img-9",
  "/boot/efi": "/boot/efi",
  "/efi": "/boot/efi",
  "/boot/efi/EFI/BOOT/BOOTX64.EFI": "/boot/efi/EFI/BOOT/BOOTX64.EFI",
  "/etc/os-release": "/os-release",
  "/usr/lib/os-release": "/os-release",
  "/etc/fstab": "/fstab",
  "/etc/kernel/cmdline": "/cmdline",
  "/etc/machine-id": "/machine-id",
  "/etc": "",
  "/usr/lib": "",
  "/usr/sbin/init": "/init",
  [LOADER]: "/systemd-bootx64.efi",
  "/usr/lib/systemd/boot/efi": "",
  "/usr/lib/modules/9/vmlinuz": "/boot/vmlinuz-9",
} as const;
