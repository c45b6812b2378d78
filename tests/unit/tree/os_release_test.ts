import assert from "node:assert/strict";
import { parseOsRelease } from "../../../lib/tree/os-release.ts";
import { growth, missing, tempDir } from "../../lab/helpers.ts";

const pure = { permissions: "none" } as const;

Deno.test.each([
  ["ID=debian", { ID: "debian" }],
  ['PRETTY_NAME="Debian GNU/Linux 13 (trixie)"', { PRETTY_NAME: "Debian GNU/Linux 13 (trixie)" }],
  ["NAME='a b'", { NAME: "a b" }],
  [`NAME="a \\"b\\" \\$c \\\\ \\\`"`, { NAME: 'a "b" $c \\ `' }],
  ["# comment\n\nID=x\nnonsense\nlower=y\n=z\nVERSION_ID=1", { ID: "x", VERSION_ID: "1" }],
  ["ID=a\nID=b", { ID: "b" }],
  ["NAME=$(reboot)`reboot`$HOME", { NAME: "$(reboot)`reboot`$HOME" }],
  ['NAME="unfinished', { NAME: "unfinished" }],
  ["NAME='x\\", { NAME: "x\\" }],
  ["ID=", { ID: "" }],
  ["  ID=indented  ", { ID: "indented" }],
  ["ID=dos\r\nNAME=x\r", { ID: "dos", NAME: "x" }],
  ['NAME="\u001b[31mred\u0007 \u0000 \u0085 \u2028 \u009b"', { NAME: "[31mred    " }],
  ["__PROTO__=x\nCONSTRUCTOR=y", { CONSTRUCTOR: "y" }],
  ["", {}],
])("parseOsRelease() reads %j", pure, (text, fields) => {
  assert.deepEqual({ ...parseOsRelease(text) }, fields);
});

Deno.test("parseOsRelease() gives no field that is not in the file", pure, () => {
  assert.equal(parseOsRelease("ID=x")["constructor"], undefined);
  assert.equal(parseOsRelease("ID=x")["toString"], undefined);
});

Deno.test(
  "parseOsRelease() takes about four times as long for a file that is four times as large",
  pure,
  () => {
    const factor = growth(50_000, (length) => {
      parseOsRelease(`NAME="${"\\".repeat(length)}`);
      parseOsRelease(`${" ".repeat(length)}x`);
      parseOsRelease(`NAME=${" ".repeat(length)}x`);
      parseOsRelease("NAME\n".repeat(length / 5));
    });
    assert(factor < 10, String(factor));
  },
);

/** Values as people and installers write them, all of which are valid shell. */
const VALUES = [
  "plain",
  "with-dash_and.dot/slash:colon",
  '"double quoted"',
  "'single quoted'",
  String.raw`"a \"quoted\" word"`,
  String.raw`"a \\ backslash, a \` tick and a \$dollar"`,
  String.raw`"backslash \n before a letter"`,
  String.raw`'all \" literal $x'`,
  String.raw`a\ b\"c\'d`,
  `"it's"`,
  `'say "x"'`,
  `"a"'b'c"d"`,
  '""',
  "''",
  "",
  '"Ünïcödé ☃"',
];

Deno.test(
  "parseOsRelease() reads what a shell reads",
  { ignore: missing("sh") },
  () =>
    tempDir(async (dir) => {
      const text = VALUES.map((value, i) => `FIELD_${i}=${value}\n`).join("");
      await Deno.writeTextFile(`${dir}/os-release`, text);
      const show = VALUES.map((_, i) => `printf '%s\\0' "$FIELD_${i}"`).join("\n");
      const { stdout } = await new Deno.Command("sh", {
        args: ["-c", `. "$1"\n${show}`, "sh", `${dir}/os-release`],
      }).output();
      const shell = new TextDecoder().decode(stdout).split("\0").slice(0, -1);
      const fields = parseOsRelease(text);
      assert.deepEqual(VALUES.map((_, i) => fields[`FIELD_${i}`]), shell);
    }),
);
