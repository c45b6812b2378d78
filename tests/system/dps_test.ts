import assert from "node:assert/strict";
import {
  type ArchitectureName,
  ARCHITECTURES,
  efiBootPath,
  elfArchitecture,
  GPT_ATTRIBUTES,
  identifyType,
  PARTITION_TYPES,
  type PartitionRole,
  partitionType,
  peArchitecture,
  typeName,
} from "../../lib/core/dps.ts";
import { newerSystemd } from "../lab/guests.ts";
import { $ } from "../../lib/system/sh.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { download, unpack } from "../lab/trees.ts";

const NAMES = Object.keys(ARCHITECTURES) as ArchitectureName[];

const ROOT_ROLES = ["root", "root-verity", "root-verity-sig"] as const;

/** Every partition type that the suite knows: its name at systemd and its GUID. */
const TYPES = [
  ...NAMES.flatMap((name) => ROOT_ROLES.map((role) => [role, name] as const)),
  ...(Object.keys(PARTITION_TYPES) as PartitionRole[]).map((role) => [role, "x86-64"] as const),
].map(([role, name]) => ({ role, name, systemd: typeName(role, name), guid: partitionType(role, name) }));

/** The first KiB of a file. */
async function head(path: string): Promise<Uint8Array> {
  using file = await Deno.open(path);
  const bytes = new Uint8Array(1024);
  return bytes.subarray(0, await file.read(bytes) ?? 0);
}

Deno.test("partition types are those of systemd 257, all of them", {
  ignore: unprivileged() || missing("mmdebstrap"),
}, async () => {
  const [program, ...args] = await newerSystemd("systemd-id128");
  const rows: { name: string; id: string }[] = JSON.parse(await quiet`${program!} ${args} show --json=short`);
  const known = new Map(rows.map(({ name, id }) => [name, id]));
  for (const { systemd, guid } of TYPES) assert.equal(guid.replaceAll("-", ""), known.get(systemd), systemd);
  // Aliases that systemd lists besides: uname's and Debian's names, and those of the machine it runs on.
  const ours = new Set(TYPES.map(({ guid }) => guid.replaceAll("-", "")));
  const roots = rows.filter(({ name }) => /^root(-|$)/.test(name) && !/secondary/.test(name));
  assert.ok(roots.length >= NAMES.length);
  for (const { name, id } of roots) assert.ok(ours.has(id), `${name} is missing`);
});

Deno.test(
  "sfdisk shows the partition types as it names them",
  { ignore: missing("sfdisk") },
  () =>
    tempDir(async (dir) => {
      const image = `${dir}/disk.raw`;
      await Deno.writeFile(image, new Uint8Array());
      await Deno.truncate(image, 128 << 20);
      const { growfs } = GPT_ATTRIBUTES;
      const stdin = `label: gpt\n${
        TYPES.map(({ guid, systemd }) => `size=1MiB, type=${guid}, name="${systemd}", attrs="GUID:${growfs}"`)
          .join("\n")
      }\n`;
      await $`sfdisk --quiet ${image}`.quiet().stdinText(stdin);
      const { partitiontable } = JSON.parse(await quiet`sfdisk --json ${image}`);
      for (const { type, name } of partitiontable.partitions) {
        const { role, architecture } = identifyType(type)!;
        assert.equal(typeName(role, architecture ?? "x86-64"), name);
      }
      assert.equal(partitiontable.partitions.length, TYPES.length);
      const list = await quiet`sfdisk --list --output Type ${image}`;
      assert.match(list, /^EFI System$/m);
      assert.match(list, /^Linux extended boot$/m);
      assert.match(list, /^Linux root \(x86-64\)$/m);
      assert.match(list, /^Linux root \(ARM-64\)$/m);
    }),
);

/** Debian's architectures with the suite that has them last, and the names that the suite gives them. */
const DEBIAN = [
  ...["amd64 x86-64 x64", "arm64 arm64 aa64", "armhf arm arm", "i386 x86 ia32", "riscv64 riscv64 riscv64"]
    .map((row) => `trixie ${row}`),
  ...["trixie armel arm", "trixie ppc64el ppc64-le", "trixie s390x s390x"],
  ...["bookworm mips64el mips64-le", "bookworm mipsel mips-le"],
].map((row) => {
  const [suite, debian, name, efi] = row.split(" ");
  return { suite: suite as "trixie" | "bookworm", debian: debian!, name: name as ArchitectureName, efi };
});

/** The packages that the tests below look into, of one suite at once. */
function packages(suite: "trixie" | "bookworm"): Promise<string> {
  const rows = DEBIAN.filter((row) => row.suite === suite);
  return download(suite, "dps", [
    ...rows.map(({ debian }) => `hostname:${debian}`),
    ...rows.filter(({ efi }) => efi).map(({ debian }) => `systemd-boot-efi:${debian}`),
  ]);
}

const NO_DEBIAN = unprivileged() || missing("mmdebstrap", "dpkg-deb");

Deno.test.each(DEBIAN)("elfArchitecture() knows a program of Debian's $debian as $name", {
  ignore: NO_DEBIAN,
}, async ({ suite, debian, name }) => {
  const dir = `${await packages(suite)}/hostname:${debian}`;
  const path = (await quiet`find ${dir} -type f -name hostname -path */bin/*`).trim();
  assert.equal(elfArchitecture(await head(path)), name);
});

Deno.test.each(DEBIAN.filter(({ efi }) => efi))(
  "peArchitecture() knows systemd-boot of Debian's $debian as $name",
  { ignore: NO_DEBIAN },
  async ({ suite, debian, name, efi }) => {
    const dir = `${await packages(suite)}/systemd-boot-efi:${debian}/usr/lib/systemd/boot/efi`;
    assert.equal(peArchitecture(await head(`${dir}/systemd-boot${efi}.efi`)), name);
    // Debian names the file as UEFI does.
    assert.equal(efiBootPath(name), `EFI/BOOT/BOOT${efi!.toUpperCase()}.EFI`);
  },
);

Deno.test.each(["amd64", "arm64"])("peArchitecture() knows Debian's kernel for %s", {
  ignore: NO_DEBIAN,
}, async (debian) => {
  const kernel = `linux-image-cloud-${debian}`;
  const boot = `${await unpack("trixie", debian, ["busybox-static", kernel, "systemd-boot-efi"])}/boot`;
  const names = (await Array.fromAsync(Deno.readDir(boot))).map(({ name }) => name);
  const image = names.find((name) => name.startsWith("vmlinuz-"))!;
  assert.equal(peArchitecture(await head(`${boot}/${image}`)), debian === "amd64" ? "x86-64" : "arm64");
});
