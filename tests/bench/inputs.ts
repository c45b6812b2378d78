/**
 * The trees of the benchmark: one from Debian's packages, the others designed to stress one part of a
 * builder each. They are made once and kept with the tests' other trees.
 *
 * @module
 */

import { KiB, MiB } from "../../lib/core/units.ts";
import type { LoopFilesystem } from "../lab/loop_filesystem.ts";
import { newRandom } from "../lab/random_tree.ts";
import { cached, debianTree } from "../lab/trees.ts";

export interface Input {
  readonly summary: string;
  /** Makes the tree unless it exists, and returns its directory. */
  readonly make: (place: string) => Promise<string>;
  /** The tree and the images are in a place of their own, on such a filesystem. */
  readonly on?: LoopFilesystem;
  /** The tree is read through an overlay of two layers, as Raptor mounts it. */
  readonly overlay?: true;
}

/** Must change with the makers below: trees of another version are not used. */
const VERSION = 1;

export const INPUTS = {
  "debian": {
    summary: "a small Debian 13 with kernel and initrd",
    make: () => debianTree({ suite: "trixie" }),
  },
  "overlay": {
    summary: "the small Debian 13 on an overlay, as Raptor mounts it",
    overlay: true,
    make: () => debianTree({ suite: "trixie" }),
  },
  "large": {
    summary: "90,000 files of 0.5 to 100 kB, 2 GB",
    make: () => synthetic("large", (tree) => files(tree, 90_000, LARGE)),
  },
  "tiny": {
    summary: "300,000 files of 0 to 2 kB",
    make: () => synthetic("tiny", (tree) => files(tree, 300_000, TINY)),
  },
  "directory": {
    summary: "one directory of 50,000 files",
    make: () => synthetic("directory", (tree) => files(tree, 50_000, [0, 100], 50_000)),
  },
  "sparse": {
    summary: "8 files of 4 GiB with holes, 2,000 files with 5 names each",
    make: () => synthetic("sparse", sparseAndLinked),
  },
  "shared": {
    summary: "16 files of 120 MB on an XFS, which shares their blocks with an image",
    on: "xfs",
    make: async (place) => {
      const tree = `${place}/tree`;
      await Deno.mkdir(tree);
      await makeTree(tree, clips);
      return tree;
    },
  },
  ...scale(300),
  ...scale(1_000),
  ...scale(10_000),
  ...scale(100_000),
  ...scale(1_000_000),
} as const satisfies Record<string, Input>;

export type InputName = keyof typeof INPUTS;

/** File sizes in bytes; 22.9 kB on average. */
const LARGE = [500, 2_000, 4_000, 8_000, 16_000, 30_000, 100_000] as const;

/** 0.9 kB on average. */
const TINY = [0, 100, 400, 900, 1_500, 2_000] as const;

/** `n` files of the same sizes, to see whether the time per file depends on how many there are. */
function scale<N extends number>(n: N): { [K in `files-${N}`]: Input } {
  const name = `files-${n}` as const;
  const input: Input = {
    summary: `${n.toLocaleString("en")} files of 0 to 2 kB`,
    make: () => synthetic(name, (tree) => files(tree, n, TINY)),
  };
  return { [name]: input } as { [K in `files-${N}`]: Input };
}

async function synthetic(name: string, fill: (tree: string) => void): Promise<string> {
  return await cached(`bench-${name}`, { version: VERSION }, (tree) => makeTree(tree, fill));
}

async function makeTree(tree: string, fill: (tree: string) => void): Promise<void> {
  // A program of this machine: a disk image needs an architecture.
  await Deno.mkdir(`${tree}/sbin`);
  await Deno.copyFile("/bin/sh", `${tree}/sbin/init`);
  fill(tree);
}

/** Files with the sizes of `sizes` in turn, `perDirectory` in each directory, with incompressible contents. */
export function files(tree: string, count: number, sizes: readonly number[], perDirectory = 200): void {
  const random = newRandom(1);
  const pool = random.bytes(MiB);
  for (let i = 0; i < count; i++) {
    const directory = `${tree}/data/${Math.floor(i / perDirectory / 100)}/${Math.floor(i / perDirectory)}`;
    if (i % perDirectory === 0) Deno.mkdirSync(directory, { recursive: true });
    const size = random.pick(sizes);
    const at = random.below(pool.length - size);
    Deno.writeFileSync(`${directory}/file-${i}`, pool.subarray(at, at + size));
  }
}

/** Sixteen large files. */
function clips(tree: string): void {
  const pool = newRandom(3).bytes(MiB);
  for (let i = 0; i < 16; i++) {
    using file = Deno.openSync(`${tree}/clip-${i}`, { create: true, write: true });
    for (let j = 0; j < 120; j++) writeAll(file, pool);
  }
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

/** Eight disks of a virtual machine, half a GiB in all, and files like a package cache with hard links. */
function sparseAndLinked(tree: string): void {
  const random = newRandom(2);
  const pool = random.bytes(MiB);
  for (let i = 0; i < 8; i++) {
    using file = Deno.openSync(`${tree}/disk-${i}`, { create: true, write: true });
    for (let j = 0; j < 64; j++) {
      file.seekSync(j * 64 * MiB, Deno.SeekMode.Start);
      writeAll(file, pool);
    }
    file.truncateSync(4096 * MiB);
  }
  for (const name of ["a", "b", "c", "d", "e"]) Deno.mkdirSync(`${tree}/${name}`);
  for (let i = 0; i < 2000; i++) {
    Deno.writeFileSync(`${tree}/a/${i}`, pool.subarray(i, i + 16 * KiB));
    for (const name of ["b", "c", "d", "e"]) Deno.linkSync(`${tree}/a/${i}`, `${tree}/${name}/${i}`);
  }
}
