import assert from "node:assert/strict";
import { checkVersion, packageHint, packagesFor, searchPath } from "../../../lib/system/programs.ts";
import { evaluate, stubProgram, tempDir } from "../../lab/helpers.ts";

Deno.test("packagesFor() grows with the purpose and is sorted", { permissions: "none" }, () => {
  const sets = (["build", "demo", "test", "bench"] as const)
    .map((purpose) => packagesFor(purpose).map(({ names }) => names[0]!));
  for (const [i, larger] of sets.slice(1).entries()) {
    assert.ok(sets[i]!.every((name) => larger.includes(name)) && sets[i]!.length < larger.length);
  }
  const build = sets[0]!;
  assert.deepEqual(build, [...build].sort());
  assert.ok(!build.some((name) => name.startsWith("qemu-system")));
});

Deno.test(
  "packageHint() says which package has a program and what it is for",
  { permissions: "none" },
  () => {
    assert.equal(
      packageHint("mkfs.vfat"),
      'It is needed to make FAT filesystems: run "deno task setup", or install the package dosfstools',
    );
    assert.match(packageHint("qemu-system-riscv64")!, /qemu-system-riscv or qemu-system-misc$/);
    // Present on every system.
    assert.equal(packageHint("find"), undefined);
    assert.equal(packageHint("no-such-program"), undefined);
  },
);

Deno.test(
  "searchPath() adds the directories of system programs once, at the end",
  { permissions: "none" },
  () => {
    assert.equal(searchPath("/opt/bin:/usr/bin"), "/opt/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin");
    assert.equal(searchPath("/sbin:/usr/sbin"), "/sbin:/usr/sbin:/usr/local/sbin");
  },
);

Deno.test("isInstalled() looks for an executable program, or a file", () =>
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
    const { stdout } = await evaluate("system/programs.ts", script, { PATH: `/nonexistent:${dir}` });
    assert.deepEqual(JSON.parse(stdout), [true, false, false, true, false]);
  }));

Deno.test("checkVersion() refuses versions that are known to corrupt contents", {
  permissions: { env: true },
}, () => {
  const printed = (version: string) => `mksquashfs version ${version} (2025/01/01)\n`;
  for (const version of ["4.7", "4.7.4"]) {
    assert.throws(() => checkVersion("mksquashfs", printed(version)), {
      message: `Cannot use mksquashfs ${version}: it may corrupt contents`,
      hint: "Install 4.7.5 or later, or one before 4.7",
    });
  }
  for (const version of ["4.6.1", "4.7.5", "5.0"]) {
    assert.equal(checkVersion("mksquashfs", printed(version)), version);
  }
});
