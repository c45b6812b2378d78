import assert from "node:assert/strict";
import { packages } from "../../examples/demo.ts";
import { $ } from "../../lib/system/sh.ts";
import { copyCheckout, missing, tempDir, unprivileged } from "../lab/helpers.ts";
import { parseRapt } from "../lab/rapt.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

Deno.test("The demo's tree has the packages and the command line of examples/test.rapt", async () => {
  const statements = await parseRapt(`${ROOT}examples/test.rapt`);
  const install = statements.find(({ args }) => args[0] === "apt-get" && args[1] === "install")!;
  assert.deepEqual(install.args.filter((arg) => !arg.startsWith("-")).slice(2), packages("amd64"));
  const write = statements.find(({ instruction }) => instruction === "WRITE")!;
  assert.deepEqual(write.args, ["console=tty0 console=ttyS0\n", "/etc/kernel/cmdline"]);
  assert.match(await Deno.readTextFile(`${ROOT}examples/demo.ts`), /"console=tty0 console=\$\{console\}"/);
});

Deno.test("deno task demo makes the three images of the documentation, and again only what is missing", {
  ignore: missing("mmdebstrap", "git") || unprivileged(),
}, async (t) => {
  await tempDir(async (dir) => {
    await copyCheckout(dir);
    const demo = async () => {
      const { code, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["task", "--quiet", "demo"],
        cwd: dir,
        stdin: "null",
      }).output();
      return { code, err: new TextDecoder().decode(stderr) };
    };
    await t.step("the first time", async () => {
      const { code, err } = await demo();
      assert.equal(code, 0, err);
      assert.doesNotMatch(err, /^\[W\]/m);
      assert.match(err, /deno@?\S* task boot examples\/disk\.qcow2/);
      const table =
        JSON.parse(await $`sfdisk --json ${dir}/examples/disk.img`.text()).partitiontable.partitions;
      assert.equal(table.length, 3);
      const info = JSON.parse(await $`qemu-img info --output=json ${dir}/examples/disk.qcow2`.text());
      assert.equal(info.format, "qcow2");
      assert.match(await $`blkid -p -o export ${dir}/examples/part.img`.text(), /^TYPE=ext4$/m);
    });
    await t.step("the second time", async () => {
      const { code, err } = await demo();
      assert.equal(code, 0, err);
      assert.equal(err.match(/is up to date/g)?.length, 3, err);
    });
    await t.step("after an image was removed", async () => {
      await Deno.remove(`${dir}/examples/part.img`);
      const { code, err } = await demo();
      assert.equal(code, 0, err);
      assert.equal(err.match(/is up to date/g)?.length, 2, err);
      assert.ok((await Deno.stat(`${dir}/examples/part.img`)).size > 0);
    });
  });
});
