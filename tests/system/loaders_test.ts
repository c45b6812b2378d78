/**
 * Trees boot with the boot loaders that distributions have, where they have them. Debian's GRUB, shim and systemd-boot
 * stand for those of the others.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { readProgram } from "../../lib/tree/efi-programs.ts";
import { build } from "../lab/builds.ts";
import { bootQemu, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, tinyTree, tinyUnpacked, unpack } from "../lab/trees.ts";

const TOOLS = ["sfdisk", "mke2fs", "mkfs.vfat", "mmdebstrap", "grub-mkimage", "qemu-system-x86_64"];
const ignore = missing(...TOOLS, "/usr/share/OVMF/OVMF_CODE_4M.fd") || unprivileged();

const SMALL = { EFI_MB: "64", BOOT_MB: "64", FREE_MB: "16" };

/** What GRUB and shim come in. */
function packages(): Promise<string> {
  return unpack("trixie", "amd64", [
    ...["shim-signed", "grub-efi-amd64-signed", "grub-efi-amd64-bin", "grub-pc-bin"],
    ...["systemd-boot-efi", "systemd-boot-efi-amd64-signed"],
  ]);
}

/** Where a file of a tree comes from: a path of the packages, or a GRUB that is made. */
type Source = string | { readonly grub: { readonly prefix: string; readonly script?: string } } | {
  readonly text: string;
};

const SHIM = "/usr/lib/shim/shimx64.efi.signed";
const SIGNED = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
const MODULES = "/usr/lib/grub/x86_64-efi";
const SYSTEMD_BOOT = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const FOREIGN = "search.fs_uuid 0123-4567 root\nset prefix=($root)'/boot/grub'\n";

const DEFAULTS: Source = { text: 'GRUB_CMDLINE_LINUX="console=ttyS0 panic=-1 resume=UUID=1"\n' };

const LAYOUTS: readonly {
  readonly name: string;
  readonly id: string;
  readonly files: Readonly<Record<string, Source>>;
  /** Of the log. */
  readonly says: RegExp;
}[] = [
  {
    name: "Fedora's, from packages: no configuration on the ESP",
    id: "fedora",
    files: {
      "/boot/efi/EFI/BOOT/BOOTX64.EFI": SHIM,
      "/boot/efi/EFI/BOOT/grubx64.efi": SIGNED,
      "/boot/efi/EFI/debian/grubx64.efi": SIGNED,
      "/usr/sbin/grub2-mkconfig": { text: "" },
      "/etc/default/grub": DEFAULTS,
    },
    says: /existing, since the tree has \/boot\/efi\/EFI\/BOOT\/BOOTX64\.EFI, which is GRUB/,
  },
  {
    name: "Fedora's in a container: GRUB without shim, in its own directory only",
    id: "fedora",
    files: { "/boot/efi/EFI/fedora/grubx64.efi": SIGNED, "/usr/sbin/grub2-mkconfig": { text: "" } },
    says: /grub, since the tree has \/boot\/efi\/EFI\/fedora\/grubx64\.efi/,
  },
  {
    name: "openSUSE's, which looks beside itself",
    id: "opensuse-tumbleweed",
    files: {
      "/usr/share/efi/x86_64/grub.efi": { grub: { prefix: "" } },
      "/usr/sbin/grub2-mkconfig": { text: "" },
    },
    says: /grub, since the tree has \/usr\/share\/efi\/x86_64\/grub\.efi/,
  },
  {
    name: "Arch's and Alpine's: modules only, and options in GRUB's settings",
    id: "arch",
    files: { [MODULES]: MODULES, "/etc/default/grub": DEFAULTS, "/usr/bin/grub-mkconfig": { text: "" } },
    says: /grub, since the tree has \/usr\/lib\/grub\/x86_64-efi/,
  },
  {
    name: "a GRUB that grub-install made for another disk, and modules to replace it",
    id: "alpine",
    files: {
      "/boot/efi/EFI/boot/bootx64.efi": { grub: { prefix: "/boot/grub", script: FOREIGN } },
      [MODULES]: MODULES,
    },
    says: /Replacing the boot loader .*bootx64\.efi of the tree was made for another disk/,
  },
  {
    name: "systemd-boot on an ESP at /boot, with another machine's entry as the default",
    id: "arch",
    files: {
      "/boot/EFI/BOOT/BOOTX64.EFI": SYSTEMD_BOOT,
      "/boot/loader/loader.conf": { text: "timeout 1\ndefault old.conf\n" },
      "/boot/loader/entries/old.conf": {
        text: "title Old\nlinux /vmlinuz\noptions root=LABEL=old panic=-1\n",
      },
    },
    says: /existing, since the tree has \/boot\/EFI\/BOOT\/BOOTX64\.EFI, which is systemd-boot/,
  },
];

