/**
 * Shows a plan: as a table for people, as JSON for programs (`--dry-run`).
 *
 * @module
 */

import { renderTable } from "../core/table.ts";
import { type PartitionRole, typeName } from "../core/dps.ts";
import { quote } from "../core/error.ts";
import type { DiskPlan, PartPlan } from "./plan.ts";
import type { Volume } from "./root.ts";
import { formatBytes } from "../core/units.ts";

/** A filesystem in `--dry-run --json`. Sizes are in bytes. */
export interface VolumeDescription {
  readonly filesystem: string;
  readonly filesystemLabel: string;
  readonly filesystemUuid: string;
  readonly size: number;
  /** Set when the size is an estimate: how large the filesystem becomes is known when it is made. */
  readonly estimate?: true;
  /** Bytes that df will show as available, where that is known beforehand. */
  readonly free?: number;
  readonly entries: number;
  readonly contentBytes: number;
  /** Where in the tree the content comes from; absent when all of it is added. */
  readonly from?: string;
  /** Paths in the filesystem that the builder adds or replaces. */
  readonly added: readonly string[];
  /** Choices worth knowing, e.g. a symlink that FAT cannot hold. */
  readonly notices: readonly string[];
}

export interface PartitionDescription extends VolumeDescription {
  readonly role: PartitionRole;
  /** As systemd names it: `root-x86-64`. */
  readonly typeName: string;
  readonly type: string;
  readonly label: string;
  readonly uuid: string;
  readonly attributes: readonly number[];
  readonly offset: number;
  readonly mountPoint: string;
}

interface CommonDescription {
  readonly format: string;
  /** Bytes of the raw image. */
  readonly size: number;
  readonly seed: string;
  readonly sourceDateEpoch: number;
  /** What of the tree is in no filesystem: per kind the paths. */
  readonly leftOut: Readonly<Record<string, readonly string[]>>;
  readonly warnings: readonly string[];
}

export interface DiskDescription extends CommonDescription {
  readonly builder: "disk-image";
  readonly architecture: string;
  readonly diskId: string;
  readonly sectorSize: number;
  readonly bootLoader: string | null;
  readonly bootLoaderReason?: string;
  readonly kernelOptions: string;
  readonly partitions: readonly PartitionDescription[];
}

export interface PartDescription extends CommonDescription, VolumeDescription {
  readonly builder: "part-image";
  /** What to know for `portablectl attach`, a line each. */
  readonly portable: readonly string[];
}

export type Description = DiskDescription | PartDescription;

function describeVolume({ contents, filesystem }: Volume): VolumeDescription {
  return {
    filesystem: filesystem.type,
    filesystemLabel: filesystem.label,
    filesystemUuid: filesystem.uuid,
    size: filesystem.size,
    ...filesystem.measured && { estimate: true },
    ...filesystem.free === undefined ? {} : { free: filesystem.free },
    entries: filesystem.entries,
    contentBytes: filesystem.bytes,
    ...contents.from === undefined ? {} : { from: contents.from },
    added: contents.add.map(({ path }) => path),
    notices: filesystem.notices,
  };
}

function describeCommon(plan: DiskPlan | PartPlan): CommonDescription {
  return {
    format: plan.format,
    size: plan.size,
    seed: plan.seed,
    sourceDateEpoch: plan.time,
    leftOut: Object.fromEntries(plan.leftovers.map(({ kind, paths }) => [kind, paths])),
    warnings: plan.warnings,
  };
}

/** A disk plan as plain data. */
export function describeDisk(plan: DiskPlan): DiskDescription {
  return {
    builder: "disk-image",
    ...describeCommon(plan),
    architecture: plan.architecture,
    diskId: plan.id,
    sectorSize: plan.sectorSize,
    bootLoader: plan.bootLoader?.name ?? null,
    ...plan.bootLoader && { bootLoaderReason: plan.bootLoader.reason },
    kernelOptions: plan.kernelOptions,
    partitions: plan.partitions.map((partition) => ({
      role: partition.role,
      typeName: typeName(partition.role, plan.architecture),
      type: partition.type,
      label: partition.label,
      uuid: partition.uuid,
      attributes: partition.attributes,
      offset: partition.offset,
      mountPoint: partition.mountPoint,
      ...describeVolume(partition),
    })),
  };
}

/** A plan for a single filesystem as plain data. */
export function describePart(plan: PartPlan): PartDescription {
  const { portable } = plan;
  return { builder: "part-image", ...describeCommon(plan), ...describeVolume(plan), portable };
}

/** The description as a table, lines without a newline at their end. */
export function renderDescription(description: Description): string[] {
  const head = `${description.builder}: ${description.format}, ${formatBytes(description.size)}`;
  if (description.builder === "part-image") {
    const table = renderTable([VOLUME_HEAD, volumeCells(description)]);
    return [head, ...table, ...description.notices, ...leftOutLines(description), ...description.portable];
  }
  const { architecture, diskId, bootLoader, bootLoaderReason, kernelOptions, partitions } = description;
  return [
    `${head}, GPT ${diskId}, ${architecture}`,
    `boot loader: ${bootLoader ? `${bootLoader}, since ${bootLoaderReason}` : "none"}`,
    `kernel options: ${kernelOptions}`,
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
    ...partitions.flatMap(({ notices }) => notices),
    ...leftOutLines(description),
  ];
}

/** One line per kind of leftover: `left out: host-keys: 6, "/etc/ssh/ssh_host_ecdsa_key" …`. */
function leftOutLines({ leftOut }: CommonDescription): string[] {
  return Object.entries(leftOut).map(([kind, paths]) =>
    `left out: ${kind}: ${paths.length}, ${quote(paths[0]!)}${paths.length > 1 ? " …" : ""}`
  );
}

const VOLUME_HEAD = ["size", "filesystem", "filesystem UUID", "content"];

function volumeCells(volume: VolumeDescription): string[] {
  const { size, estimate, filesystem, filesystemUuid, entries, contentBytes, free, from } = volume;
  const content = [
    ...from === undefined ? [] : [`${from} of the tree`],
    `${entries} entries`,
    formatBytes(contentBytes),
    ...free === undefined ? [] : [`${formatBytes(free)} free`],
  ];
  return [
    `${estimate ? "at most " : ""}${formatBytes(size)}`,
    filesystem,
    filesystemUuid || "-",
    content.join(", "),
  ];
}
