/**
 * The settings: one row each gives the environment variable, the flag, the default, the parser, `--help`
 * and the tables in the docs.
 *
 * @module
 */

import { BOOT_LOADER_CHOICES } from "../boot/bootloaders.ts";
import { BuildError, quote } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";
import { compressorNames, parseCompression } from "../filesystem/compression.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import { type BuilderName, formatNames, formatOf } from "../image/formats.ts";
import { LEFTOVER_NAMES } from "./leftovers.ts";
import { looksLikePath, pem } from "./pem.ts";
import {
  choice,
  described,
  kernelOptions,
  listOf,
  mebibytes,
  type Parser,
  pattern,
} from "./setting-values.ts";

interface Setting<T> {
  /** Name of the environment variable; the flag is the same in lower case: `EFI_MB`, `--efi-mb`. */
  readonly env: string;
  /** The placeholder for the value in `--help`. */
  readonly value: string;
  /** The default, as the user would write it; absent: computed. */
  readonly default?: string;
  /** What the help shows as the default of a computed setting. */
  readonly computed?: string;
  readonly help: string;
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
  /** The values that one builder takes, and their help, where builders differ. */
  readonly of?: (builder: BuilderName) => { readonly help: string; readonly parse: Parser<T> };
}

/** The firmware that an image boots on. */
const FIRMWARES = ["uefi", "bios", "hybrid"] as const;

/** The parser and the help of `OUTPUT_FORMAT`: for the formats of one builder, or for those of all. */
function formatRow(builder?: BuilderName) {
  const names = formatNames(builder);
  const aliases = names.flatMap((name) =>
    (formatOf(name).aliases ?? []).map((alias) => [alias, name] as const)
  );
  return {
    help: `Format of the image: ${names.join(", ")}`,
    parse: choice(names, new Map(aliases)),
  };
}

const FILESYSTEM_NAMES = Object.keys(FILESYSTEMS) as FilesystemName[];

/** `squashfs zstd[:1-22] gzip[:1-9] …` for each filesystem that has compression. */
const COMPRESSION_HELP = FILESYSTEM_NAMES.map((
  name,
) => [name, compressorNames(FILESYSTEMS[name].compressors)])
  .filter(([, names]) => names!.length).map(([name, names]) => `${name} ${(names as string[]).join(" ")}`)
  .join("; ");

const COMPRESSION_NAMES = [
  ...new Set(FILESYSTEM_NAMES.flatMap((name) => Object.keys(FILESYSTEMS[name].compressors))),
];

