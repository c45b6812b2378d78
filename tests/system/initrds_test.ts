/**
 * Initrds: what is in those that real programs make.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readInitrd } from "../../lib/tree/initrd.ts";
import { build } from "../lab/builds.ts";
import { bootQemu } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { debianTree } from "../lab/trees.ts";

const PACK = 'cd "$0" && find . | cpio --quiet --create --format=newc >"$1"';

Deno.test("readInitrd() finds the files of archives that cpio makes and gzip and zstd compress", {
  ignore: missing("cpio", "gzip", "zstd", "xz"),
}, () =>
  tempDir(async (dir) => {
    for (
      const [name, paths] of [["early", ["kernel/x86/microcode/x.bin"]], ["main", [
        "init",
        "usr/ß",
        "l",
      ]]] as const
    ) {
      await Deno.mkdir(`${dir}/${name}`);
      for (const path of paths) {
        await quiet`install -D -m 644 /dev/null ${dir}/${name}/${path}`;
        await Deno.writeTextFile(`${dir}/${name}/${path}`, path);
      }
      await quiet`sh -euc ${PACK} ${dir}/${name} ${dir}/${name}.cpio`;
    }
    const [early, main] = await Promise.all(
      ["early", "main"].map((name) => Deno.readFile(`${dir}/${name}.cpio`)),
    );
    const listed = async (name: string) =>
      (await quiet`sh -euc ${'cpio --quiet --list <"$0"'} ${dir}/${name}.cpio`).split("\n");
    const latin = (path: string) => String.fromCharCode(...new TextEncoder().encode(path));
    const inEarly = (await listed("early")).filter((path) => path && path !== ".");
    const inMain = ["init", "l", latin("usr/ß"), "usr"];
    const found = (bytes: Uint8Array) => readInitrd(bytes)?.filter((path) => path !== ".").sort();
    assert.deepEqual(found(main!), inMain.sort());
    assert.deepEqual(found(early!), inEarly.sort());
    for (const [program, readable] of [["gzip", true], ["zstd", true], ["xz", false]] as const) {
      await quiet`sh -euc ${`${program} -c <"$0" >"$1"`} ${dir}/main.cpio ${dir}/packed`;
      const packed = await Deno.readFile(`${dir}/packed`);
      const both = readable ? [...inEarly, ...inMain].sort() : undefined;
      assert.deepEqual(found(new Uint8Array([...early!, ...packed])), both, program);
      // Cut off, it is not taken for one that has less.
      assert.equal(found(packed.subarray(0, packed.length - 20)), undefined, program);
    }
    assert.equal(found(main!.subarray(0, 200)), undefined);
    assert.equal(found(new TextEncoder().encode("no initrd")), undefined);
  }));

Deno.test(
  "disk-image: an initrd without squashfs and dm-verity is reported, one of dracut with them is not",
  {
    ignore: unprivileged() || missing(
      ...["mmdebstrap", "mksquashfs", "veritysetup", "sfdisk", "qemu-system-x86_64"],
      "/usr/share/OVMF/OVMF_CODE_4M.fd",
    ),
  },
  () =>
    tempDir(async (dir) => {
      const lacks: string[] = [];
      for (const initrd of ["initramfs-tools", "dracut"] as const) {
        const tree = await debianTree({ suite: "trixie", initrd });
        const { stderr } = await build("disk-image", tree, `${dir}/disk.raw`, {
          FILESYSTEM: "squashfs",
          VERITY: "hash",
        });
        // What is said is true.
        if (initrd === "initramfs-tools") {
          await assert.rejects(
            bootQemu(`${dir}/disk.raw`, { architecture: "x86-64", format: "raw" }),
            /dm-verity|mapper\/root/,
          );
        }
        lacks.push(/ lacks (.*) \(initrd-lacks\)/.exec(stderr)?.[1] ?? "nothing");
      }
      assert.deepEqual(lacks, ["squashfs, dm_verity, systemd-veritysetup", "nothing"]);
    }),
);
