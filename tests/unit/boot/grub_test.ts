import assert from "node:assert/strict";
import { BOOTLOADERS, chooseLoader } from "../../../lib/boot/bootloaders.ts";
import { grubDefaults, quoteGrub, splitOptions } from "../../../lib/boot/grub.ts";
import type { ExtraFile } from "../../../lib/filesystem/entries.ts";
import type { Tree } from "../../../lib/tree/inspect.ts";
import { factsOf, programs } from "../../lab/facts.ts";
import { quiet } from "../../lab/helpers.ts";

const pure = { permissions: "none" } as const;

/** A tree with a kernel and these files. */
function treeOf(...paths: string[]): Tree {
  return factsOf(["/boot/vmlinuz-6.1", ...paths].map((path) => ({ path, type: "file", size: 10 })), {
    osRelease: { ID: "derived", ID_LIKE: "debian ../../x", PRETTY_NAME: "It's a $(test)" },
    kernels: [{ version: "6.1", image: "/boot/vmlinuz-6.1", initrds: [], architecture: "x86-64" }],
    programs: programs(Object.fromEntries(
      paths.filter((path) => /\.efi/i.test(path)).map((
        path,
      ) => [path, path.includes("shim") ? "shim" : "unknown"]),
    )),
  });
}

/** The text of an addition. */
function textOf(addition: ExtraFile | undefined): string {
  return addition?.type === "file" ? addition.text : "";
}

const SHIM = "/usr/lib/shim/shimx64.efi.signed";
const SIGNED = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
const MONOLITHIC = "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi";
const SYSTEMD_BOOT = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

Deno.test.each([
  {
    title: "what the tree brings on its ESP",
    paths: ["/boot/efi/EFI/BOOT/bootx64.efi", SHIM, SIGNED],
    name: "existing",
  },
  { title: "a signed loader before an unsigned one", paths: [SYSTEMD_BOOT, SHIM, SIGNED], name: "grub" },
  {
    title: "systemd-boot of two signed ones",
    paths: [`${SYSTEMD_BOOT}.signed`, SHIM, SIGNED],
    name: "systemd-boot",
  },
  { title: "systemd-boot of two unsigned ones", paths: [SYSTEMD_BOOT, MONOLITHIC], name: "systemd-boot" },
  { title: "GRUB where there is nothing else", paths: [MONOLITHIC], name: "grub" },
])("chooseLoader() takes $title", pure, ({ paths, name }) => {
  const chosen = chooseLoader({ bootloader: "auto", sectorSize: 512 }, treeOf(...paths));
  assert.ok(!Array.isArray(chosen));
  assert.equal(chosen.name, name);
});

Deno.test(
  "chooseLoader() names what is missing for every loader, and refuses the one asked for",
  pure,
  () => {
    const missing = chooseLoader({ bootloader: "auto", sectorSize: 512 }, treeOf());
    assert.ok(Array.isArray(missing));
    assert.equal(missing.length, Object.keys(BOOTLOADERS).length);
    assert.throws(
      () => chooseLoader({ bootloader: "grub", sectorSize: 512 }, treeOf(SYSTEMD_BOOT)),
      /BOOTLOADER=grub: no .*grubx64/,
    );
  },
);

Deno.test("BOOTLOADERS.grub writes its stub wherever a signed GRUB may look, and nowhere else", pure, () => {
  const chosen = chooseLoader({ bootloader: "grub", sectorSize: 512 }, treeOf(SHIM, SIGNED));
  assert.ok(!Array.isArray(chosen));
  const { esp, xbootldr } = chosen.files({ options: "root=PARTUUID=1 rw", bootUuid: "abc" });
  const stubs = esp.filter(({ path }) => path.endsWith("grub.cfg"));
  assert.deepEqual(stubs.map(({ path }) => path), [
    "/EFI/derived/grub.cfg",
    "/EFI/debian/grub.cfg",
    "/EFI/BOOT/grub.cfg",
  ]);
  for (const stub of stubs) assert.match(textOf(stub), /^search.fs_uuid abc root$/m);

  assert.match(
    textOf(xbootldr[0]),
    /^menuentry 'It'\\''s a \$\(test\)' \{\n {2}linux \/vmlinuz-6.1 root=PARTUUID=1 rw\n\}$/m,
  );
});

