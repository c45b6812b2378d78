import assert from "node:assert/strict";
import { checkDependencies } from "../../../lib/boot/grub-bios.ts";
import { BuildError } from "../../../lib/core/error.ts";
import { copyModules } from "../../../lib/make/grub-bios.ts";
import { inspectTree } from "../../../lib/tree/inspect.ts";
import { closeRoot } from "../../../lib/tree/root.ts";
import { tempDir } from "../../lab/helpers.ts";

const GRUB_BIOS_DIRECTORY = "/usr/lib/grub/i386-pc";

Deno.test("checkDependencies() takes names of modules and nothing that could be a path", {
  permissions: "none",
}, () => {
  checkDependencies(
    "normal: boot 915resolution\nboot:\npart_gpt: search-fs raid6rec\n",
    "/usr/lib/grub/i386-pc/moddep.lst",
  );
  checkDependencies("", "/usr/lib/grub/i386-pc/moddep.lst");
  for (
    const name of ["../../etc/passwd", "/etc/shadow", "sub/boot", "..", ".", "-d", "boot.mod", "\0"]
  ) {
    for (const text of [`normal: ${name}\n`, `${name}: boot\n`, `normal: boot\n\tboot ${name}`]) {
      assert.throws(() => checkDependencies(text, "/usr/lib/grub/i386-pc/moddep.lst"), (error) => {
        assert(error instanceof BuildError);
        assert.match(error.message, /moddep\.lst of the tree cannot be a module$/);
        return true;
      });
    }
  }
});

Deno.test("copyModules() copies what grub-mkimage reads, and nothing through a link", () =>
  tempDir(async (dir) => {
    const grub = `${dir}/tree${GRUB_BIOS_DIRECTORY}`;
    await Deno.mkdir(grub, { recursive: true });
    for (
      const name of ["boot.mod", "kernel.img", "boot.img", "diskboot.img", "fs.lst", "modinfo.sh", "x.img"]
    ) {
      await Deno.writeTextFile(`${grub}/${name}`, name);
    }
    await Deno.symlink("/etc/passwd", `${grub}/link.mod`);
    await Deno.writeTextFile(`${grub}/moddep.lst`, "boot:\n");
    const copy = async (to: string) => {
      const tree = await inspectTree(`${dir}/tree`);
      try {
        await copyModules(tree.root, tree.nodes, GRUB_BIOS_DIRECTORY, to);
      } finally {
        closeRoot(tree.root);
      }
    };
    await copy(`${dir}/good`);
    const names = (await Array.fromAsync(Deno.readDir(`${dir}/good`))).map(({ name }) => name).sort();
    assert.deepEqual(names, ["boot.img", "boot.mod", "diskboot.img", "kernel.img", "moddep.lst"]);
    await Deno.writeTextFile(`${grub}/moddep.lst`, `boot: ${"../".repeat(20)}${dir.slice(1)}/fifo\n`);
    await assert.rejects(copy(`${dir}/bad`), /cannot be a module/);
  }));
