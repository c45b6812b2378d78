import assert from "node:assert/strict";
import { type ArchitectureName, ARCHITECTURES } from "../../../lib/core/dps.ts";
import { addedOf, entryPath } from "../../../lib/filesystem/contents.ts";
import { planDisk } from "../../../lib/plan/plan.ts";
import { settingsOf } from "../../lab/facts.ts";
import { buildNodes } from "../../../lib/tree/builder.ts";
import { inspectTree, textFileAt } from "../../../lib/tree/inspect.ts";
import { lookup } from "../../../lib/tree/nodes.ts";
import { closeRoot } from "../../../lib/tree/root.ts";
import { elf, pe } from "../../lab/program_heads.ts";
import { withTree } from "../../lab/small_tree.ts";

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

Deno.test("inspectTree() reads definitions of partitions and their drop-ins, but no hidden ones", () => {
  const directory = "/usr/lib/repart.d";
  return withTree({
    [`${directory}/10-root.conf`]: "a",
    [`${directory}/10-root.conf.d/size.conf`]: "b",
    [`${directory}/10-root.conf.d/.size.conf`]: "c",
    [`${directory}/.20-home.conf`]: "d",
    [`${directory}/.20-home.conf.d/size.conf`]: "e",
    [`${directory}/.#10-root.conf`]: "->user@host.1234:1",
    [`${directory}/30-srv.conf~`]: "f",
  }, ({ repart }) => assert.deepEqual(repart, { "10-root.conf": "a", "10-root.conf.d/size.conf": "b" }));
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

Deno.test("textFileAt() takes a link to /dev/null for no file, and says what to do about other things", () => {
  const nodes = buildNodes([
    { path: "/dev/null", type: "char", device: [1, 3] },
    { path: "/dev/zero", type: "char", device: [1, 5] },
    { path: "/etc/hosts", size: 3 },
    { path: "/etc/file", target: "hosts" },
    { path: "/etc/masked", target: "/dev/null" },
    { path: "/etc/dangling", target: "/run/null" },
    { path: "/etc/zero", target: "../dev/zero" },
    { path: "/etc/directory", type: "directory" },
  ]);
  assert.equal(textFileAt(nodes, "/etc/file"), lookup(nodes, "/etc/hosts"));
  for (const path of ["/etc/masked", "/etc/dangling", "/etc/missing"]) {
    assert.equal(textFileAt(nodes, path), undefined, path);
  }
  for (
    const [path, what] of [["/etc/zero", '"/dev/zero" is a char'], ["/etc/directory", "it is a directory"]]
  ) {
    assert.throws(() => textFileAt(nodes, path!), {
      name: "BuildError",
      message: `Cannot read ${path} of the tree: ${what}, not a file`,
      hint: `Make ${path} a file in the tree, or remove it`,
    });
  }
});

Deno.test("inspectTree() and planDisk() keep the bytes of fstab and kernel options that are no UTF-8", () => {
  const bytes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
  return withTree({
    "/etc/fstab": bytes("//srv/x /mnt/f\xfcr cifs password=p\xe4ss\xc3\xa9 0 0\n"),
    "/etc/kernel/cmdline": bytes("quiet name=\xfc\x80\xc3\xa9\n"),
    "/etc/os-release": bytes("ID=x\nPRETTY_NAME=caf\xe9\n"),
    "/boot/vmlinuz-6": pe("x86-64"),
    "/usr/lib/systemd/boot/efi/systemd-bootx64.efi": pe("x86-64"),
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
