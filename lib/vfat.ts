/**
 * Makes a FAT filesystem with mkfs.vfat and fills it with mtools, inside an image at an offset.
 *
 * - https://manpages.debian.org/trixie/dosfstools/mkfs.fat.8.en.html
 * - https://manpages.debian.org/trixie/mtools/mtools.1.en.html
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import { BuildError, quote } from "./error.ts";
import { FAT_ROOT_ENTRIES, type FatEntry, type FatGeometry } from "./fat.ts";
import type { Nodes } from "./nodes.ts";
import { makeRecipe } from "./recipes.ts";
import { realPath, type Root } from "./root.ts";
import { shWith } from "./sh.ts";
import { KiB } from "./units.ts";

/** Where a filesystem is made. All numbers are in bytes. */
export interface Target {
  /** The image. It has its full size, and reads as zeros where the filesystem will be. */
  readonly path: string;
  readonly offset: number;
  /** Where it starts on the disk, which FAT notes. Absent: at the offset. */
  readonly start?: number;
  readonly size: number;
}

export interface FatRequest {
  readonly geometry: FatGeometry;
  readonly label: string;
  /** Volume serial number, eight hexadecimal digits. */
  readonly serial: string;
  /** Seconds since 1970. */
  readonly time: number;
  readonly entries: readonly FatEntry[];
}

/** The first and last second that a FAT directory entry can store: 1980 to 2107. */
const FIRST_TIME = 315532800;
const LAST_TIME = 4354819198;

/** Paths on one command line; far below the kernel's limit of 128 KiB for a single one and 2 MiB for all. */
const BATCH = 500;

/**
 * Makes and fills the filesystem.
 *
 * @param scratch an empty directory for the files whose text the plan wrote.
 * @throws {BuildError} when a program fails, or the listing afterwards is not what was asked for.
 */
export async function makeVfat(
  target: Target,
  { geometry, label, serial, time, entries }: FatRequest,
  { root, nodes }: { readonly root: Root; readonly nodes: Nodes },
  scratch: string,
): Promise<void> {
  const clamp = (seconds: number) => Math.min(Math.max(seconds, FIRST_TIME), LAST_TIME);
  const now = clamp(time);
  const run = shWith({
    env: { SOURCE_DATE_EPOCH: String(now), MTOOLS_SKIP_CHECK: "1", MTOOLSRC: "/dev/null" },
    // mkfs.vfat expects a filesystem to fill its file to the end.
    expected: /block count mismatch/,
  });
  const { bits, sector, perCluster, reserved } = geometry;
  const start = target.offset / sector, hidden = (target.start ?? target.offset) / sector;
  const rootEntries = bits === 32 ? [] : ["-r", FAT_ROOT_ENTRIES];
  // The entry of the label would otherwise have the time of the build.
  await run`mkfs.vfat --invariant -F ${bits} -S ${sector} -s ${perCluster} -R ${reserved} -f 2 ${rootEntries} -a -i ${serial} -n ${label} --offset ${start} -h ${hidden} ${target.path} ${
    target.size / KiB
  }`;

  const image = `${target.path}@@${target.offset}`;
  const directories = entries.filter(({ type }) => type === "directory").map(({ path }) => `::${path}`);
  for (const batch of batches(directories)) await run`mmd -i ${image} ${batch}`;

  const commands = await stage(entries, scratch, now, { root, nodes });
  for (const { directory, keepTimes, sources } of commands) {
    const flag = keepTimes ? ["-m"] : [];
    for (const batch of batches(sources)) {
      await run`mcopy -n ${flag} -i ${image} ${batch} ${`::${directory}`}`;
    }
  }
  await verifyListing(image, entries);
}

/** One mcopy: it gives files the times of their sources (-m) or SOURCE_DATE_EPOCH. */
interface Copy {
  readonly directory: string;
  readonly keepTimes: boolean;
  readonly sources: string[];
}

/**
 * Gathers the files of each directory for one command, since starting a program costs more than copying most
 * files. mcopy takes the names of its sources: what has another name, or is text or made, gets a stand-in in `scratch`.
 */
async function stage(
  entries: readonly FatEntry[],
  scratch: string,
  now: number,
  { root, nodes }: { readonly root: Root; readonly nodes: Nodes },
): Promise<Iterable<Copy>> {
  const copies = new Map<string, Copy>();
  for (const { path, type, node, text, recipe } of entries) {
    if (type !== "file") continue;
    const directory = dirname(path);
    const mtime = node === undefined ? now : nodes.mtimeSeconds[node]!;
    const keepTimes = mtime >= FIRST_TIME && mtime <= now;
    const key = `${keepTimes} ${directory}`;
    const copy = copies.get(key) ?? { directory, keepTimes, sources: [] };
    copies.set(key, copy);
    const source = node === undefined ? undefined : realPath(root, nodes, node);
    if (source !== undefined && basename(source) === basename(path)) {
      copy.sources.push(source);
      continue;
    }
    const standIn = join(scratch, directory, basename(path));
    await Deno.mkdir(dirname(standIn), { recursive: true });
    if (source !== undefined) {
      await Deno.symlink(source, standIn);
    } else {
      await Deno.writeFile(standIn, recipe ? makeRecipe(root, nodes, recipe) : text!);
      await Deno.utime(standIn, now, now);
    }
    copy.sources.push(standIn);
  }
  return copies.values();
}

function* batches<T>(list: readonly T[]): Generator<T[]> {
  for (let at = 0; at < list.length; at += BATCH) yield list.slice(at, at + BATCH);
}

/**
 * Compares names, types and the sum of the sizes with what mdir lists: mtools exit with 0 after some failures.
 */
async function verifyListing(image: string, entries: readonly FatEntry[]): Promise<void> {
  const run = shWith({ quiet: true, env: { MTOOLS_SKIP_CHECK: "1", MTOOLSRC: "/dev/null" }, accept: [1] });
  const [names, sizes] = await Promise.all([run`mdir -/ -b -i ${image} ::`, run`mdir -/ -f -i ${image} ::`]);
  const listed = new Set(names.split("\n").filter(Boolean));
  for (const { path, type } of entries) {
    const name = `::${path}${type === "directory" ? "/" : ""}`;
    if (!listed.delete(name)) throw new BuildError(`mtools did not store ${quote(path)}`);
  }
  const [extra] = listed;
  if (extra !== undefined) throw new BuildError(`mtools stored ${quote(extra)}, which is not in the plan`);
  // The last line is about all directories: "      323 files             123 775 bytes".
  const sums = sizes.matchAll(/ files? +([\d ]+) bytes/g);
  const stored = Number([...sums].at(-1)?.[1]?.replaceAll(" ", "") ?? 0);
  const wanted = entries.reduce((sum, { size }) => sum + size, 0);
  if (stored !== wanted) throw new BuildError(`mtools stored ${stored} bytes instead of ${wanted}`);
}
