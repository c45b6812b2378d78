/**
 * Compression: the values of `COMPRESSION=NAME[:LEVEL]` for each filesystem, and the arguments for them.
 *
 * - https://manpages.debian.org/trixie/squashfs-tools/mksquashfs.1.en.html
 * - https://manpages.debian.org/trixie/erofs-utils/mkfs.erofs.1.en.html
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { nearest } from "../core/suggest.ts";

/** The requested compression. */
export interface Compression {
  readonly name: string;
  readonly level?: number;
}

/** One way to compress: arguments for the program that makes the filesystem. */
interface Compressor {
  /** The levels, from the fastest to the one with the smallest result. */
  readonly levels?: readonly [number, number];
  readonly args: (level: number | undefined) => readonly string[];
}

export type Compressors = Readonly<Record<string, Compressor>>;

/** Parses `NAME` or `NAME:LEVEL`. @throws {Error} saying what is accepted. */
export function parseCompression(text: string): Compression {
  const [, name, level] = /^([a-z][a-z0-9]*)(?::(\d{1,2}))?$/.exec(text) ?? [];
  if (name === undefined) throw new Error('a name with an optional level, such as "zstd" or "zstd:19"');
  return { name, ...level !== undefined && { level: Number(level) } };
}

/** As `--help` and the docs show it: `zstd[:1-22]`. */
export function compressorNames(compressors: Compressors): string[] {
  return Object.entries(compressors).map(([name, { levels }]) =>
    name + (levels ? `[:${levels.join("-")}]` : "")
  );
}

/**
 * The program arguments for a compression.
 *
 * @throws {BuildError} (usage) when the filesystem does not support it.
 */
export function compressionArgs(
  filesystem: string,
  compressors: Compressors,
  { name, level }: Compression,
): readonly string[] {
  const compressor = Object.hasOwn(compressors, name) ? compressors[name] : undefined;
  const [lowest, highest] = compressor?.levels ?? [];
  if (compressor && (level === undefined || (level >= lowest! && level <= highest!))) {
    return compressor.args(level);
  }
  const meant = compressor ? undefined : nearest(name, Object.keys(compressors));
  throw new BuildError(
    `Cannot make ${filesystem} with COMPRESSION=${name}${level === undefined ? "" : `:${level}`}`,
    {
      kind: "usage",
      hint: Object.keys(compressors).length
        ? `Accepted: one of ${compressorNames(compressors).join(", ")}${
          meant === undefined ? "" : `; did you mean ${meant}?`
        }`
        : `${filesystem} has no compression: leave COMPRESSION out, or set FILESYSTEM to one that does`,
    },
  );
}

/**
 * For mksquashfs. Level 9 of zstd takes more than twice the processor time of level 3 and saves 4 %; its own default, 15, takes
 * four times as long again and saves another 2 %.
 */
export const SQUASHFS_COMPRESSORS = {
  "zstd": {
    levels: [1, 22],
    args: (level = 3) => ["-comp", "zstd", "-Xcompression-level", String(level)],
  },
  "gzip": {
    levels: [1, 9],
    args: (level = 9) => ["-comp", "gzip", "-Xcompression-level", String(level)],
  },
  "xz": { args: () => ["-comp", "xz"] },
  "lz4": { args: () => ["-comp", "lz4"] },
  "lz4hc": { args: () => ["-comp", "lz4", "-Xhc"] },
  // Not even the inode table is compressed. A compressor must be named anyway: the kernel requires one.
  "none": { args: () => ["-comp", "gzip", "-noI", "-noId", "-noD", "-noF", "-noX"] },
} as const satisfies Compressors;

/**
 * For mkfs.erofs. Linux supports lz4 since 5.4, lzma since 5.16, deflate since 6.6 and zstd since 6.10. lz4hc takes six times the
 * processor time of lz4 and saves 5 %; both are read at the same speed.
 */
export const EROFS_COMPRESSORS = {
  "lz4": { args: () => ["-zlz4"] },
  "lz4hc": { levels: [0, 12], args: (level) => [erofs("lz4hc", level)] },
  "zstd": { levels: [0, 22], args: (level) => [erofs("zstd", level)] },
  "lzma": { levels: [0, 9], args: (level) => [erofs("lzma", level)] },
  "deflate": { levels: [0, 9], args: (level) => [erofs("deflate", level)] },
  "none": { args: () => [] },
} as const satisfies Compressors;

function erofs(name: string, level: number | undefined): string {
  return level === undefined ? `-z${name}` : `-z${name},level=${level}`;
}
