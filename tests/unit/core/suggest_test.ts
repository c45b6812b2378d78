import assert from "node:assert/strict";
import { nearest } from "../../../lib/core/suggest.ts";
import { SETTINGS } from "../../../lib/plan/settings.ts";

const pure = { permissions: "none" } as const;
const NAMES = Object.values(SETTINGS).map(({ env }) => env);

Deno.test.each([
  { word: "FREE_BM", meant: "FREE_MB" },
  { word: "OUTPUT_FORMATS", meant: "OUTPUT_FORMAT" },
  { word: "OUTPUTFORMAT", meant: "OUTPUT_FORMAT" },
  { word: "efi_mb", meant: "EFI_MB" },
  { word: "SED", meant: "SEED" },
])("nearest() takes $word for $meant", pure, ({ word, meant }) => assert.equal(nearest(word, NAMES), meant));

Deno.test("nearest() mistakes no common environment variable for a setting", pure, () => {
  const usual =
    "HOME PATH USER SHELL TERM LANG LC_ALL TZ PWD LOGNAME HOSTNAME MAIL EDITOR PAGER DISPLAY TMPDIR CI " +
    "container container_uuid NOTIFY_SOCKET DENO_DIR NO_COLOR DEBUG VERSION NAME TARGET IMAGE FORMAT SUDO_USER";
  assert.deepEqual(usual.split(" ").filter((name) => nearest(name, NAMES)), []);
});
