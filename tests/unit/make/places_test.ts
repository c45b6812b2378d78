/**
 * Nothing is written that is read, or that is written twice, by whatever names it goes.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { checkOutside, checkPlaces } from "../../../lib/make/places.ts";
import { inspectTree } from "../../../lib/tree/inspect.ts";
import { closeRoot } from "../../../lib/tree/root.ts";
import { tempDir } from "../../lab/helpers.ts";

const isUsage = (message: RegExp) => (error: unknown) => {
  assert(error instanceof BuildError && error.kind === "usage", String(error));
  assert.match(error.message, message);
  return true;
};

/** A directory with a file, and names that lead to it and to one that is not there. */
async function makeNames(dir: string): Promise<{ there: string[]; missing: string[]; others: string[] }> {
  await Deno.mkdir(`${dir}/a/b`, { recursive: true });
  await Deno.writeTextFile(`${dir}/a/file`, "x");
  await Deno.link(`${dir}/a/file`, `${dir}/hard`);
  await Deno.symlink("a/file", `${dir}/soft`);
  await Deno.symlink("soft", `${dir}/softer`);
  await Deno.symlink("a", `${dir}/folder`);
  await Deno.symlink("a/new", `${dir}/dangling`);
  await Deno.symlink("dangling", `${dir}/more`);
  const at = (...names: string[]) => names.map((name) => `${dir}/${name}`);
  return {
    there: at("a/file", "a/../a/file", "a/b/../file", "hard", "soft", "softer", "folder/file", "./a//file"),
    missing: at("a/new", "a/b/../new", "dangling", "more", "folder/new", "folder/b/../new"),
    others: at("new", "a/b/new", "a/file2", "a/b/file"),
  };
}

Deno.test("checkPlaces() finds one file under two names, whether it exists or not", () =>
  tempDir(async (dir) => {
    const { there, missing, others } = await makeNames(dir);
    for (const names of [there, missing]) {
      for (const path of names) {
        for (const other of names) {
          const [one, two] = [{ what: "the image", path }, { what: "MANIFEST", path: other }];
          const message = /^Cannot write MANIFEST ".*": it is the image$/;
          await assert.rejects(checkPlaces([one, two], []), isUsage(message));
          await assert.rejects(checkPlaces([two], [one]), isUsage(message));
        }
        const read = others.map((path) => ({ what: "the input", path }));
        await checkPlaces([{ what: "SBOM", path }, ...read.slice(1)], [read[0]!]);
      }
    }
    // What is only read may be read twice.
    await checkPlaces([], there.map((path) => ({ what: "the input", path })));
    assert.equal(await Deno.readTextFile(`${dir}/a/file`), "x");
  }));

Deno.test("checkOutside() finds what lies in the tree, or is a file of it by another name", () =>
  tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(`${tree}/etc/sub`, { recursive: true });
    await Deno.writeTextFile(`${tree}/etc/hosts`, "x");
    await Deno.link(`${tree}/etc/hosts`, `${dir}/hard`);
    await Deno.symlink("hard", `${dir}/soft`);
    await Deno.symlink("tree/etc", `${dir}/folder`);
    await Deno.symlink("tree/new", `${dir}/dangling`);
    await Deno.writeTextFile(`${dir}/file`, "");
    const open = await inspectTree(tree);
    try {
      const inside = [
        "tree/new",
        "tree/etc/hosts",
        "tree/etc/sub/new",
        "hard",
        "soft",
        "folder/new",
        "dangling",
      ];
      for (const name of inside) {
        const check = checkOutside([{ what: "SBOM", path: `${dir}/${name}` }], open);
        await assert.rejects(check, isUsage(/^Cannot write SBOM ".*": it is inside the tree/));
      }
      for (const name of ["tree.img", "file", "new", "tree/../new"]) {
        await checkOutside([{ what: "SBOM", path: `${dir}/${name}` }], open);
      }
    } finally {
      closeRoot(open.root);
    }
    assert.equal(await Deno.readTextFile(`${tree}/etc/hosts`), "x");
    assert.deepEqual((await Array.fromAsync(Deno.readDir(tree))).map(({ name }) => name), ["etc"]);
  }));
