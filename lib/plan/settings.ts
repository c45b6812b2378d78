/**
 * The settings: one row each gives the environment variable, the flag, the default, the parser, `--help`,
 * `docs/settings.md`, the man page, completion and the JSON Schema.
 *
 * @module
 */

import { BOOT_LOADER_CHOICES } from "../boot/bootloaders.ts";
import { compressorNames, parseCompression } from "../filesystem/compression.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import {
  type BuilderName,
  COMPRESSORS,
  type FormatName,
  formatNames,
  formatOf,
  isDisk,
} from "../image/formats.ts";
import { LEFTOVER_NAMES } from "./leftovers.ts";
import { pem } from "./pem.ts";
import { parseLayout } from "./repart/files.ts";
import {
  assignments,
  choice,
  described,
  imageName,
  kernelOptions,
  listOf,
  mebibytes,
  type Parser,
  pattern,
  words,
} from "./setting-values.ts";

/** The groups of settings in `--help` and in the docs, in their order. */
export const SETTING_GROUPS = {
  output: "Output",
  size: "Size",
  contents: "Contents",
  boot: "Boot",
  security: "Security",
  pipeline: "Pipelines",
} as const;

export type SettingGroup = keyof typeof SETTING_GROUPS;

export interface Setting<T> {
  /** Name of the environment variable; the flag is the same in lower case: `EFI_MB`, `--efi-mb`. */
  readonly env: string;
  /** The placeholder for the value in `--help`. */
  readonly value: string;
  /** The default, as the user would write it; absent: computed. */
  readonly default?: string;
  /** What the help shows as the default of a computed setting. */
  readonly computed?: string;
  /** What it is, for its line in `--help`, which has room for some 65 characters with the default. */
  readonly help: string;
  readonly group: SettingGroup;
  /** What it is for: one to three sentences, with Markdown for code only. */
  readonly about: string;
  /** The page of the docs that tells more, with an anchor if it has one. */
  readonly docs?: string;
  /** Values, each with what it is for. */
  readonly examples: Readonly<Record<string, string>>;
  /**
   * `true` for a key: neither the given value nor the key is ever shown. `as given` for a certificate, which is not
   * secret, but the given value may be: someone may have mixed them up, or have both in one file.
   */
  readonly secret?: true | "as given";
  /** Whether it decides on no byte of the image: where something goes, what it is called, what is an error. */
  readonly place?: true;
  /**
   * @throws {Error} saying what is accepted, such as "a whole number of MiB from 1 to 1048576". If the cause is a text, it
   * says what is wrong with this value.
   */
  readonly parse: Parser<T>;
  /** The output formats that it means something for; absent: all. With others, it is refused. */
  readonly formats?: readonly FormatName[];
  /** For what says something about the layout without `LAYOUT` only: what to set with it. With `LAYOUT`, it is refused. */
  readonly insteadInLayout?: string;
  /** The parser for the values that one builder takes, where builders differ. */
  readonly parseOf?: (builder: BuilderName) => Parser<T>;
}

/** The formats that have a filesystem. */
const DISKS = formatNames().filter(isDisk);

/** The formats that are container images. */
const OCI = ["oci"] as const;

/** The firmware that an image boots on. */
const FIRMWARES = ["uefi", "bios", "hybrid"] as const;

/** The parser of `OUTPUT_FORMAT`: for the formats of one builder, or for those of all. */
function parseFormat(builder?: BuilderName): Parser<FormatName> {
  const names = formatNames(builder);
  const aliases = names.flatMap((name) =>
    (formatOf(name).aliases ?? []).map((alias) => [alias, name] as const)
  );
  return choice(names, new Map(aliases));
}

const FILESYSTEM_NAMES = Object.keys(FILESYSTEMS) as FilesystemName[];

/** `squashfs: zstd[:1-22] gzip[:1-9] …` for each filesystem that has compression. */
const COMPRESSION_HELP = FILESYSTEM_NAMES.map((
  name,
) => [name, compressorNames(FILESYSTEMS[name].compressors)])
  .filter(([, names]) => names!.length).map(([name, names]) =>
    `\`${name}: ${(names as string[]).join(" ")}\``
  )
  .join(", ");

