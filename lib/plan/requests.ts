/**
 * A disk is a list of partitions. This is what is known of each before its contents and its size are planned, and the list
 * that disks have without `LAYOUT`.
 *
 * @module
 */

import {
  type ArchitectureName,
  GPT_ATTRIBUTES,
  type PartitionRole,
  partitionType,
  typeName,
} from "../core/dps.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import type { Definition } from "./repart/definitions.ts";
import { MOUNT_POINTS } from "./repart/keys.ts";
import type { Settings } from "./settings.ts";

/** What is in a partition. */
export type PartitionContent =
  | {
    readonly type: "filesystem";
    /** Absent: what the boot loader needs. */
    readonly format?: FilesystemName;
    readonly label: string;
    /** Without one, it holds what belongs at its mount point. */
    readonly definition?: Definition;
  }
  | { readonly type: "swap"; readonly label: string }
  /** The hashes or the signature of a partition of that name. */
  | { readonly type: "hash" | "signature"; readonly of: string }
  /** GRUB for BIOS. */
  | { readonly type: "grub" }
  | { readonly type: "empty" };

/** A partition that is to be planned. */
export interface PartitionRequest {
  /** Unique on the disk: what its UUIDs are derived from, and how messages call it. */
  readonly name: string;
  readonly role: PartitionRole | undefined;
  /** Type GUID. */
  readonly type: string;
  /** As systemd names the type, or the GUID. */
  readonly typeName: string;
  readonly label: string;
  /** The PARTUUID, where it is given. */
  readonly uuid?: string;
  readonly attributes: readonly number[];
  /** Where it is mounted; empty if nowhere. */
  readonly mountPoint: string;
  /** Mount options that `MountPoint=` adds. */
  readonly mountOptions?: readonly string[];
  readonly content: PartitionContent;
  /** Whether its dm-verity hashes are made. */
  readonly isVerified?: boolean;
  /** The file of its own that it would be, if the image were split; `-`: none. */
  readonly splitName?: string;
  /** What it was made from. */
  readonly definition?: Definition;
}

/** The filesystem labels of ESP and XBOOTLDR. */
const BOOT_LABELS = { "esp": "ESP", "xbootldr": "BOOT" } as const;

/** The layout without `LAYOUT`: ESP, XBOOTLDR and root, which is last so that it can grow. */
export function builtInLayout(settings: Settings, architecture: ArchitectureName): PartitionRequest[] {
  const { filesystem, firmware, verity } = settings;
  const { readOnly } = FILESYSTEMS[filesystem];
  const request = (
    role: PartitionRole,
    content: PartitionContent,
    more: Partial<PartitionRequest> = {},
  ): PartitionRequest => ({
    name: role,
    role,
    type: partitionType(role, architecture),
    typeName: typeName(role, architecture),
    label: role,
    attributes: [],
    mountPoint: "",
    content,
    ...more,
  });
  const boot = (role: keyof typeof BOOT_LABELS, mountPoint: string, format: { format?: FilesystemName }) =>
    request(role, { type: "filesystem", ...format, label: BOOT_LABELS[role] }, { mountPoint });
  const fixed = { attributes: [GPT_ATTRIBUTES.readOnly] };
  return [
    ...firmware === "uefi" ? [] : [request("bios", { type: "grub" }, { label: "bios" })],
    boot("esp", "/boot/efi", { format: "vfat" }),
    boot("xbootldr", "/boot", {}),
    ...verity === "none" ? [] : [request("root-verity", { type: "hash", of: "root" }, fixed)],
    ...verity === "signed" ? [request("root-verity-sig", { type: "signature", of: "root" }, fixed)] : [],
    request("root", { type: "filesystem", format: filesystem, label: "" }, {
      mountPoint: "/",
      ...readOnly ? fixed : { attributes: [GPT_ATTRIBUTES.growfs] },
      isVerified: verity !== "none",
    }),
  ];
}

/** Whether it is a filesystem that nothing can be written to. */
export function isReadOnly(content: PartitionContent): boolean {
  return content.type === "filesystem" && content.format !== undefined &&
    FILESYSTEMS[content.format].readOnly;
}

/** The path that the contents of a filesystem have in the system; empty if unknown. */
export function systemPath({ mountPoint, role }: PartitionRequest): string {
  // Another partition of the same type, such as a second root, is for the same place.
  return mountPoint || (role && MOUNT_POINTS[role]) || "";
}

/** Whether a filesystem is mounted somewhere. */
export function isMounted({ content, mountPoint }: PartitionRequest): boolean {
  return content.type === "filesystem" && mountPoint !== "";
}

/** Whether it holds what the tree has at its mount point. */
export function isFromTree(request: PartitionRequest): boolean {
  return isMounted(request) && request.content.type === "filesystem" &&
    request.content.definition === undefined;
}

/** Whether it holds all of what the tree has at its mount point, and so what the system needs there. */
export function isWhole(request: PartitionRequest): boolean {
  const { mountPoint, content } = request;
  if (isFromTree(request)) return true;
  const [first] = content.type === "filesystem" ? content.definition?.copyFiles ?? [] : [];
  return isMounted(request) && first?.path === "/" && first.from === mountPoint;
}
