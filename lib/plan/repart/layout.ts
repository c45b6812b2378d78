/**
 * Turns definitions into the partitions of a disk.
 *
 * What systemd-repart fills only with `CopyFiles=`, is filled from the tree here: the first partition of each type that
 * systemd mounts (`root`, `usr`, `home`, `esp` …), and those with `MountPoint=`, hold what the tree has there, unless
 * their definition says something else. All others are empty until something fills them.
 *
 * @module
 */

import { GPT_ATTRIBUTES, identifyType, type PartitionRole, typeName } from "../../core/dps.ts";
import { BuildError, quote } from "../../core/error.ts";
import { type FilesystemName, FILESYSTEMS } from "../../filesystem/filesystems.ts";
import { isReadOnly, type PartitionContent, type PartitionRequest } from "../requests.ts";
import type { Settings } from "../settings.ts";
import { type Definition, hasContents, knowsFlag, placeOf, readDefinitions } from "./definitions.ts";
import type { Layout } from "./files.ts";
import { wrong } from "./ini.ts";
import { MOUNT_POINTS } from "./keys.ts";
import { SMALLEST_GROWING } from "./sizes.ts";
import type { Machine } from "./values.ts";

/** The number of entries of the partition tables that sfdisk writes. */
const MAX_PARTITIONS = 128;

/**
 * The partitions that a layout defines.
 *
 * @throws {BuildError} (usage) with the place of what is not possible.
 */
export function layoutRequests(layout: Layout, settings: Settings, machine: Machine): PartitionRequest[] {
  const definitions = readDefinitions(layout, machine);
  if (definitions.length > MAX_PARTITIONS) {
    throw new BuildError(
      `Cannot make a disk as ${
        quote(layout.directory)
      } describes: ${definitions.length} partitions are too many`,
      { kind: "usage", hint: `A disk has at most ${MAX_PARTITIONS}` },
    );
  }
  checkVerity(definitions);
  const hasXbootldr = definitions.some(({ role, format }) => role === "xbootldr" && format !== "empty");
  const seen = new Set<PartitionRole | undefined>();
  const labels: string[] = [];
  const requests = definitions.map((definition): PartitionRequest => {
    const { name, role, type } = definition;
    const isFirst = role !== undefined && !seen.has(role) && definition.format !== "empty";
    if (isFirst) seen.add(role);
    const shown = nameOf(definition, machine);
    const label = definition.label ?? freeLabel(shown, labels);
    labels.push(label);
    const [mounted, ...others] = definition.mountPoints ?? [];
    if (others.length) {
      throw wrong(
        placeOf(definition, "MountPoint"),
        "there is only one filesystem, without subvolumes, to mount",
        "Write MountPoint= once",
      );
    }
    const usual = role === "esp" ? hasXbootldr ? "/boot/efi" : "/boot" : role && MOUNT_POINTS[role];
    const isData = ["off", "data"].includes(definition.verity ?? "off");
    const mountPoint = isData ? mounted?.path ?? (isFirst ? usual ?? "" : "") : "";
    const content = contentOf(definition, { label, mountPoint, settings, definitions });
    // systemd-repart writes it into the fstab that it generates, where it cannot be mounted.
    if (mounted && content.type !== "filesystem") {
      throw wrong(
        placeOf(definition, "MountPoint"),
        `the partition has no filesystem to mount at ${quote(mounted.path)}`,
        "Leave MountPoint= out, or set another Type= or Format=",
      );
    }
    return {
      name,
      role,
      type,
      typeName: shown,
      label,
      ...definition.uuid !== undefined && { uuid: definition.uuid },
      attributes: attributesOf(definition, content),
      mountPoint: content.type === "filesystem" ? mountPoint : "",
      ...mounted && { mountOptions: mounted.options },
      content,
      isVerified: definition.verity === "data",
      splitName: definition.splitName ?? "%t",
      definition,
    };
  });
  checkMountPoints(requests);
  return requests;
}

function nameOf({ type, role }: Definition, machine: Machine): string {
  const found = identifyType(type);
  if (!found) return type;
  return typeName(role ?? found.role, found.architecture ?? machine.architecture);
}

/** The label that a partition gets without one: its type, with a number if there is another. */
function freeLabel(type: string, taken: readonly string[]): string {
  // systemd has no name for types outside of the DPS.
  const label = /^[0-9a-f]{8}-/.test(type) || type === "bios" ? "linux" : type;
  for (let i = 1;; i++) {
    const numbered = i === 1 ? label : `${label}-${i}`;
    if (!taken.includes(numbered)) return numbered;
  }
}

interface ContentContext {
  readonly label: string;
  readonly mountPoint: string;
  readonly settings: Settings;
  readonly definitions: readonly Definition[];
}

function contentOf(
  definition: Definition,
  { label, mountPoint, settings, definitions }: ContentContext,
): PartitionContent {
  const { role, format, verity = "off", verityMatchKey } = definition;
  if (verity === "hash" || verity === "signature") {
    const data = definitions.find((other) =>
      other.verity === "data" && other.verityMatchKey === verityMatchKey
    );
    return { type: verity, of: data!.name };
  }
  const filled = hasContents(definition);
  if (format === "swap" || role === "swap" && format === undefined && !filled) return { type: "swap", label };
  if (format === "empty") return { type: "empty" };
  if (role === "bios") return { type: settings.firmware === "uefi" ? "empty" : "grub" };
  if (!filled && format === undefined && mountPoint === "") return { type: "empty" };
  const usual = role === "esp" || role === "xbootldr" && filled
    ? "vfat"
    : role === "xbootldr"
    ? undefined
    : role === "root" && mountPoint === "/"
    ? settings.filesystem
    : "ext4";
  const chosen = format ?? usual;
  checkFormat(definition, chosen, filled || mountPoint !== "");
  return {
    type: "filesystem",
    ...chosen && { format: chosen },
    label: chosen ? volumeLabel(chosen, label) : label,
    ...(filled || mountPoint === "") && { definition },
  };
}

