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
import { parseUuid } from "./identity.ts";

export interface Architecture {
  /** `e_machine` values of the ELF header; class (bits) and byte order tell apart those that share one. */
  readonly elf: readonly number[];
  readonly bits: readonly (32 | 64)[];
  readonly endian: "little" | "big";
  /** DPS type GUIDs of the root partition, and of the partitions for its dm-verity hashes and their signature. */
  readonly root: string;
  readonly verity: string;
  readonly signature: string;
  /** The same for `/usr`. */
  readonly usr: string;
  readonly usrVerity: string;
  readonly usrSignature: string;
  /** Machine type in the PE header of a UEFI program. Absent: this architecture has no UEFI. */
  readonly pe?: number;
  /** `<ARCH>` in `EFI/BOOT/BOOT<ARCH>.EFI`. */
  readonly efi?: string;
  /** Go's name for it (`GOARCH`), which container images have. Absent: there are no containers for it. */
  readonly go?: string;
  /** The kernel's name for it (`uname -m`), which Incus has. Absent: Incus does not know it. */
  readonly machine?: string;
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
    usr: "e18cf08c-33ec-4c0d-8246-c6c6fb3da024",
    usrVerity: "8cce0d25-c0d0-4a44-bd87-46331bf1df67",
    usrSignature: "5c6e1c76-076a-457a-a0fe-f3b4cd21ce6e",
  },
  "arc": {
    elf: [93, 195],
    bits: [32],
    endian: "little",
    root: "d27f46ed-2919-4cb8-bd25-9531f3c16534",
    verity: "24b2d975-0f97-4521-afa1-cd531e421b8d",
    signature: "143a70ba-cbd3-4f06-919f-6c05683a78bc",
    usr: "7978a683-6316-4922-bbee-38bff5a2fecc",
    usrVerity: "fca0598c-d880-4591-8c16-4eda05c7347c",
    usrSignature: "94f9a9a1-9971-427a-a400-50cb297f0f35",
  },
  "arm": {
    elf: [40],
    bits: [32],
    endian: "little",
    root: "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    verity: "7386cdf2-203c-47a9-a498-f2ecce45a2d6",
    signature: "42b0455f-eb11-491d-98d3-56145ba9d037",
    usr: "7d0359a3-02b3-4f0a-865c-654403e70625",
    usrVerity: "c215d751-7bcd-4649-be90-6627490a4c05",
    usrSignature: "d7ff812f-37d1-4902-a810-d76ba57b975a",
    pe: 0x1c2,
    efi: "ARM",
    go: "arm",
    machine: "armv7l",
  },
  "arm64": {
    elf: [183],
    bits: [64],
    endian: "little",
    root: "b921b045-1df0-41c3-af44-4c6f280d3fae",
    verity: "df3300ce-d69f-4c92-978c-9bfb0f38d820",
    signature: "6db69de6-29f4-4758-a7a5-962190f00ce3",
    usr: "b0e01050-ee5f-4390-949a-9101b17104e9",
    usrVerity: "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e",
    usrSignature: "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a",
    pe: 0xaa64,
    efi: "AA64",
    go: "arm64",
    machine: "aarch64",
  },
  "ia64": {
    elf: [50],
    bits: [64],
    endian: "little",
    root: "993d8d3d-f80e-4225-855a-9daf8ed7ea97",
    verity: "86ed10d5-b607-45bb-8957-d350f23d0571",
    signature: "e98b36ee-32ba-4882-9b12-0ce14655f46a",
    usr: "4301d2a6-4e3b-4b2a-bb94-9e0b2c4225ea",
    usrVerity: "6a491e03-3be7-4545-8e38-83320e0ea880",
    usrSignature: "8de58bc2-2a43-460d-b14e-a76e4a17b47f",
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
    usr: "e611c702-575c-4cbe-9a46-434fa0bf7e3f",
    usrVerity: "f46b2c26-59ae-48f0-9106-c50ed47f673d",
    usrSignature: "b024f315-d330-444c-8461-44bbde524e99",
    pe: 0x6264,
    efi: "LOONGARCH64",
    go: "loong64",
    machine: "loongarch64",
  },
  "mips": {
    elf: [8],
    bits: [32],
    endian: "big",
    root: "e9434544-6e2c-47cc-bae2-12d6deafb44c",
    verity: "7a430799-f711-4c7e-8e5b-1d685bd48607",
    signature: "bba210a2-9c5d-45ee-9e87-ff2ccbd002d0",
    usr: "773b2abc-2a99-4398-8bf5-03baac40d02b",
    usrVerity: "6e5a1bc8-d223-49b7-bca8-37a5fcceb996",
    usrSignature: "97ae158d-f216-497b-8057-f7f905770f54",
    go: "mips",
    machine: "mips",
  },
  "mips-le": {
    elf: [8],
    bits: [32],
    endian: "little",
    root: "37c58c8a-d913-4156-a25f-48b1b64e07f0",
    verity: "d7d150d2-2a04-4a33-8f12-16651205ff7b",
    signature: "c919cc1f-4456-4eff-918c-f75e94525ca5",
    usr: "0f4868e9-9952-4706-979f-3ed3a473e947",
    usrVerity: "46b98d8d-b55c-4e8f-aab3-37fca7f80752",
    usrSignature: "3e23ca0b-a4bc-4b4e-8087-5ab6a26aa8a9",
    go: "mipsle",
  },
  "mips64": {
    elf: [8],
    bits: [64],
    endian: "big",
    root: "d113af76-80ef-41b4-bdb6-0cff4d3d4a25",
    verity: "579536f8-6a33-4055-a95a-df2d5e2c42a8",
    signature: "43ce94d4-0f3d-4999-8250-b9deafd98e6e",
    usr: "57e13958-7331-4365-8e6e-35eeee17c61b",
    usrVerity: "81cf9d90-7458-4df4-8dcf-c8a3a404f09b",
    usrSignature: "05816ce2-dd40-4ac6-a61d-37d32dc1ba7d",
    go: "mips64",
    machine: "mips64",
  },
  "mips64-le": {
    elf: [8],
    bits: [64],
    endian: "little",
    root: "700bda43-7a34-4507-b179-eeb93d7a7ca3",
    verity: "16b417f8-3e06-4f57-8dd2-9b5232f41aa6",
    signature: "904e58ef-5c65-4a31-9c57-6af5fc7c5de7",
    usr: "c97c1f32-ba06-40b4-9f22-236061b08aa8",
    usrVerity: "3c3d61fe-b5f3-414d-bb71-8739a694a4ef",
    usrSignature: "f2c2c7ee-adcc-4351-b5c6-ee9816b66e16",
    go: "mips64le",
  },
  "parisc": {
    elf: [15],
    bits: [32],
    endian: "big",
    root: "1aacdb3b-5444-4138-bd9e-e5c2239b2346",
    verity: "d212a430-fbc5-49f9-a983-a7feef2b8d0e",
    signature: "15de6170-65d3-431c-916e-b0dcd8393f25",
    usr: "dc4a4480-6917-4262-a4ec-db9384949f25",
    usrVerity: "5843d618-ec37-48d7-9f12-cea8e08768b2",
    usrSignature: "450dd7d1-3224-45ec-9cf2-a43a346d71ee",
  },
  "ppc": {
    elf: [20],
    bits: [32],
    endian: "big",
    root: "1de3f1ef-fa98-47b5-8dcd-4a860a654d78",
    verity: "98cfe649-1588-46dc-b2f0-add147424925",
    signature: "1b31b5aa-add9-463a-b2ed-bd467fc857e7",
    usr: "7d14fec5-cc71-415d-9d6c-06bf0b3c3eaf",
    usrVerity: "df765d00-270e-49e5-bc75-f47bb2118b09",
    usrSignature: "7007891d-d371-4a80-86a4-5cb875b9302e",
    machine: "ppc",
  },
  "ppc64": {
    elf: [21],
    bits: [64],
    endian: "big",
    root: "912ade1d-a839-4913-8964-a10eee08fbd2",
    verity: "9225a9a3-3c19-4d89-b4f6-eeff88f17631",
    signature: "f5e2c20c-45b2-4ffa-bce9-2a60737e1aaf",
    usr: "2c9739e2-f068-46b3-9fd0-01c5a9afbcca",
    usrVerity: "bdb528a5-a259-475f-a87d-da53fa736a07",
    usrSignature: "0b888863-d7f8-4d9e-9766-239fce4d58af",
    go: "ppc64",
    machine: "ppc64",
  },
  "ppc64-le": {
    elf: [21],
    bits: [64],
    endian: "little",
    root: "c31c45e6-3f39-412e-80fb-4809c4980599",
    verity: "906bd944-4589-4aae-a4e4-dd983917446a",
    signature: "d4a236e7-e873-4c07-bf1d-bf6cf7f1c3c6",
    usr: "15bb03af-77e7-4d4a-b12b-c0d084f7491c",
    usrVerity: "ee2b9983-21e8-4153-86d9-b6901a54d1ce",
    usrSignature: "c8bfbd1e-268e-4521-8bba-bf314c399557",
    go: "ppc64le",
    machine: "ppc64le",
  },
  "riscv32": {
    elf: [243],
    bits: [32],
    endian: "little",
    root: "60d5a7fe-8e7d-435c-b714-3dd8162144e1",
    verity: "ae0253be-1167-4007-ac68-43926c14c5de",
    signature: "3a112a75-8729-4380-b4cf-764d79934448",
    usr: "b933fb22-5c3f-4f91-af90-e2bb0fa50702",
    usrVerity: "cb1ee4e3-8cd0-4136-a0a4-aa61a32e8730",
    usrSignature: "c3836a13-3137-45ba-b583-b16c50fe5eb4",
    pe: 0x5032,
    efi: "RISCV32",
    machine: "riscv32",
  },
  "riscv64": {
    elf: [243],
    bits: [64],
    endian: "little",
    root: "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    verity: "b6ed5582-440b-4209-b8da-5ff7c419ea3d",
    signature: "efe0f087-ea8d-4469-821a-4c2a96a8386a",
    usr: "beaec34b-8442-439b-a40b-984381ed097d",
    usrVerity: "8f1056be-9b05-47c4-81d6-be53128e5b54",
    usrSignature: "d2f9000a-7a18-453f-b5cd-4d32f77a7b32",
    pe: 0x5064,
    efi: "RISCV64",
    go: "riscv64",
    machine: "riscv64",
  },
  "s390": {
    elf: [22],
    bits: [32],
    endian: "big",
    root: "08a7acea-624c-4a20-91e8-6e0fa67d23f9",
    verity: "7ac63b47-b25c-463b-8df8-b4a94e6c90e1",
    signature: "3482388e-4254-435a-a241-766a065f9960",
    usr: "cd0f869b-d0fb-4ca0-b141-9ea87cc78d66",
    usrVerity: "b663c618-e7bc-4d6d-90aa-11b756bb1797",
    usrSignature: "17440e4f-a8d0-467f-a46e-3912ae6ef2c5",
  },
  "s390x": {
    elf: [22],
    bits: [64],
    endian: "big",
    root: "5eead9a9-fe09-4a1e-a1d7-520d00531306",
    verity: "b325bfbe-c7be-4ab8-8357-139e652d2f6b",
    signature: "c80187a5-73a3-491a-901a-017c3fa953e9",
    usr: "8a4f5770-50aa-4ed3-874a-99b710db6fea",
    usrVerity: "31741cc4-1a2a-4111-a581-e00b447d2d06",
    usrSignature: "3f324816-667b-46ae-86ee-9b0c0c6c11b4",
    go: "s390x",
    machine: "s390x",
  },
  "tilegx": {
    elf: [191],
    bits: [64],
    endian: "little",
    root: "c50cdd70-3862-4cc3-90e1-809a8c93ee2c",
    verity: "966061ec-28e4-4b2e-b4a5-1f0a825a1d84",
    signature: "b3671439-97b0-4a53-90f7-2d5a8f3ad47b",
    usr: "55497029-c7c1-44cc-aa39-815ed1558630",
    usrVerity: "2fb4bf56-07fa-42da-8132-6b139f2026ae",
    usrSignature: "4ede75e2-6ccc-4cc8-b9c7-70334b087510",
  },
  "x86": {
    elf: [3],
    bits: [32],
    endian: "little",
    root: "44479540-f297-41b2-9af7-d131d5f0458a",
    verity: "d13c5d3b-b5d1-422a-b29f-9454fdc89d76",
    signature: "5996fc05-109c-48de-808b-23fa0830b676",
    usr: "75250d76-8cc6-458e-bd66-bd47cc81a812",
    usrVerity: "8f461b0d-14ee-4e81-9aa9-049b6fb97abd",
    usrSignature: "974a71c0-de41-43c3-be5d-5c5ccd1ad2c0",
    pe: 0x14c,
    efi: "IA32",
    go: "386",
    machine: "i686",
  },
  "x86-64": {
    elf: [62],
    bits: [32, 64],
    endian: "little",
    root: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    verity: "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    signature: "41092b05-9fc8-4523-994f-2def0408b176",
    usr: "8484680c-9521-48c6-9c11-b0720656f69e",
    usrVerity: "77ff5f63-e7b6-4633-acf4-1565b864c0e6",
    usrSignature: "e7bb33fb-06cf-4e81-8273-e543b413e2e2",
    pe: 0x8664,
    efi: "X64",
    go: "amd64",
    machine: "x86_64",
  },
} as const satisfies Record<string, Architecture>;

