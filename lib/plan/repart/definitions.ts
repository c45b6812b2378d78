/**
 * Reads definitions of partitions as systemd-repart does, but takes nothing for granted: what it would only warn about,
 * or ignore, is an error here.
 *
 * @module
 */

import { identifyType, type PartitionRole } from "../../core/dps.ts";
import { BuildError, quote } from "../../core/error.ts";
import { nearest, oneOf } from "../../core/suggest.ts";
import type { Compressors } from "../../filesystem/compression.ts";
import { FILESYSTEMS } from "../../filesystem/filesystems.ts";
import type { Layout } from "./files.ts";
import { type Place, readAssignmentsOf, wrong } from "./ini.ts";
import { HARMLESS, KEYS, REFUSED, type Values } from "./keys.ts";
import type { Machine } from "./values.ts";

/** What one file defines. */
export interface Definition extends Values {
  /** The name of the file without `.conf`: `10-esp`. */
  readonly name: string;
  /** The path of the file, for messages. */
  readonly path: Place;
  /** Where each key was written last. */
  readonly places: Readonly<Record<string, Place>>;
  /** GUID in lower case. */
  readonly type: string;
  /** What the type means, if it is one of the DPS, for the tree's architecture or none. */
  readonly role: PartitionRole | undefined;
}

/** Where a definition has a key. */
export function placeOf(definition: Definition, key: keyof typeof KEYS): Place {
  return definition.places[key] ?? definition.path;
}

/**
 * The definitions of a layout, in the order of their partitions.
 *
 * @throws {BuildError} (usage) with the file and the line of the first mistake.
 */
export function readDefinitions({ directory: path, files }: Layout, machine: Machine): Definition[] {
  const directory = quote(path).slice(1, -1);
  const names = Object.keys(files);
  for (const name of names) {
    if (/^[\x21-\x7e]+$/.test(name)) continue;
    throw new BuildError(`Cannot use the definition ${quote(name)} in ${quote(path)}`, {
      kind: "usage",
      hint: "Rename the file: its name may have printable ASCII characters other than a space",
    });
  }
  const definitions = names.filter((name) => !name.includes("/")).toSorted().flatMap((name) => {
    // An empty file masks one of the same name elsewhere.
    if (files[name] === "") return [];
    const dropIns = names.filter((other) => other.startsWith(`${name}.d/`)).toSorted();
    return [readDefinition(directory, name, [name, ...dropIns], files, machine)];
  });
  for (const name of names) {
    const target = name.split("/")[0]!.replace(/\.d$/, "");
    if (!Object.hasOwn(files, target)) {
      throw wrong(`${directory}/${name}`, `there is no ${target} that it adds to`, "Rename the directory");
    }
  }
  if (definitions.length === 0) {
    throw new BuildError(`Cannot make a disk as ${quote(directory)} describes: it has no definitions`, {
      kind: "usage",
      hint: "Definitions are files like 10-esp.conf, see repart.d(5)",
    });
  }
  return definitions;
}

function readDefinition(
  directory: string,
  name: string,
  parts: readonly string[],
  files: Layout["files"],
  machine: Machine,
): Definition {
  const found: Record<string, unknown> = {};
  const places: Record<string, Place> = {};
  for (const part of parts) {
    for (
      const { place, key, value } of readAssignmentsOf({ path: `${directory}/${part}`, text: files[part]! })
    ) {
      if (!Object.hasOwn(KEYS, key)) {
        if (HARMLESS[key]?.includes(value)) continue;
        throw unknownKey(place, key);
      }
      const row = KEYS[key as keyof typeof KEYS];
      const field = "field" in row ? row.field : key;
      places[key] = place;
      // An empty label is a label.
      if (value === "" && key !== "Label") {
        delete found[field];
        continue;
      }
      const read = readValue(place, key, value, () => row.read(value, machine));
      found[field] = "isList" in row ? [...found[field] as [] ?? [], ...read as []] : read;
    }
  }
  const values = found as Values;
  const type = values.type ?? KEYS.Type.read("linux-generic", machine);
  const identified = identifyType(type);
  const isOurs = !identified?.architecture || identified.architecture === machine.architecture;
  const role = identified && isOurs ? identified.role : undefined;
  const definition = {
    ...values,
    ...values.format === "empty" && { label: values.label ?? "_empty", noAuto: values.noAuto ?? true },
    name: name.replace(/\.conf$/, ""),
    path: `${directory}/${name}`,
    places,
    type,
    role,
  };
  checkDefinition(definition);
  return definition;
}

function unknownKey(place: Place, key: string): BuildError {
  if (Object.hasOwn(REFUSED, key)) {
    return wrong(place, `${key}= is not supported: ${REFUSED[key]}`, `Leave ${key}= out`);
  }
  const meant = nearest(key, Object.keys(KEYS));
  return wrong(
    place,
    `${quote(key)} is no key of a definition`,
    meant === undefined ? "The keys are in docs/layouts.md" : `Did you mean ${meant}?`,
  );
}

/** Reads a value. @throws {BuildError} (usage) naming its place, if `read` throws what is accepted. */
export function readValue<T>(place: Place, key: string, value: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Error) || error instanceof TypeError) throw error;
    const reason = typeof error.cause === "string" ? `: ${error.cause}` : "";
    throw wrong(place, `${key}=${quote(value)} is not possible${reason}`, `Accepted: ${error.message}`);
  }
}

