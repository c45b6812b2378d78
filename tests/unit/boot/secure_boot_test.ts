import assert from "node:assert/strict";
import { chooseLoader } from "../../../lib/boot/bootloaders.ts";
import { signFiles } from "../../../lib/boot/secure-boot.ts";
import { readPe } from "../../../lib/efi/pe.ts";
import type { ExtraFile } from "../../../lib/filesystem/entries.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import { planDisk } from "../../../lib/plan/plan.ts";
import { DEBIAN, factsOf, kernel, LOADER, programs, settingsOf } from "../../lab/facts.ts";
import { SECURE_BOOT } from "../../lab/keys.ts";
import { planLayout } from "../../lab/layouts.ts";

Deno.test("readPe() refuses what is not a UEFI program, at any length", { permissions: "none" }, () => {
  const bytes = new Uint8Array(600);
  bytes.set([0x4d, 0x5a]);
  new DataView(bytes.buffer).setUint32(0x3c, 0x80, true);
  new DataView(bytes.buffer).setUint32(0x80, 0x4550, true);
  for (let length = 0; length <= bytes.length; length += 7) {
    assert.throws(() => readPe(bytes.subarray(0, length), "x.efi"), /^BuildError: Cannot read x\.efi/);
  }
});

const SIGNER = { certificate: new Uint8Array(), key: "", length: 256 };

const pure = { permissions: "none" } as const;

/** What of a loader's files is signed. */
function signedOf(name: "existing" | "systemd-boot" | "grub" | "uki", list: readonly NodeInput[], more = {}) {
  const tree = factsOf(list, {
    kernels: [kernel("2"), kernel("1", { image: "/usr/lib/modules/1/vmlinuz" })],
    ...more,
  });
  const loader = chooseLoader({ bootloader: name, sectorSize: 512 }, tree);
  assert.ok(!Array.isArray(loader));
  const files = signFiles(loader.files({ options: "rw", bootUuid: "0" }), loader, tree, SIGNER);
  const signed = (additions: readonly ExtraFile[]) =>
    additions.filter((addition) => addition.type === "made" && addition.recipe.type === "signed")
      .map(({ path }) => path).sort();
  const paths = [...files.esp, ...files.xbootldr].map(({ path }) => path);
  assert.equal(new Set(files.xbootldr.map(({ path }) => path)).size, files.xbootldr.length, String(paths));
  return { esp: signed(files.esp), xbootldr: signed(files.xbootldr) };
}

const KERNELS = ["/vmlinuz-1", "/vmlinuz-2"];

Deno.test("signFiles() signs loader and kernels, also those that are copied to XBOOTLDR", pure, () => {
  assert.deepEqual(signedOf("systemd-boot", [{ path: LOADER }]), {
    esp: ["/EFI/BOOT/BOOTX64.EFI", "/EFI/systemd/systemd-bootx64.efi"],
    xbootldr: KERNELS,
  });
});

Deno.test("signFiles() signs every program on the ESP that the tree brings", pure, () => {
  const list = [
    "/efi/EFI/BOOT/BOOTX64.EFI",
    "/efi/EFI/Linux/a.efi",
    "/efi/EFI/x/GRUBX64.efi",
    "/efi/loader/x.conf",
  ]
    .map((path) => ({ path }));
  const own = programs({ "/efi/EFI/BOOT/BOOTX64.EFI": "unknown" });
  assert.deepEqual(signedOf("existing", list, { programs: own }), {
    esp: ["/EFI/BOOT/BOOTX64.EFI", "/EFI/Linux/a.efi", "/EFI/x/GRUBX64.efi"],
    xbootldr: KERNELS,
  });
});

Deno.test("signFiles() signs UKIs, but not the kernels in them", pure, () => {
  const list = [{ path: "/usr/lib/systemd/boot/efi/linuxx64.efi.stub" }];
  assert.deepEqual(signedOf("uki", list, { kernels: [kernel("2")] }), {
    esp: ["/EFI/BOOT/BOOTX64.EFI"],
    xbootldr: [],
  });
});

Deno.test("signFiles() refuses a GRUB that would start nothing under Secure Boot", pure, () => {
  const list = [{ path: "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi" }];
  assert.throws(() => signedOf("grub", list), { name: "BuildError", kind: "usage", message: /without shim/ });
});

Deno.test("planDisk() refuses a key with which nothing is signed", pure, () => {
  const refused = (plan: () => unknown, hint: RegExp) =>
    assert.throws(plan, {
      message: "Cannot sign with SECURE_BOOT_KEY: no boot loader for UEFI is installed",
      kind: "usage",
      hint,
    });
  const list = [
    ...DEBIAN,
    ...["boot.img", "kernel.img", "moddep.lst"].map((name) => ({
      path: `/usr/lib/grub/i386-pc/${name}`,
      size: 512,
    })),
  ];
  const settings = (env: Record<string, string>) => settingsOf({ ...SECURE_BOOT, ...env });
  refused(() => planDisk(settings({ BOOTLOADER: "none" }), factsOf()), /set BOOTLOADER to auto/);
  const bios = factsOf(list, { kernels: [kernel("6.12.48")] });
  refused(() => planDisk(settings({ FIRMWARE: "bios" }), bios), /set FIRMWARE to uefi or hybrid/);
  const esp = "Type=esp;CopyFiles=/boot:/;SizeMinBytes=64M";
  for (const definitions of [{ "10-root": "Type=root" }, { "05-esp": esp, "10-root": "Type=root" }]) {
    refused(() => planLayout(definitions, SECURE_BOOT), /define an ESP without CopyFiles=/);
  }
  // Without a boot loader in the tree, a finding says so, and nothing else does.
  const lacking = planDisk(settings({}), factsOf(DEBIAN.filter(({ path }) => path !== LOADER)));
  assert.ok(lacking.findings.some(({ name }) => name === "no-boot"));
});
