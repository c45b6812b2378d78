import assert from "node:assert/strict";
import {
  type ArchitectureName,
  ARCHITECTURES,
  efiBootPath,
  elfArchitecture,
  findType,
  identifyType,
  PARTITION_TYPES,
  type PartitionRole,
  partitionType,
  peArchitecture,
  typeName,
} from "../../../lib/core/dps.ts";

const NAMES = Object.keys(ARCHITECTURES) as ArchitectureName[];

const ROOT_ROLES = [
  ...["root", "root-verity", "root-verity-sig"] as const,
  ...["usr", "usr-verity", "usr-verity-sig"] as const,
];

/** Every partition type that the suite knows: systemd's name and the GUID. */
const TYPES = [
  ...NAMES.flatMap((name) => ROOT_ROLES.map((role) => [role, name] as const)),
  ...(Object.keys(PARTITION_TYPES) as PartitionRole[]).map((role) => [role, "x86-64"] as const),
].map(([role, name]) => ({ role, name, systemd: typeName(role, name), guid: partitionType(role, name) }));

Deno.test(
  "identifyType() knows each type in upper and lower case, and no other",
  { permissions: "none" },
  () => {
    for (const { role, name, guid } of TYPES) {
      const wanted = /^(root|usr)/.test(role) ? { role, architecture: name } : { role };
      assert.deepEqual(identifyType(guid), wanted);
      assert.deepEqual(identifyType(guid.toUpperCase()), wanted);
    }
    assert.equal(identifyType("0fc63daf-8483-4772-8e79-3d69d8477de5"), undefined);
    assert.equal(new Set(TYPES.map(({ guid }) => guid)).size, TYPES.length);
  },
);

Deno.test("findType() knows each type by its name, its aliases and its GUID, and no other", {
  permissions: "none",
}, () => {
  for (const { systemd, guid, role, name } of TYPES) {
    assert.equal(findType(systemd, "arm64"), guid, systemd);
    assert.equal(findType(guid, "arm64"), guid);
    assert.equal(findType(role, name), guid);
  }
  assert.equal(findType("usr-amd64-verity-sig", "arm64"), partitionType("usr-verity-sig", "x86-64"));
  assert.equal(findType("root-aarch64", "x86"), partitionType("root", "arm64"));
  assert.equal(findType("root-secondary-verity", "x86-64"), partitionType("root-verity", "x86"));
  assert.equal(
    findType("0FC63DAF84834772 8E793D69D8477DE4".replace(" ", ""), "x86"),
    PARTITION_TYPES["linux-generic"],
  );
  const others = [
    "",
    "Root",
    "root-",
    "root-secondary",
    "root-x86_65",
    "verity",
    "bios",
    "constructor",
    "root-constructor",
  ];
  for (const other of others) assert.equal(findType(other, "riscv64"), undefined, other);
});

Deno.test("elfArchitecture() and peArchitecture() reject anything else", { permissions: "none" }, () => {
  const elf = new Uint8Array(64);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  const view = new DataView(elf.buffer);
  view.setUint16(18, 62, true);
  assert.equal(elfArchitecture(elf), "x86-64");
  // x32: a 64-bit machine in a 32-bit file.
  elf[4] = 1;
  assert.equal(elfArchitecture(elf), "x86-64");
  elf[5] = 2;
  assert.equal(elfArchitecture(elf), undefined);
  view.setUint16(18, 20, false);
  assert.equal(elfArchitecture(elf), "ppc");
  view.setUint16(18, 65535, false);
  assert.equal(elfArchitecture(elf), undefined);
  assert.equal(elfArchitecture(elf.subarray(0, 19)), undefined);
  assert.equal(elfArchitecture(new TextEncoder().encode("#!/bin/sh\n# a script\n")), undefined);

  const pe = new Uint8Array(256);
  pe.set([0x4d, 0x5a]);
  const at = new DataView(pe.buffer);
  at.setUint32(0x3c, 0x80, true);
  at.setUint32(0x80, 0x4550, true);
  at.setUint16(0x84, 0xaa64, true);
  assert.equal(peArchitecture(pe), "arm64");
  assert.equal(peArchitecture(pe.subarray(0, 0x85)), undefined);
  assert.equal(peArchitecture(pe.subarray(0, 2)), undefined);
  at.setUint32(0x3c, 0xffffffff, true);
  assert.equal(peArchitecture(pe), undefined);
  assert.equal(peArchitecture(elf), undefined);
});

Deno.test("efiBootPath() is set exactly where a PE machine is", { permissions: "none" }, () => {
  for (const name of NAMES) assert.equal(efiBootPath(name) !== undefined, "pe" in ARCHITECTURES[name], name);
});