/** The types whose attributes say this, as the DPS defines them. */
const KNOWN_FLAGS = {
  "ReadOnly": /^(root|usr)(-verity(-sig)?)?$|^(home|srv|var|tmp|xbootldr)$/,
  "GrowFileSystem": /^(root|usr|home|srv|var|tmp|xbootldr)$/,
  "NoAuto": /^(root|usr)(-verity(-sig)?)?$|^(home|srv|var|tmp|xbootldr|swap)$/,
} as const;

/** Whether the attributes of a type of partition have this flag. */
export function knowsFlag(type: string, flag: keyof typeof KNOWN_FLAGS): boolean {
  return KNOWN_FLAGS[flag].test(identifyType(type)?.role ?? "");
}

/** Whether the definition itself says what is in the filesystem. */
export function hasContents({ copyFiles, makeDirectories, makeSymlinks }: Values): boolean {
  return [copyFiles, makeDirectories, makeSymlinks].some((list) => list?.length);
}

/** Checks what one definition alone tells. */
function checkDefinition(definition: Definition): void {
  const { format, verity = "off", minimize = "off" } = definition;
  const filled = hasContents(definition);
  const refuse = (key: keyof typeof KEYS, problem: string, hint: string) => {
    throw wrong(placeOf(definition, key), problem, hint);
  };
  for (const part of ["Size", "Padding"] as const) {
    const [min = 0, max = Infinity] = part === "Size"
      ? [definition.sizeMin, definition.sizeMax]
      : [definition.paddingMin, definition.paddingMax];
    if (min > max) {
      const keys = [`${part}MinBytes`, `${part}MaxBytes`] as const;
      refuse(keys[1], `${keys[0]}= is larger than ${keys[1]}=`, "Exchange the two, or leave one of them out");
    }
  }
  if (filled && (format === "swap" || format === "empty")) {
    refuse(
      "Format",
      `Format=${format} has no files`,
      "Leave out Format=, or CopyFiles=, MakeDirectories= and MakeSymlinks=",
    );
  }
  if (verity === "hash" || verity === "signature") {
    if (format !== undefined || filled) {
      refuse(
        "Verity",
        `Verity=${verity} has no filesystem`,
        "Leave out Format=, CopyFiles=, MakeDirectories= and MakeSymlinks=",
      );
    }
  }
  if (verity === "signature" && (definition.sizeMin ?? definition.sizeMax) !== undefined) {
    refuse("Verity", "a signature has a size of its own", "Leave out SizeMinBytes= and SizeMaxBytes=");
  }
  if (verity === "data" && format !== undefined && format !== "erofs" && format !== "squashfs") {
    refuse(
      "Verity",
      `Verity=data with Format=${format} would not stay what was hashed: it is written to when it is mounted`,
      "Set Format= to erofs or squashfs",
    );
  }
  if (verity !== "off" && definition.verityMatchKey === undefined) {
    refuse(
      "Verity",
      `Verity=${verity} does not say with which partitions`,
      "Set VerityMatchKey= to the same word in all of them",
    );
  }
  if (verity === "off" && definition.verityMatchKey !== undefined) {
    refuse("VerityMatchKey", "VerityMatchKey= is without Verity=", "Set Verity= to data, hash or signature");
  }
  const isReadOnly = format === "erofs" || format === "squashfs";
  if (minimize === "best" && !isReadOnly && verity !== "hash") {
    refuse(
      "Minimize",
      "Minimize=best is only for read-only filesystems and Verity=hash",
      "Set Minimize= to guess, or Format= to erofs or squashfs",
    );
  }
  if (minimize !== "off" && (format === "swap" || format === "empty")) {
    refuse("Minimize", `Minimize= is not for Format=${format}`, "Set SizeMinBytes= and SizeMaxBytes=");
  }
  if (definition.compression && !isReadOnly) {
    refuse("Compression", `Format=${format ?? ""} has no compression`, "Set Format= to erofs or squashfs");
  }
  if (definition.compressionLevel !== undefined && !definition.compression) {
    refuse("CompressionLevel", "CompressionLevel= is without Compression=", "Set Compression=");
  }
  if (isReadOnly && definition.compression) checkCompression(definition, format);
  for (const flag of ["ReadOnly", "GrowFileSystem", "NoAuto"] as const) {
    const value = {
      ReadOnly: definition.readOnly,
      GrowFileSystem: definition.growFileSystem,
      NoAuto: definition.noAuto,
    };
    // For a slot, it goes without saying.
    if (value[flag] && !knowsFlag(definition.type, flag) && !(flag === "NoAuto" && format === "empty")) {
      refuse(flag, `partitions of this type have no flag for ${flag}=`, "Leave it out, or set Flags=");
    }
  }
}

function checkCompression(definition: Definition, format: "erofs" | "squashfs"): void {
  const { name, level = definition.compressionLevel } = definition.compression!;
  const compressors: Compressors = FILESYSTEMS[format].compressors;
  const found = Object.hasOwn(compressors, name) ? compressors[name] : undefined;
  if (!found) {
    throw wrong(
      placeOf(definition, "Compression"),
      `${format} has no compression ${quote(name)}`,
      `Accepted: ${oneOf(Object.keys(compressors), name)}`,
    );
  }
  const [lowest, highest] = found.levels ?? [0, -1];
  if (level !== undefined && (level < lowest || level > highest)) {
    throw wrong(
      placeOf(definition, "CompressionLevel"),
      `${name} has no level ${level}`,
      found.levels ? `Accepted: ${lowest} to ${highest}` : "Leave CompressionLevel= out",
    );
  }
}