const COMPRESSION_NAMES = [
  ...new Set(FILESYSTEM_NAMES.flatMap((name) => Object.keys(FILESYSTEMS[name].compressors))),
];

const FILE_PATH = pattern(/^[^\0]+$/, "the path of a file");
const DIRECTORY_PATH = pattern(/^[^\0]+$/, "the path of a directory");

/** Versions that systemd-sysupdate, RAUC and swupdate take from a name: an underscore separates them from it. */
export const VERSION = /^[A-Za-z0-9][A-Za-z0-9.~^+-]{0,63}$/;

export const SETTINGS = {
  outputFormat: {
    env: "OUTPUT_FORMAT",
    group: "output",
    value: "FORMAT",
    default: "raw",
    help: "Format of the image, such as qcow2",
    about:
      "The bytes of the disk by default, or the format that a hypervisor or a cloud wants. On the command line, the suffix " +
      "of the output chooses it; in a container, where the output's name is unknown, only this setting does.",
    docs: "formats.md",
    examples: { "qcow2": "for QEMU, libvirt and Proxmox VE", "vmdk": "for VMware" },
    parse: parseFormat(),
    parseOf: parseFormat,
  },
  compress: {
    env: "COMPRESS",
    group: "output",
    value: "METHOD",
    default: "none",
    help: `Compression of the whole image: ${["none", ...COMPRESSORS].join(", ")}`,
    about:
      "Writes a raw image or a VHD as one compressed file, to be sent somewhere and unpacked there. On the command line, the " +
      "suffix of the output chooses it: `disk.img.zst`. The bytes are the same on any number of processors.",
    docs: "formats.md#compressed-images",
    examples: {
      "zst": "fast, and known to bmaptool",
      "xz": "the smallest file, and slow; known to systemd-sysupdate",
      "gz": "what everything reads",
    },
    parse: choice(["none", ...COMPRESSORS] as const),
  },
  filesystem: {
    env: "FILESYSTEM",
    group: "output",
    formats: DISKS,
    value: "NAME",
    default: "ext4",
    help: `The root filesystem: ${FILESYSTEM_NAMES.join(", ")}`,
    about:
      "ext4 keeps everything that a tree has and can be written to. squashfs and erofs are compressed and read-only. vfat is " +
      "what firmware reads: it has no owners, modes or links.",
    docs: "formats.md#filesystems",
    examples: { "squashfs": "a small read-only root", "erofs": "a read-only root that is fast to read" },
    parse: choice(FILESYSTEM_NAMES),
  },
  compression: {
    env: "COMPRESSION",
    group: "output",
    formats: DISKS,
    value: "METHOD",
    computed: "by filesystem",
    help: "Compression of squashfs and erofs, also METHOD:LEVEL",
    about: `The methods of each filesystem, its default first: ${COMPRESSION_HELP}.`,
    docs: "read-only.md",
    examples: { "zstd:19": "smaller, and much slower to make", "lz4": "fast to make and to read" },
    parse: described(
      { words: COMPRESSION_NAMES, pattern: "^[a-z][a-z0-9]*(:[0-9]{1,2})?$" },
      parseCompression,
    ),
  },
  label: {
    env: "LABEL",
    group: "output",
    formats: DISKS,
    value: "TEXT",
    computed: "root",
    help: "Label of the filesystem",
    about:
      "The name of the filesystem, by which LABEL= finds it. How long it may be depends on the filesystem.",
    examples: { "data": "mounted with LABEL=data" },
    parse: pattern(/^[\x21-\x7e]{1,255}$/, "ASCII characters without a space"),
  },
  outputName: {
    env: "OUTPUT_NAME",
    group: "output",
    place: true,
    value: "NAME",
    computed: "the output's name",
    help: "Final name of the image, for side files",
    about:
      "Hashes and logs are named after the image. Set it if the image is renamed afterwards, or if the builder cannot see the " +
      "name that the output has outside the container.",
    docs: "raptor.md#the-mounts",
    examples: { "web_1.0.raw": "the hashes become web_1.0.verity" },
    // A line break would end a line of SHA256SUMS, and hashes named after ".raw" would be hidden, or outside their directory.
    parse: pattern(
      /^(?!\.+(raw|img)?$)[^/\p{Cc}]{1,255}$/u,
      "a file name of 1 to 255 characters, without slashes and control characters, that is no suffix alone",
    ),
  },
  directory: {
    env: "DIRECTORY",
    group: "contents",
    value: "PATH",
    default: "/",
    help: "Directory of the tree to make the filesystem from",
    about: "Takes only this part of the tree, which becomes the root of the filesystem.",
    docs: "part-image.md",
    examples: { "/usr": "an image of /usr alone" },
    parse: pattern(/^\/[^\0]*$/, "an absolute path"),
  },
  portable: {
    env: "PORTABLE",
    group: "contents",
    value: "NAME",
    computed: "none",
    help: "Make an image for the portable service NAME",
    about:
      "Adds the mount points that portablectl needs, and checks that the tree has an os-release and units whose names begin " +
      "with NAME. Give the image the same name.",
    docs: "part-image.md#compatibility",
    examples: { "web": "for web.raw with web.service" },
    parse: pattern(/^[A-Za-z0-9][A-Za-z0-9.-]{0,99}$/, "letters, digits, dots and hyphens"),
  },
  verity: {
    env: "VERITY",
    group: "security",
    formats: DISKS,
    value: "KIND",
    default: "none",
    help: "dm-verity hashes of a read-only root: none, hash, signed",
    about:
      "With hashes, the kernel verifies every block that it reads from a squashfs or erofs. A disk gets them as a partition; " +
      "part-image writes them beside the image. `signed` also signs the root hash.",
    docs: "read-only.md#dm-verity",
    examples: {
      "hash": "whoever starts the image must know the root hash",
      "signed": "with VERITY_KEY and VERITY_CERT",
    },
    insteadInLayout: "Set Verity= of the partitions",
    parse: choice(["none", "hash", "signed"]),
  },
  verityKey: {
    env: "VERITY_KEY",
    group: "security",
    formats: DISKS,
    secret: true,
    value: "FILE",
    computed: "none",
    help: "RSA key that signs the root hash",
    about: "PEM or DER, as a file or as its text. It is never shown, and never reaches the image.",
    docs: "read-only.md#dm-verity",
    examples: { "verity.key": "a file" },
    parse: pem("PRIVATE KEY"),
  },
  verityCert: {
    env: "VERITY_CERT",
    group: "security",
    formats: DISKS,
    secret: "as given",
    value: "FILE",
    computed: "none",
    help: "X.509 certificate of VERITY_KEY",
    about:
      "PEM or DER, as a file or as its text. The kernel or systemd of the machine must know it (/etc/verity.d).",
    docs: "read-only.md#dm-verity",
    examples: { "verity.crt": "a file" },
    parse: pem("CERTIFICATE"),
  },
  verityDirectory: {
    env: "VERITY_DIR",
    group: "security",
    formats: DISKS,
    place: true,
    value: "DIR",
    computed: "beside the image",
    help: "Where to write the hashes and the root hash",
    about:
      "systemd-nspawn and portablectl look for the hashes beside the image. In a container, it must be a mounted directory.",
    docs: "read-only.md#dm-verity",
    examples: { "/cache": "the job's cache, under Raptor" },
    parse: DIRECTORY_PATH,
  },
  layout: {
    env: "LAYOUT",
    group: "contents",
    value: "DIR",
    computed: "built in",
    help: "Directory with repart.d definitions of partitions, or tree",
    about:
      "Partitions as repart.d(5) describes them: `/home`, `/var`, `/usr` with dm-verity, swap, slots for updates. A directory " +
      "with one definition per partition, or `tree` for those in `/usr/lib/repart.d` of the tree.",
    docs: "layouts.md",
    examples: { "tree": "the definitions that the tree brings" },
    parse: described({ words: ["tree"], pattern: "^[^\\0]+$" }, parseLayout),
  },
  efiMb: {
    env: "EFI_MB",
    group: "size",
    value: "MIB",
    default: "32",
    help: "Size of the ESP in MiB",
    about:
      "The ESP holds the boot loader, and UKIs with BOOTLOADER=uki. It is FAT16 up to 32 MiB, FAT32 above.",
    docs: "disk-image.md#size",
    examples: { "260": "FAT32, which UEFI asks for on fixed disks, even with sectors of 4096 bytes" },
    insteadInLayout: "Set SizeMinBytes= of the ESP",
    parse: mebibytes(1),
  },
  bootMb: {
    env: "BOOT_MB",
    group: "size",
    value: "MIB",
    default: "512",
    help: "Size of the boot partition (XBOOTLDR) in MiB",
    about:
      "The boot partition holds kernels, initrds and boot entries. Leave room for the kernels that updates will install.",
    docs: "disk-image.md#size",
    examples: { "1024": "room for a few large initrds" },
    insteadInLayout: "Set SizeMinBytes= of XBOOTLDR",
    parse: mebibytes(1),
  },
  freeMb: {
    env: "FREE_MB",
    group: "size",
    formats: DISKS,
    value: "MIB",
    default: "512",
    help: "Free MiB in the root filesystem, as df shows them",
    about:
      "What an ordinary user can still write in the finished image. Read-only filesystems have none, and ignore it.",
    docs: "disk-image.md#size",
    examples: { "0": "as small as possible", "8192": "room for data" },
    parse: mebibytes(0),
  },
  usedMb: {
    env: "USED_MB",
    group: "size",
    formats: DISKS,
    value: "MIB",
    computed: "from the tree",
    help: "MiB for all files, metadata and tables",
    about:
      "Fixes the space that the tree takes, so that images of different trees have one size. Too small a value is an error that " +
      "says how much is needed.",
    docs: "disk-image.md#size",
    examples: { "2048": "the image has USED_MB + FREE_MB, whatever is in the tree" },
    insteadInLayout: "Set SizeMinBytes= of the partitions, or SIZE_MB",
    parse: mebibytes(1),
  },
  sizeMb: {
    env: "SIZE_MB",
    group: "size",
    formats: DISKS,
    value: "MIB",
    computed: "the sum of the others",
    help: "Exact size of the whole image in MiB",
    about: "The root filesystem gets what the other partitions leave. It overrides FREE_MB and USED_MB.",
    docs: "disk-image.md#size",
    examples: { "4096": "a disk of 4 GiB" },
    parse: mebibytes(1),
  },
  bootloader: {
    env: "BOOTLOADER",
    group: "boot",
    value: "NAME",
    default: "auto",
    help: "Boot loader for UEFI, such as grub or uki",
    about:
      "`auto` takes the first one that the tree has and the machine can start; `none` makes a disk that boots only as a container.",
    docs: "boot.md#boot-loaders",
    examples: {
      "grub": "GRUB, with the shim of the tree's distribution",
      "uki": "kernel, initrd and options in one program",
    },
    parse: choice(BOOT_LOADER_CHOICES),
  },
  firmware: {
    env: "FIRMWARE",
    group: "boot",
    value: "NAME",
    default: "uefi",
    help: `Firmware of the machine: ${FIRMWARES.join(", ")} (both)`,
    about: "`bios` and `hybrid` need an x86 tree with GRUB for BIOS (grub-pc-bin in Debian).",
    docs: "boot.md",
    examples: { "hybrid": "one image for UEFI and for BIOS" },
    parse: choice(FIRMWARES),
  },
  sectorSize: {
    env: "SECTOR_SIZE",
    group: "boot",
    value: "BYTES",
    default: "512",
    help: "Bytes per sector of the disk: 512, 4096",
    about:
      "Partition table and FAT count in sectors, so an image for one size does not boot from a disk with the other.",
    docs: "disk-image.md#disks-with-4096-byte-sectors",
    examples: { "4096": "for an NVMe drive formatted to 4Kn" },
    parse: described(choice(["512", "4096"]).schema!, (text) => Number(choice(["512", "4096"])(text))),
  },
  secureBootKey: {
    env: "SECURE_BOOT_KEY",
    group: "security",
    secret: true,
    value: "FILE",
    computed: "unsigned",
    help: "RSA key that signs boot loader, UKI and kernels",
    about:
      "For firmware that knows your own certificate. PEM or DER, as a file or as its text. It is never shown, and never reaches the image.",
    docs: "boot.md#boot-loaders",
    examples: { "db.key": "a file" },
    parse: pem("PRIVATE KEY"),
  },
  secureBootCert: {
    env: "SECURE_BOOT_CERT",
    group: "security",
    secret: "as given",
    value: "FILE",
    computed: "none",
    help: "X.509 certificate of SECURE_BOOT_KEY",
    about: "PEM or DER, as a file or as its text. The firmware must have it in `db`.",
    docs: "boot.md#boot-loaders",
    examples: { "db.crt": "a file" },
    parse: pem("CERTIFICATE"),
  },
  kernelCmdline: {
    env: "KERNEL_CMDLINE",
    group: "boot",
    value: "OPTIONS",
    computed: "none",
    help: "Kernel options besides the tree's",
    about: "They come after the tree's own options, so they win. root= is always the image's own.",
    docs: "boot.md#kernel-options",
    examples: { "console=ttyS0": "a serial console", "quiet splash": "two options" },
    parse: kernelOptions,
  },
  ociTag: {
    env: "OCI_TAG",
    group: "contents",
    formats: OCI,
    value: "NAME:TAG",
    computed: "from os-release",
    help: "Name of a container image",
    about:
      "Under this name `podman load` and `docker load` add the image. The default is like `localhost/debian:13`.",
    docs: "containers.md#container-images",
    examples: {
      "localhost/web:1.0": "an image of your own",
      "registry.example.com/web:1.0": "one to be pushed",
    },
    parse: imageName,
  },
  ociCommand: {
    env: "OCI_COMMAND",
    group: "contents",
    formats: OCI,
    value: "WORDS",
    computed: "/sbin/init, else a shell",
    help: "What a container runs by default",
    about: "Words, or a JSON array where a word has spaces. No shell reads them.",
    docs: "containers.md#container-images",
    examples: {
      "/usr/sbin/sshd -D": "a program with an option",
      '["/bin/sh", "-c", "exec web >/log"]': "a word with spaces",
    },
    parse: words("[^\\0\\n ]", "words"),
  },
  ociEnv: {
    env: "OCI_ENV",
    group: "contents",
    formats: OCI,
    value: "VARS",
    computed: "PATH",
    help: "Environment of a container, each NAME=VALUE",
    about:
      "Added to the PATH that docker and podman set, or instead of it. A JSON array where a value has spaces.",
    docs: "containers.md#container-images",
    examples: { "LANG=C.UTF-8 TZ=UTC": "two variables", '["GREETING=hello world"]': "a value with a space" },
    parse: assignments("[A-Za-z_][A-Za-z0-9_]*"),
  },
  ociLabels: {
    env: "OCI_LABELS",
    group: "contents",
    formats: OCI,
    value: "LABELS",
    computed: "from os-release",
    help: "Labels of a container image, each NAME=VALUE",
    about: "Added to title, version and URL from os-release. A JSON array where a value has spaces.",
    docs: "containers.md#container-images",
    examples: {
      "org.opencontainers.image.vendor=Example": "one of the usual labels",
      '["note=two words"]': "a value with a space",
    },
    parse: assignments("[A-Za-z0-9][A-Za-z0-9._/-]*"),
  },
  keep: {
    env: "KEEP",
    group: "contents",
    value: "KINDS",
    default: "none",
    help: "Leftovers of the tree to keep: all, none, or some KINDS",
    about:
      "What belongs to one machine, such as SSH host keys, is left out of an image from which many machines start. `--dry-run` " +
      "lists what was found.",
    docs: "contents.md#what-is-left-out",
    examples: { "host-keys,package-cache": "two kinds", "all": "everything" },
    parse: listOf(LEFTOVER_NAMES),
  },
  selinux: {
    env: "SELINUX",
    group: "security",
    value: "LABELS",
    default: "auto",
    help: "SELinux labels: auto, policy, tree, none",
    about:
      "`policy` gives files the labels of the policy that `/etc/selinux/config` of the tree names, and needs libselinux. `tree` " +
      "keeps those that they have. `auto` is `policy` if the tree has one, else `tree`. The labels of the build host never matter.",
    docs: "selinux.md",
    examples: { "none": "no labels", "tree": "the labels that the files have" },
    parse: choice(["auto", "policy", "tree", "none"] as const),
  },
  verify: {
    env: "VERIFY",
    group: "pipeline",
    value: "HOW",
    default: "quick",
    help: "How to check the image: quick, full (slow)",
    about:
      "`quick` reads tables and counts back. `full` also runs the checker of each filesystem, and compares a converted image with the raw one.",
    docs: "failures.md",
    examples: { "full": "before a release" },
    parse: choice(["quick", "full"] as const),
  },
  strict: {
    env: "STRICT",
    group: "pipeline",
    place: true,
    value: "0|1",
    default: "0",
    help: "1: build nothing if there are warnings about the tree",
    about:
      "What will not work or is lost is a warning by default. With 1 it is an error, and the output is not touched.",
    docs: "findings.md",
    examples: { "1": "in a pipeline that nobody watches" },
    parse: described({ words: ["0", "1"] }, (text) => choice(["0", "1"])(text) === "1"),
  },
  manifest: {
    env: "MANIFEST",
    group: "pipeline",
    place: true,
    value: "FILE",
    computed: "none",
    help: "Write an in-toto statement with SLSA provenance",
    about: "Settings, plan, versions of the tools, and the SHA-256 of the image and each partition.",
    docs: "reproducible.md#what-was-built",
    examples: { "disk.json": "a file beside the image" },
    parse: FILE_PATH,
  },
  sbom: {
    env: "SBOM",
    group: "pipeline",
    place: true,
    value: "FILE",
    computed: "none",
    help: "Write an SPDX document with the packages in the image",
    about: "Read from the databases of dpkg and apk. rpm's cannot be read without running something.",
    docs: "reproducible.md#what-was-built",
    examples: { "disk.spdx.json": "a file beside the image" },
    parse: FILE_PATH,
  },
  incusMetadata: {
    env: "INCUS_METADATA",
    group: "pipeline",
    formats: ["qcow2", "qcow2-zstd", "raw"],
    place: true,
    value: "FILE",
    computed: "none",
    help: "Write the metadata of an image for Incus, a tar",
    about:
      "Incus imports it with a squashfs of part-image as a container, or with a qcow2 of disk-image as a virtual machine: " +
      "`incus image import metadata.tar disk.qcow2`.",
    docs: "containers.md#incus",
    examples: { "disk.incus.tar": "beside disk.qcow2" },
    parse: FILE_PATH,
  },
  bmap: {
    env: "BMAP",
    group: "pipeline",
    place: true,
    value: "FILE",
    computed: "none",
    help: "Write a block map of a raw image, for bmaptool",
    about:
      "With it, `bmaptool copy` writes only the parts of the image that have data, and checks each of them. It finds a file " +
      "that is named like the image, with `.bmap` for its suffix.",
    docs: "formats.md#compressed-images",
    examples: { "disk.bmap": "for disk.img and disk.img.zst" },
    parse: FILE_PATH,
  },
  splitDirectory: {
    env: "SPLIT_DIR",
    group: "pipeline",
    place: true,
    value: "DIR",
    computed: "none",
    help: "Also write partitions, kernel and initrd as files",
    about:
      "For systemd-sysupdate, RAUC and swupdate, which update one partition at a time, and for booting over the network: " +
      "`NAME_VERSION.TYPE.raw`, `.efi`, `.vmlinuz`, `.initrd`, `.cmdline`, and `SHA256SUMS`. With `COMPRESS`, the partitions " +
      "are compressed as well.",
    docs: "disk-image.md#partitions-as-files",
    examples: { "updates": "a directory that is served to machines" },
    parse: DIRECTORY_PATH,
  },
  imageVersion: {
    env: "IMAGE_VERSION",
    group: "pipeline",
    place: true,
    value: "TEXT",
    computed: "from os-release",
    help: "Version in the names of the files of SPLIT_DIR",
    about: "By default it is `IMAGE_VERSION`, `VERSION_ID` or `BUILD_ID` of the tree's os-release.",
    docs: "disk-image.md#partitions-as-files",
    examples: { "1.4.2": "disk_1.4.2.root-x86-64.raw" },
    parse: pattern(VERSION, "letters, digits and .~^+-, at most 64"),
  },
  seed: {
    env: "SEED",
    group: "pipeline",
    value: "TEXT",
    computed: "from the tree",
    help: "What UUIDs are derived from; random for fresh ones",
    about:
      "By default ID, VERSION_ID, BUILD_ID, IMAGE_ID and IMAGE_VERSION of os-release, the architecture and the builder. Two disks " +
      "in one machine need different seeds.",
    docs: "reproducible.md",
    examples: { "slot-b": "the second of two disks", "random": "other UUIDs with each build" },
    parse: pattern(/^[^]{1,1024}$/u, "1 to 1024 characters"),
  },
  sourceDateEpoch: {
    env: "SOURCE_DATE_EPOCH",
    group: "pipeline",
    value: "SECONDS",
    computed: "the tree's newest",
    help: "Time of what the build adds; nothing is newer",
    about:
      "Timestamps in the image are clamped to it: https://reproducible-builds.org/specs/source-date-epoch/",
    docs: "contents.md#times",
    examples: { "1735689600": "1 January 2025" },
    // 2^34 - 1 - 2^31 is the last second that ext4 can store (in 2446).
    parse: described({ pattern: "^[0-9]{1,11}$" }, (text) => {
      if (!/^\d{1,11}$/.test(text) || Number(text) > 2 ** 34 - 2 ** 31 - 1) {
        throw new Error("seconds since 1970, at most 15032385535");
      }
      return Number(text);
    }),
  },
} as const satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof SETTINGS;

