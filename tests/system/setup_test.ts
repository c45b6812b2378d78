import assert from "node:assert/strict";
import { packagesFor } from "../../lib/system/programs.ts";
import { evaluate, missing, quiet, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { cached, copyTree } from "../lab/trees.ts";

const PROJECT = new URL("../..", import.meta.url).pathname;

/** The command of `deno task setup`, word by word, with the permissions that a person gives it. */
const TASK = JSON.parse(await Deno.readTextFile(`${PROJECT}deno.json`)).tasks.setup.command
  .split(" ") as string[];
assert.deepEqual([TASK[0], TASK.at(-1)], ["deno", "tasks/setup.ts"]);
const FLAGS = TASK.slice(1, -1);

/** Runs `tasks/setup.ts` with only the programs of `dir` and of the system directories on `PATH`. */
async function setup(dir: string, args: string[], env: Record<string, string> = {}) {
  const { DENO_DIR, HOME } = Deno.env.toObject();
  const output = await new Deno.Command(Deno.execPath(), {
    args: [...FLAGS, `${PROJECT}tasks/setup.ts`, ...args],
    clearEnv: true,
    env: { PATH: dir, ...(DENO_DIR ? { DENO_DIR } : {}), ...(HOME ? { HOME } : {}), NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code: output.code, stdout: decode(output.stdout), stderr: decode(output.stderr) };
}

/** An apt-get that notes its arguments and installs programs that do nothing. */
function stubApt(dir: string, programs: readonly string[]): Promise<string> {
  return stubProgram(
    dir,
    "apt-get",
    `echo "$DEBIAN_FRONTEND $*" >>${dir}/apt.log
[ "$1" = install ] || [ "$2" = install ] || exit 0
for program in ${
      programs.join(" ")
    }; do printf '#!/bin/sh\\n' >${dir}/$program; /bin/chmod 755 ${dir}/$program; done`,
  );
}

const PROGRAMS = packagesFor("build").flatMap(({ has }) => has as readonly string[]);

/** Stand-ins for all programs of builds but `lacking`. */
async function stubPrograms(dir: string, lacking: readonly string[]): Promise<void> {
  for (const program of PROGRAMS.filter((each) => !lacking.includes(each))) {
    await stubProgram(dir, program, "");
  }
}

Deno.test("setup is silent and calls no apt when nothing is missing", () =>
  tempDir(async (dir) => {
    await stubApt(dir, []);
    await stubPrograms(dir, []);
    assert.deepEqual(await setup(dir, ["--for", "build"]), { code: 0, stdout: "", stderr: "" });
    await assert.rejects(Deno.stat(`${dir}/apt.log`), Deno.errors.NotFound);
  }));

Deno.test("setup updates and installs what is missing, in one transaction without questions", {
  ignore: unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const lacking = ["openssl", "zstd"];
    await stubApt(dir, lacking);
    await stubPrograms(dir, lacking);
    const { code, stdout, stderr } = await setup(dir, ["--for", "build"]);
    assert.deepEqual({ code, stdout }, { code: 0, stdout: "" }, stderr);
    assert.match(stderr, /^\[\*\] Installing openssl, zstd$/m);
    assert.deepEqual((await Deno.readTextFile(`${dir}/apt.log`)).trim().split("\n"), [
      "noninteractive update",
      "noninteractive install --yes --no-install-recommends --option DPkg::Lock::Timeout=600 " +
      "openssl zstd",
    ]);
    assert.deepEqual(await setup(dir, ["--for", "build"]), { code: 0, stdout: "", stderr: "" });
  }));

Deno.test(
  "setup goes on when a source cannot be updated",
  { ignore: unprivileged() },
  () =>
    tempDir(async (dir) => {
      await stubPrograms(dir, ["openssl"]);
      await stubProgram(
        dir,
        "apt-get",
        `[ "$1" = update ] && { echo 'E: no Release file' >&2; exit 100; }
printf '#!/bin/sh\\n' >${dir}/openssl; /bin/chmod 755 ${dir}/openssl`,
      );
      const { code, stderr } = await setup(dir, ["--for", "build"]);
      assert.equal(code, 0, stderr);
      assert.match(
        stderr,
        /^\[W\] apt-get failed with exit code 100: E: no Release file\n\[W\] apt-get update$/m,
      );
    }),
);

Deno.test(
  "setup fails when the packages do not have what they should",
  { ignore: unprivileged() },
  () =>
    tempDir(async (dir) => {
      await stubProgram(dir, "apt-get", "exit 0");
      const { code, stderr } = await setup(dir, ["--for", "build"]);
      assert.equal(code, 1);
      assert.match(stderr, /^\[E\] Cannot find .*qemu-img \(Debian: qemu-utils\).* after the installation$/m);
    }),
);

Deno.test("setup without apt prints programs and packages", () =>
  tempDir(async (dir) => {
    const { code, stderr } = await setup(dir, [], { CI: "true" });
    assert.equal(code, 1);
    assert.match(stderr, /no apt-get/);
    assert.match(stderr, /mcopy \(Debian: mtools\)/);
    // CI asks for the tests' packages too.
    assert.match(stderr, /qemu-system-aarch64 \(Debian: qemu-system-arm\)/);
  }));

Deno.test("setup without root says what root would run", () =>
  tempDir(async (dir) => {
    await stubApt(dir, PROGRAMS);
    // Where user namespaces are forbidden no other user could read Deno's files.
    const script = `Deno.uid = () => 1000; await lib.runTask(() => setup.setUp("build"));`;
    const url = new URL("../../tasks/setup.ts", import.meta.url).href;
    const { code, stderr } = await evaluate(
      "../tasks/task.ts",
      `import * as setup from "${url}"; ${script}`,
      {
        PATH: dir,
      },
    );
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^\[E\] Cannot install .*openssl.*: not running as root\n.*sudo apt-get install .*openssl/m,
    );
    await assert.rejects(Deno.stat(`${dir}/apt.log`), Deno.errors.NotFound);
  }));

Deno.test("setup refuses what it does not know", () =>
  tempDir(async (dir) => {
    const purpose = await setup(dir, ["--for", "fun"]);
    assert.equal(purpose.code, 2);
    assert.match(purpose.stderr, /--for=fun\n.*build, demo, test/);
    const flag = await setup(dir, ["--frob"]);
    assert.equal(flag.code, 2);
    assert.match(flag.stderr, /--frob/);
    const help = await setup(dir, ["--help"]);
    assert.equal(help.code, 0);
    assert.match(help.stdout, /--for build/);
  }));

/** Enters a tree with /proc and /dev, and with the machine's network. */
const ENTER = `set -eu
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$@"`;

for (const [suite, release] of [["bookworm", 12], ["trixie", 13]] as const) {
  Deno.test(`setup makes a fresh Debian ${release} ready to build, and the unit tests pass there`, {
    ignore: unprivileged() || missing("mmdebstrap", "unshare", "chroot"),
  }, () =>
    tempDir(async (dir) => {
      const fresh = await cached(`fresh-${suite}`, { version: 1 }, async (tree) => {
        await quiet`mmdebstrap --quiet --variant=minbase --mode=root ${suite} ${tree}`;
      });
      const machine = await copyTree(fresh, `${dir}/machine`);
      await quiet`cp ${Deno.execPath()} ${machine}/usr/bin/deno`;
      await quiet`cp --dereference /etc/resolv.conf /etc/hosts ${machine}/etc/`;
      const { npmCache } = JSON.parse(await quiet`${Deno.execPath()} info --json`);
      await quiet`mkdir -p ${machine}/root/.cache/deno ${machine}/project`;
      await quiet`cp -r ${npmCache} ${machine}/root/.cache/deno/npm`;
      const names = (await Array.fromAsync(Deno.readDir(PROJECT))).map(({ name }) => name);
      await quiet`cp -r ${
        names.filter((name) => name !== ".git").map((name) => PROJECT + name)
      } ${machine}/project`;
      const run = async (...command: string[]) => {
        const environment = ["HOME=/root", "PATH=/usr/bin:/bin", "NO_COLOR=1"];
        const output = await new Deno.Command("unshare", {
          args: ["--mount", "sh", "-c", ENTER, "enter", machine, "env", "-i", ...environment, ...command],
        }).output();
        const [stdout, stderr] = [output.stdout, output.stderr].map((bytes) =>
          new TextDecoder().decode(bytes)
        );
        return { code: output.code, stdout: stdout!, stderr: stderr! };
      };
      const setUp = ["deno", ...FLAGS, "/project/tasks/setup.ts"];
      const first = await run(...setUp, "--for", "build");
      assert.equal(first.code, 0, first.stderr);
      assert.match(first.stderr, /Installing .*dosfstools/);
      assert.deepEqual(await run(...setUp, "--for", "build"), { code: 0, stdout: "", stderr: "" });
      // Also where a user's PATH lacks /usr/sbin, as above.
      assert.equal((await run("/usr/sbin/mke2fs", "-V")).code, 0);
      const build = "task --quiet --cwd /project build part-image --input /etc --output /part.img";
      const built = await run("deno", ...build.split(" "));
      assert.equal(built.code, 0, built.stderr);
      const tests = await run("deno", "task", "--quiet", "--cwd", "/project", "test:unit");
      assert.equal(tests.code, 0, tests.stdout.slice(-4000));
    }));
}
