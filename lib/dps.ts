/**
 * GUIDs and names of the Discoverable Partitions Specification (DPS) and the architectures it knows.
 *
 * - Partition types: https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
 * - `e_machine` of ELF: https://www.sco.com/developers/gabi/latest/ch4.eheader.html
 * - Machine types of PE: https://learn.microsoft.com/windows/win32/debug/pe-format#machine-types
 * - Names of removable-media loaders: UEFI 2.10, section 3.5.1.1
 *
 * @module
 */

interface Architecture {
  /** `e_machine` values of the ELF header, with the class (bits) and byte order that tell them apart. */
  readonly elf: readonly number[];
  readonly bits: readonly (32 | 64)[];
  readonly endian: "little" | "big";
  /** DPS type GUID of the root partition. */
  readonly root: string;
  /** Machine type in the PE header of a UEFI program. Absent: no UEFI for this architecture. */
  readonly pe?: number;
  /** `<ARCH>` in `EFI/BOOT/BOOT<ARCH>.EFI`. */
  readonly efi?: string;
}

/** One row per architecture, named as systemd names them (`ConditionArchitecture=`, `Type=root-x86-64`). */
export const ARCHITECTURES = {
  "alpha": { elf: [36902], bits: [64], endian: "little", root: "6523f8ae-3eb1-4e2a-a05a-18b695ae656f" },
  "arc": { elf: [93, 195], bits: [32], endian: "little", root: "d27f46ed-2919-4cb8-bd25-9531f3c16534" },
  "arm": {
    elf: [40],
    bits: [32],
    endian: "little",
    root: "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    pe: 0x1c2,
    efi: "ARM",
  },
  "arm64": {
    elf: [183],
    bits: [64],
    endian: "little",
    root: "b921b045-1df0-41c3-af44-4c6f280d3fae",
    pe: 0xaa64,
    efi: "AA64",
  },
  "ia64": {
    elf: [50],
    bits: [64],
    endian: "little",
    root: "993d8d3d-f80e-4225-855a-9daf8ed7ea97",
    pe: 0x200,
    efi: "IA64",
  },
  "loongarch64": {
    elf: [258],
    bits: [64],
    endian: "little",
    root: "77055800-792c-4f94-b39a-98c91b762bb6",
    pe: 0x6264,
    efi: "LOONGARCH64",
  },
  "mips": { elf: [8], bits: [32], endian: "big", root: "e9434544-6e2c-47cc-bae2-12d6deafb44c" },
  "mips-le": { elf: [8], bits: [32], endian: "little", root: "37c58c8a-d913-4156-a25f-48b1b64e07f0" },
  "mips64": { elf: [8], bits: [64], endian: "big", root: "d113af76-80ef-41b4-bdb6-0cff4d3d4a25" },
  "mips64-le": { elf: [8], bits: [64], endian: "little", root: "700bda43-7a34-4507-b179-eeb93d7a7ca3" },
  "parisc": { elf: [15], bits: [32], endian: "big", root: "1aacdb3b-5444-4138-bd9e-e5c2239b2346" },
  "ppc": { elf: [20], bits: [32], endian: "big", root: "1de3f1ef-fa98-47b5-8dcd-4a860a654d78" },
  "ppc64": { elf: [21], bits: [64], endian: "big", root: "912ade1d-a839-4913-8964-a10eee08fbd2" },
  "ppc64-le": { elf: [21], bits: [64], endian: "little", root: "c31c45e6-3f39-412e-80fb-4809c4980599" },
  "riscv32": {
    elf: [243],
    bits: [32],
    endian: "little",
    root: "60d5a7fe-8e7d-435c-b714-3dd8162144e1",
    pe: 0x5032,
    efi: "RISCV32",
  },
  "riscv64": {
    elf: [243],
    bits: [64],
    endian: "little",
    root: "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    pe: 0x5064,
    efi: "RISCV64",
  },
  "s390": { elf: [22], bits: [32], endian: "big", root: "08a7acea-624c-4a20-91e8-6e0fa67d23f9" },
  "s390x": { elf: [22], bits: [64], endian: "big", root: "5eead9a9-fe09-4a1e-a1d7-520d00531306" },
  "tilegx": { elf: [191], bits: [64], endian: "little", root: "c50cdd70-3862-4cc3-90e1-809a8c93ee2c" },
  "x86": {
    elf: [3],
    bits: [32],
    endian: "little",
    root: "44479540-f297-41b2-9af7-d131d5f0458a",
    pe: 0x14c,
    efi: "IA32",
  },
  "x86-64": {
    elf: [62],
    bits: [32, 64],
    endian: "little",
    root: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    pe: 0x8664,
    efi: "X64",
  },
} as const satisfies Record<string, Architecture>;