export type ArchitectureName = keyof typeof ARCHITECTURES;

/** Partition types that do not depend on the architecture. */
export const PARTITION_TYPES = {
  "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  "xbootldr": "bc13c2ff-59e6-4262-a352-b275fd6f7172",
  "swap": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
  "home": "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
  "srv": "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
  "var": "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
  "tmp": "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
  "user-home": "773f91ef-66d4-49b5-bd83-d683bf40ad16",
  "linux-generic": "0fc63daf-8483-4772-8e79-3d69d8477de4",
} as const;

/** The type of the partition that holds GRUB for BIOS. The DPS does not define it. */
const BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649";

/** Partition types with a GUID per architecture. */
const ARCHITECTURE_TYPES = {
  "root": "root",
  "root-verity": "verity",
  "root-verity-sig": "signature",
  "usr": "usr",
  "usr-verity": "usrVerity",
  "usr-verity-sig": "usrSignature",
} as const;

type ArchitectureRole = keyof typeof ARCHITECTURE_TYPES;

/** What a partition is for, as systemd names it without the architecture. */
export type PartitionRole = ArchitectureRole | "bios" | keyof typeof PARTITION_TYPES;

function isArchitectureRole(role: PartitionRole): role is ArchitectureRole {
  return role in ARCHITECTURE_TYPES;
}

