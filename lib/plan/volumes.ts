/**
 * Decides what each partition of a disk holds, and how large it is.
 *
 * Without `LAYOUT`, sizes are those of the settings, and the root gets what is left. With one, each partition gets what its
 * contents need at least, and a share of the rest: see repart/sizes.ts.
 *
 * @module
 */

import { type ArchitectureName, ARCHITECTURES, GPT_ATTRIBUTES } from "../core/dps.ts";
import { BuildError } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { alignUp, formatBytes, KiB, MiB } from "../core/units.ts";
import type { Compression } from "../filesystem/compression.ts";
import type { Selection } from "../filesystem/contents.ts";
import type { Contents } from "../filesystem/entries.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import { planSwap, SMALLEST_SWAP } from "../filesystem/swap.ts";
import type { FilesystemRequest } from "../filesystem/types.ts";
import { GRAIN, TABLE_SIZE } from "../image/gpt.ts";
import type { Tree } from "../tree/inspect.ts";
import { type Definition, placeOf } from "./repart/definitions.ts";
import { wrong } from "./repart/ini.ts";
import { type Claim, LAST_PADDING, leastOf, shareOut, SMALLEST_GROWING } from "./repart/sizes.ts";
import { SIZE_UNIT } from "./repart/values.ts";
import { isReadOnly, type PartitionRequest } from "./requests.ts";
import { type Measurements, placeMade, planRoot, tooLarge, tooSmall, type Volume } from "./root.ts";
import type { SettingName, Settings } from "./settings.ts";
import { madeVolume, NOTHING, type VerityPlan } from "./verity.ts";

/** What is decided before sizes are. */
export interface VolumeContext {
  readonly settings: Settings;
  readonly tree: Tree;
  readonly architecture: ArchitectureName;
  readonly requests: readonly PartitionRequest[];
  /** Of the filesystems, by the names of their partitions. */
  readonly contents: ReadonlyMap<string, Contents>;
  /** The filesystem of a partition. */
  readonly formatOf: (request: PartitionRequest) => FilesystemName;
  /** Resolves the contents of a partition to entries with their labels. */
  readonly select: (request: PartitionRequest, contents: Contents) => Selection;
  /** What a filesystem is made with, besides its label. */
  readonly identityOf: (request: PartitionRequest) => Omit<FilesystemRequest, "label">;
  /** The hashes of filesystems, by the names of their partitions. */
  readonly verity: ReadonlyMap<string, VerityPlan>;
  readonly measured: Measurements;
  /** GRUB for BIOS. */
  readonly grub: () => Volume;
}

/** A volume and its place on the disk, in bytes. */
export interface Placed {
  readonly volume: Volume;
  readonly offset: number;
}

/** What is on the disk where, in the order of the requests, and the size of the disk in bytes. */
export interface DiskVolumes {
  readonly size: number;
  readonly placed: readonly Placed[];
}

/** The volumes of the built-in layout. @throws {BuildError} naming a setting that is impossible. */
export function builtInVolumes(context: VolumeContext): DiskVolumes {
  const { settings, requests, contents, formatOf, identityOf, measured, select } = context;
  const fixed = (request: PartitionRequest, name: SettingName): Volume => {
    const format = formatOf(request);
    const own = contents.get(request.name)!;
    const selection = select(request, own);
    const size = settings[name] as number * MiB;
    const wanted = { ...identityOf(request), label: labelOf(request) };
    const plan = FILESYSTEMS[format].plan(selection, { ...wanted, size });
    if (plan) return { contents: own, selection, filesystem: plan };
    if (size > FILESYSTEMS[format].largest) throw tooLarge(name, settings, format);
    throw tooSmall(name, settings, FILESYSTEMS[format].smallest(selection, wanted) / MiB);
  };
  const isRoot = ({ role }: PartitionRequest) => role === "root";
  const others = requests.filter((request) => !isRoot(request)).map((request) => {
    const volume = request.role === "esp"
      ? fixed(request, "efiMb")
      : request.role === "xbootldr"
      ? fixed(request, "bootMb")
      : madeOrGrub(request, context)!;
    return [request, volume] as const;
  });
  const otherBytes = TABLE_SIZE + others.reduce((sum, [, { filesystem }]) => sum + filesystem.size, 0);
  const root = requests.find(isRoot)!;
  const rootContents = contents.get(root.name)!;
  const wanted = { ...identityOf(root), label: "" };
  const volumes = new Map([
    ...others,
    [
      root,
      planRoot(settings, rootContents, select(root, rootContents), wanted, otherBytes, measured[root.name]),
    ] as const,
  ]);
  const placed = placeVolumes(requests.map((request) => ({ volume: volumes.get(request)!, padding: 0 })));
  return { ...placed, size: otherBytes + volumes.get(root)!.filesystem.size };
}

