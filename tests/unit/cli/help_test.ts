import assert from "node:assert/strict";
import { BUILDERS } from "../../../builders/mod.ts";
import { FLAGS } from "../../../lib/cli/cli.ts";
import { askedSetting, helpText, settingHelp } from "../../../lib/cli/help.ts";
import { BuildError } from "../../../lib/core/error.ts";
import { flagOf, type SettingName, SETTINGS } from "../../../lib/plan/settings.ts";

const ALL = Object.keys(SETTINGS) as SettingName[];
const pure = { permissions: "none" } as const;

for (const builder of Object.values(BUILDERS)) {
  Deno.test(
    `${builder.name}: the help has each flag and setting on a line of at most 100 columns`,
    pure,
    () => {
      const lines = helpText(builder, FLAGS).split("\n");
      for (const line of lines) assert(line.length <= 100, `${line.length} columns: ${line}`);
      const flags = [...Object.keys(FLAGS), ...builder.settings.map(flagOf)];
      for (const flag of flags) {
        const found = lines.filter((line) => new RegExp(`^  --${flag}[ =]`).test(line));
        assert.equal(found.length, 1, flag);
      }
      const shown = lines.flatMap((line) => /^ {2}--([\w-]+)/.exec(line)?.[1] ?? []);
      assert.deepEqual(shown.sort(), flags.sort());
    },
  );
}

Deno.test("--help=NAME explains each setting in lines of at most 80 columns", pure, () => {
  for (const name of ALL) {
    const { env, help, examples } = SETTINGS[name];
    const text = settingHelp(env, ALL);
    for (const line of text.split("\n")) assert(line.length <= 80, `${line.length} columns: ${line}`);
    assert(text.startsWith(`${env}: ${help}\n`), name);
    for (const value of Object.keys(examples)) {
      assert(text.includes(`${env}=`) && text.includes(value), value);
    }
    assert.equal(settingHelp(`--${flagOf(name)}`, ALL), text);
    assert.equal(settingHelp(env.toLowerCase(), ALL), text);
  }
});

Deno.test("--help=NAME names the setting that was probably meant", pure, () => {
  const hintOf = (asked: string) => {
    try {
      settingHelp(asked, ["freeMb"]);
    } catch (error) {
      assert(error instanceof BuildError && error.kind === "usage");
      return error.hint;
    }
    return undefined;
  };
  assert.equal(hintOf("FREE_BM"), "Did you mean FREE_MB?");
  assert.equal(hintOf("free-bm"), "Did you mean FREE_MB?");
  assert.equal(hintOf(""), "See --help for the settings");
  // Another builder's.
  assert.equal(hintOf("efi-mb"), "See --help for the settings");
  assert.equal(askedSetting(["--dry-run", "--help=EFI_MB"]), "EFI_MB");
  assert.equal(askedSetting(["--help", "--efi-mb=3"]), undefined);
});
