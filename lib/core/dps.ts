/**
 * GUIDs and names from the Discoverable Partitions Specification (DPS), and the architectures it defines.
 *
 * - Partition types: https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
 * - `e_machine` of ELF: https://www.sco.com/developers/gabi/latest/ch4.eheader.html
 * - Machine types of PE: https://learn.microsoft.com/windows/win32/debug/pe-format#machine-types
 * - Names of removable-media loaders: UEFI 2.10, section 3.5.1.1
 *
 * @module
 */

import { viewOf } from "./bytes.ts";

interface Architecture {
  /** `e_machine` values of the ELF header; class (bits) and byte order tell apart those that share one. */
  readonly elf: readonly number[];
  readonly bits: readonly (32 | 64)[];
  readonly endian: "little" | "big";
  /** DPS type GUIDs of the root partition, and of the partitions for its dm-verity hashes and their signature. */
  readonly root: string;
  readonly verity: string;
  readonly signature: string;
  /** Machine type in the PE header of a UEFI program. Absent: this architecture has no UEFI. */
  readonly pe?: number;
  /** `<ARCH>` in `EFI/BOOT/BOOT<ARCH>.EFI`. */
  readonly efi?: string;
}

/** One row per architecture, under systemd's name for it (`ConditionArchitecture=`, `Type=root-x86-64`). */
export const ARCHITECTURES = {
  "alpha": {
    elf: [36902],
    bits: [64],
    endian: "little",
    root: "6523f8ae-3eb1-4e2a-a05a-18b695ae656f",
    verity: "fc56d9e9-e6e5-4c06-be32-e74407ce09a5",
    signature: "d46495b7-a053-414f-80f7-700c99921ef8",
  },
  "arc": {
    elf: [93, 195],
    bits: [32],
    endian: "little",
    root: "d27f46ed-2919-4cb8-bd25-9531f3c16534",
    verity: "24b2d975-0f97-4521-afa1-cd531e421b8d",
    signature: "143a70ba-cbd3-4f06-919f-6c05683a78bc",
  },
  "arm": {
    elf: [40],
    bits: [32],
    endian: "little",
    root: "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    verity: "7386cdf2-203c-47a9-a498-f2ecce45a2d6",
    signature: "42b0455f-eb11-491d-98d3-56145ba9d037",
    pe: 0x1c2,
    efi: "ARM",
  },
  "arm64": {
    elf: [183],
    bits: [64],
    endian: "little",
    root: "b921b045-1df0-41c3-af44-4c6f280d3fae",
    verity: "df3300ce-d69f-4c92-978c-9bfb0f38d820",
    signature: "6db69de6-29f4-4758-a7a5-962190f00ce3",
    pe: 0xaa64,
    efi: "AA64",
  },
  "ia64": {
    elf: [50],
    bits: [64],
    endian: "little",
    root: "993d8d3d-f80e-4225-855a-9daf8ed7ea97",
    verity: "86ed10d5-b607-45bb-8957-d350f23d0571",
    signature: "e98b36ee-32ba-4882-9b12-0ce14655f46a",
    pe: 0x200,
    efi: "IA64",
  },
  "loongarch64": {
    elf: [258],
    bits: [64],
    endian: "little",
    root: "77055800-792c-4f94-b39a-98c91b762bb6",
    verity: "f3393b22-e9af-4613-a948-9d3bfbd0c535",
    signature: "5afb67eb-ecc8-4f85-ae8e-ac1e7c50e7d0",
    pe: 0x6264,
    efi: "LOONGARCH64",
  },
  "mips": {
    elf: [8],
    bits: [32],
    endian: "big",
    root: "e9434544-6e2c-47cc-bae2-12d6deafb44c",
    verity: "7a430799-f711-4c7e-8e5b-1d685bd48607",
    signature: "bba210a2-9c5d-45ee-9e87-ff2ccbd002d0",
  },
  "mips-le": {
    elf: [8],
    bits: [32],
    endian: "little",
    root: "37c58c8a-d913-4156-a25f-48b1b64e07f0",
    verity: "d7d150d2-2a04-4a33-8f12-16651205ff7b",
    signature: "c919cc1f-4456-4eff-918c-f75e94525ca5",
  },
  "mips64": {
    elf: [8],
    bits: [64],
    endian: "big",
    root: "d113af76-80ef-41b4-bdb6-0cff4d3d4a25",
    verity: "579536f8-6a33-4055-a95a-df2d5e2c42a8",
    signature: "43ce94d4-0f3d-4999-8250-b9deafd98e6e",
  },
  "mips64-le": {
    elf: [8],
    bits: [64],
    endian: "little",
    root: "700bda43-7a34-4507-b179-eeb93d7a7ca3",
    verity: "16b417f8-3e06-4f57-8dd2-9b5232f41aa6",
    signature: "904e58ef-5c65-4a31-9c57-6af5fc7c5de7",
  },
  "parisc": {
    elf: [15],
    bits: [32],
    endian: "big",
    root: "1aacdb3b-5444-4138-bd9e-e5c2239b2346",
    verity: "d212a430-fbc5-49f9-a983-a7feef2b8d0e",
    signature: "15de6170-65d3-431c-916e-b0dcd8393f25",
  },
  "ppc": {
    elf: [20],
    bits: [32],
    endian: "big",
    root: "1de3f1ef-fa98-47b5-8dcd-4a860a654d78",
    verity: "98cfe649-1588-46dc-b2f0-add147424925",
    signature: "1b31b5aa-add9-463a-b2ed-bd467fc857e7",
  },
  "ppc64": {
    elf: [21],
    bits: [64],
    endian: "big",
    root: "912ade1d-a839-4913-8964-a10eee08fbd2",
    verity: "9225a9a3-3c19-4d89-b4f6-eeff88f17631",
    signature: "f5e2c20c-45b2-4ffa-bce9-2a60737e1aaf",
  },
  "ppc64-le": {
    elf: [21],
    bits: [64],
    endian: "little",
    root: "c31c45e6-3f39-412e-80fb-4809c4980599",
    verity: "906bd944-4589-4aae-a4e4-dd983917446a",
    signature: "d4a236e7-e873-4c07-bf1d-bf6cf7f1c3c6",
  },
  "riscv32": {
    elf: [243],
    bits: [32],
    endian: "little",
    root: "60d5a7fe-8e7d-435c-b714-3dd8162144e1",
    verity: "ae0253be-1167-4007-ac68-43926c14c5de",
    signature: "3a112a75-8729-4380-b4cf-764d79934448",
    pe: 0x5032,
    efi: "RISCV32",
  },
  "riscv64": {
    elf: [243],
    bits: [64],
    endian: "little",
    root: "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    verity: "b6ed5582-440b-4209-b8da-5ff7c419ea3d",
    signature: "efe0f087-ea8d-4469-821a-4c2a96a8386a",
    pe: 0x5064,
    efi: "RISCV64",
  },
  "s390": {
    elf: [22],
    bits: [32],
    endian: "big",
    root: "08a7acea-624c-4a20-91e8-6e0fa67d23f9",
    verity: "7ac63b47-b25c-463b-8df8-b4a94e6c90e1",
    signature: "3482388e-4254-435a-a241-766a065f9960",
  },
  "s390x": {
    elf: [22],
    bits: [64],
    endian: "big",
    root: "5eead9a9-fe09-4a1e-a1d7-520d00531306",
    verity: "b325bfbe-c7be-4ab8-8357-139e652d2f6b",
    signature: "c80187a5-73a3-491a-901a-017c3fa953e9",
  },
  "tilegx": {
    elf: [191],
    bits: [64],
    endian: "little",
    root: "c50cdd70-3862-4cc3-90e1-809a8c93ee2c",
    verity: "966061ec-28e4-4b2e-b4a5-1f0a825a1d84",
    signature: "b3671439-97b0-4a53-90f7-2d5a8f3ad47b",
  },
  "x86": {
    elf: [3],
    bits: [32],
    endian: "little",
    root: "44479540-f297-41b2-9af7-d131d5f0458a",
    verity: "d13c5d3b-b5d1-422a-b29f-9454fdc89d76",
    signature: "5996fc05-109c-48de-808b-23fa0830b676",
    pe: 0x14c,
    efi: "IA32",
  },
  "x86-64": {
    elf: [62],
    bits: [32, 64],
    endian: "little",
    root: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    verity: "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    signature: "41092b05-9fc8-4523-994f-2def0408b176",
    pe: 0x8664,
    efi: "X64",
  },
} as const satisfies Record<string, Architecture>;