type Parsed<K extends SettingName> = ReturnType<(typeof SETTINGS)[K]["parse"]>;

/** The parsed settings. A setting without a default is `undefined` unless set, and then computed. */
export type Settings = {
  readonly [K in SettingName]: (typeof SETTINGS)[K] extends { default: string } ? Parsed<K>
    : Parsed<K> | undefined;
};

/** The row of a setting; with a builder, as that builder takes it. */
export function settingOf(name: SettingName, builder?: BuilderName): Setting<unknown> {
  const row: Setting<unknown> = SETTINGS[name];
  return builder && row.parseOf ? { ...row, parse: row.parseOf(builder) } : row;
}

/** The flag of a setting without dashes, e.g. `efi-mb`. */
export function flagOf(name: SettingName): string {
  return SETTINGS[name].env.toLowerCase().replaceAll("_", "-");
}

/** One line per setting for `--help`: flag, environment variable, default, help. */
export function settingRows(
  taken: readonly SettingName[],
): { flag: string; env: string; fallback: string; help: string }[] {
  return taken.map((name) => {
    const row: Setting<unknown> = SETTINGS[name];
    return {
      flag: `--${flagOf(name)}=${row.value}`,
      env: row.env,
      fallback: row.default ?? row.computed ?? "",
      help: row.help,
    };
  });
}

