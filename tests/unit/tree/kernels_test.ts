import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { comparableVersion, type Kernel } from "../../../lib/tree/kernels.ts";
import { compareVersions } from "../../../lib/tree/versions.ts";
import { bzImage, elf, pe, uki } from "../../lab/program_heads.ts";
import { type Files, withTree } from "../../lab/small_tree.ts";

/** An arm64 kernel, whose file does not say its version. */
const ARM = pe("arm64");

const modules = (version: string, base = "/usr/lib/modules"): Files => ({
  [`${base}/${version}/modules.dep`]: "",
});

/** What matters of kernels: version, image, initrds. */
function summary(kernels: readonly Kernel[]): [string, string, ...string[]][] {
  return kernels.map(({ version, image, initrds }) => [version, image, ...initrds]);
}

/** One row per distribution or tool: the names that it writes, and what is to be found, the default first. */
const ROWS: { name: string; files: Files; expected: [string, string, ...string[]][] }[] = [
  {
    name: "Debian (initramfs-tools)",
    files: {
      ...modules("6.1.0-41-amd64"),
      "/boot/vmlinuz-6.1.0-41-amd64": bzImage("6.1.0-41-amd64"),
      "/boot/initrd.img-6.1.0-41-amd64": "x",
      "/boot/config-6.1.0-41-amd64": "x",
      "/vmlinuz": "->boot/vmlinuz-6.1.0-41-amd64",
      "/initrd.img": "->boot/initrd.img-6.1.0-41-amd64",
    },
    expected: [["6.1.0-41-amd64", "/boot/vmlinuz-6.1.0-41-amd64", "/boot/initrd.img-6.1.0-41-amd64"]],
  },
  {
    name: "Fedora (dracut), with a rescue kernel",
    files: {
      ...modules("6.17.1-300.fc43.x86_64"),
      "/boot/vmlinuz-6.17.1-300.fc43.x86_64": bzImage("6.17.1-300.fc43.x86_64"),
      "/boot/.vmlinuz-6.17.1-300.fc43.x86_64.hmac": "x",
      "/boot/initramfs-6.17.1-300.fc43.x86_64.img": "x",
      "/boot/vmlinuz-0-rescue-0123456789abcdef": bzImage("6.17.1-300.fc43.x86_64"),
      "/boot/initramfs-0-rescue-0123456789abcdef.img": "y",
      "/usr/lib/modules/6.17.1-300.fc43.x86_64/vmlinuz": bzImage("6.17.1-300.fc43.x86_64"),
    },
    expected: [
      [
        "6.17.1-300.fc43.x86_64",
        "/boot/vmlinuz-6.17.1-300.fc43.x86_64",
        "/boot/initramfs-6.17.1-300.fc43.x86_64.img",
      ],
      [
        "0-rescue-0123456789abcdef",
        "/boot/vmlinuz-0-rescue-0123456789abcdef",
        "/boot/initramfs-0-rescue-0123456789abcdef.img",
      ],
    ],
  },
  {
    name: "Fedora in a container: the kernel only beside its modules",
    files: {
      "/usr/lib/modules/6.17/vmlinuz": bzImage("6.17"),
      "/boot/initramfs-6.17.img": "x",
    },
    expected: [["6.17", "/usr/lib/modules/6.17/vmlinuz", "/boot/initramfs-6.17.img"]],
  },
  {
    name: "an image-based system (bootc)",
    files: { "/usr/lib/modules/6.17/vmlinuz": bzImage("6.17"), "/usr/lib/modules/6.17/initramfs.img": "x" },
    expected: [["6.17", "/usr/lib/modules/6.17/vmlinuz", "/usr/lib/modules/6.17/initramfs.img"]],
  },
  {
    name: "an image-based system without merged /usr",
    files: { "/lib/modules/6.17/vmlinuz": bzImage("6.17"), "/lib/modules/6.17/initrd": "x" },
    expected: [["6.17", "/lib/modules/6.17/vmlinuz", "/lib/modules/6.17/initrd"]],
  },
  {
    name: "openSUSE: links into /usr, a kernel for debuggers, a link to the initrd",
    files: {
      "/usr/lib/modules/6.16.3-1-default/vmlinuz": bzImage("6.16.3-1-default"),
      "/boot/vmlinuz-6.16.3-1-default": "->../usr/lib/modules/6.16.3-1-default/vmlinuz",
      "/boot/vmlinuz": "->vmlinuz-6.16.3-1-default",
      "/boot/vmlinux-6.16.3-1-default.gz": new Uint8Array(gzipSync(elf("x86-64"))),
      "/boot/initrd-6.16.3-1-default": "x",
      "/boot/initrd": "->initrd-6.16.3-1-default",
    },
    expected: [
      ["6.16.3-1-default", "/usr/lib/modules/6.16.3-1-default/vmlinuz", "/boot/initrd-6.16.3-1-default"],
    ],
  },
  {
    name: "Arch (mkinitcpio): the package's copy, a fallback, microcode first",
    files: {
      "/usr/lib/modules/6.17.1-arch1-1/vmlinuz": bzImage("6.17.1-arch1-1"),
      "/usr/lib/modules/6.17.1-arch1-1/pkgbase": "linux\n",
      "/boot/vmlinuz-linux": bzImage("6.17.1-arch1-1"),
      "/boot/initramfs-linux.img": "x",
      "/boot/initramfs-linux-fallback.img": "x",
      "/boot/amd-ucode.img": "a",
      "/boot/intel-ucode.img": "i",
    },
    expected: [[
      "6.17.1-arch1-1",
      "/boot/vmlinuz-linux",
      "/boot/intel-ucode.img",
      "/boot/amd-ucode.img",
      "/boot/initramfs-linux.img",
    ]],
  },
  {
    name: "Arch in a container: the kernel only beside its modules, booster's image by the package's name",
    files: {
      "/usr/lib/modules/6.17.1-arch1-1/vmlinuz": bzImage("6.17.1-arch1-1"),
      "/usr/lib/modules/6.17.1-arch1-1/pkgbase": "linux\n",
      "/boot/booster-linux.img": "x",
    },
    expected: [["6.17.1-arch1-1", "/usr/lib/modules/6.17.1-arch1-1/vmlinuz", "/boot/booster-linux.img"]],
  },
  {
    name: "Arch with two kernels",
    files: {
      "/usr/lib/modules/6.17.1-arch1-1/pkgbase": "linux\n",
      "/usr/lib/modules/6.12.50-1-lts/pkgbase": "linux-lts\n",
      "/boot/vmlinuz-linux": bzImage("6.17.1-arch1-1"),
      "/boot/vmlinuz-linux-lts": bzImage("6.12.50-1-lts"),
      "/boot/initramfs-linux.img": "x",
      "/boot/initramfs-linux-lts.img": "x",
    },
    expected: [
      ["6.17.1-arch1-1", "/boot/vmlinuz-linux", "/boot/initramfs-linux.img"],
      ["6.12.50-1-lts", "/boot/vmlinuz-linux-lts", "/boot/initramfs-linux-lts.img"],
    ],
  },
  {
    name: "Arch Linux ARM, packed and unpacked, whose files do not say their version",
    files: {
      ...modules("6.17.1-1-aarch64-ARCH"),
      "/boot/Image": ARM,
      "/boot/Image.gz": new Uint8Array(gzipSync(ARM)),
      "/boot/initramfs-linux.img": "x",
    },
    expected: [["6.17.1-1-aarch64-ARCH", "/boot/Image", "/boot/initramfs-linux.img"]],
  },
  {
    name: "Alpine (mkinitfs)",
    files: {
      ...modules("6.12.50-0-lts", "/lib/modules"),
      "/boot/vmlinuz-lts": bzImage("6.12.50-0-lts"),
      "/boot/initramfs-lts": "x",
      "/boot/config-6.12.50-0-lts": "x",
    },
    expected: [["6.12.50-0-lts", "/boot/vmlinuz-lts", "/boot/initramfs-lts"]],
  },
  {
    name: "Alpine on arm64: the version is that of the modules for the flavour",
    files: {
      ...modules("6.12.50-0-lts", "/lib/modules"),
      ...modules("6.12.50-0-virt", "/lib/modules"),
      "/boot/vmlinuz-virt": ARM,
      "/boot/initramfs-virt": "x",
    },
    expected: [["6.12.50-0-virt", "/boot/vmlinuz-virt", "/boot/initramfs-virt"]],
  },
  {
    name: "Gentoo (genkernel)",
    files: {
      ...modules("6.6.21-gentoo-x86_64"),
      "/boot/kernel-genkernel-x86_64-6.6.21-gentoo": bzImage("6.6.21-gentoo-x86_64"),
      "/boot/initramfs-genkernel-x86_64-6.6.21-gentoo": "x",
    },
    expected: [[
      "6.6.21-gentoo-x86_64",
      "/boot/kernel-genkernel-x86_64-6.6.21-gentoo",
      "/boot/initramfs-genkernel-x86_64-6.6.21-gentoo",
    ]],
  },
  {
    name: "Gentoo (installkernel), with the backup that it makes",
    files: {
      "/boot/kernel-6.6.21-gentoo": bzImage("6.6.21-gentoo", { build: "#2" }),
      "/boot/initramfs-6.6.21-gentoo.img": "new",
      "/boot/kernel-6.6.21-gentoo.old": bzImage("6.6.21-gentoo", { build: "#1" }),
      "/boot/initramfs-6.6.21-gentoo.img.old": "old",
    },
    expected: [
      ["6.6.21-gentoo", "/boot/kernel-6.6.21-gentoo", "/boot/initramfs-6.6.21-gentoo.img"],
      ["6.6.21-gentoo.old", "/boot/kernel-6.6.21-gentoo.old", "/boot/initramfs-6.6.21-gentoo.img.old"],
    ],
  },
  {
    name: "Void (dracut)",
    files: { "/boot/vmlinuz-6.12.50_1": bzImage("6.12.50_1"), "/boot/initramfs-6.12.50_1.img": "x" },
    expected: [["6.12.50_1", "/boot/vmlinuz-6.12.50_1", "/boot/initramfs-6.12.50_1.img"]],
  },
  {
    name: "Mageia (dracut)",
    files: {
      "/boot/vmlinuz-6.6.50-desktop-1.mga9": bzImage("6.6.50-desktop-1.mga9"),
      "/boot/vmlinuz-desktop": "->vmlinuz-6.6.50-desktop-1.mga9",
      "/boot/initrd-6.6.50-desktop-1.mga9.img": "x",
      "/boot/initrd-desktop.img": "->initrd-6.6.50-desktop-1.mga9.img",
    },
    expected: [[
      "6.6.50-desktop-1.mga9",
      "/boot/vmlinuz-6.6.50-desktop-1.mga9",
      "/boot/initrd-6.6.50-desktop-1.mga9.img",
    ]],
  },
  {
    name: "Slackware: the kernel without drivers has the initrd, the huge one needs none",
    files: {
      "/boot/vmlinuz-generic-6.6.50": bzImage("6.6.50", { build: "generic" }),
      "/boot/vmlinuz-huge-6.6.50": bzImage("6.6.50", { build: "huge" }),
      "/boot/vmlinuz-generic": "->vmlinuz-generic-6.6.50",
      "/boot/vmlinuz": "->vmlinuz-huge-6.6.50",
      "/boot/initrd-generic-6.6.50.img": "x",
    },
    expected: [
      ["6.6.50", "/boot/vmlinuz-generic-6.6.50", "/boot/initrd-generic-6.6.50.img"],
      ["huge-6.6.50", "/boot/vmlinuz-huge-6.6.50"],
    ],
  },
  {
    name: "Slackware with one kernel and initrd.gz",
    files: { "/boot/vmlinuz-generic-6.6.50": bzImage("6.6.50"), "/boot/initrd.gz": "x" },
    expected: [["6.6.50", "/boot/vmlinuz-generic-6.6.50", "/boot/initrd.gz"]],
  },
  {
    name: "Buildroot",
    files: { ...modules("6.6.50", "/lib/modules"), "/boot/bzImage": bzImage("6.6.50") },
    expected: [["6.6.50", "/boot/bzImage"]],
  },
  {
    name: "Yocto on arm64",
    files: {
      ...modules("6.6.50-yocto-standard"),
      "/boot/Image-6.6.50-yocto-standard": ARM,
      "/boot/Image": "->Image-6.6.50-yocto-standard",
      "/boot/initrd": "x",
    },
    expected: [["6.6.50-yocto-standard", "/boot/Image-6.6.50-yocto-standard", "/boot/initrd"]],
  },
  {
    name: "without modules and version",
    files: { "/boot/bzImage": pe("x86-64"), "/boot/initrd.cpio.zst": "x" },
    expected: [["linux", "/boot/bzImage", "/boot/initrd.cpio.zst"]],
  },
  {
    name: "kernel-install, several initrds in their order",
    files: {
      ...modules("6.6.1"),
      "/boot/0123456789abcdef/6.6.1/linux": bzImage("6.6.1"),
      "/boot/0123456789abcdef/6.6.1/initrd-1": "x",
      "/boot/0123456789abcdef/6.6.1/initrd-0-microcode": "x",
      "/boot/0123456789abcdef/6.6.1/devicetree": "x",
    },
    expected: [[
      "6.6.1",
      "/boot/0123456789abcdef/6.6.1/linux",
      "/boot/0123456789abcdef/6.6.1/initrd-0-microcode",
      "/boot/0123456789abcdef/6.6.1/initrd-1",
    ]],
  },
  {
    name: "kernel-install on the ESP, beside the package's copy",
    files: {
      "/usr/lib/modules/6.6.1/vmlinuz": bzImage("6.6.1"),
      "/efi/fedora/6.6.1/linux": bzImage("6.6.1"),
      "/efi/fedora/6.6.1/initrd": "x",
    },
    expected: [["6.6.1", "/efi/fedora/6.6.1/linux", "/efi/fedora/6.6.1/initrd"]],
  },
  {
    name: "a tree whose ESP holds the kernels",
    files: { "/boot/efi/vmlinuz-linux": bzImage("6.17.1"), "/boot/efi/initramfs-linux.img": "x" },
    expected: [["6.17.1", "/boot/efi/vmlinuz-linux", "/boot/efi/initramfs-linux.img"]],
  },
];