export type ArchitectureName = keyof typeof ARCHITECTURES;

/** Partition types that do not depend on the architecture. */
export const PARTITION_TYPES = {
  "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  "xbootldr": "bc13c2ff-59e6-4262-a352-b275fd6f7172",
} as const;

/** The type of the partition that holds GRUB for BIOS. The DPS does not define it. */
const BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649";

/** Partition types with a GUID per architecture. */
const ROOT_TYPES = {
  "root": "root",
  "root-verity": "verity",
  "root-verity-sig": "signature",
} as const;

type RootRole = keyof typeof ROOT_TYPES;

export type PartitionRole = RootRole | "bios" | keyof typeof PARTITION_TYPES;

function isRootRole(role: PartitionRole): role is RootRole {
  return role in ROOT_TYPES;
}

/** The GPT attribute bits that the DPS defines for the root partition. */
export const GPT_ATTRIBUTES = {
  /** Grow the filesystem to fill its partition when it is mounted. */
  "growfs": 59,
  /** Mount it read-only. */
  "readOnly": 60,
} as const;

const ROWS = Object.entries(ARCHITECTURES) as [ArchitectureName, Architecture][];

/** The DPS type GUID (lower case) of a partition, e.g. `partitionType("root", "arm64")`. */
export function partitionType(role: PartitionRole, architecture: ArchitectureName): string {
  if (role === "bios") return BIOS_BOOT;
  return isRootRole(role) ? ARCHITECTURES[architecture][ROOT_TYPES[role]] : PARTITION_TYPES[role];
}