Deno.test("BOOTLOADERS.existing gives the GRUB of the tree's ESP the menu of the image", pure, () => {
  const chosen = chooseLoader(
    { bootloader: "auto", sectorSize: 512 },
    treeOf("/efi/EFI/BOOT/BOOTX64.EFI", "/efi/EFI/debian/grub.cfg"),
  );
  assert.ok(!Array.isArray(chosen));
  assert.equal(chosen.boot, "ext4");
  const { esp } = chosen.files({ options: "rw", bootUuid: "abc" });
  assert.deepEqual(esp.map(({ path }) => path), ["/EFI/debian/grub.cfg"]);
});

Deno.test.each([
  { options: "a b=c", words: ["a", "b=c"] },
  { options: 'dyndbg="file a.c +p; file b.c +p" quiet', words: ["dyndbg=file a.c +p; file b.c +p", "quiet"] },
  { options: '  "x y"  z ', words: ["x y", "z"] },
])("splitOptions() keeps quoted words together: $options", pure, ({ options, words }) => {
  assert.deepEqual(splitOptions(options), words);
});

Deno.test("quoteGrub() quotes what a script language would read as something else", pure, () => {
  assert.equal(quoteGrub("root=PARTUUID=1-2"), "root=PARTUUID=1-2");
  for (const word of ["$x", "a;b", "{", "a b", '"', "\\"]) assert.equal(quoteGrub(word), `'${word}'`);
});

Deno.test("grubDefaults() adds to the options of the tree what a shell reads back unchanged", async () => {
  const options = `root=PARTUUID=1 rw console=ttyS0 it's $(false) dyndbg="a b"`;
  const [file] = grubDefaults(treeOf("/usr/sbin/grub-mkconfig"), options);
  const script = `GRUB_CMDLINE_LINUX=own\n${textOf(file)}\nprintf %s "$GRUB_CMDLINE_LINUX"`;
  assert.equal(
    await quiet`sh -euc ${script}`,
    `own rw console=ttyS0 it's $(false) dyndbg="a b"`.replace('dyndbg="a b"', '"dyndbg=a b"'),
  );
  assert.deepEqual(grubDefaults(treeOf(), options), []);
});

Deno.test("grubDefaults() takes what names another machine out of GRUB's settings", pure, () => {
  const settings = "GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT='resume=UUID=1 quiet'\n" +
    'GRUB_CMDLINE_LINUX="rd.lvm.lv=a/b console=ttyS0 resume=UUID=1"\n';
  const tree = (script: string) => ({
    ...treeOf("/usr/sbin/grub2-mkconfig"),
    bootTexts: new Map([["/etc/default/grub", settings], ["/usr/sbin/grub2-mkconfig", script]]),
  });
  const cleaned =
    "GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT='quiet'\nGRUB_CMDLINE_LINUX=\"console=ttyS0 \"\n";
  const ours = `# The options of the image.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "'rw'\n`;
  const options = "root=UUID=2 rw console=ttyS0 quiet";
  assert.deepEqual(grubDefaults(tree(". ${sysconfdir}/default/grub"), options), [
    { path: "/etc/default/grub", type: "file", text: `${cleaned}\n${ours}` },
  ]);
  assert.deepEqual(grubDefaults(tree("for x in ${sysconfdir}/default/grub.d/*.cfg"), options), [
    { path: "/etc/default/grub", type: "file", text: cleaned },
    { path: "/etc/default/grub.d/50-image.cfg", type: "file", text: ours },
  ]);
});
