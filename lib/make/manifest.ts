/**
 * What a build was, for pipelines that compare and attest: an in-toto statement with SLSA provenance
 * (`MANIFEST`), and the packages in the image (`SBOM`).
 *
 * Nothing in it depends on when and where the image was built: the same build gives the same files.
 *
 * - https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
 * - https://slsa.dev/spec/v1.0/provenance
 *
 * @module
 */

import { createHash } from "node:crypto";
import config from "../../deno.json" with { type: "json" };
import type { Description } from "../plan/describe.ts";
import { BuildError, quote } from "../core/error.ts";
import { imageSize, readPieces } from "../image/image.ts";
import * as log from "../core/log.ts";
import { findInstalled, spdxDocument } from "./sbom.ts";
import { SETTINGS, type Settings } from "../plan/settings.ts";
import type { OpenTree } from "../tree/inspect.ts";

const NAME = "raptor-builders";

/** The SHA-256 of `length` bytes at `offset` in an image, in hex; by default of all of it. */
export async function hashImage(
  path: string,
  offset = 0,
  length = imageSize(path) - offset,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of readPieces(path, offset, length)) hash.update(piece);
  return hash.digest("hex");
}

/** The files that are asked for beside the image. */
export type SideFiles = Pick<Settings, "manifest" | "sbom">;

/**
 * Empties the files, so that none describes another image than the one that is made now.
 *
 * @throws {BuildError} (usage) when one cannot be written.
 */
export async function clearSideFiles(files: SideFiles): Promise<void> {
  for (const name of ["manifest", "sbom"] as const) {
    const path = files[name];
    if (path === undefined) continue;
    try {
      await Deno.writeFile(path, new Uint8Array());
    } catch (cause) {
      throw new BuildError(`Cannot write ${SETTINGS[name].env}=${quote(path)}: ${(cause as Error).message}`, {
        kind: "usage",
        hint: "Name a file in a directory that can be written",
        cause,
      });
    }
  }
}

/** A finished build. */
export interface Build {
  readonly settings: Settings;
  readonly description: Description;
  readonly tree: OpenTree;
  /** The finished image. */
  readonly output: string;
  /** The file name that it will have. */
  readonly name: string;
  /** The raw image that it was made from: itself, unless it was converted. */
  readonly raw: string;
  /** Versions of the programs. */
  readonly versions: ReadonlyMap<string, string>;
}

/** Writes the files that are asked for. */
export async function writeSideFiles(build: Build): Promise<void> {
  const { settings: { manifest, sbom }, description, tree, output, name } = build;
  if (manifest === undefined && sbom === undefined) return;
  log.step("Writing what the image is made of");
  const sha256 = await hashImage(output);
  if (manifest !== undefined) await writeJson(manifest, await statement(build, sha256));
  if (sbom === undefined) return;
  const { packages, warnings } = findInstalled(tree);
  warnings.forEach((warning) => log.warn(warning));
  const image = { name, sha256 };
  const origin = { time: description.sourceDateEpoch, creator: `${NAME}-${config.version}` };
  await writeJson(sbom, spdxDocument(tree, packages, image, origin));
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Settings that say where files go and what they are called, not what is in them. */
const PLACES: readonly string[] = ["OUTPUT_NAME", "MANIFEST", "SBOM", "VERITY_DIR"];

/** The settings that decide on the image, by their variables: without keys, and without where files go. */
export function parametersOf(settings: Settings): Record<string, unknown> {
  const parameters: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(settings)) {
    const { env } = SETTINGS[name as keyof typeof SETTINGS];
    const isSecret = env.endsWith("_KEY") || String(value).includes("PRIVATE KEY");
    if (value === undefined || isSecret || PLACES.includes(env)) continue;
    parameters[env] = value;
  }
  return parameters;
}

async function statement({ settings, description, output, name, raw, versions }: Build, sha256: string) {
  const partitions = "partitions" in description ? description.partitions : [];
  const subject: Record<string, unknown>[] = [
    { name, digest: { sha256 }, annotations: { format: description.format, size: imageSize(output) } },
  ];
  for (const { label, offset, size, uuid, filesystem, filesystemUuid } of partitions) {
    subject.push({
      name: `${name}#${label}`,
      digest: { sha256: await hashImage(raw, offset, size) },
      annotations: { offset, size, uuid, filesystem, filesystemUuid },
    });
  }
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject,
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: `urn:${NAME}:${description.builder}:1`,
        externalParameters: parametersOf(settings),
        internalParameters: description,
      },
      runDetails: {
        builder: {
          id: `urn:${NAME}`,
          version: { [NAME]: config.version, deno: Deno.version.deno, ...Object.fromEntries(versions) },
        },
      },
    },
  };
}
