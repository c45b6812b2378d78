/**
 * The formats of the finished image: one row each, with the options that make it what its users expect.
 *
 * @module
 */

import { BuildError } from "./error.ts";
import { formatBytes } from "./units.ts";
import { identifyVdi, identifyVhdx, identifyVmdk, identifyVpc } from "./format-identity.ts";
import type { Identify, Identity } from "./format-identity.ts";
import { parseJson, sh, shWith } from "./sh.ts";

interface Format {
  readonly summary: string;
  /** Name of the driver for `qemu-img -O`; absent: the image is the file itself and nothing is converted. */
  readonly driver?: string;
  /** Driver options for `qemu-img -o`. */
  readonly options?: string;
  readonly aliases?: readonly string[];
  /** Whether `qemu-img check` knows the format. */
  readonly check?: boolean;
  /** Replaces the random numbers and the time in it. Absent: it has none. */
  readonly identify?: Identify;
}

/**
 * An allow-list, because `qemu-img` takes protocol names such as `file` for formats too. Subformats that
 * write a second file beside the first (`monolithicFlat`) cannot work: the output is one mounted file.
 */
export const FORMATS = {
  "raw": { summary: "The bytes of the disk, sparse; for every use", aliases: ["img"] },
  "qcow2": { summary: "QEMU, libvirt, Proxmox VE", driver: "qcow2", check: true },
  "qed": { summary: "QEMU, old", driver: "qed", check: true },
  "parallels": { summary: "Parallels Desktop", driver: "parallels", check: true },
  "vdi": { summary: "VirtualBox", driver: "vdi", check: true, identify: identifyVdi },
  "vhdx": { summary: "Hyper-V", driver: "vhdx", check: true, identify: identifyVhdx },
  "vmdk": {
    summary: "VMware, stream-optimized as in an OVA",
    driver: "vmdk",
    options: "subformat=streamOptimized,adapter_type=lsilogic",
    identify: identifyVmdk,
  },
  "vpc": {
    summary: "Azure, Hyper-V: a fixed VHD",
    driver: "vpc",
    // Without force_size the size is rounded up to a CHS geometry, which Azure refuses.
    options: "subformat=fixed,force_size=on",
    identify: identifyVpc,
    aliases: ["vhd"],
  },
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;

/** Whether the image has to be converted from a raw scratch file. */
export function isConverted(format: FormatName): boolean {
  return (FORMATS[format] as Format).driver !== undefined;
}

/**
 * Converts the raw image `from` into the existing file `to`, in place: a bind-mounted file cannot be
 * replaced. `onProgress` gets the done share, 0 to 1. With an `identity` the same image becomes the same file.
 *
 * @throws {BuildError} when `qemu-img` fails or what it wrote is not what was asked for.
 */
export async function convert(
  from: string,
  to: string,
  format: FormatName,
  onProgress: (share: number) => void,
  identity?: Identity,
): Promise<void> {
  const { driver, options, check, identify } = FORMATS[format] as Format;
  if (!driver) throw new TypeError(`Format ${format} is not converted`);
  const option = options ? ["-o", options] : [];
  await shWith({
    onStdout(text) {
      const percent = /\(([\d.]+)\/100%\)\s*$/.exec(text)?.[1];
      if (percent) onProgress(Number(percent) / 100);
    },
  })`qemu-img convert -p -f raw -O ${driver} ${option} ${from} ${to}`;
  if (identity) await identify?.(to, identity);
  const { size } = await Deno.stat(from);
  const info = parseJson("qemu-img info", await sh`qemu-img info --output=json -f ${driver} ${to}`);
  const wrote = Number(info["virtual-size"]);
  if (wrote !== size) {
    throw new BuildError(
      `qemu-img wrote a ${format} image of ${formatBytes(wrote)} from ${formatBytes(size)}`,
    );
  }
  if (check) await sh`qemu-img check -q -f ${driver} ${to}`;
}

/** Compares a converted image with the raw one, byte for byte. @throws {BuildError} when they differ. */
export async function compareConverted(from: string, to: string, format: FormatName): Promise<void> {
  const { driver } = FORMATS[format] as Format;
  await sh`qemu-img compare -q -f raw -F ${driver ?? "raw"} ${from} ${to}`;
}
