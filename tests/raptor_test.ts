import assert from "node:assert/strict";
import { BuildError } from "../lib/error.ts";
import { parseProject, selectJobs } from "../lib/raptor.ts";

const BUILDERS = ["disk-image", "part-image"];
const EXAMPLE = await Deno.readTextFile(new URL("../examples/Raptor.toml", import.meta.url));

const parse = (text: string, path = "/project/Raptor.toml") => parseProject(text, path, BUILDERS);

/** A file with one job for us, of which single lines are replaced or added. */
function file(lines: Record<string, string | undefined>): string {
  const job = { target: '"$rbuild.disk-image"', input: '"test"', output: '"disk.img"', ...lines };
  const text = Object.entries(job).filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} = ${value}`);
  return `[raptor.link]\nrbuild = "raptor-builders"\n[run.disk1]\n${text.join("\n")}\n`;
}

Deno.test("parseProject() reads the documentation's example", { permissions: "none" }, () => {
  assert.deepEqual(parse(EXAMPLE), {
    path: "/project/Raptor.toml",
    folder: "/project",
    links: new Map([["rbuild", "raptor-builders"]]),
    jobs: [
      { name: "disk1", builder: "disk-image", input: "test", output: "/project/disk.img", env: {} },
      {
        name: "disk2",
        builder: "disk-image",
        input: "test",
        output: "/project/disk.qcow2",
        env: { OUTPUT_FORMAT: "qcow2" },
      },
      { name: "part1", builder: "part-image", input: "test", output: "/project/part.img", env: {} },
    ],
    others: new Map(),
    groups: new Map(),
  });
});

Deno.test(
  "parseProject() takes our jobs only, and what Raptor allows besides",
  { permissions: "none" },
  () => {
    const project = parse(`
    [raptor.link]
    rbuild = ".."
    book = "/srv/book"
    [run.live]
    target = "$rbuild.deblive"
    cache = "cache2"
    input = ["test", "other"]
    output = "live.iso"
    [run.elsewhere]
    target = "$unlinked.builder"
    [run.nested]
    target = "$rbuild.images.disk-image"
    [run.image]
    target = "$rbuild.disk-image"
    cache = "cache2"
    state-dir = "state"
    input = "$book.ssh"
    output = ["/srv/../srv/disk.img"]
    env = { EFI_MB = "64" }
    [run.plain]
    target = "part-image"
    input = "test"
    output = "out/part.img"
    [group.all]
    run = ["live", "image"]
  `);
    assert.deepEqual(project.jobs, [
      {
        name: "image",
        builder: "disk-image",
        input: "$book.ssh",
        output: "/srv/disk.img",
        env: { EFI_MB: "64" },
      },
      { name: "plain", builder: "part-image", input: "test", output: "/project/out/part.img", env: {} },
    ]);
    assert.deepEqual(Object.fromEntries(project.others), {
      live: "$rbuild.deblive",
      elsewhere: "$unlinked.builder",
      nested: "$rbuild.images.disk-image",
    });
    assert.deepEqual([...project.groups], [["all", ["live", "image"]]]);
  },
);

Deno.test("parseProject() resolves paths against the folder of the file", { permissions: "none" }, () => {
  assert.equal(parse(EXAMPLE, "Raptor.toml").jobs[0]?.output, "disk.img");
  assert.equal(parse(EXAMPLE, "examples/Raptor.toml").jobs[0]?.output, "examples/disk.img");
});

Deno.test.each([
  {
    name: "a syntax error, with its line",
    text: "[run.disk1]\ntarget = = 1\n",
    message: 'Cannot read "/project/Raptor.toml": line 2, column 10: invalid value',
  },
  {
    name: "a job that is twice there",
    text: "[run.a]\n[run.a]\n",
    message: /^Cannot read ".*": line 2, column \d+: /,
  },
  {
    name: "no target",
    text: file({ target: undefined }),
    message: /: run\.disk1\.target is missing$/,
    hint: 'Write target = "$rbuild.disk-image"',
  },
  {
    name: "a link that is not there",
    text: file({ target: '"$rbuilt.disk-image"' }),
    message: /: run\.disk1\.target = "\$rbuilt\.disk-image" names no link of \[raptor\.link\]$/,
    hint: 'Write rbuilt = "raptor-builders" below [raptor.link]',
  },
  {
    name: "no input",
    text: file({ input: undefined }),
    message: /: run\.disk1\.input is missing or empty$/,
    hint: 'Write input = "test"',
  },
  { name: "an empty list of inputs", text: file({ input: "[]" }), message: /input is missing or empty$/ },
  {
    name: "two inputs",
    text: file({ input: '["a", "b"]' }),
    message: /: run\.disk1\.input has 2 entries, and the builder takes one$/,
  },
  {
    name: "an input that is no text",
    text: file({ input: "[1]" }),
    message: /: run\.disk1\.input = 1 is not a string$/,
  },
  {
    name: "no output",
    text: file({ output: undefined }),
    message: /: run\.disk1\.output is missing or empty$/,
    hint: 'Write output = "disk.img"',
  },
  {
    name: "an unknown key",
    text: file({ outputs: '"disk.img"' }),
    message: /: run\.disk1\.outputs is not known$/,
    hint: /^A job has target, cache, input, output/,
  },
  {
    name: "a setting that is no text",
    text: file({ "env.EFI_MB": "64" }),
    message: /: run\.disk1\.env\.EFI_MB = 64 is not a string$/,
    hint: 'Write env.EFI_MB = "64"',
  },
  { name: "a setting that is a table", text: file({ "env.EFI_MB": "{ a = 1 }" }), message: /not a string$/ },
  {
    name: "another command",
    text: file({ args: '["--help"]' }),
    message: /: run\.disk1 replaces the command of the builder by "--help"$/,
  },
  {
    name: "two jobs with one output, spelled differently",
    text: file({}) + '[run.b]\ntarget = "$rbuild.part-image"\ninput = "test"\noutput = "./disk.img"\n',
    message: /: run\.disk1 and run\.b both write "\/project\/disk\.img"$/,
  },
  { name: "a run that is no table", text: "run = 1\n", message: /: run = 1 is not a table$/ },
  { name: "a link that is no text", text: "[raptor.link]\na = 1\n", message: /: raptor\.link\.a = 1 is not/ },
  {
    name: "a name that is not to reach a terminal",
    text: '[run."a\\u001b[2J"]\n',
    message: /: run\."a\\u001b\[2J"\.target is missing$/,
  },
])("parseProject() names what is wrong: $name", { permissions: "none" }, ({ text, message, hint }) => {
  assert.throws(() => parse(text), (error) => {
    assert.ok(error instanceof BuildError, String(error));
    assert.equal(error.kind, "usage");
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    if (typeof hint === "string") assert.equal(error.hint, hint);
    else if (hint) assert.match(error.hint ?? "", hint);
    return true;
  });
});

const GROUPS = `
[run.live]
target = "$rbuild.deblive"
[group.images]
run = ["disk2", "disk1", "disk2"]
[group.mixed]
run = ["live"]
`;

Deno.test.each([
  { asked: [], names: ["disk1", "disk2", "part1"] },
  { asked: ["disk2", "disk1"], names: ["disk2", "disk1"] },
  { asked: ["run.part1", "part1"], names: ["part1"] },
  { asked: ["%images", "part1"], names: ["disk2", "disk1", "part1"] },
])("selectJobs() takes $asked as $names", { permissions: "none" }, ({ asked, names }) => {
  assert.deepEqual(selectJobs(parse(EXAMPLE + GROUPS), asked).map((job) => job.name), names);
});

Deno.test.each([
  {
    asked: "disk9",
    message: 'Cannot find the job "disk9" in "/project/Raptor.toml"',
    hint: "Its jobs are disk1, disk2, part1",
  },
  {
    asked: "live",
    message: 'Cannot run the job "live": "$rbuild.deblive" is not one of our builders',
    hint: 'Run it with "raptor make live"',
  },
  {
    asked: "%mixed",
    message: 'Cannot run the job "live": "$rbuild.deblive" is not one of our builders',
    hint: 'Run it with "raptor make live"',
  },
  {
    asked: "%none",
    message: 'Cannot find the group "%none" in "/project/Raptor.toml"',
    hint: "Its groups are %images, %mixed",
  },
  {
    asked: "constructor",
    message: 'Cannot find the job "constructor" in "/project/Raptor.toml"',
    hint: "Its jobs are disk1, disk2, part1",
  },
  {
    asked: "%toString",
    message: 'Cannot find the group "%toString" in "/project/Raptor.toml"',
    hint: "Its groups are %images, %mixed",
  },
])("selectJobs() explains why it cannot run $asked", { permissions: "none" }, ({ asked, message, hint }) => {
  const project = parse(EXAMPLE + GROUPS);
  assert.throws(() => selectJobs(project, [asked]), { name: "BuildError", kind: "usage", message, hint });
});

Deno.test("selectJobs() finds nothing to do in a file without jobs for us", { permissions: "none" }, () => {
  assert.throws(() => selectJobs(parse(""), []), {
    kind: "usage",
    message: 'Cannot find a job for our builders in "/project/Raptor.toml"',
  });
});
