import assert from "node:assert/strict";
import { readFlags, SEE_HELP } from "../../../lib/cli/flags.ts";
import { BuildError } from "../../../lib/core/error.ts";

const OPTIONS = {
  "output": { type: "string", short: "o" },
  "free-mb": { type: "string" },
  "input": { type: "string", multiple: true },
  "dry-run": { type: "boolean" },
} as const;

const explain = (flag: string) => flag === "efi-mb" ? "It is a setting" : undefined;

Deno.test("readFlags() reads flags in all their forms", { permissions: "none" }, () => {
  const args = ["--output", "a", "--free-mb=-1", "--input=b=c", "--input", "-", "--dry-run", "-o", "x y"];
  const { values } = readFlags({ args, options: OPTIONS });
  assert.deepEqual({ ...values }, {
    "output": "x y",
    "free-mb": "-1",
    "input": ["b=c", "-"],
    "dry-run": true,
  });
  const { positionals } = readFlags({ args: ["a", "--", "--b"], options: OPTIONS, allowPositionals: true });
  assert.deepEqual(positionals, ["a", "--b"]);
});

Deno.test.each([
  {
    args: ["--", "--input", "x"],
    message: 'Cannot use the argument "--"',
    hint: "Leave it out: only flags are accepted",
  },
  {
    args: ["--outptu=x"],
    message: 'Cannot use "--outptu": there is no such flag',
    hint: "Did you mean --output?",
  },
  {
    args: ["-output", "x"],
    message: 'Cannot use "-output": there is no such flag',
    hint: "Did you mean --output?",
  },
  {
    args: ["--dry-rnu"],
    message: 'Cannot use "--dry-rnu": there is no such flag',
    hint: "Did you mean --dry-run?",
  },
  { args: ["--frobnicate"], message: 'Cannot use "--frobnicate": there is no such flag', hint: SEE_HELP },
  {
    args: ["--efi-mb", "1"],
    message: 'Cannot use "--efi-mb": there is no such flag',
    hint: "It is a setting",
  },
  { args: ["--constructor"], message: 'Cannot use "--constructor": there is no such flag', hint: SEE_HELP },
  {
    args: ["--no-dry-run"],
    message: 'Cannot use "--no-dry-run": there is no such flag',
    hint: "Did you mean --dry-run?",
  },
  { args: ["output=x"], message: 'Cannot use the argument "output=x"', hint: "Did you mean --output?" },
  {
    args: ["a\x1b[2J"],
    message: 'Cannot use the argument "a\\u001b[2J"',
    hint: "Only flags are accepted: see --help",
  },
  { args: ["--free-mb"], message: "Cannot use --free-mb without a value", hint: "Write --free-mb=VALUE" },
  {
    args: ["--free-mb", "--dry-run"],
    message: "Cannot use --free-mb without a value",
    hint: "Write --free-mb=--dry-run",
  },
  {
    args: ["--dry-run=no"],
    message: 'Cannot use --dry-run="no": the flag takes no value',
    hint: "Write --dry-run",
  },
  // Of several mistakes the first.
  {
    args: ["--output", "x", "--free", "word"],
    message: 'Cannot use "--free": there is no such flag',
    hint: SEE_HELP,
  },
])("readFlags() says what is wrong with $args, in a line and a hint", ({ args, message, hint }) => {
  assert.throws(() => readFlags({ args: [...args], options: OPTIONS }, explain), (error: BuildError) => {
    assert.ok(error instanceof BuildError);
    assert.deepEqual([error.kind, error.message, error.hint], ["usage", message, hint]);
    return true;
  });
});
