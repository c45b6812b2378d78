/**
 * How long a fill takes, as ratio to `mke2fs -d` of the same tree: both alternate within one run, because
 * only ratios of neighbours mean anything on a shared machine. Each of our runs is a new process, as in a
 * build, and is timed from its first look at the tree to the finished filesystem.
 *
 * `deno run -A tests/bench_ext4.ts [ROW…]`; `BENCH_RUNS=5` for more rounds, `BENCH_TREE=/path` for one row
 * with a tree of your own.
 *
 * @module
 */

import { KiB, MiB } from "../lib/units.ts";
import { makeImage, quiet } from "./ext4_image.ts";
import { newRandom } from "./random_tree.ts";

/** One row: how its tree is made, and what is promised. */
interface Row {
  readonly make: (directory: string) => void;
  readonly goal: number;
  /** Slow for mke2fs: once is enough. */
  readonly once?: boolean;
  /** Both start with nothing of the tree in memory. */
  readonly cold?: boolean;
}

const random = newRandom(1);

function file(path: string, size: number): void {
  Deno.writeFileSync(path, random.bytes(Math.min(size, 64 * KiB)));
  if (size > 64 * KiB) Deno.truncateSync(path, size);
}

/** A tree with the sizes and shape of a small Debian: 12,000 files, 340 MB. */
function system(directory: string): void {
  for (let i = 0; i < 1200; i++) {
    const place = `${directory}/usr/share/${i % 30}/${i}`;
    Deno.mkdirSync(place, { recursive: true });
    for (let j = 0; j < 10; j++) {
      const size = random.pick([300, 900, 2000, 3000, 5000, 9000, 20_000, 40_000, 60_000, 120_000]);
      Deno.writeFileSync(`${place}/file-${j}`, new Uint8Array(size).fill(j + 1));
    }
    if (i % 3 === 0) Deno.symlinkSync("file-0", `${place}/link`);
  }
  for (let i = 0; i < 6; i++) {
    Deno.writeFileSync(`${directory}/usr/library-${i}`, new Uint8Array(5 * MiB).fill(7));
  }
}

function tiny(directory: string): void {
  for (let i = 0; i < 500; i++) {
    Deno.mkdirSync(`${directory}/${i}`);
    for (let j = 0; j < 200; j++) file(`${directory}/${i}/${j}`, random.below(2000));
  }
}

function oneDirectory(directory: string): void {
  for (let i = 0; i < 50_000; i++) Deno.writeFileSync(`${directory}/entry-${i}`, new Uint8Array());
}

function sparse(directory: string): void {
  for (let i = 0; i < 40; i++) {
    using open = Deno.openSync(`${directory}/disk-${i}`, { create: true, write: true });
    for (let j = 0; j < 30; j++) {
      open.seekSync(j * 64 * MiB, Deno.SeekMode.Start);
      open.writeSync(new Uint8Array(MiB).fill(j + 1));
    }
    open.truncateSync(2048 * MiB);
  }
}

const ROWS: Readonly<Record<string, Row>> = {
  "system": { make: system, goal: 0.6 },
  "system, cold": { make: system, goal: 0.6, cold: true },
  "100,000 tiny files": { make: tiny, goal: 0.5 },
  "one directory of 50,000": { make: oneDirectory, goal: 0.02, once: true },
  "big sparse files": { make: sparse, goal: 0.5 },
};

const GIVEN: Row = { make: () => {}, goal: 0.6 };

/** Runs both in turn. Times are in milliseconds, memory in MiB. */
async function measure(
  tree: string,
  image: string,
  { once, cold }: Row,
): Promise<{ ours: number[]; theirs: number[]; peak: number }> {
  const rounds = once ? 1 : Number(Deno.env.get("BENCH_RUNS") ?? 3);
  const times = { ours: [] as number[], theirs: [] as number[], peak: 0 };
  for (let round = 0; round < rounds; round++) {
    if (cold) await dropCaches();
    const said = JSON.parse(
      await quiet`${Deno.execPath()} run -A ${import.meta.filename!} --child ${tree} ${image}`,
    );
    times.ours.push(said.time);
    times.peak = Math.max(times.peak, said.peak);
    await Deno.remove(image);
    if (cold) await dropCaches();
    const start = performance.now();
    await Deno.writeFile(image, new Uint8Array());
    await Deno.truncate(image, said.size);
    await quiet`mke2fs -q -F -t ext4 -b 4096 -m 0 -N ${said.inodes} -d ${tree} ${image}`;
    times.theirs.push(performance.now() - start);
    await Deno.remove(image);
  }
  return times;
}

async function dropCaches(): Promise<void> {
  await quiet`sync`;
  await Deno.writeTextFile("/proc/sys/vm/drop_caches", "3");
}

function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

async function child([tree, image]: string[]): Promise<void> {
  const start = performance.now();
  const plan = await makeImage(tree!, image!, { free: 64 * MiB });
  const time = performance.now() - start;
  const [, peak] = (await Deno.readTextFile("/proc/self/status")).match(/^VmHWM:\s+(\d+) kB$/m)!;
  // deno-lint-ignore no-console
  console.log(JSON.stringify({
    time,
    peak: Number(peak) / KiB,
    size: plan.size + 64 * MiB,
    inodes: plan.layout.inodesPerGroup * plan.layout.groups,
  }));
}

if (Deno.args[0] === "--child") await child(Deno.args.slice(1));
else {
  const directory = await Deno.makeTempDir({
    dir: Deno.env.get("TMPDIR") ?? "/var/tmp",
    prefix: "bench-ext4-",
  });
  const given = Deno.env.get("BENCH_TREE");
  try {
    for (const [name, row] of Object.entries(given ? { [given]: GIVEN } : ROWS)) {
      if (Deno.args.length > 0 && !Deno.args.includes(name)) continue;
      const tree = given ?? `${directory}/tree`;
      if (!given) {
        await Deno.mkdir(tree);
        row.make(tree);
      }
      if (row.cold) await quiet`sync`;
      const { ours, theirs, peak } = await measure(tree, `${directory}/image`, row);
      const ratio = median(ours) / median(theirs);
      const figures = `${median(ours).toFixed(0)} ms to ${median(theirs).toFixed(0)} ms`;
      // deno-lint-ignore no-console
      console.log(
        `${name.padEnd(24)} ${ratio.toFixed(3)} (goal ${row.goal})  ${figures}, peak ${peak.toFixed(0)} MiB`,
      );
      if (!given) await Deno.remove(tree, { recursive: true });
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