export const SETTINGS = {
  outputFormat: {
    env: "OUTPUT_FORMAT",
    value: "FORMAT",
    default: "raw",
    ...formatRow(),
    of: formatRow,
  },
  filesystem: {
    env: "FILESYSTEM",
    value: "NAME",
    default: "ext4",
    help: `The root filesystem: ${FILESYSTEM_NAMES.join(", ")}`,
    parse: choice(FILESYSTEM_NAMES),
  },
  compression: {
    env: "COMPRESSION",
    value: "METHOD",
    computed: "the first one listed for the filesystem",
    help: `Compression of the root filesystem: ${COMPRESSION_HELP}`,
    parse: described(
      { words: COMPRESSION_NAMES, pattern: "^[a-z][a-z0-9]*(:[0-9]{1,2})?$" },
      parseCompression,
    ),
  },
  label: {
    env: "LABEL",
    value: "TEXT",
    computed: "root",
    help: "Label of the filesystem",
    parse: pattern(/^[\x21-\x7e]{1,255}$/, "ASCII characters without a space"),
  },
  outputName: {
    env: "OUTPUT_NAME",
    place: true,
    value: "NAME",
    computed: "the name of the output",
    help: "The final file name of the image, which side files are named after",
    parse: pattern(/^[^/\0]{1,255}$/, "a file name of 1 to 255 characters without a slash"),
  },
  directory: {
    env: "DIRECTORY",
    value: "PATH",
    default: "/",
    help: "The directory of the tree to make the filesystem from",
    parse: pattern(/^\/[^\0]*$/, "an absolute path"),
  },
  portable: {
    env: "PORTABLE",
    value: "NAME",
    computed: "no portable service",
    help: "Make an image for the portable service NAME: add its mount points and check its units",
    parse: pattern(/^[A-Za-z0-9][A-Za-z0-9.-]{0,99}$/, "letters, digits, dots and hyphens"),
  },
  verity: {
    env: "VERITY",
    value: "KIND",
    default: "none",
    help: "dm-verity hashes of a read-only root filesystem: none, hash, signed",
    parse: choice(["none", "hash", "signed"]),
  },
  verityKey: {
    env: "VERITY_KEY",
    secret: true,
    value: "FILE",
    computed: "none",
    help: "RSA key (PEM or DER, a file or its text) that signs the root hash",
    parse: pem("PRIVATE KEY"),
  },
  verityCert: {
    env: "VERITY_CERT",
    secret: "as given",
    value: "FILE",
    computed: "none",
    help:
      "X.509 certificate (PEM or DER, a file or its text) of VERITY_KEY, which the kernel or systemd must know",
    parse: pem("CERTIFICATE"),
  },
  verityDirectory: {
    env: "VERITY_DIR",
    place: true,
    value: "DIR",
    computed: "the directory of the image",
    help: "Where to write the hashes and the root hash",
    parse: pattern(/^[^\0]+$/, "the path of a directory"),
  },
  efiMb: {
    env: "EFI_MB",
    value: "MIB",
    default: "32",
    help: "Size of the ESP; FAT16 up to 32 MiB, FAT32 above",
    parse: mebibytes(1),
  },
  bootMb: {
    env: "BOOT_MB",
    value: "MIB",
    default: "512",
    help: "Size of the boot partition (XBOOTLDR)",
    parse: mebibytes(1),
  },
  freeMb: {
    env: "FREE_MB",
    value: "MIB",
    default: "512",
    help: "Free space in the root filesystem, as df shows it",
    parse: mebibytes(0),
  },
  usedMb: {
    env: "USED_MB",
    value: "MIB",
    computed: "from the tree",
    help: "Space for all files, metadata and tables",
    parse: mebibytes(1),
  },
  sizeMb: {
    env: "SIZE_MB",
    value: "MIB",
    computed: "the sum of the sizes above",
    help: "Exact size of the whole image",
    parse: mebibytes(1),
  },
  bootloader: {
    env: "BOOTLOADER",
    value: "NAME",
    default: "auto",
    help: `Boot loader for UEFI machines: ${BOOT_LOADER_CHOICES.join(", ")}`,
    parse: choice(BOOT_LOADER_CHOICES),
  },
  firmware: {
    env: "FIRMWARE",
    value: "NAME",
    default: "uefi",
    help: `Firmware of the machine: ${FIRMWARES.join(", ")} (both)`,
    parse: choice(FIRMWARES),
  },
  sectorSize: {
    env: "SECTOR_SIZE",
    value: "BYTES",
    default: "512",
    help: "Logical sectors of the disk that the image is for: 512, 4096",
    parse: described(choice(["512", "4096"]).schema!, (text) => Number(choice(["512", "4096"])(text))),
  },
  secureBootKey: {
    env: "SECURE_BOOT_KEY",
    secret: true,
    value: "FILE",
    computed: "unsigned",
    help: "RSA key (PEM or DER, a file or its text) that signs boot loader, UKI and kernels",
    parse: pem("PRIVATE KEY"),
  },
  secureBootCert: {
    env: "SECURE_BOOT_CERT",
    secret: "as given",
    value: "FILE",
    computed: "none",
    help:
      "X.509 certificate (PEM or DER, a file or its text) of SECURE_BOOT_KEY, which the firmware must know",
    parse: pem("CERTIFICATE"),
  },
  kernelCmdline: {
    env: "KERNEL_CMDLINE",
    value: "OPTIONS",
    computed: "what the tree says",
    help: "Kernel options besides those of the tree, e.g. console=ttyS0",
    parse: kernelOptions,
  },
  keep: {
    env: "KEEP",
    value: "KINDS",
    default: "none",
    help: `Leftovers of the tree to keep: all, none, or some of ${LEFTOVER_NAMES.join(",")}`,
    parse: listOf(LEFTOVER_NAMES),
  },
  verify: {
    env: "VERIFY",
    value: "HOW",
    default: "quick",
    help: "How to check the image: quick, or full (all available checkers; slow)",
    parse: choice(["quick", "full"] as const),
  },
  strict: {
    env: "STRICT",
    place: true,
    value: "0|1",
    default: "0",
    help: "1: what is found in the tree that will not work or is lost is an error, and nothing is built",
    parse: described({ words: ["0", "1"] }, (text) => choice(["0", "1"])(text) === "1"),
  },
  manifest: {
    env: "MANIFEST",
    place: true,
    value: "FILE",
    computed: "none",
    help: "Write an in-toto statement with SLSA provenance of the build",
    parse: pattern(/^[^\0]+$/, "the path of a file"),
  },
  sbom: {
    env: "SBOM",
    place: true,
    value: "FILE",
    computed: "none",
    help: "Write an SPDX document with the packages in the image (dpkg and apk)",
    parse: pattern(/^[^\0]+$/, "the path of a file"),
  },
  seed: {
    env: "SEED",
    value: "TEXT",
    computed: "from os-release, architecture and layout",
    help: 'What all UUIDs are derived from; "random" for fresh ones',
    parse: pattern(/^[^]{1,1024}$/u, "1 to 1024 characters"),
  },
  sourceDateEpoch: {
    env: "SOURCE_DATE_EPOCH",
    value: "SECONDS",
    computed: "the newest mtime in the tree",
    help: "Timestamp for everything that the build makes; later mtimes are clamped to it",
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
  return builder && row.of ? { ...row, ...row.of(builder) } : row;
}

/** The flag of a setting without dashes, e.g. `efi-mb`. */
export function flagOf(name: SettingName): string {
  return SETTINGS[name].env.toLowerCase().replaceAll("_", "-");
}

/**
 * Reads the settings: the flag wins over the environment variable, which wins over the default. An empty variable
 * counts as unset: pipelines often pass on variables without knowing whether they are set.
 *
 * @param taken the settings that the builder supports; the others keep their defaults.
 * @param builder whose values are accepted. Default: those of any.
 * @throws {BuildError} (usage) naming the flag or variable, the value and what is accepted.
 */
export function readSettings(
  taken: readonly SettingName[],
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
  builder?: BuilderName,
): Settings {
  const read = (name: SettingName) => {
    const row = settingOf(name, builder);
    const { flag, variable } = givenTexts(name, taken, flags, env);
    const text = flag ?? variable ?? row.default;
    if (text === undefined) return undefined;
    try {
      return row.parse(text);
    } catch (error) {
      const { message, cause } = error as Error;
      const source = flag === undefined ? `${row.env}=` : `--${flagOf(name)}=`;
      const reason = typeof cause === "string" ? `: ${cause}` : "";
      throw new BuildError(`Cannot use ${source}${row.secret ? "(not shown)" : quote(text)}${reason}`, {
        kind: "usage",
        hint: `Accepted: ${message}`,
        cause: error,
      });
    }
  };
  const names = Object.keys(SETTINGS) as SettingName[];
  return Object.fromEntries(names.map((name) => [name, read(name)])) as Settings;
}

function givenTexts(
  name: SettingName,
  taken: readonly SettingName[],
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): { flag: string | undefined; variable: string | undefined } {
  if (!taken.includes(name)) return { flag: undefined, variable: undefined };
  return { flag: flags[flagOf(name)], variable: env[SETTINGS[name].env] || undefined };
}

/** The files that keys and certificates are read from, by their variables. */
export function keyFiles(
  taken: readonly SettingName[],
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): { env: string; path: string }[] {
  const names = taken.filter((name) => "secret" in SETTINGS[name]);
  return names.flatMap((name) => {
    const { flag, variable } = givenTexts(name, taken, flags, env);
    const path = flag ?? variable;
    return path !== undefined && looksLikePath(path) ? [{ env: SETTINGS[name].env, path }] : [];
  });
}

/** The settings that decide on the image, by their variables: without keys, and without where files go. */
export function parametersOf(settings: Settings): Record<string, unknown> {
  const names = Object.keys(SETTINGS) as SettingName[];
  return Object.fromEntries(names.flatMap((name) => {
    const { env, secret, place }: Setting<unknown> = SETTINGS[name];
    return settings[name] === undefined || secret === true || place ? [] : [[env, settings[name]]];
  }));
}

/** Settings in the environment that the builder does not support. */
export function ignoredSettings(
  taken: readonly SettingName[],
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  const names = Object.keys(SETTINGS) as SettingName[];
  return names.filter((name) => !taken.includes(name) && env[SETTINGS[name].env])
    .map((name) => SETTINGS[name].env);
}

/** Variables that look like misspelled settings of the builder, each with the right name. */
export function misspelledSettings(
  taken: readonly SettingName[],
  env: Readonly<Record<string, string | undefined>>,
): (readonly [name: string, meant: string])[] {
  const known = Object.values(SETTINGS).map(({ env }) => env as string);
  const names = taken.map((name) => SETTINGS[name].env);
  return Object.keys(env).filter((name) => env[name] && !known.includes(name)).flatMap((name) => {
    const meant = nearest(name, names);
    return meant ? [[name, meant] as const] : [];
  });
}

/** One line per setting for `--help`: flag, environment variable, default, help. */
export function settingRows(
  taken: readonly SettingName[],
  builder?: BuilderName,
): { flag: string; env: string; fallback: string; help: string }[] {
  return taken.map((name) => {
    const row = settingOf(name, builder);
    return {
      flag: `--${flagOf(name)}=${row.value}`,
      env: row.env,
      fallback: row.default ?? row.computed ?? "",
      help: row.help,
    };
  });
}
