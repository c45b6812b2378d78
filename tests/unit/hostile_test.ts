/**
 * Trees that mean harm: nothing outside them is read or written, nothing of them is taken for a command, and
 * whatever a builder refuses, it refuses with one clear message and in time.
 *
 * @module
 */

import assert from "node:assert/strict";
import { splitOptions } from "../../lib/boot/grub.ts";
import { BuildError } from "../../lib/core/error.ts";
import { tempDir } from "../lab/helpers.ts";
import { type Files, GOOD, LINKS, makeOutside, makeTree, planOf } from "../lab/hostile.ts";

// Links out of the tree -----------------------------------------------------------------------------------

for (const [path, target] of Object.entries(LINKS)) {
  Deno.test(`a link out of the tree at ${path} leads nowhere, absolute or not`, () =>
    tempDir(async (dir) => {
      const outside = await makeOutside(dir);
      for (
        const [i, to] of [`${outside}${target}`, `${"../".repeat(40)}${outside.slice(1)}${target}`].entries()
      ) {
        // The link and what would stand below it take the place of what the good tree has there.
        const rest = Object.entries(GOOD).filter(([name]) => name !== path && !name.startsWith(`${path}/`));
        const files = { ...Object.fromEntries(rest), [path]: `->${to}` };
        const tree = await makeTree(`${dir}/tree${i}`, path === "/etc" ? files : { ...files, "/etc/x": "" });
        // Without its programs the tree has no architecture: what is outside does not give it one.
        const plan = await planOf(tree).catch((error) => {
          assert(error instanceof BuildError, String(error));
          assert.match(error.message, /^Cannot find the architecture/);
          assert.equal(path, "/usr/sbin/init");
        });
        if (!plan) continue;
        assert.equal(plan.architecture, "x86-64");
        assert(!JSON.stringify(plan.partitions.map(({ contents }) => contents.add)).includes("stolen"), path);
        assert.doesNotMatch(plan.kernelOptions, /stolen/);
        assert.doesNotMatch(plan.seed, /stolen/);
      }
    }));
}

Deno.test.each<{ name: string; files: Files }>([
  { name: "/boot", files: { "/boot": "->boot" } },
  { name: "/boot and /efi", files: { "/boot": "->efi", "/efi": "->boot" } },
  { name: "/etc", files: { "/etc": "->/etc/etc" } },
  { name: "/boot/efi", files: { "/boot/efi": "->../boot/efi/efi" } },
  {
    name: "os-release",
    files: { "/etc/os-release": "->os-release", "/usr/lib/os-release": "->/etc/os-release" },
  },
  { name: "a kernel", files: { "/boot/vmlinuz-1": "->vmlinuz", "/boot/vmlinuz": "->vmlinuz-1" } },
  { name: "the modules", files: { "/usr/lib/modules": "->../lib/modules/.", "/lib": "->usr/lib" } },
])("links in a circle are links to nothing: $name", ({ files }) =>
  tempDir(async (dir) => {
    const names = Object.keys(files);
    const rest = Object.entries(GOOD).filter(([path]) =>
      !names.some((name) => `${path}/`.startsWith(`${name}/`))
    );
    const plan = await planOf(await makeTree(`${dir}/tree`, { ...Object.fromEntries(rest), ...files }));
    assert.equal(plan.partitions.length, 3);
  }));

// Text that means something to a program ------------------------------------------------------------------

Deno.test("options and titles stay one word each in GRUB's script", () => {
  assert.deepEqual(splitOptions(`quiet a="b c" 'x; y' "unfinished`), [
    "quiet",
    "a=b c",
    "'x;",
    "y'",
    "unfinished",
  ]);
});
