import assert from "node:assert/strict";
import { relative } from "node:path";
import { findTree, isUpToDate, runJobs } from "../../../lib/cli/jobs.ts";
import { parseProject } from "../../../lib/cli/raptor.ts";
import { BuildError } from "../../../lib/core/error.ts";
import { $ } from "../../../lib/system/sh.ts";
import { tempDir } from "../../lab/helpers.ts";

const jobsIn = (dir: string) => `
[raptor.link]
rbuild = "raptor-builders"
book = "linked/book"
[run.a]
target = "$rbuild.disk-image"
input = "test"
output = "${dir}/a.img"
[run.b]
target = "$rbuild.part-image"
input = "$book.nested.ssh"
output = "${dir}/b.img"
cache = "${dir}/cache"
args = ["--input=/input", "--sbom", "/cache/sbom.json", "--label=/cache"]
[run.b.env]
FREE_MB = "1"
DIRECTORY = "/cache/of/the/tree"
MANIFEST = "/cache/a/../manifest.json"
VERITY_DIR = "/cache"
`;

const project = (dir: string) =>
  parseProject(jobsIn(dir), `${dir}/Raptor.toml`, ["disk-image", "part-image"]);
const NONE: ReadonlyMap<string, string> = new Map();

Deno.test("findTree() takes the directory before an archive, and says what it passed over", async () => {
  await tempDir(async (dir) => {
    const { jobs: [job] } = project(dir);
    const find = () => findTree(project(dir), job!, NONE);
    await assert.rejects(find, (error) => {
      assert.ok(error instanceof BuildError);
      assert.equal(error.kind, "usage");
      assert.equal(error.message, 'Cannot find the tree of input "test" for the job a');
      assert.equal(
        error.hint,
        `Put it at ${dir}/test (a directory) or ${dir}/test.tar, or give --input 'test=PATH'`,
      );
      return true;
    });
    await Deno.writeTextFile(`${dir}/test.tar.zst`, "");
    assert.deepEqual(await find(), { path: `${dir}/test.tar.zst`, ignored: [] });
    await Deno.writeTextFile(`${dir}/test.tar.gz`, "");
    assert.deepEqual(await find(), { path: `${dir}/test.tar.gz`, ignored: [`${dir}/test.tar.zst`] });
    await Deno.mkdir(`${dir}/test`);
    assert.equal((await find()).path, `${dir}/test`);
  });
});

Deno.test("findTree() follows links of [raptor.link], and --input before all", async () => {
  await tempDir(async (dir) => {
    const { jobs: [, job] } = project(dir);
    await Deno.mkdir(`${dir}/linked/book/nested/ssh`, { recursive: true });
    assert.equal((await findTree(project(dir), job!, NONE)).path, `${dir}/linked/book/nested/ssh`);
    const given = new Map([["$book.nested.ssh", dir]]);
    assert.equal((await findTree(project(dir), job!, given)).path, dir);
    await assert.rejects(
      findTree(project(dir), job!, new Map([["$book.nested.ssh", `${dir}/gone`]])),
      { kind: "usage", message: `Cannot find the tree "${dir}/gone" of input "$book.nested.ssh"` },
    );
  });
});

/** Dates a file `seconds` after (or before) now. */
async function date(path: string, seconds: number): Promise<void> {
  const time = Date.now() / 1000 + seconds;
  await Deno.utime(path, time, time);
}