export type ArchitectureName = keyof typeof ARCHITECTURES;

/** The partition types that do not depend on the architecture. */
export const PARTITION_TYPES = {
  "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  "xbootldr": "bc13c2ff-59e6-4262-a352-b275fd6f7172",
} as const;

/** The type of the partition that GRUB for BIOS is in, which the DPS does not know. */
export const BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649";

export type PartitionRole = "root" | "bios" | keyof typeof PARTITION_TYPES;

/** Attribute bits of a GPT entry that the DPS defines for the root partition. */
export const GPT_ATTRIBUTES = {
  /** Grow the filesystem to the size of its partition when it is mounted. */
  "growfs": 59,
} as const;

const ROWS = Object.entries(ARCHITECTURES) as [ArchitectureName, Architecture][];

/** The DPS type GUID (lower case) of a partition, e.g. `partitionType("root", "arm64")`. */
export function partitionType(role: PartitionRole, architecture: ArchitectureName): string {
  if (role === "bios") return BIOS_BOOT;
  return role === "root" ? ARCHITECTURES[architecture].root : PARTITION_TYPES[role];
}

/** The role and, for a root partition, the architecture of a DPS type GUID in either case. */
export function identifyType(
  guid: string,
): { role: PartitionRole; architecture?: ArchitectureName } | undefined {
  const wanted = guid.toLowerCase();
  for (const [role, type] of Object.entries(PARTITION_TYPES)) {
    if (type === wanted) return { role: role as PartitionRole };
  }
  for (const [architecture, row] of ROWS) {
    if (row.root === wanted) return { role: "root", architecture };
  }
}

/** systemd's name of that type, as `systemd-repart` and `systemd-dissect` show it: `root-x86-64`, `esp`. */
export function typeName(role: PartitionRole, architecture: ArchitectureName): string {
  return role === "root" ? `root-${architecture}` : role;
}

/** The path of the boot loader that firmware starts by itself, e.g. `EFI/BOOT/BOOTX64.EFI`. */
export function efiBootPath(architecture: ArchitectureName): string | undefined {
  const { efi } = ARCHITECTURES[architecture] as Architecture;
  return efi && `EFI/BOOT/BOOT${efi}.EFI`;
}

/** The architecture of an ELF program, from its first 20 bytes or more; `undefined` when it is none we know. */
export function elfArchitecture(header: Uint8Array): ArchitectureName | undefined {
  if (header.length < 20 || new TextDecoder().decode(header.subarray(0, 4)) !== "\x7fELF") return;
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const bits = header[4] === 2 ? 64 : 32;
  const endian = header[5] === 2 ? "big" : "little";
  const machine = view.getUint16(18, endian === "little");
  return ROWS.find(([, row]) => row.elf.includes(machine) && row.bits.includes(bits) && row.endian === endian)
    ?.[0];
}

/**
 * The architecture of a UEFI program (a boot loader, or a Linux kernel with an EFI stub), from its head,
 * of which the first KiB is enough; `undefined` when it is no PE file or of a machine we do not know.
 */
export function peArchitecture(head: Uint8Array): ArchitectureName | undefined {
  if (head.length < 0x40 || head[0] !== 0x4d || head[1] !== 0x5a) return;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const pe = view.getUint32(0x3c, true);
  if (pe + 6 > head.length || view.getUint32(pe, true) !== 0x4550) return;
  const machine = view.getUint16(pe + 4, true);
  return ROWS.find(([, row]) => row.pe === machine)?.[0];
}
