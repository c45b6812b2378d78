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
import { readSigner } from "../efi/authenticode.ts";
import { select } from "../filesystem/contents.ts";
import { FILESYSTEMS } from "../filesystem/filesystems.ts";
import { buildNodes } from "../tree/builder.ts";
import type { Made, Volume } from "./root.ts";
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

/** Whether hashes are made, and signed. */
interface VerityRequest {
  readonly isSigned: boolean;
  /** What the salt is derived from, besides the seed: the name of the partition, and a slash; empty for the root. */
  readonly prefix?: string;
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
  return planHashing({ verityKey, verityCert, verityDirectory }, seed, { isSigned: verity === "signed" });
}

/**
 * The hashes of one filesystem.
 *
 * @throws {BuildError} (usage) when they are to be signed, and there is no key, or none that can sign: openssl would say so
 * only once the old image is gone.
 */
export function planHashing(
  { verityKey, verityCert, verityDirectory }: Pick<Settings, "verityKey" | "verityCert" | "verityDirectory">,
  seed: string,
  { isSigned, prefix = "" }: VerityRequest,
): VerityPlan {
  const common = {
    salt: deriveSalt(seed, `${prefix}verity/salt`),
    uuid: deriveUuid(seed, `${prefix}verity/superblock`),
    ...verityDirectory !== undefined && { directory: verityDirectory },
  };
  if (!isSigned) return common;
  if (verityKey === undefined || verityCert === undefined) {
    throw new BuildError("Cannot sign the root hash without a key and its certificate", {
      kind: "usage",
      hint: "Set VERITY_KEY and VERITY_CERT to their files, in PEM",
    });
  }
  readSigner(verityKey, verityCert, "VERITY_KEY and VERITY_CERT");
  return { ...common, signer: { key: verityKey, certificate: verityCert } };
}

/**
 * Refuses settings about hashes that the image does not have: whoever sets a key believes the image to be signed.
 *
 * @param planned all hashes of the image.
 * @throws {BuildError} (usage) naming the first such setting.
 */
export function requireVerity(
  { verityKey, verityCert, verityDirectory, layout }: Settings,
  planned: readonly VerityPlan[],
): void {
  const refuse = (env: string, reason: string, way: string) =>
    new BuildError(`Cannot use ${env}: ${reason}`, { kind: "usage", hint: `Leave ${env} out, or ${way}` });
  const given = { VERITY_KEY: verityKey, VERITY_CERT: verityCert };
  if (!planned.some(({ signer }) => signer)) {
    for (const [env, value] of Object.entries(given)) {
      if (value === undefined) continue;
      throw refuse(
        env,
        "no root hash is signed",
        layout === undefined ? "set VERITY to signed" : "define a partition with Verity=signature",
      );
    }
  }
  if (verityDirectory !== undefined && planned.length === 0) {
    throw refuse("VERITY_DIR", "there are no hashes to write", "set VERITY to hash or signed");
  }
}

/** The PARTUUIDs that tie the partitions to a root hash: its first and its last 128 bits. */
export function verityUuids(rootHash: string): { readonly data: string; readonly hashes: string } {
  return { data: formatUuid(rootHash.slice(0, 32)), hashes: formatUuid(rootHash.slice(-32)) };
}

/** A partition whose contents are a file, byte for byte; before the file is made, its size is unknown. */
export function madeVolume(
  type: "verity" | "signature",
  uuid: string,
  made: Made | undefined,
  size: number = alignUp(Math.max(1, made?.size ?? 0), MiB),
): Volume {
  return {
    ...NOTHING,
    filesystem: {
      type,
      size,
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

const NO_CONTENTS = { omit: [], add: [] };

/** What is in a partition without files of the tree. */
export const NOTHING = { contents: NO_CONTENTS, selection: select(buildNodes([]), NO_CONTENTS) };