function checkFormat(definition: Definition, format: FilesystemName | undefined, hasSources: boolean): void {
  const { role, verity, minimize = "off" } = definition;
  const place = placeOf(definition, "Format");
  if (role === "esp" && format !== "vfat") {
    throw wrong(place, `firmware reads no ESP with ${format}`, "Set Format= to vfat, or leave it out");
  }
  if (!format) return;
  const { readOnly, holdsSystem } = FILESYSTEMS[format];
  if (readOnly && !hasSources) {
    throw wrong(place, `a ${format} without files stays empty`, "Set CopyFiles=, or another Format=");
  }
  if (!holdsSystem && (role === "root" || role === "usr" || role === "var")) {
    throw wrong(
      place,
      `${format} keeps no owners, modes and links, which ${role} needs`,
      "Set another Format=",
    );
  }
  if (verity === "data" && !readOnly) {
    throw wrong(
      placeOf(definition, "Verity"),
      `Verity=data with ${format} would not stay what was hashed`,
      "Set Format= to erofs or squashfs",
    );
  }
  if (minimize === "best" && !readOnly) {
    throw wrong(
      placeOf(definition, "Minimize"),
      `Minimize=best is not for ${format}`,
      "Set Minimize= to guess",
    );
  }
}

/** The label of a filesystem: that of its partition, as far as it can have it. */
export function volumeLabel(format: FilesystemName, label: string): string {
  const { label: accepted } = FILESYSTEMS[format] as { label?: { pattern: RegExp } };
  if (!accepted) return "";
  const plain = format === "vfat"
    ? label.toUpperCase().replace(/[^A-Z0-9_-]/g, "_")
    : label.replace(/ /g, "_");
  for (let length = plain.length; length > 0; length--) {
    if (accepted.pattern.test(plain.slice(0, length))) return plain.slice(0, length);
  }
  return "";
}

/** The attribute bits: `Flags=`, overridden by the keys of their own and what they are by default. */
function attributesOf(definition: Definition, content: PartitionContent): number[] {
  const { type, verity } = definition;
  const isVerity = verity === "data" || /-verity(-sig)?$/.test(identifyType(type)?.role ?? "");
  const readOnly = definition.readOnly ?? (isVerity || isReadOnly(content));
  const isSmall = content.type === "filesystem" && content.format === "ext4" &&
    (definition.sizeMax ?? Infinity) < SMALLEST_GROWING;
  const wanted:
    readonly (readonly ["ReadOnly" | "GrowFileSystem" | "NoAuto", boolean | undefined, number])[] = [
      ["ReadOnly", readOnly || definition.readOnly, GPT_ATTRIBUTES.readOnly],
      ["GrowFileSystem", definition.growFileSystem ?? !(readOnly || isSmall), GPT_ATTRIBUTES.growfs],
      ["NoAuto", definition.noAuto, GPT_ATTRIBUTES.noAuto],
    ];
  const bits = new Set(definition.flags ?? []);
  for (const [flag, value, bit] of wanted) {
    if (value === undefined || !knowsFlag(type, flag)) continue;
    if (value) bits.add(bit);
    else bits.delete(bit);
  }
  return [...bits].sort((a, b) => a - b);
}

/** Data and hashes, and perhaps a signature, belong together, each once. */
function checkVerity(definitions: readonly Definition[]): void {
  for (const definition of definitions) {
    const { verity = "off", verityMatchKey: key } = definition;
    if (verity === "off") continue;
    for (const kind of ["data", "hash", "signature"] as const) {
      const found = definitions.filter((other) => other.verity === kind && other.verityMatchKey === key);
      const place = placeOf(definition, "VerityMatchKey");
      if (found.length > 1) {
        throw wrong(
          placeOf(found[1]!, "VerityMatchKey"),
          `VerityMatchKey=${quote(key!)} has Verity=${kind} twice: also in ${found[0]!.path}`,
          "Give each set of partitions a key of its own",
        );
      }
      if (found.length === 0 && kind !== "signature") {
        throw wrong(
          place,
          `VerityMatchKey=${quote(key!)} has no partition with Verity=${kind}`,
          "Define it, or leave out Verity= and VerityMatchKey=",
        );
      }
    }
  }
}

function checkMountPoints(requests: readonly PartitionRequest[]): void {
  const mounted = new Map<string, PartitionRequest>();
  for (const request of requests) {
    const { mountPoint, definition, mountOptions = [] } = request;
    if (mountPoint === "") continue;
    const place = placeOf(definition!, "MountPoint");
    const other = mounted.get(mountPoint);
    if (other) {
      throw wrong(
        place,
        `${quote(mountPoint)} is also that of ${other.definition!.path}`,
        "Mount one of them elsewhere",
      );
    }
    mounted.set(mountPoint, request);
    if (mountPoint === "/" && mountOptions.length) {
      throw wrong(place, "the root is mounted before fstab is read", "Set KERNEL_CMDLINE=rootflags=…");
    }
  }
}
