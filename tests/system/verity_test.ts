/**
 * dm-verity: the hashes are those that the kernel wants, and it refuses what was changed.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { verityUuids } from "../../lib/plan/verity.ts";
import { build, filesystemUuid, runBuilder } from "../lab/builds.ts";
import { useErofs } from "../lab/erofs.ts";
import { bootQemu, dissect, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { addInitrd } from "../lab/initrd.ts";
import { makeKey } from "../lab/keys.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const ignore = unprivileged() ||
  missing("mmdebstrap", "mksquashfs", "mkfs.erofs", "veritysetup", "openssl", "sfdisk", "systemd-dissect");
const QEMU = ["qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd", "cpio", "gzip"];
const SMALL = { EFI_MB: "33", BOOT_MB: "64" };

for (const FILESYSTEM of ["squashfs", "erofs"]) {
  Deno.test(`part-image: VERITY of ${FILESYSTEM} lies beside the image, where systemd-dissect finds it`, {
    ignore,
  }, () =>
    tempDir(async (dir) => {
      await useErofs();
      const tree = await tinyTree({ kernel: false, loader: false });
      const image = `${dir}/part.raw`;
      const keys = await makeKey(dir);
      await build("part-image", tree, image, { FILESYSTEM, VERITY: "signed", ...keys });
      const rootHash = (await Deno.readTextFile(`${dir}/part.roothash`)).trim();
      await quiet`veritysetup verify ${image} ${dir}/part.verity ${rootHash}`;
      const { mounts } = await dissect(image);
      assert.equal(mounts.length, 1);
      assert.equal(mounts[0].verity, "external");
      // The signature is of the digits, without a newline.
      await Deno.writeTextFile(`${dir}/digits`, rootHash);
      await quiet`openssl smime -verify -binary -inform der -in ${dir}/part.roothash.p7s -content ${dir}/digits
        -certfile ${keys.VERITY_CERT} -nointern -noverify -out /dev/null`;
      // The same tree has the same root hash; one bit more has not.
      await build("part-image", tree, `${dir}/again.raw`, { FILESYSTEM, VERITY: "hash", VERITY_DIR: dir });
      assert.equal((await Deno.readTextFile(`${dir}/again.roothash`)).trim(), rootHash);
      await flip(image, 5000);
      await assert.rejects(quiet`veritysetup verify ${image} ${dir}/part.verity ${rootHash}`, /erification/);
    }));
}

Deno.test("VERITY with a name that is too long for the hashes is refused, and the old image is kept", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    const image = `${dir}/${"x".repeat(250)}`;
    await Deno.writeTextFile(image, "old");
    const { code, stderr } = await runBuilder("part-image", {
      args: ["--input", await tinyTree({ kernel: false, loader: false }), "--output", image],
      env: { FILESYSTEM: "squashfs", VERITY: "hash" },
    });
    assert.equal(code, 2, stderr);
    assert.match(stderr, /Cannot name the dm-verity hashes after .*more than 255 bytes/);
    assert.equal(await Deno.readTextFile(image), "old");
  }));

/** Changes one bit. */
async function flip(path: string, offset: number): Promise<void> {
  using file = await Deno.open(path, { read: true, write: true });
  const byte = new Uint8Array(1);
  await file.seek(offset, Deno.SeekMode.Start);
  await file.read(byte);
  byte[0]! ^= 1;
  await file.seek(offset, Deno.SeekMode.Start);
  await file.write(byte);
}

interface Partition {
  readonly start: number;
  readonly size: number;
  readonly uuid: string;
  readonly name: string;
  readonly attrs?: string;
}

async function partitionsOf(image: string): Promise<Map<string, Partition>> {
  const { partitiontable } = JSON.parse(await quiet`sfdisk --json ${image}`);
  return new Map(partitiontable.partitions.map((partition: Partition) => [partition.name, partition]));
}

async function cut(image: string, { start, size }: Partition, to: string): Promise<string> {
  await quiet`dd if=${image} of=${to} bs=512 skip=${start} count=${size} status=none`;
  return to;
}

