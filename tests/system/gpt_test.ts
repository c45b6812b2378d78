import assert from "node:assert/strict";
import { type ArchitectureName, ARCHITECTURES, identifyType, partitionType } from "../../lib/core/dps.ts";
import { deriveUuid } from "../../lib/core/identity.ts";
import { MiB, SECTOR } from "../../lib/core/units.ts";
import { GRAIN, placePartitions, type Table, TABLE_SIZE, type TableEntry } from "../../lib/image/gpt.ts";
import { readTable, verifyTable, writeTable } from "../../lib/make/table.ts";
import { $ } from "../../lib/system/sh.ts";
import { missing, quiet, sha256, tempDir } from "../lab/helpers.ts";
const sfdisk = { ignore: missing("sfdisk") };
const entry = (name: string, offset: number, size: number, more: Partial<TableEntry> = {}): TableEntry => ({
  type: partitionType("esp", "x86-64"),
  uuid: deriveUuid("test", name),
  label: name,
  attributes: [],
  offset,
  size,
  ...more,
});

/** A table as a disk image has it. */
function table(architecture: ArchitectureName = "x86-64"): Table {
  const sizes = [32 * MiB, 3 * MiB, 7 * MiB];
  const [esp, boot, root] = placePartitions(sizes) as [number, number, number];
  return {
    id: deriveUuid("test", "disk"),
    entries: [
      entry("esp", esp, sizes[0]!),
      entry("xbootldr", boot, sizes[1]!, { type: partitionType("xbootldr", architecture) }),
      entry("root", root, sizes[2]!, { type: partitionType("root", architecture), attributes: [59] }),
    ],
  };
}

const SIZE = TABLE_SIZE + 42 * MiB;

async function makeDisk(dir: string, made: Table, size = SIZE): Promise<string> {
  const image = `${dir}/disk`;
  await Deno.writeFile(image, new Uint8Array());
  await Deno.truncate(image, size);
  await writeTable(image, made);
  return image;
}

Deno.test(
  "writeTable() writes what sfdisk reads back, for every architecture",
  sfdisk,
  () =>
    tempDir(async (dir) => {
      const names = Object.keys(ARCHITECTURES) as ArchitectureName[];
      const made: Table = {
        id: deriveUuid("test", "disk"),
        entries: names.map((name, i) =>
          entry(name, GRAIN * (1 + i), GRAIN, { type: partitionType("root", name), attributes: [59] })
        ),
      };
      const image = await makeDisk(dir, made);
      assert.deepEqual(await readTable(image), made);
      await verifyTable(image, made);
      const { label, firstlba, partitions } = JSON.parse(await quiet`sfdisk --json ${image}`).partitiontable;
      assert.equal(label, "gpt");
      assert.equal(firstlba, GRAIN / SECTOR);
      for (const [i, architecture] of names.entries()) {
        assert.deepEqual(identifyType(partitions[i].type), { role: "root", architecture });
      }
    }),
);

Deno.test("writeTable() writes a table that sgdisk finds nothing wrong with", {
  ignore: missing("sfdisk", "sgdisk"),
}, () =>
  tempDir(async (dir) => {
    const image = await makeDisk(dir, table());
    assert.match(await quiet`sgdisk -v ${image}`, /No problems found/);
    assert.match(await quiet`sgdisk -i 3 ${image}`, /Attribute flags: 0800000000000000/);
    assert.equal((await Deno.stat(image)).size, SIZE);
  }));

Deno.test(
  "writeTable() puts the backup at the very end and nothing into the partitions",
  sfdisk,
  () =>
    tempDir(async (dir) => {
      const image = await makeDisk(dir, table());
      const bytes = await Deno.readFile(image);
      const header = (at: number) => new TextDecoder().decode(bytes.subarray(at, at + 8));
      assert.equal(header(SECTOR), "EFI PART");
      assert.equal(header(bytes.length - SECTOR), "EFI PART");
      assert(bytes.subarray(GRAIN, bytes.length - GRAIN).every((byte) => byte === 0));
    }),
);

Deno.test(
  "writeTable() writes the same bytes each time, over an older table as well",
  sfdisk,
  () =>
    tempDir(async (dir) => {
      const first = await sha256(await makeDisk(dir, table()));
      await makeDisk(dir, { id: deriveUuid("other", "disk"), entries: [entry("x", MiB, 9 * MiB)] });
      assert.equal(await sha256(await makeDisk(dir, table())), first);
    }),
);

Deno.test.each<{ name: string; change: (entries: TableEntry[]) => TableEntry[] }>([
  { name: "a partition that is missing", change: (entries) => entries.slice(0, 2) },
  { name: "one that is too much", change: (entries) => [...entries, entry("more", 43 * MiB, MiB)] },
  { name: "another label", change: ([a, ...rest]) => [{ ...a!, label: "other" }, ...rest] },
  { name: "another size", change: ([a, b, c]) => [a!, b!, { ...c!, size: c!.size - SECTOR }] },
  { name: "another attribute", change: ([a, b, c]) => [a!, b!, { ...c!, attributes: [60] }] },
])("verifyTable() finds $name", sfdisk, ({ change }) =>
  tempDir(async (dir) => {
    const image = await makeDisk(dir, table(), SIZE + 2 * MiB);
    const wanted = { ...table(), entries: change([...table().entries]) };
    await assert.rejects(verifyTable(image, wanted), /sfdisk did not write the table as planned/);
  }));

Deno.test.each([
  { name: "header", offset: SECTOR + 60 },
  { name: "entry", offset: 2 * SECTOR + 3 * 128 },
  { name: "backup header", offset: SIZE - SECTOR + 60 },
  { name: "backup entry", offset: SIZE - 33 * SECTOR + 5 * 128 },
])("verifyTable() finds a $name that is damaged", sfdisk, ({ offset }) =>
  tempDir(async (dir) => {
    const image = await makeDisk(dir, table());
    using file = await Deno.open(image, { write: true });
    await file.seek(offset, Deno.SeekMode.Start);
    await file.write(Uint8Array.of(0xaa));
    await assert.rejects(verifyTable(image, table()), { name: "BuildError", message: /sfdisk/ });
  }));

Deno.test("readTable() says so when there is no GPT", sfdisk, () =>
  tempDir(async (dir) => {
    const image = `${dir}/mbr`;
    await Deno.writeFile(image, new Uint8Array(4 * MiB));
    await assert.rejects(readTable(image), { name: "BuildError" });
    await $`sfdisk --quiet ${image}`.quiet().stdinText("label: dos\nsize=1MiB\n");
    await assert.rejects(readTable(image), {
      name: "BuildError",
      message: `Cannot find a GPT in "${image}"`,
    });
  }));