Deno.test.each(ROWS)(
  "inspectTree() finds kernels as they are named: $name",
  ({ files, expected }) =>
    withTree(files, ({ kernels, kernelFindings }) => {
      assert.deepEqual(summary(kernels), expected);
      assert.deepEqual(kernelFindings, []);
    }),
);

for (
  const { name, files, initrd } of [
    { name: "Debian's link in the root", files: { "/initrd.img": "->boot/initrd.img-6.1.0-9-amd64" } },
    { name: "a link beside it", files: { "/boot/initrd.img": "->initrd.img-6.1.0-9-amd64" } },
    {
      name: "a link beside it, as the kernel has one",
      files: { "/boot/initrd.img": "->initrd.img-6.1.0-9-amd64", "/boot/vmlinuz": "->vmlinuz-6.12.9-amd64" },
    },
    { name: "a link with a flavour", files: { "/boot/initrd-amd64.img": "->initrd.img-6.1.0-9-amd64" } },
    { name: "a version that begins alike", files: { "/initrd.img": "->boot/initrd-6.12.90-amd64.img" } },
    { name: "one more digit", files: { "/boot/initrd": "->initramfs-6.1.img.xz" } },
    {
      name: "a link to its own",
      files: { "/boot/initrd.img": "->own/initramfs-6.12.9-amd64-fallback.img.zst" },
      initrd: "/boot/own/initramfs-6.12.9-amd64-fallback.img.zst",
    },
    {
      name: "a link to one that says less",
      files: { "/boot/initrd.img": "->small/initrd-6.12" },
      initrd: "/boot/small/initrd-6.12",
    },
    {
      name: "a link to one without a version",
      files: { "/boot/initrd.img": "->own/initrd-0-rescue-0123.img" },
      initrd: "/boot/own/initrd-0-rescue-0123.img",
    },
    { name: "a file", files: { "/boot/initrd.img": "x" }, initrd: "/boot/initrd.img" },
  ] as { name: string; files: Files; initrd?: string }[]
) {
  Deno.test(`inspectTree() takes an initrd without a version, but not that of another kernel: ${name}`, () =>
    withTree({
      ...modules("6.12.9-amd64"),
      "/boot/vmlinuz-6.12.9-amd64": bzImage("6.12.9-amd64"),
      ...Object.fromEntries(
        Object.values(files).filter((text) => `${text}`.startsWith("->")).map((text) => {
          const target = `${text}`.slice(2);
          return [target.startsWith("boot/") ? `/${target}` : `/boot/${target}`, "x"];
        }).filter(([path]) => path !== "/boot/vmlinuz-6.12.9-amd64"),
      ),
      ...files,
    }, ({ kernels }) => {
      assert.deepEqual(summary(kernels), [
        ["6.12.9-amd64", "/boot/vmlinuz-6.12.9-amd64", ...initrd === undefined ? [] : [initrd]],
      ]);
    }));
}