Deno.test("disk-image: VERITY=signed makes the partitions of the DPS, and a guest verifies its root", {
  ignore: ignore || missing(...QEMU),
}, () =>
  tempDir(async (dir) => {
    const image = `${dir}/disk.raw`;
    const tree = await copyTree(await tinyTree(), `${dir}/tree`);
    await addInitrd(tree);
    const keys = await makeKey(dir);
    await build("disk-image", tree, image, { ...SMALL, FILESYSTEM: "squashfs", VERITY: "signed", ...keys });

    const { mounts } = await dissect(image);
    const seen = mounts.map(({ designator, verity }: Record<string, string>) => `${designator} ${verity}`);
    assert.deepEqual(seen.sort(), [
      "esp null",
      "root signed",
      "root-verity null",
      "root-verity-sig null",
      "xbootldr null",
    ]);
    const partitions = await partitionsOf(image);
    const [root, hashes, signature] = ["root", "root-verity", "root-verity-sig"].map((name) =>
      partitions.get(name)!
    );
    for (const partition of [root, hashes, signature]) assert.equal(partition!.attrs, "GUID:60");
    const text = await Deno.readTextFile(await cut(image, signature!, `${dir}/signature`));
    const { rootHash, certificateFingerprint, signature: base64 } = JSON.parse(text.replace(/\0+$/, ""));
    assert.deepEqual(verityUuids(rootHash), {
      data: root!.uuid.toLowerCase(),
      hashes: hashes!.uuid.toLowerCase(),
    });
    await quiet`veritysetup verify ${await cut(image, root!, `${dir}/root`)} ${await cut(
      image,
      hashes!,
      `${dir}/hashes`,
    )}
      ${rootHash}`;
    const pem = await Deno.readTextFile(keys.VERITY_CERT);
    const der = Uint8Array.fromBase64(pem.replace(/-----[^-]+-----|\s/g, ""));
    assert.equal(certificateFingerprint, createHash("sha256").update(der).digest("hex"));
    await Deno.writeFile(`${dir}/p7s`, Uint8Array.fromBase64(base64));
    await Deno.writeTextFile(`${dir}/digits`, rootHash);
    await quiet`openssl smime -verify -binary -inform der -in ${dir}/p7s -content ${dir}/digits
      -certfile ${keys.VERITY_CERT} -nointern -noverify -out /dev/null`;

    const options = { architecture: "x86-64", format: "raw" } as const;
    const guest = report(await bootQemu(image, options));
    assert.match(guest.get("cmdline")!, new RegExp(`root=/dev/mapper/root ro roothash=${rootHash} console=`));
    assert.match(guest.get("mounts")!, /^\/dev\/mapper\/root \/ squashfs ro/m);
    assert.match(guest.get("mounts")!, / \/boot vfat rw/m);
    assert.equal(guest.get("writable"), "no");

    await flip(image, root!.start * 512 + 5);
    await assert.rejects(
      bootQemu(image, { ...options }),
      /verity: .*corrupted|INITRD: cannot mount/,
    );
  }));

Deno.test("disk-image: a root of erofs is mounted read-only, by its UUID", {
  ignore: ignore || missing(...QEMU),
}, () =>
  tempDir(async (dir) => {
    await useErofs();
    const image = `${dir}/disk.raw`;
    const tree = await copyTree(await tinyTree(), `${dir}/tree`);
    await addInitrd(tree);
    await build("disk-image", tree, image, { ...SMALL, FILESYSTEM: "erofs", SIZE_MB: "120", VERIFY: "full" });
    const root = (await partitionsOf(image)).get("root")!;
    assert.equal(root.attrs, "GUID:60");
    assert.equal((await Deno.stat(image)).size, 120 * 2 ** 20);
    const guest = report(await bootQemu(image, { architecture: "x86-64", format: "raw" }));
    assert.match(
      guest.get("cmdline")!,
      new RegExp(`root=UUID=${await filesystemUuid(image, root)} ro rootfstype=erofs console=`),
    );
    assert.match(guest.get("mounts")!, /^\S+ \/ erofs ro/m);
    assert.equal(guest.get("writable"), "no");
  }));
