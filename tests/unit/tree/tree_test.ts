import assert from "node:assert/strict";
import { dirname } from "node:path";
import { type ArchitectureName, ARCHITECTURES } from "../../../lib/core/dps.ts";
import { addedOf, entryPath } from "../../../lib/filesystem/contents.ts";
import { planDisk } from "../../../lib/plan/plan.ts";
import { inspectTree, type OpenTree } from "../../../lib/tree/inspect.ts";
import { closeRoot } from "../../../lib/tree/root.ts";
import { settingsOf } from "../../lab/facts.ts";
import { tempDir } from "../../lab/helpers.ts";
import { elf, pe } from "../../lab/program_heads.ts";

type Files = Readonly<Record<string, string | Uint8Array>>;

/** Makes a tree of files and, for values that start with "->", links, and runs `fn` on its facts. */
function withTree(files: Files, fn: (tree: OpenTree, dir: string) => void | Promise<void>): Promise<void> {
  return tempDir(async (dir) => {
    for (const [path, content] of Object.entries(files)) {
      await Deno.mkdir(dirname(`${dir}${path}`), { recursive: true });
      if (typeof content !== "string") await Deno.writeFile(`${dir}${path}`, content);
      else if (content.startsWith("->")) await Deno.symlink(content.slice(2), `${dir}${path}`);
      else await Deno.writeTextFile(`${dir}${path}`, content);
    }
    const tree = await inspectTree(dir);
    try {
      await fn(tree, dir);
    } finally {
      closeRoot(tree.root);
    }
  });
}

const KERNEL = pe("x86-64");

Deno.test("inspectTree() reads os-release, and prefers that of /etc", () =>
  withTree({
    "/etc/os-release": "ID=etc\n",
    "/usr/lib/os-release": "ID=usr\n",
  }, ({ osRelease }) => assert.equal(osRelease["ID"], "etc")));

Deno.test("inspectTree() follows /etc/os-release inside the tree, and falls back to that of /usr/lib", async () => {
  await withTree({
    "/etc/os-release": "->../../../../usr/lib/os-release",
    "/usr/lib/os-release": "ID=usr\n",
  }, ({ osRelease }) => assert.equal(osRelease["ID"], "usr"));
  await withTree({
    "/etc/os-release": "->/nowhere",
    "/usr/lib/os-release": "ID=usr\n",
  }, ({ osRelease }) => assert.equal(osRelease["ID"], "usr"));
  await withTree({ "/x": "" }, ({ osRelease }) => assert.deepEqual({ ...osRelease }, {}));
});

Deno.test("inspectTree() reads fstab, machine ID and the kernel options on one line", () =>
  withTree({
    "/etc/fstab": "tmpfs /tmp tmpfs\n",
    "/etc/machine-id": "abc\n",
    "/etc/kernel/cmdline": "  quiet\n\tconsole=ttyS0\u0000\u001b[2J \u0085splash\n\n",
  }, ({ fstab, machineId, kernelOptions }) => {
    assert.equal(fstab, "tmpfs /tmp tmpfs\n");
    assert.equal(machineId, "abc\n");
    assert.equal(kernelOptions, "quiet console=ttyS0 [2J splash");
  }));

Deno.test("inspectTree() and planDisk() keep the bytes of fstab and kernel options that are no UTF-8", () => {
  const bytes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
  return withTree({
    "/etc/fstab": bytes("//srv/x /mnt/f\xfcr cifs password=p\xe4ss\xc3\xa9 0 0\n"),
    "/etc/kernel/cmdline": bytes("quiet name=\xfc\x80\xc3\xa9\n"),
    "/etc/os-release": bytes("ID=x\nPRETTY_NAME=caf\xe9\n"),
    "/boot/vmlinuz-6": KERNEL,
    "/usr/lib/systemd/boot/efi/systemd-bootx64.efi": KERNEL,
    "/usr/sbin/init": elf("x86-64"),
  }, (tree) => {
    // It stands in JSON of manifests, which must be well-formed.
    assert.equal(tree.osRelease["PRETTY_NAME"], "caf\ufffd");
    const plan = planDisk(settingsOf(), tree);
    const textIn = (path: string, name: string) => {
      for (const { selection } of plan.partitions) {
        for (let entry = 0; entry < selection.count; entry++) {
          if (entryPath(selection, entry) !== path) continue;
          return String.fromCharCode(...addedOf(selection, entry)!.text!);
        }
      }
      assert.fail(`no ${name}`);
    };
    assert.match(
      textIn("/etc/fstab", "fstab"),
      /^\/\/srv\/x \/mnt\/f\xfcr cifs password=p\xe4ss\xc3\xa9 0 0\n/,
    );
    for (const path of ["/etc/kernel/cmdline", "/loader/entries/x-6.conf"]) {
      assert.match(textIn(path, "options"), / quiet name=\xfc\x80\xc3\xa9\n/);
    }
  });
});

