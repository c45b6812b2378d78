/**
 * Decides on dm-verity: hashes of a read-only root filesystem, against which the kernel checks everything it reads.
 *
 * - https://docs.kernel.org/admin-guide/device-mapper/verity.html
 * - The UUIDs and the signature partition: https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { deriveSalt, deriveUuid, formatUuid } from "../core/identity.ts";
import { alignUp, MiB } from "../core/units.ts";
import { select } from "../filesystem/contents.ts";
import { FILESYSTEMS } from "../filesystem/filesystems.ts";
import { buildNodes } from "../tree/builder.ts";
import type { Made, Measured, Volume } from "./root.ts";
import type { Settings } from "./settings.ts";

/** The parameters of the hashes. */
export interface VerityPlan {
  /** 32 bytes in hexadecimal digits. */
  readonly salt: string;
  /** The UUID in the superblock of the hashes. */
  readonly uuid: string;
  /** Directory for the hashes of an image without partitions; absent: beside the image. */
  readonly directory?: string;
  /** The private key and the certificate that sign the root hash, in PEM. */
  readonly signer?: { readonly key: string; readonly certificate: string };
}

/** @throws {BuildError} (usage) when the settings contradict each other. */
export function planVerity(
  { verity, verityKey, verityCert, verityDirectory, filesystem }: Settings,
  seed: string,
): VerityPlan | undefined {
  if (verity === "none") return undefined;
  if (!FILESYSTEMS[filesystem].readOnly) {
    throw new BuildError(`Cannot use VERITY=${verity} with FILESYSTEM=${filesystem}`, {
      kind: "usage",
      hint: "What is written to would not be what was hashed: set FILESYSTEM to squashfs or erofs",
    });
  }
  const common = {
    salt: deriveSalt(seed, "verity/salt"),
    uuid: deriveUuid(seed, "verity/superblock"),
    ...verityDirectory !== undefined && { directory: verityDirectory },
  };
  if (verity === "hash") return common;
  if (verityKey === undefined || verityCert === undefined) {
    throw new BuildError("Cannot sign the root hash: VERITY=signed needs a key and its certificate", {
      kind: "usage",
      hint: "Set VERITY_KEY and VERITY_CERT to their files, in PEM",
    });
  }
  return { ...common, signer: { key: verityKey, certificate: verityCert } };
}

/** The PARTUUIDs that tie the partitions to a root hash: its first and its last 128 bits. */
export function verityUuids(rootHash: string): { readonly root: string; readonly "root-verity": string } {
  return { root: formatUuid(rootHash.slice(0, 32)), "root-verity": formatUuid(rootHash.slice(-32)) };
}

type HashRole = "root-verity" | "root-verity-sig";

/** The partitions of the hashes and of their signature. Their sizes are unknown until the root is made. */
export function planHashes(
  verity: VerityPlan | undefined,
  measured: Measured | undefined,
): { role: HashRole; volume: Volume }[] {
  if (!verity) return [];
  const { hashes, signature } = measured?.verity ?? {};
  return [
    { role: "root-verity", volume: madeVolume("verity", verity.uuid, hashes) },
    ...verity.signer
      ? [{ role: "root-verity-sig", volume: madeVolume("signature", "", signature) } as const]
      : [],
  ];
}

/** A partition whose contents are a file, byte for byte. */
function madeVolume(type: "verity" | "signature", uuid: string, made: Made | undefined): Volume {
  const contents = { omit: [], add: [] };
  return {
    contents,
    selection: select(buildNodes([]), contents),
    filesystem: {
      type,
      size: alignUp(Math.max(1, made?.size ?? 0), MiB),
      ...made && { made: made.path },
      label: "",
      uuid,
      entries: 0,
      bytes: made?.size ?? 0,
      findings: [],
      writer: null,
    },
  };
}