async function place(tree: string, path: string, source: Source): Promise<void> {
  const to = `${tree}${path}`;
  await Deno.mkdir(dirname(to), { recursive: true });
  if (typeof source === "string") {
    const from = source === SYSTEMD_BOOT ? await tinyUnpacked("amd64") : await packages();
    await quiet`cp -r ${from}${source} ${to}`;
    if (source === MODULES) await Deno.remove(`${to}/monolithic`, { recursive: true });
  } else if ("text" in source) await Deno.writeTextFile(to, source.text);
  else await makeGrub(source.grub, to);
}

async function makeGrub({ prefix, script }: { prefix: string; script?: string }, to: string): Promise<void> {
  await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/load.cfg`, script ?? "");
    const modules = `${await packages()}${MODULES}`;
    const config = script === undefined ? [] : ["--config", `${dir}/load.cfg`];
    await quiet`grub-mkimage --directory ${modules} --format x86_64-efi --output ${to} --prefix ${prefix} ${config}
      part_gpt fat ext2 normal configfile linux search search_fs_uuid gzio minicmd boot test echo`;
  });
}

Deno.test.each([...LAYOUTS])(
  "disk-image: a tree boots whose loader is $name",
  { ignore },
  ({ id, files, says }) =>
    tempDir(async (dir) => {
      const tree = await copyTree(await tinyTree({ loader: false }), `${dir}/tree`);
      await Deno.writeTextFile(`${tree}/usr/lib/os-release`, `ID=${id}\nNAME="${id}"\nVERSION_ID=1\n`);
      if ("/etc/default/grub" in files) await Deno.remove(`${tree}/etc/kernel/cmdline`);
      for (const [path, source] of Object.entries(files)) await place(tree, path, source);
      const image = `${dir}/disk.img`;
      const { stderr } = await build("disk-image", tree, image, SMALL);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, /no-boot/);
      const seen = report(await bootQemu(image, { format: "raw", architecture: "x86-64" }));
      assert.match(seen.get("cmdline")!, /root=PARTUUID=[0-9a-f-]{36} rw.* console=ttyS0 panic=-1$/);
      assert.doesNotMatch(seen.get("cmdline")!, /resume=/);
      for (const point of ["/", "/boot", "/boot/efi"]) {
        assert.match(seen.get("mounts")!, new RegExp(`^\\S+ ${point} `, "m"));
      }
    }),
);

Deno.test("readProgram() knows real programs for what they are", { ignore }, () =>
  tempDir(async (dir) => {
    const look = async (path: string) => {
      const bytes = await Deno.readFile(path);
      return readProgram((offset, length) => bytes.slice(offset, offset + length));
    };
    const debian = await packages();
    const systemd = await tinyUnpacked("amd64");
    const common = { architecture: "x86-64", signed: false } as const;
    assert.deepEqual(await look(systemd + SYSTEMD_BOOT), { ...common, kind: "systemd-boot", release: 257 });
    assert.deepEqual(await look(debian + SHIM), { ...common, kind: "shim", signed: true });
    const grub = { prefix: "/EFI/debian", hasLinux: true, readsEntries: false };
    assert.deepEqual(await look(debian + SIGNED), { ...common, kind: "grub", signed: true, grub });
    await makeGrub({ prefix: "/boot/grub", script: FOREIGN }, `${dir}/grub.efi`);
    assert.deepEqual(await look(`${dir}/grub.efi`), {
      ...common,
      kind: "grub",
      grub: { prefix: "/boot/grub", script: FOREIGN.trim(), hasLinux: true, readsEntries: false },
    });
  }));