/** GRUB, hashes and signatures: what is as large as it is. */
function madeOrGrub(
  { content }: PartitionRequest,
  { verity, measured, grub }: VolumeContext,
  size?: number,
): Volume | undefined {
  if (content.type === "grub") return grub();
  if (content.type !== "hash" && content.type !== "signature") return undefined;
  const { hashes, signature } = measured[content.of]?.verity ?? {};
  return content.type === "hash"
    ? madeVolume("verity", verity.get(content.of)!.uuid, hashes, size)
    : madeVolume("signature", "", signature, size);
}

function labelOf({ content }: PartitionRequest): string {
  return content.type === "filesystem" || content.type === "swap" ? content.label : "";
}

/** Places volumes one after another, each where a partition can begin, with free space behind it. */
function placeVolumes(
  parts: readonly { readonly volume: Volume; readonly padding: number }[],
): DiskVolumes {
  let next = GRAIN;
  const placed = parts.map(({ volume, padding }) => {
    const offset = next;
    next = alignUp(offset + volume.filesystem.size + padding, GRAIN);
    return { volume, offset };
  });
  return { placed, size: next + GRAIN };
}

/** A partition of which only the size is open. */
interface Part {
  readonly request: PartitionRequest;
  readonly definition: Definition;
  /** Bytes that its contents need. */
  readonly need: number;
  /** Bytes that it may have. */
  readonly largest: number;
  /** Whether it gets no more than it needs. */
  readonly isTight: boolean;
  readonly make: (size: number) => Volume;
}

/** What repart.d(5) gives a partition without `SizeMinBytes=`. */
const DEFAULT_MIN = 10 * MiB;

/** The size of a partition for a signature. */
const SIGNATURE_SIZE = 16 * KiB;

/** The volumes of a layout. @throws {BuildError} (usage) naming the partition that does not fit, and what would do. */
export function layoutVolumes(context: VolumeContext): DiskVolumes {
  const { settings, requests } = context;
  const parts = requests.map((request) => planPart(request, context));
  const claims = parts.flatMap((part, i): Claim[] => {
    const { paddingMin = 0, paddingMax = Infinity, paddingWeight = 0 } = part.definition;
    const isLast = i === parts.length - 1;
    const unit = isLast ? SIZE_UNIT : GRAIN;
    // In the image, systemd-repart shares the space behind the last partition out in the same way.
    const min = Math.max(paddingMin, isLast ? LAST_PADDING : 0);
    const padding = { min, max: Math.max(min, paddingMax), weight: paddingWeight, takesRest: false, unit };
    return [{ ...claimOf(part), unit }, padding];
  });
  const least = alignUp(leastOf(claims) - LAST_PADDING, MiB);
  const { sizeMb, freeMb } = settings;
  const space = sizeMb === undefined ? least : sizeMb * MiB - TABLE_SIZE;
  if (space < least) throw tooLittle(parts, claims, space, settings, least);
  // A given size is shared out as the manual says. FREE_MB comes on top of what each needs, or the fullest would get none.
  const sizes = sizeMb === undefined
    ? shareOut(claims.map(beyondMinimum), freeMb * MiB).map((bytes, i) => claims[i]!.min + bytes)
    : shareOut(claims, space + LAST_PADDING);
  sizes[sizes.length - 1]! -= LAST_PADDING;
  const volumes = placeVolumes(parts.map(({ make }, i) => ({
    volume: make(sizes[2 * i]!),
    padding: sizes[2 * i + 1]!,
  })));
  return sizeMb === undefined ? volumes : { ...volumes, size: sizeMb * MiB };
}

/** What is left of a claim that has its minimum. */
function beyondMinimum(claim: Claim): Claim {
  return { ...claim, min: 0, max: claim.max - claim.min };
}

function claimOf({ request, definition, need, largest, isTight }: Part): Omit<Claim, "unit"> {
  const { content, role } = request;
  const { sizeMin, sizeMax = Infinity, weight = 1000, verity = "off" } = definition;
  const isSignature = content.type === "signature" || /-verity-sig$/.test(role ?? "");
  const growing = content.type === "filesystem" && content.format === "ext4" &&
    request.attributes.includes(GPT_ATTRIBUTES.growfs);
  const usual = isSignature ? SIGNATURE_SIZE : isReadOnly(content) || verity !== "off" ? 0 : DEFAULT_MIN;
  const least = growing ? Math.min(SMALLEST_GROWING, sizeMax) : SIZE_UNIT;
  const min = Math.max(need, sizeMin ?? Math.min(usual, sizeMax), least);
  if (need > sizeMax) {
    throw wrong(
      placeOf(definition, "SizeMaxBytes"),
      `its contents need ${formatBytes(need)}, more than SizeMaxBytes=`,
      `Set SizeMaxBytes= to ${inUnits(need)} or more, or leave it out`,
    );
  }
  const max = isTight || isSignature && verity !== "off" ? min : Math.max(min, Math.min(sizeMax, largest));
  return { min, max, weight, takesRest: true };
}

/** Bytes as definitions have them: `34M`. */
function inUnits(bytes: number): string {
  return bytes % MiB === 0 ? `${bytes / MiB}M` : `${Math.ceil(bytes / KiB)}K`;
}

