/**
 * Shows a plan: as a table for people, as JSON for programs (`--dry-run`).
 *
 * @module
 */

import { quote } from "../core/error.ts";
import { renderTable } from "../core/table.ts";
import { formatBytes } from "../core/units.ts";
import type { DiskPlan, PlacedVolume, Plan } from "./plan.ts";
import { parametersOf } from "./read-settings.ts";
import { describeSelinux } from "./selinux.ts";
import { type Settings } from "./settings.ts";

/**
 * Left out of a plan's JSON: what only the writer of a filesystem needs (`writer`, `selection`, `without`, `recipe`, and
 * `made`, a path in the scratch directory),
 * and the signing keys (`signer`).
 */
const PRIVATE = ["writer", "selection", "without", "recipe", "made", "signer"];

/** A plan as JSON, without the private parts of writers, with all findings and the settings that affect the image. */
export function plainPlan(plan: Plan): Record<string, unknown> {
  return JSON.parse(JSON.stringify(plan, function (this: object, key, value) {
    if (PRIVATE.includes(key) || key === "findings" && this !== plan) return undefined;
    return key === "settings" ? parametersOf(value as Settings) : value;
  }));
}

/** A plan as the lines of a table, without newlines. */
export function renderPlan(plan: Plan): string[] {
  const { compress } = plan.settings;
  const form = compress === "none" ? plan.format : `${plan.format}.${compress}`;
  const head = `${plan.builder}: ${form}, ${formatBytes(plan.size)}`;
  const notices = [
    ...describeSelinux(plan.selinux, plan.settings),
    ...plan.findings.filter(({ level }) => level === "notice").map(({ message }) => message),
    ...leftOutLines(plan),
  ];
  if (plan.builder === "part-image") {
    return [
      head,
      ...renderTable([VOLUME_HEAD, ...plan.partitions.map(volumeCells)]),
      ...notices,
      ...plan.portable,
    ];
  }
  const { architecture, id, bootLoader, kernelOptions, partitions, split } = plan;
  return [
    `${head}, GPT ${id}, ${architecture}`,
    `boot loader: ${bootLoader ? `${bootLoader.name}, since ${bootLoader.reason}` : "none"}`,
    `kernel options: ${kernelOptions}`,
    ...split ? [`parts as files: ${quote(`${plan.settings.splitDirectory}/${split.prefix}.*`)}`] : [],
    ...renderMap(plan),
    ...renderTable([
      ["#", "type", "label", "mount point", "size", "filesystem", "content"],
      ...partitions.map((partition, i) => {
        const { typeName, label, mountPoint } = partition;
        const [size, type] = volumeCells(partition);
        const { entries, bytes, free } = partition.filesystem;
        const content = `${entries} entries, ${
          free === undefined ? formatBytes(bytes) : `${formatBytes(free)} free`
        }`;
        const cells = [typeName, label, mountPoint].map((text) => shorten(text, MAX_CELL));
        return [String(i + 1), ...cells, size!, type!, entries ? content : "-"];
      }),
    ]).map((line) => shorten(line, MAX_COLUMNS)),
    ...notices,
  ];
}

/** The width of a terminal that many have. */
const MAX_COLUMNS = 100;

const MAX_CELL = 24;

function shorten(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

/** The cells of the map, which leave room for names. */
const MAP_COLUMNS = 72;

/** A map of the disk, as systemd-repart draws one: a bar, and below it the names of the partitions. */
function renderMap({ partitions, size }: DiskPlan): string[] {
  const column = (bytes: number) => Math.floor(bytes * MAP_COLUMNS / size);
  const bar = new Array<string>(MAP_COLUMNS).fill("░");
  partitions.forEach((partition, i) => {
    bar.fill(i % 2 ? "▒" : "▓", column(partition.offset), column(partition.offset + partition.size));
  });
  const starts = partitions.map(({ offset }) => column(offset));
  const names = partitions.map(({ name, mountPoint }, i) => {
    const line = new Array<string>(starts[i]! + 1).fill(" ");
    for (const start of starts.slice(0, i)) line[start] = "│";
    line[starts[i]!] = starts.indexOf(starts[i]!) < i ? "├" : "└";
    return ` ${line.join("")}─ ${shorten(mountPoint ? `${name} ${mountPoint}` : name, MAX_CELL)}`;
  });
  return [` ${bar.join("")}`, ...names.reverse()];
}

/** One line per kind of leftover: `left out: host-keys: 6, "/etc/ssh/ssh_host_ecdsa_key" …`. */
function leftOutLines({ leftovers }: Plan): string[] {
  return leftovers.map(({ kind, paths }) =>
    `left out: ${kind}: ${paths.length}, ${quote(paths[0]!)}${paths.length > 1 ? " …" : ""}`
  );
}

const VOLUME_HEAD = ["size", "filesystem", "filesystem UUID", "content"];

function volumeCells({ size, contents, filesystem }: PlacedVolume): string[] {
  const { type, uuid, estimate, entries, bytes, free } = filesystem;
  const content = [
    ...contents.from === undefined ? [] : [`${contents.from} of the tree`],
    `${entries} entries`,
    formatBytes(bytes),
    ...free === undefined ? [] : [`${formatBytes(free)} free`],
  ];
  return [`${estimate ? "at most " : ""}${formatBytes(size)}`, type, uuid || "-", content.join(", ")];
}
