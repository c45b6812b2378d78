import assert from "node:assert/strict";
import { type BootTexts, findDevicetree, findEntry, treeOptions } from "../../../lib/tree/boot-texts.ts";
import { buildNodes } from "../../../lib/tree/builder.ts";

const pure = { permissions: "none" } as const;

const NODES = buildNodes(
  ["/boot/vmlinuz-2", "/boot/vmlinuz-1", "/boot/board.dtb", "/boot/dtb/vendor/board.dtb"].map((path) => ({
    path,
  })),
);
const KERNEL = { version: "2", image: "/boot/vmlinuz-2" };

function texts(files: Record<string, string>): BootTexts {
  return new Map(Object.entries(files));
}

const GRUB = {
  "/etc/default/grub": 'GRUB_CMDLINE_LINUX="console=ttyS0"\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\n',
};

Deno.test.each([
  ["nothing", {}, undefined],
  ["kernel-install's file first", { "/etc/kernel/cmdline": "a\nb\n", ...GRUB }, "a b"],
  [
    "no comment lines of kernel-install's file",
    { "/etc/kernel/cmdline": "# debug: init=/bin/sh\na b=#1\r\n \t# c\r\nd # e" },
    "a b=#1 d # e",
  ],
  ["no comment lines of the vendor's file", { "/usr/lib/kernel/cmdline": "#a\n\n  #b\nc" }, "c"],
  ["fragments", { "/etc/cmdline.d/1.conf": "a\n# b", "/etc/cmdline.d/2.conf": "c", ...GRUB }, "a c"],
  ["the vendor's file", { "/usr/lib/kernel/cmdline": "a", ...GRUB }, "a"],
  ["GRUB's settings", GRUB, "console=ttyS0 quiet"],
  [
    "GRUB's settings with drop-ins",
    { ...GRUB, "/etc/default/grub.d/x.cfg": 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX b"' },
    "console=ttyS0 b quiet",
  ],
  ["GRUB's empty settings", { "/etc/default/grub": 'GRUB_CMDLINE_LINUX=""' }, undefined],
  ["GRUB's settings after an empty file", { "/etc/kernel/cmdline": "", ...GRUB }, "console=ttyS0 quiet"],
  [
    "GRUB's settings after files with blanks and comments",
    { "/etc/kernel/cmdline": "\n", "/etc/cmdline.d/1.conf": "# a", "/usr/lib/kernel/cmdline": " #", ...GRUB },
    "console=ttyS0 quiet",
  ],
  ["no options in an empty file", { "/etc/kernel/cmdline": "\n" }, ""],
  ["GRUB's settings of blanks", { "/etc/default/grub": 'GRUB_CMDLINE_LINUX=" "' }, undefined],
  ["U-Boot's settings", { "/etc/default/u-boot": 'U_BOOT_PARAMETERS="ro quiet"' }, "ro quiet"],
  [
    "what the kernel's boot entry adds",
    { "/etc/kernel/cmdline": "a", "/boot/loader/entries/x.conf": 'linux /vmlinuz-2\noptions a b="c d"' },
    'a b="c d"',
  ],
  ["a boot entry alone", { "/boot/loader/entries/x.conf": "version 2\noptions a\noptions b" }, "a b"],
  ["no other kernel's", { "/boot/loader/entries/x.conf": "linux /vmlinuz-1\noptions a" }, undefined],
  [
    "variables of GRUB's environment",
    {
      "/boot/loader/entries/x.conf": "linux /boot/vmlinuz-2\noptions $kernelopts $tuned_params b",
      "/boot/grub2/grubenv": "# GRUB Environment Block\nkernelopts=root=UUID=1 a\n####",
    },
    "root=UUID=1 a b",
  ],
])("treeOptions() reads %s", pure, (_, files, options) => {
  assert.deepEqual(treeOptions(texts(files as Record<string, string>), NODES, KERNEL), {
    ...options !== undefined && { options },
    unread: [],
  });
});

Deno.test("treeOptions() says what it could not read", pure, () => {
  const files = { "/etc/default/grub": "GRUB_CMDLINE_LINUX=$(cat /x)\nGRUB_DISTRIBUTOR=$(lsb_release)\n" };
  assert.deepEqual(treeOptions(texts(files), NODES), {
    unread: ["/etc/default/grub"],
  });
});

Deno.test("findEntry() and findDevicetree() know the kernel by its path, then by its version", pure, () => {
  const entries = texts({
    "/boot/loader/entries/b.conf": "linux /vmlinuz-2\ndevicetree /board.dtb\noptions x",
    "/boot/loader/entries/a.conf": "version 2\nlinux /elsewhere",
    "/etc/kernel/devicetree": "vendor/board.dtb\n",
  });
  assert.equal(findEntry(entries, NODES, KERNEL)?.name, "b.conf");
  assert.equal(findDevicetree(entries, NODES, KERNEL), "/boot/board.dtb");
  assert.equal(
    findDevicetree(entries, NODES, { version: "1", image: "/boot/vmlinuz-1" }),
    "/boot/dtb/vendor/board.dtb",
  );
  assert.equal(findEntry(entries, NODES, { version: "1", image: "/boot/vmlinuz-1" }), undefined);
});
