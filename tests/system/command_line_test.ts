import assert from "node:assert/strict";
import { BUILDERS } from "../../builders/mod.ts";
import { FLAGS } from "../../lib/cli/cli.ts";
import { JOB_FLAGS } from "../../lib/cli/suite.ts";
import { readSettings } from "../../lib/plan/read-settings.ts";
import { flagOf, type SettingName, settingOf, SETTINGS } from "../../lib/plan/settings.ts";
import { manPage, settingsSchema } from "../../tasks/command-line.ts";
import { missing, quiet, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const NAMES = Object.keys(SETTINGS) as SettingName[];

/** What is typed, with `\t` for the tabulator, and what the command gets. */
const TYPED: readonly [typed: string, got: string[]][] = [
  ["disk-im\\t--output-format=vd\\t", ["disk-image", "--output-format=vdi"]],
  ["part-i\\t--labe\\tx", ["part-image", "--label=x"]],
  ["disk-image --keep=all,host-k\\t", ["disk-image", "--keep=all,host-keys"]],
  ["disk-image --output=Rapt\\t", ["disk-image", "--output=Raptor.toml"]],
  ["run-o\\t--forc\\t", ["run-of-mine", "--force"]],
];

/** Gives `fn` a directory with a Raptor.toml that has one job. */
async function withJob<T>(fn: (dir: string) => Promise<T>): Promise<T> {
  return await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/Raptor.toml`, '[run.run-of-mine]\ntarget = "$x.disk-image"\n');
    return await fn(dir);
  });
}

async function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; stdin?: string; env?: Record<string, string>; clearEnv?: boolean } = {},
): Promise<{ code: number; out: string; err: string }> {
  const { stdin = "", ...rest } = options;
  const child = new Deno.Command(program, {
    args: [...args],
    ...rest,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  await new Blob([stdin]).stream().pipeTo(child.stdin).catch(() => {});
  const { code, stdout, stderr } = await output;
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

/** The arguments of each call, printed as `GOT:one;GOT:two;`. */
function calls(output: string): string[][] {
  return output.split("\n").filter((line) => line.includes("GOT:"))
    .map((line) => [...line.matchAll(/GOT:([^;]*);/g)].map(([, word]) => word!));
}

Deno.test("bash completes builders, jobs, flags, values and files on a terminal", {
  ignore: missing("bash", "script"),
}, () =>
  withJob(async (dir) => {
    const rc = `PS1=; raptor-builders() { printf 'GOT:%s;' "$@"; echo; }
      source ${ROOT}completions/raptor-builders.bash`;
    await Deno.writeTextFile(`${dir}/rc`, rc);
    const lines = TYPED.map(([typed]) => `raptor-builders ${typed.replaceAll("\\t", "\t")}\n`);
    const { out } = await run(
      "script",
      ["--quiet", "--return", "--command", `bash --noprofile --rcfile ${dir}/rc -i`, "/dev/null"],
      { cwd: dir, stdin: `${lines.join("")}exit\n`, env: { TERM: "dumb", INPUTRC: "/dev/null" } },
    );
    assert.deepEqual(calls(out), TYPED.map(([, got]) => got), out);
  }));

Deno.test("zsh completes builders, jobs, flags, values and files on a terminal", {
  ignore: missing("zsh"),
}, () =>
  withJob(async (dir) => {
    const args = [
      "-f",
      `${ROOT}tests/lab/complete.zsh`,
      `${ROOT}completions`,
      ...TYPED.map(([typed]) => typed),
    ];
    const { out, err } = await run("zsh", args, { cwd: dir });
    assert.deepEqual(calls(out), TYPED.map(([, got]) => got), out + err);
  }));

Deno.test(
  "fish completes builders, jobs, flags, values and files",
  { ignore: missing("fish") },
  () =>
    withJob(async (dir) => {
      const complete = async (line: string) => {
        const script = `source ${ROOT}completions/raptor-builders.fish; complete -C $argv[1]`;
        const env = { HOME: dir, XDG_CONFIG_HOME: dir, XDG_DATA_HOME: dir };
        const { out } = await run("fish", ["--no-config", "-c", script, `raptor-builders ${line}`], {
          cwd: dir,
          env,
        });
        return out.trimEnd().split("\n").map((line) => line.split("\t")[0]!);
      };
      assert.deepEqual((await complete("")).sort(), ["disk-image", "part-image", "run-of-mine"]);
      assert.deepEqual(await complete("disk-image --output-format=vd"), ["--output-format=vdi"]);
      assert.deepEqual(await complete("disk-image --output-format vd"), ["vdi"]);
      assert.deepEqual(await complete("part-image --labe"), ["--label"]);
      assert.deepEqual(await complete("part-image --efi"), [""]);
      assert.deepEqual(await complete("disk-image --keep=all,host-k"), ["--keep=all,host-keys"]);
      assert.deepEqual(await complete("disk-image --output=Rapt"), ["--output=Raptor.toml"]);
      assert.deepEqual(await complete("run-of-mine --forc"), ["--force"]);
    }),
);

Deno.test("every builder and flag is completed by bash, zsh and fish, and is in the man page", async () => {
  const read = (name: string) => Deno.readTextFile(`${ROOT}completions/${name}`);
  const bash = await read("raptor-builders.bash");
  const zsh = await read("_raptor-builders");
  const fish = await read("raptor-builders.fish");
  const man = manPage().replaceAll("\\-", "-");
  const settings = NAMES.map((name) => flagOf(name));
  for (const flag of [...Object.keys(FLAGS), ...Object.keys(JOB_FLAGS), ...settings]) {
    assert.match(bash, new RegExp(`[' ]--${flag}[= ']`));
    assert.match(zsh, new RegExp(`'\\*?--${flag}[=[]`));
    assert.match(fish, new RegExp(` -l ${flag} `));
    assert.match(man, new RegExp(`^\\.BR? .*--${flag}\\b`, "m"));
  }
  for (const { env } of Object.values(SETTINGS)) assert.match(man, new RegExp(`^\\.BR .* ${env}$`, "m"));
  for (const name of Object.keys(BUILDERS)) {
    for (const text of [bash, zsh, fish, man]) assert.ok(text.includes(name));
  }
});

