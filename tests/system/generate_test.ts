import assert from "node:assert/strict";
import { quiet, tempDir } from "../lab/helpers.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

const FILES = [
  ...[
    "builders",
    "lib",
    "tasks",
    "tests",
    "completions",
    "README.md",
    "CONTRIBUTING.md",
    "docs",
    "Containerfile",
    ".ci",
    "deno.json",
    "deno.lock",
  ],
  ...["disk-image.rapt", "part-image.rapt"],
];

/** Runs `deno task generate` in a checkout. */
async function generate(checkout: string, ...args: string[]) {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "--cwd", checkout, "generate", ...args],
    env: { NO_COLOR: "1" },
    stdout: "null",
  }).output();
  return { code, stderr: new TextDecoder().decode(stderr) };
}

Deno.test("generate --check names what is stale, and generate mends it", () =>
  tempDir(async (dir) => {
    await quiet`cp -r ${FILES.map((file) => ROOT + file)} ${dir}`;
    const edits: Record<string, [RegExp, string]> = {
      "deno.json": [/--allow-run=\w+/, "--allow-run=other"],
      "part-image.rapt": [/--allow-run=\w+/, "--allow-run=other"],
      "Containerfile": [/ dosfstools/, ""],
      "builders/base.rapt": [/ e2fsprogs/, " e2fsprogs-static"],
      "builders/suite.rinc": [/^COPY .*error\.ts\n/m, ""],
      ".ci/run": [/deno@[\d.]+/, "deno@1.0.0"],
      "README.md": [/\| \[`FREE_MB`.*\n/, ""],
      "docs/settings.md": [/### `EFI_MB`\n/, ""],
      "docs/command-line.md": [/deno@[\d.]+/, "deno@1.0.0"],
      "docs/settings.schema.json": [/"EFI_MB"/, '"EFI_BM"'],
      "docs/raptor-builders.1": [/EFI_MB/, "EFI_BM"],
      "completions/raptor-builders.bash": [/--efi-mb= /, ""],
      "completions/raptor-builders.fish": [/^.* -l efi-mb .*\n/m, ""],
      "completions/_raptor-builders": [/^ +'--efi-mb=.*\n/m, ""],
    };
    const old: Record<string, string> = {};
    for (const [file, [from, to]] of Object.entries(edits)) {
      old[file] = await Deno.readTextFile(`${dir}/${file}`);
      const text = old[file].replace(from, to);
      assert.notEqual(text, old[file], file);
      await Deno.writeTextFile(`${dir}/${file}`, text);
    }
    const { code, stderr } = await generate(dir, "--check");
    assert.equal(code, 1);
    for (const file of Object.keys(edits)) assert.ok(stderr.includes(file), `${file}: ${stderr}`);
    assert.equal((await generate(dir)).code, 0);
    for (const file of Object.keys(edits)) {
      assert.equal(await Deno.readTextFile(`${dir}/${file}`), old[file], file);
    }
    assert.deepEqual(await generate(dir, "--check"), { code: 0, stderr: "" });
  }));