Deno.test("inspectTree() finds UKIs wherever they lie, each once", () =>
  withTree({
    ...modules("6.17"),
    "/usr/lib/modules/6.17/vmlinuz-virt.efi": uki({ ".uname": "6.17", ".cmdline": "quiet\0" }),
    "/boot/EFI/Linux/fedora-6.17.efi": uki({ ".uname": "6.17", ".cmdline": "quiet\0" }),
    "/efi/efi/LINUX/Arch-Linux.EFI": uki({ ".cmdline": "root=UUID=1 rw" }),
    "/boot/efi/EFI/BOOT/BOOTX64.EFI": pe("x86-64"),
    "/boot/efi/EFI/Linux/tool.efi": pe("x86-64"),
  }, ({ kernels }) => {
    assert.deepEqual(kernels.filter(({ unified }) => unified).map(({ image, unified }) => [image, unified]), [
      ["/boot/EFI/Linux/fedora-6.17.efi", { options: "quiet" }],
      ["/efi/efi/LINUX/Arch-Linux.EFI", { options: "root=UUID=1 rw" }],
    ]);
  }));

Deno.test("inspectTree() sorts a kernel without an initrd behind all that have one", () =>
  withTree({
    "/boot/vmlinuz-6.2": bzImage("6.2"),
    "/boot/vmlinuz-6.1": bzImage("6.1"),
    "/boot/initrd.img-6.1": "x",
    "/boot/vmlinuz-6.3": bzImage("6.3"),
    "/boot/initrd.img-6.3": "",
  }, ({ kernels, kernelFindings }) => {
    assert.deepEqual(summary(kernels), [
      ["6.1", "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1"],
      ["6.3", "/boot/vmlinuz-6.3"],
      ["6.2", "/boot/vmlinuz-6.2"],
    ]);
    assert.deepEqual(kernelFindings.map(({ name, path }) => [name, path]), [[
      "initrd-empty",
      "/boot/initrd.img-6.3",
    ]]);
  }));

