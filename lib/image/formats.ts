/**
 * The output formats: one row each, with the options that its users expect.
 *
 * @module
 */

import { GiB } from "../core/units.ts";

/**
 * How an image is made. `direct`: the output is the disk. `footer`: the output is the disk, followed by a footer. `wrapped`:
 * the largest filesystem is made in the output, and the format is written around it. `converted`: a raw disk in a scratch
 * file is converted. `archive`: there is no disk, but an archive of the tree.
 */
type Strategy = "direct" | "footer" | "wrapped" | "converted" | "archive";

/** How a whole image can be compressed, by the suffix of its file. */
export const COMPRESSORS = ["zst", "xz", "gz"] as const;

export type Compressor = (typeof COMPRESSORS)[number];

/** A compression, or none. */
export type Compress = Compressor | "none";

/** Who makes images. */
export type BuilderName = "disk-image" | "part-image";

const BOTH = ["disk-image", "part-image"] as const satisfies readonly BuilderName[];

interface Format {
  readonly summary: string;
  /** The builders that make it. */
  readonly builders: readonly BuilderName[];
  readonly strategy: Strategy;
  /** qemu-img's driver for a disk; `raw` also for formats that qemu-img need not know. */
  readonly driver?: string;
  /** Driver options for `qemu-img -o`. */
  readonly options?: string;
  readonly aliases?: readonly string[];
  /**
   * File name suffixes without their first dot, the usual one first. Several formats may share one: it then stands for
   * the first of them. `.img` is used for all kinds of images, so it says nothing about the format.
   */
  readonly suffixes: readonly [string, ...string[]];
  /** Whether `qemu-img check` supports the format. */
  readonly check?: boolean;
  /** Whether we write it ourselves and qemu-img only checks it. */
  readonly own?: boolean;
  /** The compression that its file always has. */
  readonly compressed?: Compressor;
  /** Whether `COMPRESS` makes sense: all others are compressed, or are used as they are. */
  readonly compressible?: true;
  /** The archive that the image goes into: its compression, and the image's name in it. */
  readonly archive?: { readonly compress: Compress; readonly member: string };
  /** The size of the disk is a multiple of this, in bytes. */
  readonly multiple?: number;
  /** Whether it says, or its machines take for granted, that sectors have 512 bytes. */
  readonly smallSectors?: true;
  /** The size of the largest disk, in bytes. */
  readonly largest?: number;
}

/**
 * An allow-list, because `qemu-img` also accepts protocol names such as `file` as formats. Subformats that
 * write a second file (`monolithicFlat`) cannot work: the output is a single mounted file.
 */