/** The GPT attribute bits that the DPS defines. */
export const GPT_ATTRIBUTES = {
  /** Grow the filesystem to fill its partition when it is mounted. */
  "growfs": 59,
  /** Mount it read-only. */
  "readOnly": 60,
  /** Do not mount it automatically. */
  "noAuto": 63,
} as const;

const ROWS = Object.entries(ARCHITECTURES) as [ArchitectureName, Architecture][];

/** The DPS type GUID (lower case) of a partition, e.g. `partitionType("root", "arm64")`. */
export function partitionType(role: PartitionRole, architecture: ArchitectureName): string {
  if (role === "bios") return BIOS_BOOT;
  return isArchitectureRole(role)
    ? ARCHITECTURES[architecture][ARCHITECTURE_TYPES[role]]
    : PARTITION_TYPES[role];
}

/** The role of a partition type GUID (upper or lower case), and its architecture if the type depends on one. */
export function identifyType(
  guid: string,
): { role: PartitionRole; architecture?: ArchitectureName } | undefined {
  const wanted = guid.toLowerCase();
  if (wanted === BIOS_BOOT) return { role: "bios" };
  for (const [role, type] of Object.entries(PARTITION_TYPES)) {
    if (type === wanted) return { role: role as PartitionRole };
  }
  for (const [architecture, row] of ROWS) {
    for (const [role, column] of Object.entries(ARCHITECTURE_TYPES)) {
      if (row[column] === wanted) return { role: role as ArchitectureRole, architecture };
    }
  }
}

