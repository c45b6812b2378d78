import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { type FormatName, formatNames, formatOf, FORMATS, isDisk } from "../../lib/image/formats.ts";
import { convertRaw } from "../../lib/make/convert.ts";
import { evaluate, missing, quiet, sha256, stubProgram, tempDir } from "../lab/helpers.ts";

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
  assert.deepEqual(inPlace, ["raw", "qcow2"]);
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
        // The format is also what qemu-img finds by itself, except for a fixed VHD, whose mark is at its end.
        if (format !== "vpc") {
          const found = JSON.parse(await quiet`qemu-img info --output=json ${output}`);
          assert.equal(found.format, driver);
        }
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

Deno.test(
  "FORMATS.vmdk is stream-optimized and in one file, FORMATS.vpc fixed and of the exact size",
  qemu,
  () =>
    tempDir(async (dir) => {
      const { raw, output } = await images(dir);
      await convertRaw(raw, output, "vmdk", () => {});
      const info = JSON.parse(await quiet`qemu-img info --output=json ${output}`);
      assert.equal(info["format-specific"].data["create-type"], "streamOptimized");
      await convertRaw(raw, output, "vpc", () => {});
      // Azure wants whole MiB and a footer of 512 bytes.
      assert.equal((await Deno.stat(output)).size, SIZE + 512);
      assert.deepEqual((await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort(), [
        "output",
        "raw",
      ]);
    }),
);

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
          await convertRaw(raw, output, format, () => {}, { seed, time: 1_700_000_000, name: "disk.img" });
          digests.push(await sha256(output));
        }
        assert.equal(new Set(digests.slice(0, -1)).size, 1);
        assert.equal(digests.at(-1) !== digests[0], format !== "qcow2-zstd");
      }),
  );
}