Deno.test("man and mandoc find nothing wrong with the man page", { ignore: missing("mandoc") }, async () => {
  const page = `${ROOT}docs/raptor-builders.1`;
  const { out } = await run("mandoc", ["-Tlint", page]);
  // A date would have to be changed by hand, or would differ with the day on which it is generated.
  assert.deepEqual(out.split("\n").filter((line) => line && !line.includes("missing date")), []);
  if (missing("man")) return;
  const { code, out: text, err } = await run("man", ["--warnings", "--local-file", page], {
    env: { MANWIDTH: "80", LC_ALL: "C.UTF-8" },
  });
  assert.deepEqual([code, err], [0, ""]);
  assert.match(text, /^ +--efi-mb=MIB, EFI_MB$/m);
});

/** Values of all kinds: what each setting may have, and what it may not. */
const VALUES = [
  ...NAMES.flatMap((name) => {
    const { default: value, parse }: { default?: string; parse: { schema?: { words?: readonly string[] } } } =
      SETTINGS[name] as never;
    return [...value === undefined ? [] : [value], ...parse.schema?.words ?? []];
  }),
  ...["x", "a b", "/x", "x/y", "64", "0", "007", "-1", "1.5", "64M", " 64", "1e3", "ä", "a\nb", "a\0b", "\n"],
  ...["zstd:19", "zstd:", "zstd:100", "host-keys,machine-id", "host-keys,", "all,none", "none,host-keys"],
  ...["quiet", "root=/dev/sda", "quiet root=x", "quiet noroot=x", "é", "x".repeat(256), "x".repeat(1024)],
  ...["x".repeat(1025), "x".repeat(2001), "9".repeat(12), "constructor", "RAW", "qcow2 "],
];

/** What the schema cannot say: the contents of a key or of a directory of definitions, and what is too large. */
const isBeyond = (name: SettingName, value: string) =>
  "secret" in SETTINGS[name] || name === "layout" || /^\d{10,}$/.test(value);