Deno.test("inspectTree() takes what is not there for not there", () =>
  withTree(
    { "/x": "" },
    ({ fstab, machineId, kernelOptions, architecture, kernels, findings, kernelFindings }) => {
      assert.deepEqual([fstab, machineId, kernelOptions, architecture], [
        "",
        undefined,
        undefined,
        undefined,
      ]);
      assert.deepEqual([kernels, findings, kernelFindings], [[], [], []]);
    },
  ));

Deno.test("inspectTree() finds the newest time, in whole seconds", () =>
  withTree({ "/a": "", "/b": "" }, async (_, dir) => {
    for (
      const [path, time] of [["/a", 1_600_000_000], ["/b", 1_500_000_000.25], ["", 1_400_000_000]] as const
    ) {
      await Deno.utime(`${dir}${path}`, time, time);
    }
    for (
      const [time, newest] of [[1_600_000_000, 1_600_000_000], [1_600_000_000.5, 1_600_000_001]] as const
    ) {
      await Deno.utime(`${dir}/a`, time, time);
      const tree = await inspectTree(dir);
      closeRoot(tree.root);
      assert.equal(tree.newest, newest);
    }
  }));

for (const architecture of Object.keys(ARCHITECTURES) as ArchitectureName[]) {
  Deno.test(`inspectTree() finds the architecture of the programs: ${architecture}`, () =>
    withTree(
      { "/usr/sbin/init": elf(architecture), "/sbin": "->usr/sbin" },
      (tree) => assert.equal(tree.architecture, architecture),
    ));
}

Deno.test("inspectTree() asks the init first, and the next program when it is a script", async () => {
  await withTree(
    { "/sbin/init": elf("x86"), "/bin/sh": elf("x86-64") },
    ({ architecture }) => assert.equal(architecture, "x86"),
  );
  await withTree(
    { "/sbin/init": "#!/bin/sh\n", "/bin/sh": "->busybox", "/bin/busybox": elf("arm64") },
    ({ architecture }) => assert.equal(architecture, "arm64"),
  );
});

Deno.test("inspectTree() takes no architecture from outside the tree", () =>
  withTree(
    { "/sbin/init": "->../../../../../../../../../../bin/sh", "/usr/bin/env": "->/proc/self/exe" },
    ({ architecture }) => assert.equal(architecture, undefined),
  ));

// Kernels -------------------------------------------------------------------------------------------------