export const FORMATS = {
  "raw": {
    summary: "The bytes of the disk, sparse; for any use",
    builders: BOTH,
    strategy: "direct",
    driver: "raw",
    suffixes: ["raw"],
    aliases: ["img"],
    compressible: true,
  },
  "qcow2": {
    summary: "QEMU, libvirt, Proxmox VE",
    builders: BOTH,
    strategy: "wrapped",
    driver: "qcow2",
    suffixes: ["qcow2"],
    check: true,
    own: true,
  },
  "qcow2-zstd": {
    summary: "the same, compressed with zstd; QEMU 5.1 and later",
    builders: BOTH,
    strategy: "converted",
    driver: "qcow2",
    suffixes: ["qcow2"],
    check: true,
    own: true,
  },
  "vdi": {
    summary: "VirtualBox",
    builders: BOTH,
    strategy: "converted",
    driver: "vdi",
    suffixes: ["vdi"],
    check: true,
  },
  "vhdx": {
    summary: "Hyper-V",
    builders: BOTH,
    strategy: "converted",
    driver: "vhdx",
    suffixes: ["vhdx"],
    check: true,
    smallSectors: true,
    largest: 64 * 1024 * GiB,
  },
  "vmdk": {
    summary: "VMware, stream-optimized as in an OVA; takes more than ten times as long as raw",
    builders: BOTH,
    strategy: "converted",
    driver: "vmdk",
    suffixes: ["vmdk"],
    options: "subformat=streamOptimized,adapter_type=lsilogic",
  },
  "vpc": {
    summary: "Azure, Hyper-V: a fixed VHD",
    builders: BOTH,
    strategy: "footer",
    driver: "vpc",
    suffixes: ["vhd"],
    aliases: ["vhd"],
    own: true,
    largest: 2040 * GiB,
    compressible: true,
  },
  "gce": {
    summary: "Google Compute Engine: disk.raw in a tar.gz",
    builders: ["disk-image"],
    strategy: "direct",
    driver: "raw",
    suffixes: ["tar.gz"],
    archive: { compress: "gz", member: "disk.raw" },
    smallSectors: true,
    // https://cloud.google.com/compute/docs/import/import-existing-image#requirements
    multiple: GiB,
  },
  "ova": {
    summary: "VMware, VirtualBox: a machine with the disk; takes more than ten times as long as raw",
    builders: ["disk-image"],
    strategy: "converted",
    driver: "vmdk",
    suffixes: ["ova"],
    options: "subformat=streamOptimized,adapter_type=lsilogic",
    archive: { compress: "none", member: "disk.vmdk" },
    smallSectors: true,
  },
  "vagrant": {
    summary: "Vagrant with libvirt: a box with a qcow2",
    builders: ["disk-image"],
    strategy: "wrapped",
    driver: "qcow2",
    suffixes: ["box"],
    check: true,
    own: true,
    archive: { compress: "gz", member: "box.img" },
    smallSectors: true,
  },
  "tar": {
    summary: "everything in the tree as a pax archive, for tar, podman import and other builders",
    builders: ["part-image"],
    strategy: "archive",
    suffixes: ["tar"],
    compressible: true,
  },
  "oci": {
    summary: "a container image, for podman, docker, skopeo and registries",
    builders: ["part-image"],
    strategy: "archive",
    suffixes: ["oci.tar", "oci", "tar"],
    compressible: true,
  },
  "wsl": {
    summary: "a distribution for the Windows Subsystem for Linux",
    builders: ["part-image"],
    strategy: "archive",
    suffixes: ["wsl"],
    compressed: "gz",
  },
  "incus": {
    summary: "an image of a container for Incus and LXD",
    builders: ["part-image"],
    strategy: "archive",
    suffixes: ["incus.tar", "tar"],
    compressible: true,
  },
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;

/** The row of a format. */
export function formatOf(format: FormatName): Format {
  return FORMATS[format];
}

/** qemu-img's driver for a format that is a disk. */
export function driverOf(format: FormatName): string {
  const { driver } = formatOf(format);
  if (driver === undefined) throw new TypeError(`Format ${format} is no disk`);
  return driver;
}

/** Whether the disk is made in the output, at the positions where it stays. */
export function isInPlace(format: FormatName): boolean {
  return ["direct", "footer"].includes(formatOf(format).strategy);
}

/** Whether the output is a disk or filesystem, and not an archive of the tree. */
export function isDisk(format: FormatName): boolean {
  return formatOf(format).strategy !== "archive";
}

const FORMAT_NAMES = Object.keys(FORMATS) as FormatName[];

/** The formats that a builder makes; without one, all of them. */
export function formatNames(builder?: BuilderName): readonly FormatName[] {
  return builder ? FORMAT_NAMES.filter((name) => formatOf(name).builders.includes(builder)) : FORMAT_NAMES;
}

/** The compression of the file that the image goes into; `undefined` if the output is the image itself. */
export function packingOf(format: FormatName, compress: Compress): Compress | undefined {
  const { archive, compressed } = formatOf(format);
  return archive?.compress ?? compressed ?? (compress === "none" ? undefined : compress);
}

/** The formats that can be compressed as a whole, of a builder or all. */
export function compressibleFormats(builder?: BuilderName): readonly FormatName[] {
  return formatNames(builder).filter((name) => formatOf(name).compressible);
}

/** Suffixes that mean something we do not make: compressed files, archives, and other formats. */
const OTHER_SUFFIXES = ["bz2", "iso", "lz4", "qcow", "qed", "zip"];

/** What the end of a file name stands for. */
interface Suffix {
  /** The suffix as it was written, without its first dot. */
  readonly text: string;
  /** The formats that have it, the usual one first; none if it stands for something that we do not make. */
  readonly formats: readonly FormatName[];
  /** How the whole image is compressed. */
  readonly compressor?: Compressor;
}

/** What a suffix stands for: formats of the builder, or if it has none, of others. */
function suffixOf(fileName: string, builder: BuilderName): Suffix | undefined {
  const own = findSuffix(fileName, formatNames(builder));
  return own?.formats.length ? own : findSuffix(fileName, FORMAT_NAMES);
}

function findSuffix(fileName: string, names: readonly FormatName[]): Suffix | undefined {
  const [, ...parts] = fileName.replace(/^\.+/, "").split(".");
  // The longest suffix counts: ".oci.tar" before ".tar".
  for (let from = 0; from < parts.length; from++) {
    const text = parts.slice(from).join(".");
    const formats = names.filter((name) => formatOf(name).suffixes.includes(text.toLowerCase()));
    if (formats.length || OTHER_SUFFIXES.includes(text.toLowerCase())) return { text, formats };
  }
  const last = parts.at(-1) ?? "";
  const compressor = COMPRESSORS.find((name) => name === last.toLowerCase());
  if (!compressor) return undefined;
  const inner = findSuffix(fileName.slice(0, -last.length - 1), names);
  const compressible = names.filter((name) => formatOf(name).compressible);
  const formats = compressible.filter((name) => inner?.formats.includes(name) ?? true);
  return { text: inner ? `${inner.text}.${last}` : last, formats, ...formats.length && { compressor } };
}

/** What the suffix of a file name stands for: formats of a builder, the usual one first, and their compression. */
export function promised(
  fileName: string,
  builder: BuilderName,
): { readonly formats: readonly FormatName[]; readonly compressor?: Compressor } {
  const { formats, compressor } = findSuffix(fileName, formatNames(builder)) ?? { formats: [] };
  return { formats, ...compressor && { compressor } };
}

/** A file name without the suffix of its format, and without `.img`. */
export function stemOf(fileName: string, builder: BuilderName): string {
  const found = suffixOf(fileName, builder);
  const stem = found ? fileName.slice(0, -found.text.length - 1) : fileName;
  return stem.replace(/\.img$/i, "") || stem;
}

/** An image as its name should say it. */
interface Named {
  readonly outputFormat: FormatName;
  readonly compress: Compress;
}

/** How a file name's suffix contradicts the format, and what to do; `undefined` if it does not. */
export function contradiction(
  fileName: string,
  { outputFormat: format, compress }: Named,
  builder: BuilderName,
): { readonly problem: string; readonly hint: string } | undefined {
  const found = suffixOf(fileName, builder);
  const compressor = found?.compressor ?? "none";
  if (!found || found.formats.includes(format) && compressor === compress) return undefined;
  const suffix = `.${found.text}`;
  const more = compress === "none" ? "" : `.${compress}`;
  const rename = `end the name in .${formatOf(format).suffixes[0]}${more}${
    isDisk(format) ? ` or .img${more}` : ""
  }`;
  const [usual] = found.formats;
  if (!usual) {
    return {
      problem: `${suffix} is not a supported format`,
      hint: `E${rename.slice(1)}, and compress or pack the finished image yourself`,
    };
  }
  if (found.formats.includes(format)) {
    const says = compressor === "none" ? "not compressed" : `compressed with ${compressor}`;
    return {
      problem: `${suffix} says that the image is ${says}, but COMPRESS is ${compress}`,
      hint: `Set COMPRESS to ${compressor}, or ${rename}`,
    };
  }
  const [own] = promised(fileName, builder).formats;
  return own
    ? {
      problem: `${suffix} means ${own}, not ${format}`,
      hint: `Set OUTPUT_FORMAT to ${own}, or ${rename}`,
    }
    : {
      problem: `${suffix} means ${usual}, which ${builder} does not make`,
      hint: `Use ${formatOf(usual).builders.join(" or ")}, or ${rename}`,
    };
}