/** The settings by group, without the groups that are empty. */
export function groupedSettings(
  taken: readonly SettingName[],
): { title: string; names: readonly SettingName[] }[] {
  return Object.entries(SETTING_GROUPS).flatMap(([group, title]) => {
    const names = taken.filter((name) => SETTINGS[name].group === group);
    return names.length ? [{ title, names }] : [];
  });
}

/** What is said about a setting wherever it is explained in full: in the docs, by `--help=NAME`, and in the man page. */
export interface SettingTexts {
  readonly title: string;
  /** Short facts, each with its name. */
  readonly facts: readonly (readonly [what: string, value: string])[];
  readonly about: string;
  /** Ways to write it, each with what it is for. */
  readonly examples: readonly (readonly [text: string, what: string])[];
  readonly docs?: string | undefined;
}

/** All texts about a setting; with a builder, as that builder takes it. */
export function settingTexts(name: SettingName, builder?: BuilderName): SettingTexts {
  const row = settingOf(name, builder);
  const { words = [], pattern, isList } = row.parse.schema ?? {};
  const isChoice = words.length && (pattern === undefined || isList);
  return {
    title: `${row.env}: ${row.help}`,
    facts: [
      ["Flag", `--${flagOf(name)}=${row.value}`],
      ["Default", row.default ?? row.computed ?? ""],
      ...isChoice ? [[isList ? "Several of" : "One of", words.join(", ")] as const] : [],
    ],
    about: row.about,
    examples: Object.entries(row.examples)
      .map(([value, what]) => [`${row.env}=${/[ "]/.test(value) ? `'${value}'` : value}`, what]),
    docs: row.docs,
  };
}