/** The role of a DPS type GUID (upper or lower case), and its architecture if the type depends on one. */
export function identifyType(
  guid: string,
): { role: PartitionRole; architecture?: ArchitectureName } | undefined {
  const wanted = guid.toLowerCase();
  for (const [role, type] of Object.entries(PARTITION_TYPES)) {
    if (type === wanted) return { role: role as PartitionRole };
  }
  for (const [architecture, row] of ROWS) {
    for (const [role, column] of Object.entries(ROOT_TYPES)) {
      if (row[column] === wanted) return { role: role as RootRole, architecture };
    }
  }
}

/** systemd's name for a partition type, as `systemd-repart` and `systemd-dissect` show it: `root-x86-64`, `esp`. */
export function typeName(role: PartitionRole, architecture: ArchitectureName): string {
  return isRootRole(role) ? role.replace("root", `root-${architecture}`) : role;
}

/** The path of the boot loader that firmware starts by default, e.g. `EFI/BOOT/BOOTX64.EFI`. */
export function efiBootPath(architecture: ArchitectureName): string | undefined {
  const { efi } = ARCHITECTURES[architecture] as Architecture;
  return efi && `EFI/BOOT/BOOT${efi}.EFI`;
}

/** The architecture of an ELF program, from (at least) its first 20 bytes; `undefined` if it is not one we know. */
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
 * The architecture of a UEFI program (a boot loader, or a Linux kernel with an EFI stub), from its first KiB;
 * `undefined` if it is not a PE file, or for a machine we do not know.
 */
export function peArchitecture(head: Uint8Array): ArchitectureName | undefined {
  if (head.length < 0x40 || head[0] !== 0x4d || head[1] !== 0x5a) return;
  const view = viewOf(head);
  const pe = view.getUint32(0x3c, true);
  if (pe + 6 > head.length || view.getUint32(pe, true) !== 0x4550) return;
  const machine = view.getUint16(pe + 4, true);
  return ROWS.find(([, row]) => row.pe === machine)?.[0];
}