Deno.test.each<{ name: string; files: Files; version: string; image: string; initrds: string[] }>([
  {
    name: "Debian",
    files: { "/boot/vmlinuz-6.1.0-41-amd64": KERNEL, "/boot/initrd.img-6.1.0-41-amd64": "x" },
    version: "6.1.0-41-amd64",
    image: "/boot/vmlinuz-6.1.0-41-amd64",
    initrds: ["/boot/initrd.img-6.1.0-41-amd64"],
  },
  {
    name: "Fedora",
    files: {
      "/boot/vmlinuz-6.17.1-300.fc43.x86_64": KERNEL,
      "/boot/initramfs-6.17.1-300.fc43.x86_64.img": "x",
    },
    version: "6.17.1-300.fc43.x86_64",
    image: "/boot/vmlinuz-6.17.1-300.fc43.x86_64",
    initrds: ["/boot/initramfs-6.17.1-300.fc43.x86_64.img"],
  },
  {
    name: "Alpine",
    files: { "/boot/vmlinuz-virt": KERNEL, "/boot/initramfs-virt": "x", "/boot/config-virt": "x" },
    version: "virt",
    image: "/boot/vmlinuz-virt",
    initrds: ["/boot/initramfs-virt"],
  },
  {
    name: "kernel-install",
    files: {
      "/boot/0123456789abcdef/6.6.1/linux": KERNEL,
      "/boot/0123456789abcdef/6.6.1/initrd": "x",
      "/boot/0123456789abcdef/6.6.1/microcode": "x",
    },
    version: "6.6.1",
    image: "/boot/0123456789abcdef/6.6.1/linux",
    initrds: ["/boot/0123456789abcdef/6.6.1/initrd"],
  },
  {
    name: "image-based systems",
    files: { "/usr/lib/modules/6.9/vmlinuz": KERNEL, "/usr/lib/modules/6.9/initrd": "x" },
    version: "6.9",
    image: "/usr/lib/modules/6.9/vmlinuz",
    initrds: ["/usr/lib/modules/6.9/initrd"],
  },
  {
    name: "Buildroot, with the version in the modules",
    files: { "/boot/bzImage": KERNEL, "/usr/lib/modules/5.15.1/modules.dep": "" },
    version: "5.15.1",
    image: "/boot/bzImage",
    initrds: [],
  },
  {
    name: "Buildroot, without modules",
    files: { "/boot/bzImage": KERNEL, "/boot/initrd": "x" },
    version: "linux",
    image: "/boot/bzImage",
    initrds: ["/boot/initrd"],
  },
  {
    name: "a link into /usr",
    files: {
      "/boot/vmlinuz-6.2": "->../usr/lib/modules/6.2/vmlinuz",
      "/usr/lib/modules/6.2/vmlinuz": KERNEL,
    },
    version: "6.2",
    image: "/usr/lib/modules/6.2/vmlinuz",
    initrds: [],
  },
])(
  "inspectTree() finds a kernel where the distribution has it: $name",
  ({ files, ...kernel }) =>
    withTree(files, ({ kernels, kernelFindings }) => {
      const { name: _, ...expected } = kernel;
      assert.deepEqual(kernels, [{ ...expected, architecture: "x86-64" }]);
      assert.deepEqual(kernelFindings, []);
    }),
);

Deno.test("inspectTree() lists kernels newest first, each once", () =>
  withTree({
    "/boot/vmlinuz-6.1.0-9": KERNEL,
    "/boot/vmlinuz-6.1.0-10": KERNEL,
    "/boot/vmlinuz-6.12.0~rc1": KERNEL,
    "/boot/vmlinuz-6.12.0": pe("arm64"),
    "/boot/vmlinuz": "->vmlinuz-6.12.0",
    "/boot/vmlinuz-6.1.0-9.dpkg-new": KERNEL,
    "/usr/lib/modules/6.12.0/vmlinuz": KERNEL,
  }, ({ kernels }) => {
    assert.deepEqual(kernels.map(({ version }) => version), ["6.12.0", "6.12.0~rc1", "6.1.0-10", "6.1.0-9"]);
    assert.equal(kernels[0]!.architecture, "arm64");
    assert.equal(kernels[0]!.image, "/boot/vmlinuz-6.12.0");
  }));

Deno.test("inspectTree() leaves out what is no kernel, or could not be named in a boot entry, and says so", () =>
  withTree({
    "/boot/vmlinuz-text": "#!/bin/sh\n",
    "/boot/vmlinux-elf": elf("x86-64"),
    "/boot/vmlinuz-a b": KERNEL,
    "/boot/vmlinuz-$(reboot)": KERNEL,
    "/boot/vmlinuz-1\noptions init=x": KERNEL,
    [`/boot/vmlinuz-${"9".repeat(64)}`]: KERNEL,
    "/boot/vmlinuz-2": KERNEL,
    "/boot/initrd.img-2": "->initrd\nlinux /evil",
    "/boot/initrd\nlinux /evil": "x",
    "/boot/vmlinuz-3": KERNEL,
  }, ({ kernels, kernelFindings }) => {
    assert.deepEqual(kernels.map(({ version }) => version), ["3"]);
    assert.equal(kernelFindings.length, 7);
    const messages = kernelFindings.map(({ message }) => message);
    for (const message of messages) assert.doesNotMatch(message, /\n/);
    assert(messages.includes('Leaving out "/boot/vmlinuz-text": it is no kernel with an EFI stub'));
    assert(messages.some((message) => message.includes('"/boot/vmlinuz-1\\noptions init=x"')));
  }));
