/**
 * What a build says of itself: manifest and list of packages, held to other programs.
 *
 * @module
 */

import assert from "node:assert/strict";
import { build, runBuilder } from "../lab/builds.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { copyTree, debianTree, tinyTree } from "../lab/trees.ts";

const ignore = missing("sfdisk", "mke2fs", "mkfs.vfat", "qemu-img", "mmdebstrap") || unprivileged();

const SMALL = { EFI_MB: "33", BOOT_MB: "48", FREE_MB: "8" };

const read = async (path: string) => JSON.parse(await Deno.readTextFile(path));

for (const format of ["raw", "qcow2"]) {
  Deno.test(`MANIFEST has the checksums of a ${format} image and its partitions, the plan and the tools`, {
    ignore,
  }, () =>
    tempDir(async (dir) => {
      const [image, manifest] = [`${dir}/disk.${format}`, `${dir}/manifest.json`];
      const env = { ...SMALL, OUTPUT_FORMAT: format };
      await build("disk-image", await tinyTree(), image, { ...env, MANIFEST: manifest });
      const { _type, subject, predicateType, predicate } = await read(manifest);
      assert.equal(_type, "https://in-toto.io/Statement/v1");
      assert.equal(predicateType, "https://slsa.dev/provenance/v1");
      assert.deepEqual(subject[0].digest, { sha256: await sha256(image) });

      const raw = `${dir}/raw`;
      await quiet`qemu-img convert -f ${format} -O raw ${image} ${raw}`;
      const { partitions } = JSON.parse(await quiet`sfdisk --json ${raw}`).partitiontable;
      assert.equal(subject.length, partitions.length + 1);
      for (const [i, { start, size, uuid, name }] of partitions.entries()) {
        const { name: subjectName, digest, annotations } = subject[i + 1];
        assert.equal(subjectName, `disk.${format}#${name}`);
        assert.equal(annotations.uuid, uuid.toLowerCase());
        assert.equal(annotations.offset, start * 512);
        await quiet`dd if=${raw} of=${dir}/part bs=512 skip=${start} count=${size} conv=sparse status=none`;
        assert.deepEqual(digest, { sha256: await sha256(`${dir}/part`) });
      }

      const { buildDefinition, runDetails } = predicate;
      assert.equal(buildDefinition.externalParameters.EFI_MB, 33);
      assert.equal(buildDefinition.internalParameters.partitions.length, 3);
      assert.match(runDetails.builder.version.mke2fs, /^\d+\.\d+/);

      // Made again elsewhere it is the same, apart from nothing at all.
      await Deno.mkdir(`${dir}/again`);
      await build("disk-image", await tinyTree(), `${dir}/again/disk.${format}`, {
        ...env,
        MANIFEST: `${dir}/again/manifest.json`,
      });
      assert.equal(
        await Deno.readTextFile(`${dir}/again/manifest.json`),
        await Deno.readTextFile(manifest),
      );
    }));
}

Deno.test("MANIFEST says the same wherever a read-only root and its parts are made", {
  ignore: ignore || missing("mksquashfs", "veritysetup"),
}, () =>
  tempDir(async (dir) => {
    const texts: string[] = [];
    for (const place of ["a", "b"]) {
      await Deno.mkdir(`${dir}/${place}/parts`, { recursive: true });
      await build("disk-image", await tinyTree(), `${dir}/${place}/disk.img`, {
        ...SMALL,
        ...{ FILESYSTEM: "squashfs", VERITY: "hash" },
        ...{ SPLIT_DIR: `${dir}/${place}/parts`, BMAP: `${dir}/${place}/disk.bmap` },
        MANIFEST: `${dir}/${place}/manifest.json`,
      });
      texts.push(await Deno.readTextFile(`${dir}/${place}/manifest.json`));
    }
    assert.equal(texts[0], texts[1]);
  }));

Deno.test("SBOM lists the packages that dpkg-query lists, as an SPDX document", {
  ignore: ignore || missing("dpkg-query"),
}, () =>
  tempDir(async (dir) => {
    const tree = await debianTree({ suite: "trixie" });
    await build("part-image", tree, `${dir}/part.img`, { SBOM: `${dir}/sbom.json` });
    const sbom = await read(`${dir}/sbom.json`);
    const listed = await quiet`dpkg-query --admindir=${tree}/var/lib/dpkg --show
      --showformat=${"${binary:Package}\\t${Version}\\t${Architecture}\\n"}`;
    const wanted = listed.trim().split("\n").map((line) => line.split("\t") as [string, string, string])
      .map(([name, version, arch]) => [
        name.split(":")[0],
        version,
        `pkg:deb/debian/${encodeURIComponent(name.split(":")[0]!)}@${encodeURIComponent(version)}` +
        `?arch=${arch}&distro=debian-13`,
      ]);
    const [image, ...packages] = sbom.packages;
    const found = packages.map((
      one: { name: string; versionInfo: string; externalRefs: { referenceLocator: string }[] },
    ) => [one.name, one.versionInfo, one.externalRefs[0]!.referenceLocator]);
    assert.deepEqual(found.sort(), wanted.sort());
    assert.equal(sbom.spdxVersion, "SPDX-2.3");
    assert.equal(image.checksums[0].checksumValue, await sha256(`${dir}/part.img`));
    const ids = new Set(sbom.packages.map(({ SPDXID }: { SPDXID: string }) => SPDXID));
    assert.equal(ids.size, sbom.packages.length);
    assert(
      sbom.relationships.every((one: { relatedSpdxElement: string }) => ids.has(one.relatedSpdxElement)),
    );
  }));

Deno.test("MANIFEST and SBOM of a build that fails are empty, and a wrong place is refused first", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    const tree = await copyTree(await tinyTree(), `${dir}/tree`);
    const [output, manifest] = [`${dir}/image`, `${dir}/manifest.json`];
    await Deno.writeTextFile(output, "an older image");
    const run = (env: Record<string, string>) =>
      runBuilder("part-image", { args: ["--input", tree, "--output", output], env });
    const refused = await run({ MANIFEST: `${dir}/none/manifest.json` });
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /^\[E\] Cannot write MANIFEST=/m);
    assert.equal(await Deno.readTextFile(output), "an older image");

    await Deno.writeTextFile(manifest, "of an older image");
    await Deno.mkdir(`${dir}/stubs`);
    await Deno.writeTextFile(
      `${dir}/stubs/mke2fs`,
      '#!/bin/sh\n[ "$1" = -V ] && echo 1.47.0 >&2 || exit 3\n',
    );
    await Deno.chmod(`${dir}/stubs/mke2fs`, 0o755);
    const failed = await run({ MANIFEST: manifest, PATH: `${dir}/stubs:${Deno.env.get("PATH")}` });
    assert.equal(failed.code, 1, failed.stderr);
    assert.equal((await Deno.stat(manifest)).size, 0);
  }));
