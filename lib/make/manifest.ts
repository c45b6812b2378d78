/**
 * Metadata about the build, for pipelines that compare and attest: an in-toto statement with SLSA provenance
 * (`MANIFEST`), and the packages in the image (`SBOM`).
 *
 * Nothing in them depends on when and where the image was built: the same build gives the same files.
 *
 * - https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
 * - https://slsa.dev/spec/v1.0/provenance
 *
 * @module
 */

import { basename } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { BuildError, quote } from "../core/error.ts";
import * as log from "../core/log.ts";
import { FILE_TYPES } from "../core/mode.ts";
import { blockMap } from "../image/bmap.ts";
import { hashImage } from "../image/hash.ts";
import { imageSize } from "../image/image.ts";
import { OUTPUT_MODE, writeBeside } from "../image/output.ts";
import { ARCHIVE_END } from "../filesystem/tar-member.ts";
import { plainPlan } from "../plan/describe.ts";
import { incusFiles } from "../plan/incus.ts";
import type { Plan } from "../plan/plan.ts";
import { parametersOf } from "../plan/read-settings.ts";
import { SETTINGS, type Settings } from "../plan/settings.ts";
import { reasonOf } from "../system/failure.ts";
import { inspectFile } from "../system/files.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { findInstalled, spdxDocument } from "./sbom.ts";
import { memberPieces } from "./tar.ts";
import type { ImageInProgress } from "./types.ts";

const NAME = "raptor-builders";

/** The paths of the requested side files. */
type SideFiles = Pick<Settings, "manifest" | "sbom" | "bmap" | "incusMetadata">;

/** Settings that name a file to write beside the image. */
export const SIDE_FILES = ["manifest", "sbom", "bmap", "incusMetadata"] as const;

/**
 * Checks that the files can be written, without changing any.
 *
 * @throws {BuildError} (usage) when one is not writable.
 */
export function checkSideFiles(files: SideFiles): void {
  for (const name of SIDE_FILES) {
    const path = files[name];
    if (path === undefined) continue;
    const type = inspectFile(path)?.type;
    const refuse = (reason: string, cause?: unknown) =>
      new BuildError(`Cannot write ${SETTINGS[name].env}=${quote(path)}: ${reason}`, {
        kind: "usage",
        hint: "Name a file in a writable directory",
        cause,
      });
    // A FIFO would be waited for.
    if (type !== undefined && type !== FILE_TYPES.file) throw refuse("it is no regular file");
    const options = { createNew: type === undefined, write: true, mode: OUTPUT_MODE };
    try {
      Deno.openSync(path, options).close();
      if (options.createNew) Deno.removeSync(path);
    } catch (cause) {
      throw refuse(reasonOf(cause), cause);
    }
  }
}

/** Empties the files that are there, so that none describes another image than the one that is made now. */
export async function clearSideFiles(files: SideFiles): Promise<void> {
  for (const name of SIDE_FILES) {
    const path = files[name];
    if (path !== undefined && inspectFile(path)) await Deno.truncate(path);
  }
}

/** Writes the files that are asked for. */
export async function writeSideFiles(plan: Plan, tree: OpenTree, image: ImageInProgress): Promise<void> {
  const { manifest, sbom, bmap, incusMetadata } = plan.settings;
  if (SIDE_FILES.every((name) => plan.settings[name] === undefined)) return;
  log.step("Writing the metadata of the image");
  if (bmap !== undefined) await writeBeside(bmap, await blockMap(image.raw));
  if (incusMetadata !== undefined) {
    const files = incusFiles({ tree, time: plan.time }, plan.builder === "disk-image");
    await writeBeside(incusMetadata, new Blob([...memberPieces(files, plan.time), ARCHIVE_END]).stream());
  }
  if (manifest !== undefined) await writeJson(manifest, await statement(plan, image));
  if (sbom === undefined) return;
  const sha256 = await image.sha256();
  const { packages, warnings } = findInstalled(tree);
  warnings.forEach((warning) => log.warn(warning));
  const origin = { time: plan.time, creator: `${NAME}-${config.version}` };
  await writeJson(sbom, spdxDocument(tree, packages, { name: image.name, sha256 }, origin));
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeBeside(path, `${JSON.stringify(value, null, 2)}\n`);
}

async function statement(plan: Plan, image: ImageInProgress) {
  const { output, name, raw, versions, split } = image;
  const { format, settings: { bmap, incusMetadata } } = plan;
  const subject = async (name: string, sum: Promise<string>, annotations?: Record<string, unknown>) => ({
    name,
    digest: { sha256: await sum },
    ...annotations && { annotations },
  });
  const partitions = plan.builder === "disk-image" ? plan.partitions : [];
  const files = [bmap, incusMetadata].filter((path) => path !== undefined);
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject: await Promise.all([
      subject(name, image.sha256(), { format, size: imageSize(output.path) }),
      ...partitions.map(({ name: part, offset, size, uuid, filesystem: { type, uuid: filesystemUuid } }) =>
        subject(`${name}#${part}`, hashImage(raw, offset, size), {
          ...{ offset, size, uuid, filesystem: type, filesystemUuid },
        })
      ),
      ...files.map((path) => subject(basename(path), hashImage(path))),
      ...[...split?.sums ?? []].map(([name, sum]) => subject(name, Promise.resolve(sum))),
    ]),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: `urn:${NAME}:${plan.builder}:1`,
        externalParameters: parametersOf(plan.settings),
        internalParameters: plainPlan(plan),
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
