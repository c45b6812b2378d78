import assert from "node:assert/strict";
import { toHex } from "../../lib/core/bytes.ts";
import { MiB } from "../../lib/core/units.ts";
import { type FormatName, formatNames, formatOf, FORMATS, isDisk } from "../../lib/image/formats.ts";
import { readImage } from "../../lib/image/image.ts";
import { convertRaw } from "../../lib/make/convert.ts";
import { $ } from "../../lib/system/sh.ts";
import { build } from "../lab/builds.ts";
import { evaluate, missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { tinyTree } from "../lab/trees.ts";

const isConverted = (format: FormatName) => formatOf(format).strategy === "converted";
const qemu = { ignore: missing("qemu-img") };
const CONVERTED = (Object.keys(FORMATS) as FormatName[]).filter(isConverted);

/** The size of a raw image that no geometry of cylinders and heads rounds. */
const SIZE = 37 * MiB;

/** A raw image with data at both ends and in the middle, and an output that exists. */
async function images(dir: string): Promise<{ raw: string; output: string }> {
  const raw = `${dir}/raw`, output = `${dir}/output`;
  const data = new Uint8Array(300_000).map((_, i) => i * 7 + (i >> 8));
  using file = await Deno.open(raw, { create: true, write: true });
  await file.truncate(SIZE);
  for (const at of [0, 17 * MiB + 512, SIZE - data.length]) {
    await file.seek(at, Deno.SeekMode.Start);
    for (let done = 0; done < data.length;) done += await file.write(data.subarray(done));
  }
  // An output that held an older and larger image.
  await Deno.writeFile(output, new Uint8Array(50 * MiB).fill(0xee));
  return { raw, output };
}

Deno.test("FORMATS has no name or alias twice, and what is made in the output needs no conversion", {
  permissions: "none",
}, () => {
  const rows = Object.entries<{ summary: string; aliases?: readonly string[] }>(FORMATS);
  const names = rows.flatMap(([name, { aliases = [] }]) => [name, ...aliases]);
  assert.equal(new Set(names).size, names.length);
  const inPlace = formatNames().filter((name) =>
    !isConverted(name) && isDisk(name) && !formatOf(name).archive
  );
  assert.deepEqual(inPlace, ["raw", "qcow2", "vpc"]);
});

for (const format of CONVERTED) {
  Deno.test(
    `FORMATS.${format} is what qemu-img reads back, byte for byte, in the same file`,
    qemu,
    () =>
      tempDir(async (dir) => {
        const { raw, output } = await images(dir);
        const { ino } = await Deno.stat(output);
        const shares: number[] = [];
        await convertRaw(raw, output, format, (share) => shares.push(share));
        const driver = (FORMATS[format] as { driver: string }).driver;
        // The format is also what qemu-img finds by itself.
        const found = JSON.parse(await quiet`qemu-img info --output=json ${output}`);
        assert.equal(found.format, driver);
        const info = JSON.parse(await quiet`qemu-img info --output=json -f ${driver} ${output}`);
        assert.equal(info["virtual-size"], SIZE);
        await quiet`qemu-img compare -f raw -F ${driver} ${raw} ${output}`;
        if ("check" in FORMATS[format]) await quiet`qemu-img check -f ${driver} ${output}`;
        assert.equal((await Deno.stat(output)).ino, ino);
        assert(shares.length > 0 && shares.every((share) => share >= 0 && share <= 1), String(shares));
        assert.equal(shares.at(-1), 1);
      }),
  );
}

Deno.test("FORMATS.vmdk is stream-optimized and in one file", qemu, () =>
  tempDir(async (dir) => {
    const { raw, output } = await images(dir);
    await convertRaw(raw, output, "vmdk", () => {});
    const info = JSON.parse(await quiet`qemu-img info --output=json ${output}`);
    assert.equal(info["format-specific"].data["create-type"], "streamOptimized");
    assert.deepEqual((await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort(), [
      "output",
      "raw",
    ]);
  }));

for (const format of formatNames().filter((name) => formatOf(name).largest)) {
  Deno.test(`FORMATS.${format} has the largest size that qemu-img takes`, qemu, () =>
    tempDir(async (dir) => {
      const { driver, largest } = formatOf(format);
      const create = (size: number) =>
        $`qemu-img create -q -f ${driver!} ${dir}/image ${size}`.noThrow(1).text("combined");
      assert.equal((await create(largest!)).trim(), "");
      assert.match(await create(largest! + MiB), /too large/);
    }));
}

/** Where qemu-img writes the time, the checksum and the UUID into the footer of a VHD. */
const OWN = [[24, 28], [64, 68], [68, 84]] as const;

for (const builder of ["disk-image", "part-image"] as const) {
  Deno.test(`${builder}: FORMATS.vpc is the raw image and the footer that qemu-img writes behind it`, {
    ignore: missing("qemu-img", "sfdisk", "mke2fs", "mkfs.vfat", "mmdebstrap") || unprivileged(),
  }, () =>
    tempDir(async (dir) => {
      const tree = await tinyTree();
      const raw = `${dir}/image.raw`, vhd = `${dir}/image.vhd`, golden = `${dir}/golden.vhd`;
      const sizes = { FREE_MB: "16", ...builder === "disk-image" && { EFI_MB: "33", BOOT_MB: "64" } };
      const env = { ...sizes, SOURCE_DATE_EPOCH: "1700000000" };
      await build(builder, tree, raw, env);
      await build(builder, tree, vhd, env);
      await quiet`qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on ${raw} ${golden}`;
      const footers = await Promise.all([vhd, golden].map(async (path) => {
        const { size } = await Deno.stat(path);
        return readImage(path, size - 512, 512);
      }));
      const { size } = await Deno.stat(raw);
      for (const path of [vhd, golden]) assert.equal((await Deno.stat(path)).size, size + 512);
      // 1,700,000,000 seconds after 1970, counted from 2000.
      assert.equal(new DataView(footers[0]!.buffer).getUint32(24), 753_315_200);
      const [, , uuid] = OWN.map(([from, to]) => toHex(footers[0]!.subarray(from, to)));
      assert.match(uuid!, /^.{12}5.{3}[89ab]/, "a UUIDv5");
      for (const footer of footers) OWN.forEach(([from, to]) => footer.fill(0, from, to));
      assert.deepEqual(footers[0], footers[1]);
      // It would complain about a wrong checksum before it prints JSON.
      const info = await $`qemu-img info --output=json -f vpc ${vhd}`.quiet().text("combined");
      assert.equal(JSON.parse(info)["virtual-size"], size);
      await quiet`cmp --bytes=${size} ${raw} ${vhd}`;
    }));
}

Deno.test(
  "convertRaw() finds out when qemu-img did not write the image that was asked for",
  qemu,
  () =>
    tempDir(async (dir) => {
      const { raw, output } = await images(dir);
      const { stdout } = await new Deno.Command("sh", { args: ["-c", "command -v qemu-img"] }).output();
      const real = new TextDecoder().decode(stdout).trim();
      // Exits with 0 and leaves a smaller image behind.
      const script =
        `case $1 in convert) ${real} create -q -f vdi ${output} 1M ;; *) exec ${real} "$@" ;; esac`;
      await Deno.mkdir(`${dir}/bin`);
      await stubProgram(`${dir}/bin`, "qemu-img", script);
      const { stdout: error } = await evaluate(
        "make/convert.ts",
        `const [from, to] = ${JSON.stringify([raw, output])};
        try { await lib.convertRaw(from, to, "vdi", () => {}); } catch (e) { console.log(e.name, e.message); }`,
        { PATH: `${dir}/bin:${Deno.env.get("PATH")}` },
      );
      assert.equal(error, "BuildError qemu-img wrote a vdi image of 1 MiB from 37 MiB\n");
    }),
);

Deno.test("convertRaw() says what qemu-img said", qemu, () =>
  tempDir(async (dir) => {
    await assert.rejects(convertRaw(`${dir}/none`, `${dir}/output`, "vdi", () => {}), {
      name: "BuildError",
      message: /^qemu-img failed with exit code 1: .*No such file/,
    });
  }));

for (const format of CONVERTED) {
  Deno.test(
    `FORMATS.${format} is the same file each time, and another one with another seed`,
    qemu,
    () =>
      tempDir(async (dir) => {
        const { raw } = await images(dir);
        const seeds = [...Array(12).fill("a"), "b"];
        const digests: string[] = [];
        for (const [i, seed] of seeds.entries()) {
          await Deno.mkdir(`${dir}/${i}`);
          const output = `${dir}/${i}/image`;
          await convertRaw(raw, output, format, () => {}, { seed, name: "disk.img" });
          digests.push(await sha256(output));
        }
        assert.equal(new Set(digests.slice(0, -1)).size, 1);
        assert.equal(digests.at(-1) !== digests[0], format !== "qcow2-zstd");
      }),
  );
}