Deno.test("isUpToDate() compares the image with the newest entry of the tree", async (t) => {
  await tempDir(async (dir) => {
    const [image, tree] = [`${dir}/image`, `${dir}/tree`];
    await Deno.mkdir(`${tree}/etc/deep`, { recursive: true });
    await Deno.writeTextFile(`${tree}/etc/deep/file`, "");
    await $`sh -c ${'touch "$1/$(printf "caf\\351")"'} sh ${tree}`;
    await t.step("no image", async () => assert.equal(await isUpToDate(image, [tree]), false));
    await Deno.writeTextFile(image, "image");
    await date(image, 60);
    await t.step("a newer image", async () => assert.equal(await isUpToDate(image, [tree]), true));
    await t.step("a newer file deep inside", async () => {
      await date(`${tree}/etc/deep/file`, 120);
      assert.equal(await isUpToDate(image, [tree]), false);
    });
    await t.step("a file that was changed, but dated back", async () => {
      await date(image, -60);
      await date(`${tree}/etc/deep/file`, -1000);
      assert.equal(await isUpToDate(image, [tree]), false);
    });
    await t.step("a newer Raptor.toml", async () => {
      await date(image, 60);
      await Deno.writeTextFile(`${dir}/Raptor.toml`, "");
      assert.equal(await isUpToDate(image, [tree, `${dir}/Raptor.toml`]), true);
      await date(`${dir}/Raptor.toml`, 120);
      assert.equal(await isUpToDate(image, [tree, `${dir}/Raptor.toml`]), false);
    });
    await t.step("an archive, and a tree behind a symlink", async () => {
      await Deno.writeTextFile(`${dir}/tree.tar`, "");
      await Deno.symlink(tree, `${dir}/link`);
      assert.equal(await isUpToDate(image, [`${dir}/tree.tar`, `${dir}/link`]), true);
      await date(`${tree}/etc`, 120);
      assert.equal(await isUpToDate(image, [`${dir}/link`]), false);
      await date(`${tree}/etc`, -120);
    });
    await t.step("what a failed build leaves: an empty image", async () => {
      await Deno.truncate(image, 0);
      await date(image, 60);
      assert.equal(await isUpToDate(image, [tree]), false);
    });
    await t.step("what a failed build leaves: an image of 1970", async () => {
      await Deno.writeTextFile(image, "image");
      await Deno.utime(image, 0, 0);
      assert.equal(await isUpToDate(image, []), false);
    });
    await t.step("a directory in place of an image", async () => {
      await Deno.mkdir(`${dir}/directory`);
      await Deno.writeTextFile(`${dir}/directory/file`, "");
      await date(`${dir}/directory`, 60);
      assert.equal(await isUpToDate(`${dir}/directory`, []), false);
    });
    await t.step("a source that is gone", async () => {
      await date(image, 60);
      assert.equal(await isUpToDate(image, [`${dir}/gone`]), false);
    });
  });
});

/** Runs the jobs with a builder that only writes down how it was called. */
async function calls(
  dir: string,
  codes: readonly number[],
  options: { force?: boolean; env?: Record<string, string>; flags?: string[] } = {},
) {
  const seen: { name: string; args: string[]; env: Record<string, string>; cache?: string }[] = [];
  const code = await runJobs(
    project(dir),
    project(dir).jobs,
    { force: options.force ?? false, given: NONE, flags: options.flags ?? [], sources: [] },
    options.env ?? {},
    async (name, args, env, { cache }) => {
      const output = args[args.indexOf("--output") + 1]!;
      await Deno.writeTextFile(output, "image");
      await date(output, 60);
      return codes[seen.push({ name, args, env, ...cache && { cache } }) - 1]!;
    },
  );
  return { code, seen };
}

