/**
 * Makes container images: one archive that is an OCI image layout, and has what `docker load` reads.
 *
 * The layer comes first, and is written straight into its place: its name, a hash, is filled in when it is known.
 *
 * - https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 * - manifest.json: https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format
 *
 * @module
 */

import { node } from "../core/node.ts";
import { TAR_BLOCK } from "../filesystem/pax-header.ts";
import { ARCHIVE_END, memberHeader } from "../filesystem/tar-member.ts";
import type { OciPlan } from "../filesystem/types.ts";
import { openImageFile } from "../image/image.ts";
import type { Target } from "../image/target.ts";
import { type Image, writeAt } from "../image/writer.ts";
import type { Root } from "../tree/root.ts";
import { compareArchive, memberPieces, requireMembers, writeArchive } from "./tar.ts";
import type { MakeContext } from "./types.ts";

const LAYER = "application/vnd.oci.image.layer.v1.tar";
const CONFIG = "application/vnd.oci.image.config.v1+json";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";

const BLOBS = "blobs/sha256/";

/** The members: layer, configuration, manifest, `index.json`, `oci-layout` and `manifest.json`. */
const MEMBERS = 6;

const encoder = new TextEncoder();

/** Where the layer is, in bytes. */
const LAYER_OFFSET = TAR_BLOCK;

/** Writes a container image to an empty file. @throws {BuildError} as for any archive. */
export async function makeOci({ path }: Target, plan: OciPlan, context: MakeContext): Promise<void> {
  using file = openImageFile(path);
  const { pax, image } = plan;
  const { time } = pax;
  const hash = node.crypto.createHash("sha256");
  const size = await writeArchive(file, LAYER_OFFSET, plan, context, (bytes) => hash.update(bytes));
  const layer = { mediaType: LAYER, digest: `sha256:${hash.digest("hex")}`, size };
  writeAt(file, memberHeader({ name: blobName(layer.digest), size, time }), 0);
  let position = LAYER_OFFSET + size;
  const { tag, architecture, created, config } = image;
  const add = (name: string, value: unknown) => {
    for (const bytes of memberPieces([{ name, text: JSON.stringify(value) }], time)) {
      position = append(file, position, bytes);
    }
  };
  const blob = (mediaType: string, value: unknown) => {
    const text = JSON.stringify(value);
    const digest = `sha256:${node.crypto.createHash("sha256").update(text).digest("hex")}`;
    add(blobName(digest), value);
    return { mediaType, digest, size: encoder.encode(text).length };
  };
  const configuration = blob(CONFIG, {
    created,
    architecture,
    os: "linux",
    config,
    rootfs: { type: "layers", diff_ids: [layer.digest] },
    history: [{ created, created_by: "raptor-builders part-image" }],
  });
  const manifest = blob(MANIFEST, {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: configuration,
    layers: [layer],
  });
  add("index.json", {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: [{
      ...manifest,
      annotations: { "io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag },
      platform: { architecture, os: "linux" },
    }],
  });
  add("oci-layout", { imageLayoutVersion: "1.0.0" });
  add("manifest.json", [{
    Config: blobName(configuration.digest),
    RepoTags: [tag],
    Layers: [blobName(layer.digest)],
  }]);
  append(file, position, ARCHIVE_END);
}

/** @returns the position after the bytes. */
function append(file: Image, position: number, bytes: Uint8Array<ArrayBuffer>): number {
  writeAt(file, bytes, position);
  return position + bytes.length;
}

function blobName(digest: string): string {
  return BLOBS + digest.slice("sha256:".length);
}

/** Compares the layer with the tree, byte by byte, and reads the image with GNU tar. @throws {BuildError} */
export async function compareOci({ path }: Target, plan: OciPlan, root: Root): Promise<void> {
  await compareArchive(path, LAYER_OFFSET, plan, root);
  await requireMembers(path, MEMBERS);
}
