import assert from "node:assert/strict";
import { packageOf, PACKAGES, packagesFor, searchPath } from "../lib/system/packages.ts";
import { evaluate, missing, stubProgram, tempDir } from "./helpers.ts";
import { quiet } from "./trees.ts";

Deno.test("packagesFor() grows with the purpose and is sorted", { permissions: "none" }, () => {
  const sets = (["build", "demo", "test", "bench"] as const).map(packagesFor);
  for (const [i, larger] of sets.slice(1).entries()) {
    assert.ok(sets[i]!.every((name) => larger.includes(name)) && sets[i]!.length < larger.length);
  }
  const [build, , , bench] = sets as [string[], string[], string[], string[]];
  assert.deepEqual(bench, Object.keys(PACKAGES).sort());
  assert.deepEqual(build, [...build].sort());
  assert.ok(!build.some((name) => name.startsWith("qemu-system")));
});

Deno.test("packageOf() says which package has a program and what it is for", { permissions: "none" }, () => {
  assert.equal(
    packageOf("mkfs.vfat"),
    'It is needed to make FAT filesystems: run "deno task setup", or install the package dosfstools',
  );
  assert.equal(packageOf("no-such-program"), undefined);
});

Deno.test("PACKAGES names each program once", { permissions: "none" }, () => {
  const programs = Object.values(PACKAGES).flatMap(({ has }) => [...has]);
  assert.deepEqual(programs.length, new Set(programs).size);
});

for (const [name, { has }] of Object.entries(PACKAGES)) {
  Deno.test(`PACKAGES.${name} has ${has.join(", ")}`, { ignore: missing("dpkg-query", ...has) }, async () => {
    const files = new Set((await quiet`dpkg-query --listfiles ${name}`).trim().split("\n"));
    for (const program of has) {
      const places = program.startsWith("/")
        ? [program]
        : ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map((dir) => `${dir}/${program}`);
      assert.ok(places.some((path) => files.has(path)), program);
    }
  });
}

Deno.test(
  "searchPath() adds the directories of system programs once, at the end",
  { permissions: "none" },
  () => {
    assert.equal(searchPath("/opt/bin:/usr/bin"), "/opt/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin");
    assert.equal(searchPath("/sbin:/usr/sbin"), "/sbin:/usr/sbin:/usr/local/sbin");
  },
);

Deno.test("isInstalled() wants a program that can be run, or a file", () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/raptor-plain`, "");
    await Deno.mkdir(`${dir}/raptor-dir`, { mode: 0o755 });
    await stubProgram(dir, "raptor-stub", "exit 0");
    const programs = [
      "raptor-stub",
      "raptor-plain",
      "raptor-dir",
      `${dir}/raptor-plain`,
      `${dir}/raptor-missing`,
    ];
    const script = `console.log(JSON.stringify(${JSON.stringify(programs)}.map(lib.isInstalled)))`;
    const { stdout } = await evaluate("system/packages.ts", script, { PATH: `/nonexistent:${dir}` });
    assert.deepEqual(JSON.parse(stdout), [true, false, false, true, false]);
  }));