/** The error for a disk that is too small, with the first partition that does not fit. */
function tooLittle(
  parts: readonly Part[],
  claims: readonly Claim[],
  space: number,
  { sizeMb }: Settings,
  least: number,
): BuildError {
  let used = 0;
  const at = claims.findIndex((claim) => (used += leastOf([claim])) > space + LAST_PADDING);
  const { definition } = parts[at >> 1]!;
  const what = at % 2 ? "the free space behind the partition of" : "the partition of";
  return new BuildError(
    `Cannot fit ${what} ${definition.path} (${formatBytes(claims[at]!.min)}) into SIZE_MB=${sizeMb}`,
    {
      kind: "usage",
      hint: `Set SIZE_MB to ${(least + TABLE_SIZE) / MiB} or more, or leave it out`,
    },
  );
}

function planPart(request: PartitionRequest, context: VolumeContext): Part {
  const { settings, architecture, contents, formatOf, identityOf, measured, select } = context;
  const { content, name } = request;
  const definition = request.definition!;
  const isMinimal = (definition.minimize ?? "off") !== "off";
  const common = { request, definition, largest: Infinity, isTight: false };
  switch (content.type) {
    case "empty":
      return {
        ...common,
        need: 0,
        make: (size) => ({ ...NOTHING, filesystem: { ...EMPTY, size } }),
      };
    case "swap": {
      const { endian } = ARCHITECTURES[architecture];
      const { uuid } = identityOf(request);
      return {
        ...common,
        need: SMALLEST_SWAP,
        make: (size) => ({ ...NOTHING, filesystem: planSwap({ size, uuid, label: content.label, endian }) }),
      };
    }
    case "grub": {
      const volume = madeOrGrub(request, context)!;
      return { ...common, need: volume.filesystem.size, isTight: true, make: () => volume };
    }
    case "hash":
    case "signature": {
      const made = measured[content.of]?.verity?.[content.type === "hash" ? "hashes" : "signature"];
      const need = alignUp(made?.size ?? 0, SIZE_UNIT);
      return { ...common, need, isTight: isMinimal, make: (size) => madeOrGrub(request, context, size)! };
    }
  }
  const format = formatOf(request);
  const { readOnly, largest, plan, smallest } = FILESYSTEMS[format];
  const own = contents.get(name)!;
  const selection = select(request, own);
  const compression = readOnly ? compressionOf(definition, settings.compression) : undefined;
  const wanted = { ...identityOf(request), label: labelOf(request), ...compression && { compression } };
  if (readOnly) {
    const preliminary = plan(selection, wanted)!;
    const made = measured[name];
    // What compression saves is not known before it is made.
    const need = made
      ? made.size
      : settings.sizeMb === undefined && definition.sizeMax === undefined
      ? preliminary.size
      : 0;
    return {
      ...common,
      need: alignUp(need, SIZE_UNIT),
      isTight: isMinimal,
      make: (size) => ({
        contents: own,
        selection,
        filesystem: made ? placeMade(preliminary, made, size) : { ...preliminary, size },
      }),
    };
  }
  const need = smallest(selection, wanted);
  const refuse = (size: number) =>
    new BuildError(
      `Cannot make such a large filesystem (${format}) for ${definition.path}: ${formatBytes(size)}`,
      {
        kind: "usage",
        hint: `The maximum is ${formatBytes(largest)}: set SizeMaxBytes=`,
      },
    );
  if (need > largest) throw refuse(need);
  return {
    ...common,
    need,
    largest: Math.floor(largest / SIZE_UNIT) * SIZE_UNIT,
    isTight: isMinimal,
    make: (size) => {
      const filesystem = plan(selection, { ...wanted, size });
      if (!filesystem) throw refuse(size);
      return { contents: own, selection, filesystem };
    },
  };
}

/** A system writes at least this much when it boots for the first time: a journal, caches. */
const LEAST_FREE = 16 * MiB;

/** The findings about filesystems that are full from the start, though the system writes to them. */
export function fullFindings(requests: readonly PartitionRequest[], { placed }: DiskVolumes): Finding[] {
  return requests.flatMap(({ name, mountPoint }, i) => {
    const { free, bytes } = placed[i]!.volume.filesystem;
    if (!["/", "/var"].includes(mountPoint) || free === undefined || free >= LEAST_FREE || bytes === 0) {
      return [];
    }
    return [
      finding(
        "full",
        `The filesystem of ${name} for ${mountPoint} has only ${formatBytes(free)} of free space`,
      ),
    ];
  });
}

const EMPTY = {
  type: "empty",
  label: "",
  uuid: "",
  entries: 0,
  bytes: 0,
  findings: [],
  writer: null,
} as const;

function compressionOf({ compression, compressionLevel }: Definition, usual: Compression | undefined) {
  if (!compression) return usual;
  return compressionLevel === undefined ? compression : { ...compression, level: compressionLevel };
}
