import assert from "node:assert/strict";
import { fatNames, slotsOf } from "../../../../lib/filesystem/fat/names.ts";

const pure = { permissions: "none" } as const;

/** Short names as a listing shows them, with the bits and whether there is a long one. */
function shown(names: readonly string[]): string[] {
  return fatNames(names).map(({ short, bits, long }) =>
    [short.slice(0, 8).trim(), short.slice(8).trim()].filter(Boolean).join(".") +
    (bits ? ` ${bits.toString(16)}` : "") + (long === undefined ? "" : " long")
  );
}

// As mtools 4.0.32 stores them, except for non-ASCII names and those of DOS devices.
Deno.test.each([
  { name: "README.TXT", stored: "README.TXT" },
  { name: "lower.abc", stored: "LOWER.ABC 18" },
  { name: "low.EXT", stored: "LOW.EXT 8" },
  { name: "UP.ext", stored: "UP.EXT 10" },
  { name: "noext", stored: "NOEXT 8" },
  { name: "123", stored: "123" },
  { name: "x{y", stored: "X{Y 8" },
  { name: "x~1", stored: "X~1 8" },
  { name: "MiXed.Abc", stored: "MIXED.ABC long" },
  { name: "BOOTX64.EFI", stored: "BOOTX64.EFI" },
  { name: "ABCDEFGHI", stored: "ABCDEF~1 long" },
  { name: "vmlinuz-6.1", stored: "VMLINU~1.1 long" },
  { name: "entries.srel", stored: "ENTRIE~1.SRE long" },
  { name: "a b.txt", stored: "AB~1.TXT long" },
  { name: "foo+bar.txt", stored: "FOO_BA~1.TXT long" },
  { name: "a,b;c=[d]", stored: "A_B_C_~1 long" },
  { name: "a.b.c", stored: "AB~1.C long" },
  { name: ".hidden", stored: "HIDDEN~1 long" },
  { name: "..x", stored: "X~1 long" },
  { name: "aux.c", stored: "AUX.C 18" },
  { name: "é", stored: "_~1 long" },
  { name: "日本語.テキスト", stored: "___~1.___ long" },
  { name: "😀", stored: "_~1 long" },
  { name: "å", stored: "_~1 long" },
  { name: "ſ", stored: "_~1 long" },
  { name: "a\x7fb", stored: "A_B~1 long" },
])("fatNames() stores $name as $stored", pure, ({ name, stored }) => {
  assert.deepEqual(shown([name]), [stored]);
  assert.equal(slotsOf(name), 1 + (stored.endsWith("long") ? Math.ceil(name.length / 13) : 0));
});

Deno.test("fatNames() generates no short name twice, and none that another file has", pure, () => {
  assert.deepEqual(
    shown(["Longfi~3.Txt", "LONGFI~1.TXT", "longfilename 1.txt", "longfilename 2.txt", "longfi~4.txt"]),
    ["LONGFI~3.TXT long", "LONGFI~1.TXT", "LONGFI~2.TXT long", "LONGFI~5.TXT long", "LONGFI~4.TXT 18"],
  );
});

Deno.test("fatNames() is fast for as many files as a directory can hold", pure, () => {
  for (const name of [(i: number) => `a long name ${i}`, (i: number) => `abcd${i % 97} ${i}.text`]) {
    const names = fatNames(Array.from({ length: 32_000 }, (_, i) => name(i)));
    assert.equal(new Set(names.map(({ short }) => short)).size, names.length);
    for (const { short } of names) assert.match(short, /^[A-Z0-9_]+~[1-9]\d* *(TEX)? *$/);
    assert(names.every(({ short }) => short.length === 11));
  }
});