Deno.test("the JSON Schema takes the values that the builders take, and no others", async () => {
  const isAccepted = (name: SettingName, value: string) => {
    try {
      const [format = ""] = settingOf(name).formats ?? [];
      readSettings(["outputFormat", name], { [flagOf(name)]: value }, { OUTPUT_FORMAT: format });
      return true;
    } catch {
      return false;
    }
  };
  const cases = NAMES.flatMap((name) =>
    VALUES.filter((value) => !isBeyond(name, value)).map((value) => ({ name, value }))
  );
  assert.ok(cases.length > 1000);
  const objects: [builder: string, object: Record<string, unknown>][] = [
    ["disk-image", { EFI_MB: "64", KEEP: "host-keys" }],
    ["disk-image", { EFI_MB: 64 }],
    ["disk-image", { EFI_BM: "64" }],
    ["disk-image", { LABEL: "x" }],
    ["part-image", { LABEL: "x" }],
  ];
  await tempDir(async (dir) => {
    await Deno.writeTextFile(
      `${dir}/validate.ts`,
      `import Ajv from "npm:ajv@8.17.1/dist/2020.js";
      const { schema, cases, objects } = JSON.parse(await new Response(Deno.stdin.readable).text());
      const ajv = new Ajv.default({ strict: true, allErrors: true });
      const all = ajv.compile(schema);
      const one = (builder) => ajv.compile({ $ref: schema.$id + "#/$defs/" + builder });
      console.log(JSON.stringify([cases.map((object) => all(object)), objects.map(([builder, object]) => one(builder)(object))]));`,
    );
    const { out, err } = await run(
      Deno.execPath(),
      ["run", "--allow-all", "--no-lock", "--no-config", "--quiet", `${dir}/validate.ts`],
      {
        stdin: JSON.stringify({
          schema: { $id: "settings", ...JSON.parse(settingsSchema()) },
          cases: cases.map(({ name, value }) => ({ [SETTINGS[name].env]: value })),
          objects,
        }),
      },
    );
    assert.ok(out, err);
    const [values, jobs] = JSON.parse(out) as [boolean[], boolean[]];
    const wrong = cases.filter(({ name, value }, i) => values[i] !== isAccepted(name, value));
    assert.deepEqual(wrong, []);
    assert.deepEqual(jobs, [true, false, false, false, true]);
  });
});

const install = (prefix: string, ...flags: string[]) =>
  run(Deno.execPath(), ["task", "install", "--prefix", prefix, ...flags], {
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  });

Deno.test("deno task install makes a command that needs nothing on the PATH, and takes it away again", () =>
  tempDir(async (dir) => {
    const prefix = `${dir}/it's a "prefix" $HOME`;
    const { code, err } = await install(prefix);
    assert.equal(code, 0, err);
    assert.match(err, /^\[\*\] Installed .*\/bin\/raptor-builders, completion, and a man page$/m);
    assert.match(err, /^\[W\] .* is not on your PATH$/m);
    const command = `${prefix}/bin/raptor-builders`;
    const options = { cwd: dir, clearEnv: true, env: { PATH: "/usr/bin:/bin", HOME: Deno.env.get("HOME")! } };
    const version = await run(command, ["--version"], options);
    assert.match(version.out, /^raptor-builders \d/, version.err);

    // From where it is called, with the programs that are not on that PATH.
    await Deno.mkdir(`${dir}/tree`);
    await Deno.writeTextFile(`${dir}/tree/file`, "contents\n");
    const args = ["part-image", "--input", "tree", "--output", "part.img", "--size-mb", "8"];
    const built = await run(command, args, options);
    assert.equal(built.code, 0, built.err);
    assert.equal((await Deno.stat(`${dir}/part.img`)).size, 8 * 2 ** 20);
    // It may do no more than a builder: no network, and no other programs.
    assert.doesNotMatch(await Deno.readTextFile(command), /allow-(all|net|import)|-A\b/);

    for (const file of ["man/man1/raptor-builders.1", "fish/vendor_completions.d/raptor-builders.fish"]) {
      assert.ok((await Deno.stat(`${prefix}/share/${file}`)).size > 1000);
    }
    assert.equal((await install(prefix)).code, 0);
    assert.equal((await install(prefix, "--uninstall")).code, 0);
    assert.deepEqual((await quiet`find ${prefix} -not -type d`).trim(), "");
    assert.equal((await install(prefix, "--uninstall")).code, 0);
  }));

Deno.test("deno task install leaves alone what is not its own", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(`${dir}/bin`, "raptor-builders", "echo mine");
    for (const flags of [[], ["--uninstall"]]) {
      const { code, err } = await install(dir, ...flags);
      assert.equal(code, 1);
      assert.match(err, /^\[E\] Cannot replace ".*\/bin\/raptor-builders": it is not of this suite$/m);
    }
    assert.equal(await quiet`${`${dir}/bin/raptor-builders`}`, "mine\n");
    await assert.rejects(Deno.stat(`${dir}/share`), Deno.errors.NotFound);
  }));