Deno.test("inspectTree() takes a backup that is the same kernel for the same", () =>
  withTree({
    "/boot/vmlinuz": bzImage("6.1"),
    "/boot/vmlinuz.old": bzImage("6.1"),
    "/boot/initrd.img": "x",
  }, ({ kernels }) => assert.deepEqual(summary(kernels), [["6.1", "/boot/vmlinuz", "/boot/initrd.img"]])));

Deno.test("inspectTree() says what is built into a kernel", () =>
  withTree({
    "/boot/vmlinuz-6.1": bzImage("6.1"),
    "/usr/lib/modules/6.1/modules.builtin": "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme-core.ko\n",
  }, ({ kernels }) =>
    assert.deepEqual(kernels[0]!.modules, { path: "/usr/lib/modules/6.1", builtin: ["ext4", "nvme_core"] })));

Deno.test("inspectTree() takes a kernel without an EFI stub, which only BIOS starts", () =>
  withTree(
    { "/boot/bzImage": bzImage("6.6.50", { stub: false }) },
    ({ kernels, kernelFindings }) => {
      assert.deepEqual(kernels, [{
        version: "6.6.50",
        image: "/boot/bzImage",
        initrds: [],
        architecture: "x86-64",
        biosOnly: true,
      }]);
      assert.deepEqual(kernelFindings, []);
    },
  ));

