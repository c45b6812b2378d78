import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { toJavaScript, writePackage } from "../../tasks/package.ts";
import { runBuilder } from "../lab/builds.ts";
import { missing, sha256, tempDir } from "../lab/helpers.ts";

Deno.test("toJavaScript() changes types and relative specifiers, and nothing else", () => {
  const code = `import { a } from "./a.ts";
import type { B } from "../b.ts";
import json from "../deno.json" with { type: "json" };
export * from "../c.ts";
const text: string = "see ./a.ts";
new Worker(new URL("./worker.ts", import.meta.url));
await import("./lazy.ts");
a(text, json);
`;
  const script = toJavaScript(code);
  for (const specifier of ["./a.js", "../c.js", "./worker.js", "./lazy.js"]) {
    assert(script.includes(`"${specifier}"`), script);
  }
  assert(script.includes('"see ./a.ts"') && script.includes('"../deno.json" with'), script);
  assert(!script.includes(": string") && !script.includes("b.ts"), script);
});

Deno.test("the package for npm makes the same image as the checkout, and passes on how a build ends", {
  ignore: missing("npm", "mke2fs"),
}, async () => {
  await tempDir(async (dir) => {
    await writePackage(`${dir}/package`);
    // As a registry would hand it out.
    const npm = async (...args: string[]) => {
      const { success, stdout, stderr } = await new Deno.Command("npm", { args, cwd: dir }).output();
      assert(success, new TextDecoder().decode(stderr));
      return new TextDecoder().decode(stdout).trim();
    };
    const archive = await npm("pack", "--silent", "./package");
    await npm("install", "--silent", "--no-save", `./${archive}`);
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(`${dir}/node_modules/.bin/raptor-builders`, {
        args,
        cwd: dir,
        stdin: "null",
      }).output();
      const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      return { code, out: out!, err: err! };
    };
    assert.deepEqual(await run("--version"), {
      code: 0,
      out: `raptor-builders ${config.version}\n`,
      err: "",
    });
    // Its own documentation is a tree like any other.
    const tree = `${dir}/package/docs`;
    for (const format of ["raw", "qcow2-zstd"]) {
      const flags = ["--input", tree, `--output-format=${format}`, "--free-mb=1"];
      const { code, err } = await run("part-image", ...flags, "--output", `${dir}/theirs.img`);
      assert.equal(code, 0, err);
      const ours = await runBuilder("part-image", { args: [...flags, "--output", `${dir}/ours.img`] });
      assert.equal(ours.code, 0, ours.stderr);
      assert.equal(await sha256(`${dir}/theirs.img`), await sha256(`${dir}/ours.img`));
    }
    const failed = await run("part-image", "--input", `${dir}/none`, "--output", `${dir}/failed.img`);
    assert.notEqual(failed.code, 0);
    assert.match(failed.err, /^\[E\] /m);
  });
});
