import assert from "node:assert/strict";
import {
  BOOT_LOADER_CHOICES,
  type BootLoaderName,
  BOOTLOADERS,
  chooseLoader,
} from "../../../lib/boot/bootloaders.ts";
import { type BootFiles, firmwareOf, type FoundLoader } from "../../../lib/boot/loader.ts";
import { type ArchitectureName, ARCHITECTURES, efiBootPath } from "../../../lib/core/dps.ts";
import type { ExtraFile } from "../../../lib/filesystem/entries.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import type { Tree } from "../../../lib/tree/inspect.ts";
import type { Kernel } from "../../../lib/tree/kernels.ts";
import { lookup, typeOf } from "../../../lib/tree/nodes.ts";
import { DEBIAN, factsOf, kernel, LOADER, programs } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;
const OPTIONS = "root=PARTUUID=1 rw quiet";

/** For each loader the least tree that supports it. */
const LEAST: Record<BootLoaderName, readonly NodeInput[]> = {
  "existing": [{ path: "/boot/efi/EFI/BOOT/BOOTX64.EFI", size: 5 }],
  "systemd-boot": [{ path: LOADER, size: 5 }],
  "grub": [{ path: "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", size: 5 }],
  "uki": [
    { path: "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", size: 5 },
    { path: LOADER, size: 5 },
  ],
};

/** What the tree's own loader is. */
const EXISTING = programs({ "/boot/efi/EFI/BOOT/BOOTX64.EFI": "systemd-boot" });

function found(name: BootLoaderName, tree: Tree): FoundLoader {
  const loader = BOOTLOADERS[name].find(tree);
  assert(typeof loader !== "string", `${name}: ${loader}`);
  return loader;
}

function files(name: BootLoaderName, tree: Tree): BootFiles {
  return found(name, tree).files({ options: OPTIONS, bootUuid: "0" });
}

function text(additions: readonly ExtraFile[], path: string): string {
  const addition = additions.find((addition) => addition.path === path);
  assert(addition?.type === "file", `${path} is not written, but ${additions.map(({ path }) => path)}`);
  return addition.text;
}