Deno.test("inspectTree() looks into a gzip'd kernel, and believes nothing that cannot be", async () => {
  const packed = new Uint8Array(gzipSync(ARM));
  await withTree({ "/boot/vmlinuz-6.8.0-31-generic": packed }, ({ kernels }) => {
    assert.equal(kernels[0]!.architecture, "arm64");
    assert.equal(kernels[0]!.unpackedSize, ARM.length);
  });
  const huge = packed.slice();
  huge.fill(0xff, -4);
  for (
    const bytes of [
      huge,
      packed.subarray(0, 12),
      new Uint8Array(gzipSync("#!/bin/sh")),
      packed.subarray(0, 2),
    ]
  ) {
    await withTree({ "/boot/vmlinuz-6.8": bytes }, ({ kernels, kernelFindings }) => {
      assert.deepEqual(kernels, []);
      assert.match(
        kernelFindings[0]!.message,
        /^Leaving out "\/boot\/vmlinuz-6.8": (what is compressed in it|its gzip data)/,
      );
    });
  }
});

Deno.test("inspectTree() leaves out what is no kernel, or could not be named in a boot entry, and says so", () =>
  withTree({
    "/boot/vmlinuz-text": "#!/bin/sh\n",
    "/boot/vmlinux-elf": elf("x86-64"),
    "/boot/uImage": new Uint8Array([0x27, 0x05, 0x19, 0x56]),
    "/boot/kernel-notes": "not called a kernel for sure",
    "/boot/vmlinuz-a b": bzImage("1"),
    "/boot/vmlinuz-$(reboot)": bzImage("1"),
    "/boot/vmlinuz-1\noptions init=x": bzImage("1"),
    [`/boot/vmlinuz-${"9".repeat(64)}`]: pe("x86-64"),
    "/boot/vmlinuz-2": bzImage("2"),
    "/boot/initrd.img-2": "->initrd\nlinux /evil",
    "/boot/initrd\nlinux /evil": "x",
    "/boot/vmlinuz-3": bzImage("3"),
    "/boot/vmlinuz-4": bzImage("4\noptions init=/evil"),
    "/boot/vmlinuz-2.dpkg-new": bzImage("2"),
  }, ({ kernels, kernelFindings }) => {
    assert.deepEqual(kernels.map(({ version }) => version), ["4", "3"]);
    const notices = kernelFindings.map(({ message }) => message);
    assert.equal(notices.length, 8);
    for (const notice of notices) assert.doesNotMatch(notice, /\n/);
    assert(notices.includes('Leaving out "/boot/vmlinuz-text": it is no kernel with an EFI stub'));
    assert(notices.some((notice) => /uImage": it is an image for U-Boot/.test(notice)));
    assert(notices.some((notice) => notice.includes('"/boot/vmlinuz-1\\noptions init=x"')));
  }));

Deno.test("comparableVersion() sorts as distributions choose their default", { permissions: "none" }, () => {
  // The oldest first.
  const versions = [
    "0-rescue-0123456789abcdef",
    "6.1.0-9-amd64",
    "6.1.0-10-amd64",
    "6.12.0.old",
    "6.12.0-rc7-custom",
    "6.12.0-rescue",
    "6.12.0",
    "6.12.1.old",
    "6.12.1",
    "6.12.48+deb13-amd64",
    "6.12.48+deb13-rt-amd64",
    "6.17.1-300.fc43.x86_64+debug",
    "6.17.1-300.fc43.x86_64",
    "6.18~rc1-1",
    "6.18-rc2",
    "6.18rc3-1-mainline",
    "6.18.1",
  ];
  const sorted = versions.toReversed().sort((a, b) =>
    compareVersions(comparableVersion(a), comparableVersion(b))
  );
  assert.deepEqual(sorted, versions);
  assert.equal(comparableVersion("6.12.48+deb13-cloud-amd64"), "6.12.48+deb13-cloud-amd64");
});