/** systemd's name for a partition type, as `systemd-repart` and `systemd-dissect` show it: `root-x86-64`, `esp`. */
export function typeName(role: PartitionRole, architecture: ArchitectureName): string {
  return isArchitectureRole(role) ? role.replace(/^(root|usr)/, `$1-${architecture}`) : role;
}

/** Other names of architectures in partition types: https://man7.org/linux/man-pages/man5/repart.d.5.html */
const ALIASES: Readonly<Record<string, ArchitectureName>> = {
  "armv7l": "arm",
  "aarch64": "arm64",
  "loong64": "loongarch64",
  "mipsel": "mips-le",
  "mips64el": "mips64-le",
  "hppa": "parisc",
  "ppc64le": "ppc64-le",
  "ppc64el": "ppc64-le",
  "i386": "x86",
  "i486": "x86",
  "i586": "x86",
  "i686": "x86",
  "x86_64": "x86-64",
  "amd64": "x86-64",
};

/** The architectures whose programs run beside those of another, as `root-secondary` means them. */
const SECONDARY: { readonly [name in ArchitectureName]?: ArchitectureName } = {
  "x86-64": "x86",
  "arm64": "arm",
  "ppc64": "ppc",
  "s390x": "s390",
};

/** The names that {@link findType} knows for a machine of this architecture, without those of other ones. */
export function typeNames(architecture: ArchitectureName): string[] {
  const roles = Object.keys(ARCHITECTURE_TYPES) as ArchitectureRole[];
  return [
    ...Object.keys(PARTITION_TYPES),
    ...roles,
    ...roles.map((role) => typeName(role, architecture)),
  ];
}