Deno.test("runJobs() runs the builders with input, output and env of the jobs, then finds all up to date", async () => {
  await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/Raptor.toml`, jobsIn(dir));
    await Deno.mkdir(`${dir}/test`);
    await Deno.mkdir(`${dir}/linked/book/nested/ssh`, { recursive: true });
    const env = { OUTPUT_FORMAT: "qcow2", SOURCE_DATE_EPOCH: "1" };
    const wanted = [
      {
        name: "disk-image",
        args: ["--input", `${dir}/test`, "--output", `${dir}/a.img`, "--log=json"],
        // As with Raptor, the settings of the calling environment do not reach a job.
        env: { SOURCE_DATE_EPOCH: "1" },
      },
      {
        name: "part-image",
        args: [
          // What the container calls /cache is the job's cache; what is no file of the machine stays.
          ...["--input=/input", "--sbom", `${dir}/cache/sbom.json`, "--label=/cache"],
          ...["--input", `${dir}/linked/book/nested/ssh`, "--output", `${dir}/b.img`, "--log=json"],
        ],
        env: {
          SOURCE_DATE_EPOCH: "1",
          FREE_MB: "1",
          DIRECTORY: "/cache/of/the/tree",
          MANIFEST: `${dir}/cache/manifest.json`,
          VERITY_DIR: `${dir}/cache`,
        },
        cache: `${dir}/cache`,
      },
    ];
    const options = { env, flags: ["--log=json"] };
    assert.deepEqual(await calls(dir, [0, 0], options), { code: 0, seen: wanted });
    assert.deepEqual(await calls(dir, [], options), { code: 0, seen: [] });
    assert.deepEqual(await calls(dir, [0, 0], { ...options, force: true }), { code: 0, seen: wanted });
    // Made as Raptor makes it, and left alone when it is there.
    assert.ok((await Deno.stat(`${dir}/cache`)).isDirectory);
  });
});

for (const failure of [1, 2, 130, 143]) {
  Deno.test(`runJobs() stops at the first failure and returns its exit code: ${failure}`, async () => {
    await tempDir(async (dir) => {
      await Deno.mkdir(`${dir}/test`);
      await Deno.mkdir(`${dir}/linked/book/nested/ssh`, { recursive: true });
      const { code, seen } = await calls(dir, [failure]);
      assert.equal(code, failure);
      assert.deepEqual(seen.map(({ name }) => name), ["disk-image"]);
    });
  });
}

Deno.test("runJobs() looks for all trees before it builds anything", async () => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/test`);
    await assert.rejects(
      calls(dir, [0, 0]),
      /Cannot find the tree of input "\$book\.nested\.ssh" for the job b/,
    );
    await assert.rejects(Deno.stat(`${dir}/a.img`), Deno.errors.NotFound);
  });
});

Deno.test("runJobs() refuses two jobs that write to one file under different names", async (t) => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/test`);
    await Deno.mkdir(`${dir}/linked/book/nested/ssh`, { recursive: true });
    await Deno.mkdir(`${dir}/images`);
    await Deno.symlink("images", `${dir}/link`);
    await Deno.writeTextFile(`${dir}/images/old.img`, "image");
    await Deno.link(`${dir}/images/old.img`, `${dir}/images/same.img`);
    await Deno.symlink("new.img", `${dir}/images/dangling.img`);
    const run = async (first: string, second: string) => {
      const text = jobsIn(dir).replace(`${dir}/a.img`, first).replace(`${dir}/b.img`, second);
      const read = parseProject(text, `${dir}/Raptor.toml`, ["disk-image", "part-image"]);
      const options = { force: false, given: NONE, flags: [], sources: [] };
      const names: string[] = [];
      // Of two jobs, the image of the one that is left out would be up to date later.
      await runJobs(read, read.jobs.slice(1), options, {}, (name) => Promise.resolve(names.push(name) - 1));
      return names;
    };
    const here = relative(Deno.cwd(), dir);
    for (
      const [name, first, second] of [
        ["relative and absolute", `${here}/new.img`, `${dir}/new.img`],
        ["through a directory that is a symlink", `${dir}/images/new.img`, `${dir}/link/new.img`],
        ["through a symlink to no file yet", `${dir}/images/new.img`, `${dir}/link/dangling.img`],
        ["a hard link", `${dir}/images/old.img`, `${dir}/images/same.img`],
      ] as const
    ) {
      await t.step(name, () =>
        assert.rejects(run(first, second), {
          kind: "usage",
          message: `Cannot use "${dir}/Raptor.toml": run.a ("${first}") and run.b ("${second}") ` +
            "write to the same file",
          hint: "Name another output for run.b",
        }));
    }
    await t.step("but not two files", async () => {
      assert.deepEqual(await run(`${dir}/images/new.img`, `${dir}/images/old.img`), ["part-image"]);
    });
  });
});
