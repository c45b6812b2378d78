/**
 * Makes dm-verity hashes of a filesystem in a file, and signs the root hash. Everything works on files, without devices.
 *
 * - https://manpages.debian.org/trixie/cryptsetup-bin/veritysetup.8.en.html
 * - The signature, PKCS#7 over the hexadecimal digits, and the JSON of its partition:
 *   https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { writeBeside } from "../image/output.ts";
import type { PartPlan } from "../plan/plan.ts";
import type { Made, Measured } from "../plan/root.ts";
import { reasonOf } from "../system/failure.ts";
import type { VerityPlan } from "../plan/verity.ts";
import { isTooLong, MAX_NAME } from "../system/files.ts";
import * as commands from "./commands.ts";
import type { ImageInProgress } from "./types.ts";

/**
 * Makes the hashes of `data` in files of the directory `scratch`.
 *
 * @throws {BuildError} when a program fails, or cannot read the key or the certificate.
 */
export async function makeVerity(
  data: string,
  { salt, uuid, signer }: VerityPlan,
  scratch: string,
): Promise<NonNullable<Measured["verity"]>> {
  const hashes = join(scratch, "verity");
  const output = await commands.veritysetupFormat(data, hashes, salt, uuid).text();
  const [, rootHash] = /^Root hash:\s*([0-9a-f]{64})$/m.exec(output) ?? [];
  if (!rootHash) throw new BuildError("Cannot find the root hash in the output of veritysetup");
  // Verifying catches a veritysetup that wrote nothing.
  await commands.veritysetupVerify(data, hashes, rootHash);
  const made = { rootHash, hashes: await madeFile(hashes) };
  return signer ? { ...made, ...await signRootHash(rootHash, signer, scratch) } : made;
}

/** The path of the files next to an image of that name, without their suffix. A name that is only a suffix keeps it. */
function pathBeside(directory: string, name: string): string {
  return join(directory, name.replace(/(?<=[^.])\.(raw|img)$/, ""));
}

/** Where the hashes of an image without partitions go: next to the image, unless the plan says otherwise. */
export function verityDirectory(
  { partitions: [{ verity }] }: PartPlan,
  { output }: Pick<ImageInProgress, "output">,
): string {
  return verity?.directory ?? dirname(output.path);
}

/** The files that {@link writeVerity} writes for an image of that name. */
export function verityFiles(directory: string, name: string): string[] {
  return ["verity", "roothash", "roothash.p7s"].map((suffix) => `${pathBeside(directory, name)}.${suffix}`);
}

/**
 * Checks that {@link writeVerity} can name its files after an image of that name, before any is removed.
 *
 * @throws {BuildError} (usage) when one would be too long.
 */
export function checkVerityNames(name: string): void {
  if (!verityFiles("", name).some((path) => isTooLong(basename(path)))) return;
  throw new BuildError(
    `Cannot name the dm-verity hashes after ${quote(name)}: no name has more than ${MAX_NAME} bytes`,
    {
      kind: "usage",
      hint: "Name the output differently, or set OUTPUT_NAME to a shorter name",
    },
  );
}

/** Removes the files that {@link writeVerity} writes: there is no image any more that they belong to. */
export async function removeVerity(directory: string, name: string): Promise<void> {
  for (const path of verityFiles(directory, name)) {
    try {
      await Deno.remove(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/**
 * Writes the hashes next to an image of that name, under the names that systemd looks for: `IMAGE.verity`,
 * `IMAGE.roothash` and `IMAGE.roothash.p7s`, where IMAGE is the name without `.raw`.
 *
 * @throws {BuildError} when the directory is not writable.
 */
export async function writeVerity(
  plan: PartPlan,
  image: Pick<ImageInProgress, "output" | "name">,
): Promise<void> {
  const { hashes: made } = plan;
  if (!made) return;
  const directory = verityDirectory(plan, image);
  const { name } = image;
  const path = pathBeside(directory, name);
  try {
    await writeBeside(`${path}.verity`, (await Deno.open(made.hashes.path)).readable);
    await writeBeside(`${path}.roothash`, `${made.rootHash}\n`);
    if (made.pkcs7) await writeBeside(`${path}.roothash.p7s`, (await Deno.open(made.pkcs7.path)).readable);
  } catch (cause) {
    if (cause instanceof BuildError) throw cause;
    throw new BuildError(`Cannot write the dm-verity hashes to ${quote(directory)}: ${reasonOf(cause)}`, {
      hint: "Set VERITY_DIR to a writable directory; in Raptor, give the job a cache mount",
      cause,
    });
  }
  log.detail(`${path}.verity, ${path}.roothash${made.pkcs7 ? `, ${path}.roothash.p7s` : ""}`);
}

async function madeFile(path: string): Promise<Made> {
  return { path, size: (await Deno.stat(path)).size };
}

async function signRootHash(
  rootHash: string,
  { key, certificate }: NonNullable<VerityPlan["signer"]>,
  scratch: string,
): Promise<{ signature: Made; pkcs7: Made }> {
  const [text, der, json, secret, cert] = [
    ...["roothash", "roothash.p7s", "signature.json", "key.pem", "cert.pem"],
  ].map((name) => join(scratch, name));
  await Deno.writeTextFile(text!, rootHash);
  await Deno.writeTextFile(secret!, key, { mode: 0o600 });
  await Deno.writeTextFile(cert!, certificate);
  await commands.opensslSign(text!, secret!, cert!, der!);
  const signature = await Deno.readFile(der!).catch((cause) => {
    throw new BuildError("openssl did not write a signature", { cause });
  });
  const fingerprint = await commands.opensslFingerprint(cert!).text();
  const [, digits] = /=([0-9A-F:]{95})\s*$/.exec(fingerprint) ?? [];
  if (!digits) throw new BuildError("Cannot find the fingerprint of VERITY_CERT in the output of openssl");
  await Deno.writeTextFile(
    json!,
    JSON.stringify({
      rootHash,
      certificateFingerprint: digits.replaceAll(":", "").toLowerCase(),
      signature: signature.toBase64(),
    }),
  );
  return { signature: await madeFile(json!), pkcs7: await madeFile(der!) };
}