Deno.test("the installed command says what to do when Deno or the checkout is gone", () =>
  tempDir(async (dir) => {
    assert.equal((await install(dir)).code, 0);
    const command = `${dir}/bin/raptor-builders`;
    const text = await Deno.readTextFile(command);
    // Without programs: Deno may lie in /usr/bin.
    const options = { clearEnv: true, env: { PATH: dir } };
    await Deno.writeTextFile(command, text.replace(/^deno=.*$/m, "deno=/nowhere/deno"));
    const deno = await run(command, ["--version"], options);
    assert.deepEqual([deno.code, deno.err.split("\n")[0]], [1, "[E] Cannot find Deno: it was /nowhere/deno"]);
    // Another one on the PATH will do.
    const bin = Deno.execPath().slice(0, Deno.execPath().lastIndexOf("/"));
    const other = await run(command, ["--version"], {
      ...options,
      env: { PATH: `${bin}:/usr/bin:/bin`, HOME: Deno.env.get("HOME")! },
    });
    assert.equal(other.code, 0, other.err);
    await Deno.writeTextFile(command, text.replace(/^script=.*$/m, "script=/nowhere/mod.ts"));
    const script = await run(command, ["--version"], options);
    assert.equal(script.code, 1);
    assert.match(
      script.err,
      /^\[E\] Cannot read \/nowhere\/mod\.ts: the checkout .*\n\[E\] Run "deno task install"/,
    );
  }));

Deno.test("an ordinary user installs into a prefix of their own, and is told where they may not", {
  ignore: unprivileged() || missing("setpriv"),
}, () =>
  tempDir(async (dir) => {
    await Deno.chmod(dir, 0o755);
    await Deno.mkdir(`${dir}/home`);
    // A checkout, a Deno, and modules that the user may read: root's may be in a home that is closed.
    const parts = ["lib", "builders", "tasks", "completions", "docs", "deno.json", "deno.lock"];
    await quiet`cp -R ${parts.map((name) => `${ROOT}${name}`)} ${dir}/home`;
    await quiet`cp ${Deno.execPath()} ${dir}/deno`;
    const { denoDir } = JSON.parse(await quiet`${Deno.execPath()} info --json`);
    const modules = `${dir}/home/modules`;
    for await (const { name: registry } of Deno.readDir(`${denoDir}/npm`)) {
      const [from, to] = [`${denoDir}/npm/${registry}`, `${modules}/npm/${registry}`];
      await Deno.mkdir(to, { recursive: true });
      for await (const { name } of Deno.readDir(from)) {
        if (["dax", "smol-toml", "undici-types"].includes(name)) await quiet`cp -R ${from}/${name} ${to}`;
      }
    }
    await Deno.mkdir(`${dir}/home/tree`);
    await Deno.writeTextFile(`${dir}/home/tree/file`, "contents\n");
    await quiet`chown -R 1234:1234 ${dir}/home`;
    const asUser = (program: string, args: readonly string[], more: Record<string, string> = {}) =>
      run("setpriv", ["--reuid=1234", "--regid=1234", "--clear-groups", program, ...args], {
        cwd: `${dir}/home`,
        clearEnv: true,
        env: { HOME: `${dir}/home`, PATH: "/usr/bin:/bin", DENO_DIR: modules, NO_COLOR: "1", ...more },
      });
    const installed = await asUser(`${dir}/deno`, ["task", "install"]);
    assert.equal(installed.code, 0, installed.err);
    const command = `${dir}/home/.local/bin/raptor-builders`;
    assert.ok(installed.err.includes(`Installed ${command},`), installed.err);
    const args = ["part-image", "--input=tree", "--output=part.img", "--size-mb=8"];
    const built = await asUser(command, args, { TMPDIR: `${dir}/home` });
    assert.equal(built.code, 0, built.err);
    const refused = await asUser(`${dir}/deno`, ["task", "install", "--prefix", "/usr/local"]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.err,
      /^\[E\] Cannot install below "\/usr\/local": .*\n\[E\] Run it as root, or name/m,
    );
  }));
