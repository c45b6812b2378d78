/**
 * Shows a plan: as a table for people, as JSON for programs (`--dry-run`).
 *
 * @module
 */

import { quote } from "../core/error.ts";
import { renderTable } from "../core/table.ts";
import { formatBytes } from "../core/units.ts";
import type { PlacedVolume, Plan } from "./plan.ts";
import { parametersOf } from "./read-settings.ts";
import { describeSelinux } from "./selinux.ts";
import { type Settings } from "./settings.ts";

/**
 * Left out of a plan's JSON: what only the writer of a filesystem needs (`writer`, `selection`, `without`, `recipe`),
 * and the signing keys (`signer`).
 */
const PRIVATE = ["writer", "selection", "without", "recipe", "signer"];

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
    ...split ? [`parts as files: ${quote(`${split.directory}/${split.prefix}.*`)}`] : [],
    ...renderTable([
      ["#", "type", "label", "mount point", "partition UUID", "offset", ...VOLUME_HEAD],
      ...partitions.map((partition, i) => [
        String(i + 1),
        partition.typeName,
        partition.label,
        partition.mountPoint,
        partition.uuid,
        formatBytes(partition.offset),
        ...volumeCells(partition),
      ]),
    ]),
    ...notices,
  ];
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