for (const name of Object.keys(BOOTLOADERS) as BootLoaderName[]) {
  Deno.test(`BOOTLOADERS.${name} is found in a tree that has it, and says what another lacks`, pure, () => {
    assert(BOOT_LOADER_CHOICES.includes(name));
    const { reason } = found(name, factsOf(LEAST[name], { kernels: [kernel("1")], programs: EXISTING }));
    assert.match(reason, /^the tree has \//);
    const missing = BOOTLOADERS[name].find(factsOf([{ path: "/usr/sbin/init" }]));
    assert(typeof missing === "string");
    assert.match(missing, /^no /);
  });

  Deno.test(
    `BOOTLOADERS.${name} copies only what is in the tree, and writes an entry per kernel`,
    pure,
    () => {
      const kernels = [kernel("2"), kernel("1", { initrds: [] })];
      const tree = factsOf(LEAST[name], { kernels, programs: EXISTING });
      const { esp, xbootldr } = files(name, tree);
      if (name === "uki") {
        const made = esp.flatMap((addition) => addition.type === "made" ? [addition] : []);
        assert.deepEqual(made.map(({ path }) => path), [
          "/EFI/Linux/debian-2.efi",
          "/EFI/Linux/debian-1.efi",
        ]);
        return;
      }
      for (const addition of esp) {
        if (addition.type !== "copy") continue;
        const node = lookup(tree.nodes, addition.from);
        assert(node !== undefined && typeOf(tree.nodes, node) === "file", addition.from);
      }
      const written = xbootldr.map((addition) => addition.type === "file" ? addition.text : "").join("\n");
      assert.deepEqual(written.match(/^ *linux .*/gm)!.map((line) => line.trim().split(/ +/)[1]), [
        "/vmlinuz-2",
        "/vmlinuz-1",
      ]);
      assert.deepEqual(written.match(/^ *initrd .*/gm)!.map((line) => line.trim().split(/ +/)[1]), [
        "/initrd.img-2",
      ]);
      assert.equal(written.split(OPTIONS).length, 3);
    },
  );

  Deno.test(`BOOTLOADERS.${name} is no directory, FIFO or dangling link of that name`, pure, () => {
    for (const path of LEAST[name].map(({ path }) => path)) {
      for (
        const input of [
          { path, type: "directory" },
          { path, type: "fifo" },
          { path, type: "char" },
          { path, target: "/nowhere" },
          { path, target: "../../../../../../../etc/passwd" },
          { path, target: path },
        ] as const
      ) {
        assert(typeof BOOTLOADERS[name].find(factsOf([input])) === "string", JSON.stringify(input));
      }
    }
  });
}

Deno.test("BOOTLOADERS.systemd-boot writes entries after the Boot Loader Specification", pure, () => {
  const tree = factsOf(LEAST["systemd-boot"], { kernels: [kernel("2"), kernel("1", { initrds: [] })] });
  const { xbootldr } = files("systemd-boot", tree);
  assert.equal(
    text(xbootldr, "/loader/entries/debian-2.conf"),
    [
      "title      Debian GNU/Linux 13 (trixie)",
      "version    2",
      "sort-key   debian",
      "linux      /vmlinuz-2",
      "initrd     /initrd.img-2",
      `options    ${OPTIONS}`,
      "",
    ].join("\n"),
  );
  assert.doesNotMatch(text(xbootldr, "/loader/entries/debian-1.conf"), /^initrd/m);
  assert.equal(text(xbootldr, "/loader/entries.srel"), "type1\n");
});

Deno.test(
  "BOOTLOADERS.grub is not for UKIs, which its menu does not start, and says which it leaves out",
  pure,
  () => {
    const uki = kernel("2", { image: "/boot/EFI/Linux/a.efi", initrds: [], unified: { options: "" } });
    const treeWith = (...kernels: readonly Kernel[]) =>
      factsOf([...LEAST["grub"], ...LEAST["uki"], { path: uki.image }], { kernels });
    assert.equal(
      BOOTLOADERS.grub.find(treeWith(uki)),
      "no kernels but UKIs, which GRUB's menu does not start",
    );
    const mixed = found("grub", treeWith(uki, kernel("1")));
    assert.deepEqual(mixed.findings!.map(({ name, message }) => `${name}: ${message}`), [
      'kernel-firmware: Leaving out "/boot/EFI/Linux/a.efi": it is a UKI, which GRUB\'s menu does not start',
    ]);
    assert.deepEqual(found("grub", treeWith(kernel("1"))).findings, []);
    // Those of Debian are signed, and would be preferred.
    const signed = ["/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"];
    const tree = (kernels: readonly Kernel[]) =>
      factsOf(
        [...signed.map((path) => ({ path, size: 5 })), { path: LOADER, size: 5 }, { path: uki.image }],
        {
          kernels,
        },
      );
    const chosen = (kernels: readonly Kernel[]) => {
      const loader = chooseLoader({ bootloader: "auto", sectorSize: 512 }, tree(kernels));
      return Array.isArray(loader) ? loader : loader.name;
    };
    assert.equal(chosen([uki]), "systemd-boot");
    assert.equal(chosen([kernel("1")]), "grub");
  },
);

Deno.test("BOOTLOADERS.existing finds the loader in any spelling that FAT takes for the same", pure, () => {
  for (
    const path of ["/boot/efi/EFI/BOOT/BOOTX64.efi", "/efi/efi/boot/bootx64.efi", "/efi/EFI/BOOT/BOOTX64.EFI"]
  ) {
    const tree = factsOf([{ path }], { programs: programs({ [path]: "unknown" }) });
    assert.equal(found("existing", tree).reason, `the tree has ${path}`);
    assert.deepEqual(files("existing", tree).esp, []);
  }
});

for (const architecture of Object.keys(ARCHITECTURES) as ArchitectureName[]) {
  const path = efiBootPath(architecture);
  Deno.test(`BOOTLOADERS.systemd-boot for ${architecture}: ${path ?? "none"}`, pure, () => {
    const { efi } = ARCHITECTURES[architecture] as { efi?: string };
    const name = `systemd-boot${(efi ?? architecture).toLowerCase()}.efi`;
    const from = `/usr/lib/systemd/boot/efi/${name}`;
    const loader = BOOTLOADERS["systemd-boot"].find(factsOf([{ path: from }], { architecture }));
    if (!path) return assert.equal(typeof loader, "string");
    assert(typeof loader !== "string", String(loader));
    assert.deepEqual(loader.files({ options: "", bootUuid: "0" }).esp.slice(0, 2), [
      { path: `/${path}`, type: "copy", from },
      { path: `/EFI/systemd/${name}`, type: "copy", from },
    ]);
  });
}

Deno.test(
  "firmwareOf() is that of the newest kernel, which may be another than the tree's",
  pure,
  () => {
    const kernels = [kernel("2", { architecture: "x86-64" }), kernel("1", { architecture: "x86" })];
    assert.equal(firmwareOf(factsOf(DEBIAN, { architecture: "x86", kernels }))?.architecture, "x86-64");
    assert.equal(firmwareOf(factsOf(DEBIAN, { architecture: "x86", kernels: [] }))?.architecture, "x86");
  },
);

Deno.test("BOOTLOADERS.systemd-boot keeps the tree's own loader.conf", pure, () => {
  const own: NodeInput = { path: "/boot/efi/loader/loader.conf" };
  const written = (list: NodeInput[]) =>
    files("systemd-boot", factsOf([{ path: LOADER }, ...list])).esp.map(({ path }) => path);
  assert(written([]).includes("/loader/loader.conf"));
  assert(!written([own]).includes("/loader/loader.conf"));
});

Deno.test.each([
  ["os-release without a name", {}, "linux", "Linux"],
  ["a name without a pretty one", { NAME: "Tiny" }, "linux", "Tiny"],
  ["an ID that is a path", { ID: "../../x", NAME: "X" }, "....x", "X"],
  ["an ID of nothing that counts", { ID: "$()\"'/", NAME: "X" }, "linux", "X"],
  ["a long ID", { ID: "x".repeat(60_000), NAME: "X" }, "x".repeat(64), "X"],
])("BOOTLOADERS write entries whose names and lines are sound: %s", pure, (_, osRelease, id, title) => {
  const tree = factsOf(LEAST.existing, { osRelease, kernels: [kernel("1")], programs: EXISTING });
  const { xbootldr } = files("existing", tree);
  const entry = text(xbootldr, `/loader/entries/${id}-1.conf`);
  assert.match(entry, new RegExp(`^title      ${title}\n`));
  assert.equal(entry.match(/\n/g)!.length, 6);
});

Deno.test("BOOTLOADERS keep the device tree of a kernel's boot entry", pure, () => {
  const list = [...LEAST["systemd-boot"], ...LEAST.grub, { path: "/boot/x/board.dtb" }, {
    path: "/boot/vmlinuz-1",
  }];
  const entry = "linux /vmlinuz-1\ndevicetree /x/board.dtb\n";
  const bootTexts = new Map([["/boot/loader/entries/1.conf", entry]]);
  const tree = factsOf(list, { kernels: [kernel("1")], bootTexts });
  assert.match(
    text(files("systemd-boot", tree).xbootldr, "/loader/entries/debian-1.conf"),
    /^devicetree \/x\/board.dtb$/m,
  );
  assert.match(text(files("grub", tree).xbootldr, "/grub/grub.cfg"), /^ {2}devicetree \/x\/board.dtb$/m);
});
