/**
 * The results of a benchmark as data, and what is derived from them: ratios, targets, tables.
 *
 * @module
 */

import { renderTable } from "../../lib/core/table.ts";
import { REFERENCE } from "./contenders.ts";
import { median, type Sample } from "./measure.ts";

/** The results of one benchmark run. */
export interface Results {
  /** The machine, as far as it matters. */
  readonly machine: Readonly<Record<string, string | number>>;
  /** First lines of `PROGRAM --version`. */
  readonly versions: Readonly<Record<string, string>>;
  /** Contenders that did not take part, and why. */
  readonly absent: Readonly<Record<string, string>>;
  readonly races: readonly Race[];
  /** Seconds until a builder logs its first line, one per round. */
  readonly start: readonly number[];
}

/** One input, all contenders in turn, round after round. */
export interface Race {
  readonly input: string;
  readonly summary: string;
  readonly entries: number;
  /** Bytes of contents. */
  readonly bytes: number;
  /** `cold`: nothing of the tree was cached when a contender started. */
  readonly cache: "warm" | "cold";
  /** By contender; the n-th samples of all were taken next to each other. */
  readonly samples: Readonly<Record<string, readonly Sample[]>>;
}

/**
 * The median of the ratios of wall times round by round: on a shared machine, only adjacent runs
 * can be compared. `undefined` when one of them did not take part.
 */
export function ratio({ samples }: Race, name: string, to: string = REFERENCE): number | undefined {
  const ratios = ratiosOf(samples[name], samples[to]);
  return ratios.length ? median(ratios) : undefined;
}

/** The median of wall times; `undefined` when it did not take part. */
function seconds({ samples }: Race, name: string): number | undefined {
  return samples[name]?.length ? median(samples[name].map(({ wall }) => wall)) : undefined;
}

function ratiosOf(one: readonly Sample[] = [], other: readonly Sample[] = []): number[] {
  return one.flatMap(({ wall }, round) => other[round] ? [wall / other[round].wall] : []);
}

/** A target for ratios, or without `to` for seconds: what is measured may be at most `most` (or at least `least`). */
export interface Target {
  readonly what: string;
  readonly input: string;
  readonly cache?: Race["cache"];
  readonly of: string;
  readonly to?: string;
  readonly most?: number;
  readonly least?: number;
}

export const TARGETS: readonly Target[] = [
  { what: "raw disk", input: "debian", of: "disk-image raw", to: REFERENCE, most: 0.75 },
  { what: "qcow2 to raw", input: "debian", of: "disk-image qcow2", to: "disk-image raw", most: 1.25 },
  { what: "zstd qcow2 to raw", input: "debian", of: "disk-image qcow2-zstd", to: "disk-image raw", most: 2 },
  { what: "part to its fill", input: "debian", of: "part-image ext4", to: "our ext4 alone", most: 1.1 },
  {
    what: "systemd-repart to raw disk",
    input: "debian",
    of: "systemd-repart",
    to: "disk-image raw",
    least: 8,
  },
  {
    what: "virt-make-fs to raw disk",
    input: "debian",
    of: "virt-make-fs without KVM",
    to: "disk-image raw",
    least: 20,
  },
  { what: "ext4", input: "debian", of: "our ext4 alone", to: REFERENCE, most: 0.6 },
  { what: "ext4, cold", input: "debian", cache: "cold", of: "our ext4 alone", to: REFERENCE, most: 0.6 },
  { what: "ext4, tiny files", input: "tiny", of: "our ext4 alone", to: REFERENCE, most: 0.5 },
  { what: "ext4, one directory", input: "directory", of: "our ext4 alone", to: REFERENCE, most: 0.02 },
  { what: "ext4, sparse files", input: "sparse", of: "our ext4 alone", to: REFERENCE, most: 0.5 },
  { what: "ext4, shared blocks", input: "shared", of: "part-image ext4", to: REFERENCE, most: 0.1 },
  { what: "tar to GNU tar", input: "debian", of: "part-image tar", to: "tar --create", most: 1.1 },
  { what: "tar, cold", input: "debian", cache: "cold", of: "part-image tar", to: "tar --create", most: 1.1 },
  { what: "tar, 2 GB", input: "large", of: "part-image tar", to: "tar --create", most: 1.1 },
  { what: "tar, tiny files", input: "tiny", of: "part-image tar", to: "tar --create", most: 1.1 },
  { what: "ext4, 300 files, s", input: "files-300", of: "part-image ext4", most: 0.12 },
];

/** Seconds until the first step, and MiB of the largest process of a build. */
const MOST_START = 0.3, MOST_PEAK = 400;

/** How many times longer an additional file may take among a million than among ten thousand to count as constant. */
const MOST_GROWTH = 1.25;

