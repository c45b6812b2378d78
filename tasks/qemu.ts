/**
 * Virtual machines: QEMU's options and the UEFI firmware for each architecture, for `deno task boot` and for the
 * tests.
 *
 * @module
 */

import type { ArchitectureName } from "../lib/core/dps.ts";
import { BuildError, quote } from "../lib/core/error.ts";
import { isInstalled, packageHint } from "../lib/system/programs.ts";

/** The files of a UEFI: the program, and the variables, of which each guest needs its own copy. */
interface Uefi {
  readonly code: string;
  /** Absent: this firmware stores no variables, and is loaded into memory. */
  readonly variables?: string;
  /** Added to `-machine`. */
  readonly machine?: string;
  readonly args?: readonly string[];
}

/** The firmware: UEFI, UEFI with Secure Boot and the keys of that name, or QEMU's own BIOS. */
export const FIRMWARES = ["uefi", "microsoft", "snakeoil", "bios"] as const;

export type FirmwareName = (typeof FIRMWARES)[number];

/** Secure Boot needs memory that the operating system cannot write. */
const SECURE = {
  machine: "smm=on",
  args: ["-global", "driver=cfi.pflash01,property=secure,value=on"],
} as const;

interface Machine {
  /** The QEMU program for the architecture. */
  readonly program: string;
  /** `-machine`, without the accelerator. */
  readonly machine: string;
  /** `-cpu` under TCG; under KVM it is always `host`. */
  readonly cpu: string;
  /** An empty row stands for firmware that comes with QEMU. */
  readonly firmware: { readonly uefi: Uefi } & { readonly [name in FirmwareName]?: Uefi | null };
}

/** One row per architecture that can be booted. */
export const MACHINES = {
  "x86-64": {
    program: "qemu-system-x86_64",
    machine: "q35",
    // cmpxchg16b in QEMU 7.2's TCG sometimes crashes Linux: double faults in 1 of 8 boots.
    cpu: "qemu64,-cx16",
    firmware: {
      uefi: { code: "/usr/share/OVMF/OVMF_CODE_4M.fd", variables: "/usr/share/OVMF/OVMF_VARS_4M.fd" },
      microsoft: {
        ...SECURE,
        code: "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
        variables: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
      },
      // With the package's own key. Its private part is in the package, too.
      snakeoil: {
        ...SECURE,
        code: "/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd",
        variables: "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
      },
      bios: null,
    },
  },
  "arm64": {
    program: "qemu-system-aarch64",
    machine: "virt",
    cpu: "cortex-a57",
    firmware: {
      uefi: { code: "/usr/share/AAVMF/AAVMF_CODE.fd", variables: "/usr/share/AAVMF/AAVMF_VARS.fd" },
    },
  },
  "riscv64": {
    program: "qemu-system-riscv64",
    machine: "virt",
    cpu: "rv64",
    // U-Boot, started by QEMU's OpenSBI. Debian 12 has no other UEFI.
    firmware: { uefi: { code: "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf" } },
  },
} as const satisfies Partial<Record<ArchitectureName, Machine>>;

export type BootableName = keyof typeof MACHINES;

/** How the disk is attached: `-device` arguments that end in the drive's name. */
export const DISKS = {
  // Built into Debian's kernels, including cloud kernels: boots without an initrd.
  "nvme": ["-device", "nvme,serial=raptor,drive=disk"],
  "nvme-4k": ["-device", "nvme,serial=raptor,drive=disk,logical_block_size=4096,physical_block_size=4096"],
  "virtio": ["-device", "virtio-blk-pci,drive=disk"],
  "sata": ["-device", "ich9-ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=disk"],
  "usb": ["-device", "qemu-xhci", "-device", "usb-storage,drive=disk"],
} as const satisfies Record<string, readonly string[]>;

export type DiskName = keyof typeof DISKS;

/** One virtual machine. */
export interface Guest {
  readonly architecture: BootableName;
  readonly image: string;
  /** QEMU's name for the format of the image. */
  readonly format: string;
  readonly disk: DiskName;
  readonly accel: "kvm" | "tcg";
  /** In MiB. */
  readonly memory: number;
  /** Whether to discard the guest's writes. */
  readonly snapshot: boolean;
  readonly firmware?: FirmwareName;
  /** A copy of the firmware's variables, which the guest changes; BIOS has none. */
  readonly variables: string;
  /** QEMU's argument for the serial console: `mon:stdio` for a terminal, `stdio` for a log. */
  readonly serial: string;
}

/** The files of UEFI firmware for an architecture; `undefined` for BIOS. */
export function firmwareFiles(architecture: BootableName, name: FirmwareName = "uefi"): Uefi | undefined {
  const found = (MACHINES[architecture] as Machine).firmware[name];
  if (found === undefined) {
    throw new BuildError(`Cannot boot ${architecture} with the firmware ${name}`, { kind: "usage" });
  }
  return found ?? undefined;
}

/** QEMU's command line for a guest, program first. The only place that knows QEMU's options. */
export function qemuCommand(guest: Guest): string[] {
  const row: Machine = MACHINES[guest.architecture];
  const firmware = firmwareFiles(guest.architecture, guest.firmware);
  const machine = [row.machine, ...firmware?.machine ? [firmware.machine] : []].join(",");
  return [
    row.program,
    ...["-machine", `${machine},accel=${guest.accel}`],
    ...["-cpu", guest.accel === "kvm" ? "host" : row.cpu],
    // With more than one processor, QEMU 7.2's TCG has races when the kernel patches its own code.
    ...["-smp", "1", "-m", String(guest.memory)],
    ...firmware && !firmware.variables ? ["-kernel", firmware.code] : [],
    ...firmware?.variables
      ? [
        ...["-drive", drive({ if: "pflash", format: "raw", readonly: "on", file: firmware.code })],
        ...["-drive", drive({ if: "pflash", format: "raw", file: guest.variables })],
      ]
      : [],
    ...[
      "-drive",
      drive({
        if: "none",
        id: "disk",
        format: guest.format,
        snapshot: guest.snapshot ? "on" : "off",
        file: guest.image,
      }),
    ],
    ...DISKS[guest.disk],
    ...(firmware?.args ?? []),
    ...["-nodefaults", "-display", "none", "-no-reboot"],
    ...["-serial", guest.serial],
  ];
}

/** QEMU separates options with commas; a comma in a file name is doubled. */
function drive(options: Record<string, string>): string {
  return Object.entries(options).map(([key, value]) => `${key}=${value.replaceAll(",", ",,")}`).join(",");
}

/** @throws {BuildError} when the program or the firmware of an architecture is not installed. */
export function checkInstalled(architecture: BootableName, firmware?: FirmwareName): void {
  const files = firmwareFiles(architecture, firmware);
  for (const needed of [MACHINES[architecture].program, files?.code, files?.variables]) {
    if (!needed || isInstalled(needed)) continue;
    throw new BuildError(`Cannot boot an ${architecture} image: ${quote(needed)} is missing`, {
      hint: packageHint(needed),
    });
  }
}