/** The GUID (lower case) of a type as `Type=` names it: `root`, `usr-amd64-verity`, `home`, or itself a GUID. */
export function findType(name: string, architecture: ArchitectureName): string | undefined {
  const guid = parseUuid(name);
  if (guid !== undefined) return guid;
  if (Object.hasOwn(PARTITION_TYPES, name)) return PARTITION_TYPES[name as keyof typeof PARTITION_TYPES];
  const [, top, middle, end = ""] = /^(root|usr)(?:-(.*?))??(-verity(?:-sig)?)?$/.exec(name) ?? [];
  if (top === undefined) return undefined;
  const named = middle === undefined
    ? architecture
    : middle === "secondary"
    ? SECONDARY[architecture]
    : Object.hasOwn(ARCHITECTURES, middle)
    ? middle as ArchitectureName
    : Object.hasOwn(ALIASES, middle)
    ? ALIASES[middle]
    : undefined;
  return named && partitionType(`${top}${end}` as ArchitectureRole, named);
}

/** The path of the boot loader that firmware starts by default, e.g. `EFI/BOOT/BOOTX64.EFI`. */
export function efiBootPath(architecture: ArchitectureName): string | undefined {
  const { efi } = ARCHITECTURES[architecture] as Architecture;
  return efi && `EFI/BOOT/BOOT${efi}.EFI`;
}

/** The row of an architecture. */
export function architectureOf(architecture: ArchitectureName): Architecture {
  return ARCHITECTURES[architecture];
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
