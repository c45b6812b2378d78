/**
 * The formats of the finished image: one row each, with the options that make it what its users expect.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { openImageFile } from "./image.ts";
import { compressQcow2, prepareToCompress } from "./qcow2/compress.ts";
import { formatBytes } from "../core/units.ts";
import { identifyVdi, identifyVhdx, identifyVmdk, identifyVpc } from "./format-identity.ts";
import type { Identify, Identity } from "./format-identity.ts";
import { parseJson, sh, shWith } from "../system/sh.ts";

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
  /**
   * Whether we write it ourselves: `in place` around the largest filesystem, which is made in the output, or
   * `compressed` from a raw image. Absent: `qemu-img convert` does.
   */
  readonly own?: "in place" | "compressed";
}

/**
 * An allow-list, because `qemu-img` takes protocol names such as `file` for formats too. Subformats that
 * write a second file beside the first (`monolithicFlat`) cannot work: the output is one mounted file.
 */
export const FORMATS = {
  "raw": { summary: "The bytes of the disk, sparse; for every use", aliases: ["img"] },
  "qcow2": { summary: "QEMU, libvirt, Proxmox VE", driver: "qcow2", check: true, own: "in place" },
  "qcow2-zstd": {
    summary: "the same, compressed with zstd; QEMU 5.1 and later",
    driver: "qcow2",
    check: true,
    own: "compressed",
  },
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

/** Whether the image is made from a raw one in a scratch file. */
export function isConverted(format: FormatName): boolean {
  return format !== "raw" && !isInPlace(format);
}

/** Whether the largest filesystem is made in the output, and the image around it. */
export function isInPlace(format: FormatName): boolean {
  return (FORMATS[format] as Format).own === "in place";
}

/** Starts what converting to a format needs, while the raw image is made. */
export function prepareToConvert(format: FormatName): void {
  if ((FORMATS[format] as Format).own === "compressed") prepareToCompress();
}

/** Whether a build in this format runs `qemu-img`: to make the image, or only to check it. */
export function needsQemu(format: FormatName): boolean {
  return (FORMATS[format] as Format).driver !== undefined;
}

/**
 * Converts the raw image `from` into the existing file `to`, in place: a bind-mounted file cannot be
 * replaced. `onProgress` gets the done share, 0 to 1. With an `identity` the same image becomes the same file.
 *
 * @throws {BuildError} when it cannot be written, or is not what was asked for.
 */
export async function convert(
  from: string,
  to: string,
  format: FormatName,
  onProgress: (share: number) => void,
  identity?: Identity,
): Promise<void> {
  const { driver, options, own, identify } = FORMATS[format] as Format;
  if (!driver || !isConverted(format)) throw new TypeError(`Format ${format} is not converted`);
  if (own === "compressed") {
    const { size } = await Deno.stat(from);
    await Deno.writeFile(to, new Uint8Array());
    using raw = openImageFile(from), image = openImageFile(to);
    await compressQcow2({ image: raw, host: 0, guest: 0, size }, image, onProgress);
  } else {
    const option = options ? ["-o", options] : [];
    await shWith({
      onStdout(text) {
        const percent = /\(([\d.]+)\/100%\)\s*$/.exec(text)?.[1];
        if (percent) onProgress(Number(percent) / 100);
      },
    })`qemu-img convert -p -f raw -O ${driver} ${option} ${from} ${to}`;
    if (identity) await identify?.(to, identity);
  }
  await verifyFormat(to, format, (await Deno.stat(from)).size);
}

/** Checks with qemu-img that an image is sound and of a disk of `size` bytes. @throws {BuildError} */
export async function verifyFormat(image: string, format: FormatName, size: number): Promise<void> {
  const { driver, check, own } = FORMATS[format] as Format;
  const [json] = await Promise.all([
    sh`qemu-img info --output=json -f ${driver ?? "raw"} ${image}`,
    ...check ? [sh`qemu-img check -q -f ${driver ?? "raw"} ${image}`] : [],
  ]);
  const found = Number(parseJson("qemu-img info", json)["virtual-size"]);
  if (found === size) return;
  const who = own ? "We wrote" : "qemu-img wrote";
  throw new BuildError(`${who} a ${format} image of ${formatBytes(found)} from ${formatBytes(size)}`);
}

/** Compares a converted image with the raw one, byte for byte. @throws {BuildError} when they differ. */
export async function compareConverted(from: string, to: string, format: FormatName): Promise<void> {
  const { driver } = FORMATS[format] as Format;
  await sh`qemu-img compare -q -f raw -F ${driver ?? "raw"} ${from} ${to}`;
}
