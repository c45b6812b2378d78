import assert from "node:assert/strict";
import { parseProject, selectJobs } from "../../../lib/cli/raptor.ts";
import { BuildError } from "../../../lib/core/error.ts";

const BUILDERS = ["disk-image", "part-image"];
const EXAMPLE = await Deno.readTextFile(new URL("../../../examples/Raptor.toml", import.meta.url));

/** The example as the documentation has it: the link is what a person calls the checkout. */
const DOCUMENTED = EXAMPLE.replace('rbuild = ".."', 'rbuild = "raptor-builders"');

const parse = (text: string, path = "/project/Raptor.toml") => parseProject(text, path, BUILDERS);

/** A file with one job for us, of which single lines are replaced or added. */
function file(lines: Record<string, string | undefined>): string {
  const job = { target: '"$rbuild.disk-image"', input: '"test"', output: '"disk.img"', ...lines };
  const text = Object.entries(job).filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} = ${value}`);
  return `[raptor.link]\nrbuild = "raptor-builders"\n[run.disk1]\n${text.join("\n")}\n`;
}

/** What jobs have in common that leave all out that may be left out. */
const PLAIN = { input: "test", args: [], env: {} };

Deno.test("parseProject() reads the documentation's example", { permissions: "none" }, () => {
  const target = (builder: string) => ({
    builder,
    target: `$rbuild.${builder}`,
    file: `/raptor-builders/${builder}.rapt`,
  });
  assert.deepEqual(parse(DOCUMENTED, "/Raptor.toml"), {
    path: "/Raptor.toml",
    folder: "/",
    links: new Map([["rbuild", "raptor-builders"]]),
    jobs: [
      { ...PLAIN, ...target("disk-image"), name: "disk1", output: "disk.img" },
      {
        ...PLAIN,
        ...target("disk-image"),
        name: "disk2",
        output: "disk.qcow2",
        env: { OUTPUT_FORMAT: "qcow2" },
      },
      { ...PLAIN, ...target("part-image"), name: "part1", output: "part.img" },
    ],
    others: new Map(),
    groups: new Map(),
    warnings: [],
  });
});

Deno.test("parseProject() takes what Raptor takes", { permissions: "none" }, () => {
  const project = parse(
    `
    [raptor.link]
    rbuild = ".."
    book = "/srv/book"
    out = "build/images"
    [run.live]
    target = "$rbuild.deblive"
    cache = "cache2"
    input = ["test", "other"]
    output = "live.iso"
    [run.elsewhere]
    target = "$unlinked.builder"
    [run.shell]
    target = "$rbuild.disk-image"
    entrypoint = ["/bin/sh"]
    [run.nested]
    target = "$rbuild.images.disk-image"
    input = "test"
    output = "nested.img"
    [run.image]
    target = "$rbuild.disk-image"
    cache = ["$out/cache"]
    state-dir = "state"
    input = "$book.ssh"
    output = ["$out/a.img"]
    args = ["--efi-mb=64"]
    env = { EFI_MB = "64" }
    [run.absolute]
    target = "$.part-image"
    input = "test"
    output = "./x/$book/../part.img"
    [run.plain]
    target = "raptor-builders.part-image"
    input = "test"
    output = "out/part.img"
    [group.all]
    run = ["live", "image"]
    build = ["test"]
  `,
    "/project/sub/Raptor.toml",
  );
  const job = (name: string, builder: string, file: string, output: string) => ({
    ...PLAIN,
    ...{ name, builder, file, output },
  });
  assert.deepEqual(project.jobs, [
    {
      ...job("nested", "disk-image", "/project/images/disk-image.rapt", "nested.img"),
      target: "$rbuild.images.disk-image",
    },
    {
      ...job("image", "disk-image", "/project/disk-image.rapt", "build/images/a.img"),
      target: "$rbuild.disk-image",
      input: "$book.ssh",
      cache: "build/images/cache",
      args: ["--efi-mb=64"],
      env: { EFI_MB: "64" },
    },
    {
      ...job("absolute", "part-image", "/project/sub/part-image.rapt", "/srv/part.img"),
      target: "$.part-image",
    },
    {
      ...job("plain", "part-image", "/project/sub/raptor-builders/part-image.rapt", "out/part.img"),
      target: "raptor-builders.part-image",
    },
  ]);
  assert.deepEqual(Object.fromEntries(project.others), {
    live: '"$rbuild.deblive" is not one of our builders',
    elsewhere: '"$unlinked.builder" is not one of our builders',
    shell: 'it runs "/bin/sh" in the container of disk-image',
  });
  assert.deepEqual([...project.groups], [["all", { run: ["live", "image"], build: ["test"] }]]);
  assert.deepEqual(project.warnings, []);
});

Deno.test("parseProject() warns of keys that Raptor ignores, with the one that was meant", {
  permissions: "none",
}, () => {
  const text = file({ outputs: '"x"', state_dir: '"s"', '"\\u001b[2J"': "1" }) +
    "[groups.a]\n[group.b]\nrum = []\n";
  assert.deepEqual(parse(text).warnings, [
    "/project/Raptor.toml: Raptor ignores groups: did you mean group?",
    "/project/Raptor.toml: Raptor ignores group.b.rum: did you mean run?",
    "/project/Raptor.toml: Raptor ignores run.disk1.outputs: did you mean output?",
    "/project/Raptor.toml: Raptor ignores run.disk1.state_dir: did you mean state-dir?",
    '/project/Raptor.toml: Raptor ignores run.disk1."\\u001b[2J"',
  ]);
});

Deno.test(
  "parseProject() starts links and modules at the folder of the file, outputs at the current one",
  { permissions: "none" },
  () => {
    const [job] = parse(DOCUMENTED, "examples/Raptor.toml").jobs;
    assert.equal(job?.output, "disk.img");
    assert.ok(job?.file.endsWith("/examples/raptor-builders/disk-image.rapt"));
  },
);

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
    text: file({ target: '"$ours.disk-image"' }),
    message: /: run\.disk1\.target = "\$ours\.disk-image" uses a link that is not in \[raptor\.link\]$/,
    hint: 'Write ours = "raptor-builders" below [raptor.link]',
  },
  {
    name: "a link that is misspelt",
    text: file({ target: '"$rbuilt.disk-image"' }),
    message: /: run\.disk1\.target = "\$rbuilt\.disk-image" uses a link that is not in \[raptor\.link\]$/,
    hint: "Did you mean $rbuild?",
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
    message: /: run\.disk1\.input has 2 entries, but the builder accepts only one$/,
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
    name: "arguments that are no list",
    text: file({ args: '"--help"' }),
    message: /: run\.disk1\.args = … is not a list$/,
    hint: "Write args = […]",
  },
  { name: "two caches", text: file({ cache: '["a", "b"]' }), message: /cache has 2 entries/ },
  { name: "a state directory that is no text", text: file({ "state-dir": "1" }), message: /not a string$/ },
  {
    name: "an output below a link that is not there",
    text: file({ output: '"$out/disk.img"' }),
    message: /: run\.disk1\.output = "\$out\/disk\.img" uses a link that is not in \[raptor\.link\]$/,
  },
  { name: "no links", text: "[raptor]\n", message: /: \[raptor\] has no links$/ },
  {
    name: "a group that is no list",
    text: '[group.a]\nrun = "b"\n',
    message: /group\.a\.run = "b" is not a list$/,
  },
  {
    name: "a setting that is no text",
    text: file({ "env.EFI_MB": "64" }),
    message: /: run\.disk1\.env\.EFI_MB = 64 is not a string$/,
    hint: 'Write env.EFI_MB = "64"',
  },
  { name: "a setting that is a table", text: file({ "env.EFI_MB": "{ a = 1 }" }), message: /not a string$/ },
  {
    name: "two jobs with one output, spelled differently",
    text: file({}) + '[run.b]\ntarget = "$rbuild.part-image"\ninput = "test"\noutput = "./disk.img"\n',
    message: /: run\.disk1 and run\.b both write "disk\.img"$/,
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
[group.layers]
run = ["disk1"]
build = ["test"]
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
    hint: "Did you mean disk1?",
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
    hint: "Its groups are %layers, %images, %mixed",
  },
  {
    asked: "%layers",
    message: 'Cannot build the layers of the group "%layers": test',
    hint: 'Run it with "raptor make %layers", or name its jobs: disk1',
  },
  {
    asked: "constructor",
    message: 'Cannot find the job "constructor" in "/project/Raptor.toml"',
    hint: "Its jobs are disk1, disk2, part1",
  },
  {
    asked: "%toString",
    message: 'Cannot find the group "%toString" in "/project/Raptor.toml"',
    hint: "Its groups are %layers, %images, %mixed",
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