/** One line per measured target: what, measured, wanted, and whether it was met. */
export function renderTargets(results: Results): string[] {
  const rows = TARGETS.flatMap(({ what, input, cache = "warm", of, to, most, least }) => {
    const race = results.races.find((race) => race.input === input && race.cache === cache);
    const found = race && (to ? ratio(race, of, to) : seconds(race, of));
    if (found === undefined) return [];
    const reached = found <= (most ?? Infinity) && found >= (least ?? 0);
    return [row(what, found.toFixed(3), most === undefined ? `≥ ${least}` : `≤ ${most}`, reached)];
  });
  if (results.start.length) {
    const start = median(results.start);
    rows.push(row("start to first step, s", start.toFixed(3), `≤ ${MOST_START}`, start <= MOST_START));
  }
  const ours = results.races.flatMap(({ samples }) =>
    Object.entries(samples).filter(([name]) => name.includes("-image ")).flatMap(([, list]) => list)
  );
  const peak = Math.max(...ours.map(({ peak }) => peak));
  if (ours.length) rows.push(row("peak memory, MiB", String(peak), `≤ ${MOST_PEAK}`, peak <= MOST_PEAK));
  const growth = timePerFileGrowth(results);
  if (growth !== undefined) {
    const reached = growth <= MOST_GROWTH;
    rows.push(row("time per file, 1,000,000 to 10,000", growth.toFixed(2), `≤ ${MOST_GROWTH}`, reached));
  }
  return renderTable([["target", "found", "wanted", ""], ...rows]);
}

function row(what: string, found: string, wanted: string, reached: boolean): string[] {
  return [what, found, wanted, reached ? "reached" : "MISSED"];
}

/**
 * How many times longer an additional file takes among a million than among ten thousand. Differences between inputs are
 * compared, so the start of a build does not count.
 */
function timePerFileGrowth({ races }: Results): number | undefined {
  const perFile = (less: string, more: string) => {
    const [from, to] = [less, more].map((input) => {
      const race = races.find((race) => race.input === input);
      const samples = race?.samples["part-image ext4"];
      return samples && { entries: race!.entries, wall: median(samples.map(({ wall }) => wall)) };
    });
    return from && to && (to.wall - from.wall) / (to.entries - from.entries);
  };
  const few = perFile("files-1000", "files-10000"), many = perFile("files-100000", "files-1000000");
  return few && many && many / few;
}

/** A race as a table: contender, time with its range, CPU time, ratio with its range, memory. */
export function renderRace(race: Race): string[] {
  const { input, summary, entries, bytes, cache, samples } = race;
  const rows = Object.entries(samples).map(([name, list]) => {
    const ratios = ratiosOf(list, samples[REFERENCE]);
    const walls = list.map(({ wall }) => wall);
    return [
      name,
      String(list.length),
      median(walls).toFixed(2),
      range(walls),
      median(list.map(({ cpu }) => cpu)).toFixed(2),
      ratios.length ? median(ratios).toFixed(2) : "",
      ratios.length ? range(ratios) : "",
      String(Math.max(...list.map(({ peak }) => peak))),
    ];
  });
  const megabytes = Math.round(bytes / 1e6).toLocaleString("en");
  return [
    `${input}: ${summary}; ${entries.toLocaleString("en")} entries, ${megabytes} MB, cache ${cache}`,
    ...renderTable([["", "rounds", "s", "range", "CPU s", `to ${REFERENCE}`, "range", "MiB"], ...rows]),
  ];
}

function range(values: readonly number[]): string {
  return `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
}

/** The README's figures of each contender, in the order of its table's ratios. */
export function benchmarkTable({ races }: Results): string[][] {
  const race = races.find(({ input, cache }) => input === "debian" && cache === "warm")!;
  const large = races.find(({ input, cache }) => input === "large" && cache === "warm");
  const tiny = races.find(({ input, cache }) => input === "tiny" && cache === "warm");
  const cell = (race: Race | undefined, name: string) => {
    const ratios = ratiosOf(race?.samples[name], race?.samples[REFERENCE]);
    if (ratios.length === 0) return "";
    const [low, high] = [Math.min(...ratios), Math.max(...ratios)].map((value) => value.toFixed(2));
    return low === high ? median(ratios).toFixed(2) : `${median(ratios).toFixed(2)} (${low} to ${high})`;
  };
  const rows = Object.entries(race.samples).map(([name, list]) => ({
    name,
    value: ratio(race, name) ?? Infinity,
    cpu: median(list.map(({ cpu }, i) => cpu / (race.samples[REFERENCE]?.[i]?.cpu ?? NaN))),
    peak: Math.max(...list.map(({ peak }) => peak)),
  }));
  return [
    ["", "Debian 13", "2 GB, 90,000 files", "300,000 tiny files", "CPU time", "Largest process, MiB"],
    ...rows.sort((a, b) => a.value - b.value).map(({ name, cpu, peak }) => [
      name,
      cell(race, name),
      cell(large, name),
      cell(tiny, name),
      cpu.toFixed(2),
      String(peak),
    ]),
  ];
}
