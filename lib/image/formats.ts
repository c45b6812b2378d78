/**
 * The output formats: one row each, with the options that its users expect.
 *
 * @module
 */

/**
 * How an image is made. `direct`: the output is the disk. `wrapped`: the largest filesystem is made in the output,
 * and the format is written around it. `converted`: a raw disk in a scratch file is converted.
 */
type Strategy = "direct" | "wrapped" | "converted";

interface Format {
  readonly summary: string;
  readonly strategy: Strategy;
  /** qemu-img's driver for it; `raw` also for formats that qemu-img need not know. */
  readonly driver: string;
  /** Driver options for `qemu-img -o`. */
  readonly options?: string;
  readonly aliases?: readonly string[];
  /** The file name suffix. `.img` is used for all kinds of images, so it says nothing about the format. */
  readonly suffix: string;
  /** Whether `qemu-img check` supports the format. */
  readonly check?: boolean;
  /** Whether we write it ourselves and qemu-img only checks it. */
  readonly own?: boolean;
}

/**
 * An allow-list, because `qemu-img` also accepts protocol names such as `file` as formats. Subformats that
 * write a second file (`monolithicFlat`) cannot work: the output is a single mounted file.
 */
export const FORMATS = {
  "raw": {
    summary: "The bytes of the disk, sparse; for any use",
    strategy: "direct",
    driver: "raw",
    suffix: "raw",
    aliases: ["img"],
  },
  "qcow2": {
    summary: "QEMU, libvirt, Proxmox VE",
    strategy: "wrapped",
    driver: "qcow2",
    suffix: "qcow2",
    check: true,
    own: true,
  },
  "qcow2-zstd": {
    summary: "the same, compressed with zstd; QEMU 5.1 and later",
    strategy: "converted",
    driver: "qcow2",
    suffix: "qcow2",
    check: true,
    own: true,
  },
  "vdi": { summary: "VirtualBox", strategy: "converted", driver: "vdi", suffix: "vdi", check: true },
  "vhdx": { summary: "Hyper-V", strategy: "converted", driver: "vhdx", suffix: "vhdx", check: true },
  "vmdk": {
    summary: "VMware, stream-optimized as in an OVA",
    strategy: "converted",
    driver: "vmdk",
    suffix: "vmdk",
    options: "subformat=streamOptimized,adapter_type=lsilogic",
  },
  "vpc": {
    summary: "Azure, Hyper-V: a fixed VHD",
    strategy: "converted",
    driver: "vpc",
    suffix: "vhd",
    // Without force_size, the size is rounded up to a CHS geometry, which Azure rejects.
    options: "subformat=fixed,force_size=on",
    aliases: ["vhd"],
  },
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;

/** The row of a format. */
export function formatOf(format: FormatName): Format {
  return FORMATS[format];
}

/** Suffixes that mean something we do not make: compressed files, archives, and other formats. */
const OTHER_SUFFIXES = ["bz2", "gz", "iso", "lz4", "ova", "qcow", "qed", "xz", "zip", "zst"];

/** The formats that a file name's suffix stands for, the usual one first; `undefined` if it stands for none. */
export function promisedFormats(fileName: string): readonly FormatName[] | undefined {
  const [, suffix] = /.\.([^.]+)$/.exec(fileName.toLowerCase()) ?? [];
  const names = Object.keys(FORMATS) as FormatName[];
  const formats = names.filter((name) => FORMATS[name].suffix === suffix);
  return formats.length || suffix !== undefined && OTHER_SUFFIXES.includes(suffix) ? formats : undefined;
}

/** How a file name's suffix contradicts the format, and what to do; `undefined` if it does not. */
export function contradiction(
  fileName: string,
  format: FormatName,
): { readonly problem: string; readonly hint: string } | undefined {
  const promised = promisedFormats(fileName);
  if (!promised || promised.includes(format)) return undefined;
  const suffix = fileName.slice(fileName.lastIndexOf("."));
  const rename = `end the name in .${FORMATS[format].suffix} or .img`;
  const [usual] = promised;
  return usual
    ? {
      problem: `${suffix} means ${usual}, not ${format}`,
      hint: `Set OUTPUT_FORMAT to ${usual}, or ${rename}`,
    }
    : {
      problem: `${suffix} is not a supported format`,
      hint: `E${rename.slice(1)}, and compress or pack the finished image yourself`,
    };
}
