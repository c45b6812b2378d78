import assert from "node:assert/strict";
import { chooseLoader } from "../../../lib/boot/bootloaders.ts";
import { findExisting, foreignEntries } from "../../../lib/boot/tree-esp.ts";
import { planDisk } from "../../../lib/plan/plan.ts";
import type { EfiProgram } from "../../../lib/tree/efi-programs.ts";
import { factsOf, kernel, LOADER, programs, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

const FIRST = "/boot/efi/EFI/BOOT/BOOTX64.EFI";
const GRUB = "/boot/efi/EFI/BOOT/grubx64.efi";
const DEBIAN: Partial<EfiProgram> = {
  kind: "grub",
  grub: { prefix: "/EFI/debian", hasLinux: true, readsEntries: false },
};

/** A tree with these programs, which begin with what they are, and other files. */
function treeOf(kinds: Record<string, EfiProgram["kind"] | Partial<EfiProgram>>, ...paths: string[]) {
  const list = [...Object.keys(kinds), ...paths, "/boot/vmlinuz-1", "/usr/sbin/init"].map((path) => ({
    path,
  }));
  return factsOf(list, { kernels: [kernel("1", { initrds: [] })], programs: programs(kinds) });
}

function found(...of: Parameters<typeof treeOf>) {
  const loader = findExisting(treeOf(...of));
  assert(typeof loader !== "string", String(loader));
  const files = loader.files({ options: "root=UUID=1 rw", bootUuid: "abc" });
  return {
    loader,
    esp: files.esp.map(({ path }) => path),
    xbootldr: files.xbootldr.map(({ path }) => path),
    files,
  };
}

Deno.test("findExisting() gives GRUB without a configuration one wherever it may look", pure, () => {
  const { loader, esp, xbootldr } = found({
    [FIRST]: "shim",
    [GRUB]: DEBIAN,
    "/boot/efi/EFI/x/grubx64.efi": DEBIAN,
  });
  assert.equal(loader.boot, "ext4");
  assert.deepEqual(esp, ["/EFI/BOOT/grub.cfg", "/EFI/debian/grub.cfg", "/EFI/x/grub.cfg"]);
  assert.deepEqual(xbootldr, ["/grub/grub.cfg"]);
});

Deno.test("findExisting() follows shim's fallback program to the directory of a distribution", pure, () => {
  const { esp } = found(
    {
      [FIRST]: "shim",
      "/boot/efi/EFI/fedora/grubx64.efi": DEBIAN,
      "/boot/efi/EFI/fedora/shimx64.efi": "shim",
    },
    "/boot/efi/EFI/BOOT/fbx64.efi",
    "/usr/sbin/grub2-mkconfig",
  );
  assert.deepEqual(esp, ["/EFI/debian/grub.cfg", "/EFI/fedora/grub.cfg"]);
});

Deno.test("findExisting() writes the menu where the tree's own tools do", pure, () => {
  const { files, xbootldr } = found({ [FIRST]: DEBIAN }, "/usr/sbin/grub2-mkconfig");
  assert.deepEqual(xbootldr, ["/grub2/grub.cfg"]);
  const [stub] = files.esp;
  assert(stub?.type === "file");
  assert.match(stub.text, /^search.fs_uuid abc root\nset prefix=\(\$root\)'\/grub2'\n/);
});

Deno.test("findExisting() moves the programs of an ESP at /boot to the ESP", pure, () => {
  const loader = "/boot/EFI/BOOT/BOOTX64.EFI";
  const { files, esp, xbootldr } = found(
    { [loader]: "systemd-boot" },
    "/boot/EFI/systemd/systemd-bootx64.efi",
    "/boot/EFI/Linux/a.efi",
    "/boot/loader/loader.conf",
  );
  assert.deepEqual(esp.toSorted(), [
    "/EFI/BOOT/BOOTX64.EFI",
    "/EFI/systemd/systemd-bootx64.efi",
    "/loader/loader.conf",
  ]);
  assert.deepEqual(files.moved, ["/EFI/BOOT", "/EFI/systemd"]);
  assert(xbootldr.includes("/loader/entries/debian-1.conf"));
});

Deno.test.each<[string, Parameters<typeof treeOf>, RegExp]>([
  ["no program", [{}, FIRST], /is no program for UEFI$/],
  ["another architecture's", [{ [FIRST]: { architecture: "arm64" } }], /is for arm64, not for x86-64$/],
  ["shim alone", [{ [FIRST]: "shim" }], /is shim, and has no grubx64.efi to start$/],
  [
    "SUSE's shim alone",
    [{ [FIRST]: { kind: "shim", starts: "grub.efi" } }],
    /shim, and has no grub.efi to start$/,
  ],
  [
    "grub-install's for another disk",
    [{ [FIRST]: { ...DEBIAN, grub: { ...DEBIAN.grub!, script: "search.fs_uuid 12 root \nset prefix=x" } } }],
    /was made for another disk: GRUB with "search.fs_uuid 12 root" built in$/,
  ],
  [
    "grub-install's for a partition",
    [{ [FIRST]: { ...DEBIAN, grub: { ...DEBIAN.grub!, prefix: "(,gpt2)/boot/grub" } } }],
    /its menu in "\(,gpt2\)\/boot\/grub"$/,
  ],
  [
    "a UKI",
    [{ [FIRST]: { kind: "uki", options: "root=UUID=1" } }],
    /another disk: a UKI with "root=UUID=1"$/,
  ],
])(
  "chooseLoader() replaces or refuses a loader on the tree's ESP that boots nothing: %s",
  pure,
  (_, of, message) => {
    const auto = { bootloader: "auto", sectorSize: 512 } as const;
    assert.match(String(findExisting(treeOf(...of))), message);
    assert.throws(() => chooseLoader(auto, treeOf(...of)), (error: Error & { hint?: string }) => {
      assert.match(error.message, message);
      assert.match(error.hint!, /^Add a boot loader to the tree: systemd-boot/);
      return true;
    });
    const [kinds, ...paths] = of;
    const tree = treeOf(kinds, ...paths, LOADER);
    const plan = planDisk(settingsOf(), tree);
    assert.equal(plan.bootLoader?.name, "systemd-boot");
    const finding = plan.findings.find(({ name }) => name === "loader-replaced");
    assert.match(finding!.message, message);
  },
);

Deno.test("findExisting() takes a grub.cfg beside another loader for a leftover", pure, () => {
  const { loader, esp, xbootldr } = found({ [FIRST]: "systemd-boot" }, "/boot/efi/EFI/debian/grub.cfg");
  assert.equal(loader.boot, "vfat");
  assert(!esp.some((path) => path.endsWith("grub.cfg")));
  assert(xbootldr.includes("/loader/entries/debian-1.conf"));
});

Deno.test(
  "findExisting() refuses a GRUB if there are only UKIs, and the plan says why it is replaced",
  pure,
  () => {
    const uki = kernel("1", { image: "/boot/vmlinuz-1", initrds: [], unified: { options: "" } });
    const tree = { ...treeOf({ [FIRST]: DEBIAN }, LOADER), kernels: [uki] };
    const reason =
      `${FIRST} of the tree is GRUB, and the tree has no kernels but UKIs, which GRUB's menu does not start`;
    assert.equal(findExisting(tree), reason);
    const { bootLoader, findings } = planDisk(settingsOf(), tree);
    assert.equal(bootLoader!.name, "systemd-boot");
    assert.equal(
      findings.find(({ name }) => name === "loader-replaced")!.message,
      `Replacing the boot loader of the tree's ESP: ${reason}`,
    );
  },
);

Deno.test("findExisting() believes what searches for nothing", pure, () => {
  for (
    const grub of [
      { prefix: "", hasLinux: true, readsEntries: false },
      { prefix: "(memdisk)/boot/grub", hasLinux: true, readsEntries: false },
      { prefix: "/boot/grub", script: "normal (memdisk)/grub.cfg", hasLinux: true, readsEntries: false },
    ]
  ) found({ [FIRST]: { kind: "grub", grub } });
  found({ [FIRST]: { kind: "uki", options: "quiet" } });
});

Deno.test("a GRUB that only has linuxefi gets a menu with it", pure, () => {
  const grub = { prefix: "", hasLinux: false, readsEntries: false };
  const { files } = found({ [FIRST]: { kind: "grub", grub } });
  const menu = files.xbootldr.find(({ path }) => path === "/grub/grub.cfg");
  assert(menu?.type === "file");
  assert.match(menu.text, /^ {2}set linux=linuxefi$/m);
  assert.match(menu.text, /^ {2}\$linux \/vmlinuz-1 root=UUID=1 rw$/m);
});

Deno.test("a GRUB that reads boot entries gets them where later kernels do", pure, () => {
  const grub = { prefix: "/EFI/fedora", hasLinux: true, readsEntries: true };
  const of = [{ [FIRST]: { kind: "grub" as const, grub } }, "/usr/sbin/grub2-mkconfig"] as const;
  const install = "/usr/lib/kernel/install.d/20-grub.install";
  assert.deepEqual(found(...of, install).xbootldr, ["/loader/entries/debian-1.conf", "/grub2/grub.cfg"]);
  assert.deepEqual(found(...of).xbootldr, ["/grub2/grub.cfg"]);
});

Deno.test("what names another machine on the tree's ESP is left out", pure, () => {
  const image = "/boot/efi/EFI/Linux/old.efi";
  const tree = treeOf(
    { [FIRST]: "systemd-boot", [image]: { kind: "uki", options: "root=UUID=1" } },
    "/boot/efi/loader/entries/old.conf",
    "/boot/efi/loader/loader.conf",
  );
  assert.deepEqual(foreignEntries(tree, "/boot/efi"), ["/loader/entries/", "/EFI/Linux/old.efi"]);
  const bootTexts = new Map([["/boot/efi/loader/loader.conf", "timeout 3\ndefault old.conf\neditor no\n"]]);
  const plan = planDisk(settingsOf(), { ...tree, bootTexts });
  const [esp] = plan.partitions;
  assert.deepEqual(esp!.contents.omit, ["/loader/entries/", "/EFI/Linux/old.efi"]);
  assert.deepEqual(esp!.contents.add, [
    { path: "/loader/loader.conf", type: "file", text: "timeout 3\neditor no\n" },
  ]);
  assert.deepEqual(
    plan.findings.filter(({ name }) => name === "boot-entries").map(({ path }) => path),
    ["/boot/efi/loader/entries", image, "/boot/efi/loader/loader.conf"],
  );
});

Deno.test("a loader takes the spelling that the tree's ESP has", pure, () => {
  const tree = treeOf({}, "/boot/efi/efi/boot/bootx64.efi", LOADER);
  const [esp] = planDisk(settingsOf(), tree).partitions;
  assert.deepEqual(esp!.contents.add.map(({ path }) => path), [
    "/efi/boot/bootx64.efi",
    "/efi/systemd/systemd-bootx64.efi",
    "/loader/loader.conf",
  ]);
});
