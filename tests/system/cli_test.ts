import assert from "node:assert/strict";
import { BUILDERS } from "../../builders/mod.ts";
import { partImage } from "../../builders/part-image/build.ts";
import config from "../../deno.json" with { type: "json" };
import { FLAGS, run as runInProcess } from "../../lib/cli/cli.ts";
import { helpText, settingHelp } from "../../lib/cli/help.ts";
import { MiB } from "../../lib/core/units.ts";
import { formatNames, formatOf } from "../../lib/image/formats.ts";
import { searchPath } from "../../lib/system/programs.ts";

import {
  builderCommand,
  type BuildOptions,
  type BuildResult,
  runBuilder,
  startBuilder,
} from "../lab/builds.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { elf } from "../lab/program_heads.ts";

const TOOLS = ["sfdisk", "mke2fs", "mkfs.vfat"];
const NAMES = Object.keys(BUILDERS) as (keyof typeof BUILDERS)[];
const SMALL = { EFI_MB: "1", BOOT_MB: "1", FREE_MB: "8" };

/** A tree of two files: the least that a disk can be made of. */
async function makeTree(dir: string): Promise<string> {
  const tree = `${dir}/tree`;
  await Deno.mkdir(`${tree}/sbin`, { recursive: true });
  await Deno.writeFile(`${tree}/sbin/init`, elf("x86-64"));
  await Deno.writeTextFile(`${tree}/file`, "contents\n");
  return tree;
}

/** What a small part image is made with, less what the builder does not take. */
function settingsFor(name: keyof typeof BUILDERS): Record<string, string> {
  return name === "disk-image" ? { ...SMALL, BOOTLOADER: "none" } : { FREE_MB: "8" };
}

function assertUsage({ code, stdout, stderr }: BuildResult, message: RegExp, hint: RegExp): void {
  assert.equal(code, 2, stderr);
  assert.equal(stdout, "");
  const lines = stderr.trimEnd().split("\n");
  assert.match(lines.at(-2)!, message);
  assert.match(lines.at(-1)!, hint);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(stderr, /[\u0000-\u0009\u000b-\u001f\u007f]/);
}

/** Lets a stand-in for mke2fs answer the question for its version, which comes before the output is touched. */
const VERSION_ONLY = 'case $* in -V) PATH=${PATH#*:} exec mke2fs "$@" ;; esac';

Deno.test("a question is no build: the log of the last one stays", () =>
  tempDir(async (cache) => {
    const kept = `${cache}/image.log`;
    await Deno.writeTextFile(kept, "why the last build failed");
    assert.equal(await runInProcess(partImage, ["--output=/output/image", "--version"], {}, { cache }), 0);
    assert.equal(await Deno.readTextFile(kept), "why the last build failed");
  }));

for (const name of NAMES) {
  const builder = BUILDERS[name];
  const run = (args: string[], options: BuildOptions = {}) => runBuilder(name, { ...options, args });

  Deno.test(`${name} --help and --version say what was asked for, on stdout, and nothing else`, async () => {
    const help = await run(["--help"], { env: { EFI_MB: "nonsense" } });
    assert.deepEqual([help.code, help.stderr], [0, ""]);
    assert.equal(help.stdout, helpText(builder, FLAGS));
    const one = await run(["--help=free-mb", "--nonsense"]);
    assert.deepEqual([one.code, one.stderr], [0, ""]);
    assert.equal(one.stdout, settingHelp("FREE_MB", builder.settings, name));
    const mistyped = await run(["--help=FREE_BM"]);
    assert.deepEqual([mistyped.code, mistyped.stdout], [2, ""]);
    assert.match(mistyped.stderr, /Did you mean FREE_MB\?/);
    assert.deepEqual(await run(["--version"]), {
      code: 0,
      stdout: `${name} ${config.version}\n`,
      stderr: "",
    });
  });

  Deno.test(`${name} answers a question without libc`, async () => {
    const script = new URL(`../../builders/${name}/build.ts`, import.meta.url).pathname;
    for (const question of ["--help", "--help=STRICT", "--version"]) {
      const args = ["run", "--quiet", "--no-prompt", "--allow-read", "--allow-env", script, question];
      const { code, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
      assert.deepEqual([code, new TextDecoder().decode(stderr)], [0, ""], question);
    }
  });

  Deno.test(`${name} --dry-run shows the plan on stdout and makes nothing`, () =>
    tempDir(async (dir) => {
      const input = await makeTree(dir);
      const output = `${dir}/image`;
      await Deno.writeTextFile(output, "an older image");
      const env = settingsFor(name);
      const table = await run(["--dry-run", "--input", input, "--output", output], { env });
      assert.equal(table.code, 0, table.stderr);
      assert.match(table.stdout, new RegExp(`^${name}: raw, `));
      assert.doesNotMatch(table.stdout, /^\[/m);
      assert.equal(await Deno.readTextFile(output), "an older image");

      const json = await run(["--dry-run", "--json", `--input=${input}`], { env });
      assert.equal(json.code, 0, json.stderr);
      const description = JSON.parse(json.stdout);
      assert.equal(description.builder, name);
      assert.equal(description.format, "raw");
      assert.match(json.stderr, /^\[\*\] Reading /);
    }));

  Deno.test(`${name} takes the flag before the variable before the default, and an empty variable for unset`, () =>
    tempDir(async (dir) => {
      const input = await makeTree(dir);
      const size = async (args: string[], env: Record<string, string>) => {
        const { stdout, stderr } = await run(["--dry-run", "--json", "--input", input, ...args], {
          env: { BOOTLOADER: "", OUTPUT_FORMAT: "", ...env },
        });
        assert(stdout, stderr);
        return JSON.parse(stdout).size / MiB;
      };
      assert.equal(await size(["--size-mb=900"], { SIZE_MB: "800" }), 900);
      assert.equal(await size([], { SIZE_MB: "800", FREE_MB: "" }), 800);
      assert(await size([], { SIZE_MB: "" }) > 512);
    }));

  Deno.test.each<
    { name: string; args: string[]; env?: Record<string, string>; message: RegExp; hint: RegExp }
  >([
    {
      name: "an unknown flag",
      args: ["--frobnicate"],
      message: /^\[E\] Cannot use "--frobnicate": there is no such flag$/,
      hint: /^\[E\] See --help for the flags$/,
    },
    {
      name: "a word too much",
      args: ["image"],
      message: /^\[E\] Cannot use the argument "image"$/,
      hint: /^\[E\] Only flags are accepted/,
    },
    {
      name: "a flag without its value",
      args: ["--free-mb"],
      message: /^\[E\] Cannot use --free-mb without a value$/,
      hint: /^\[E\] Write --free-mb=VALUE$/,
    },
    {
      name: "a bad flag",
      args: ["--free-mb=lots"],
      message: /^\[E\] Cannot use --free-mb="lots"$/,
      hint: /^\[E\] Accepted: a whole number of MiB from 0/,
    },
    {
      name: "a bad variable, on one line",
      args: [],
      env: { OUTPUT_FORMAT: "floppy\u001b[2J\n[*] done" },
      message: /^\[E\] Cannot use OUTPUT_FORMAT="floppy\\u001b\[2J\\n\[\*\] done"$/,
      hint: new RegExp(`Accepted: one of ${formatNames(name).join(", ")}$`),
    },
    {
      name: "a misspelt value",
      args: ["--filesystem=sqashfs"],
      message: /^\[E\] Cannot use --filesystem="sqashfs"$/,
      hint: /; did you mean squashfs\?$/,
    },
    {
      name: "an output on stdout",
      args: ["--output=-"],
      message: /^\[E\] Cannot write the image to stdout$/,
      hint: /name a file with --output/,
    },
    {
      name: "an output whose suffix is that of another format",
      args: ["--output=/nowhere/x.qcow2", "--output-format=raw"],
      message: /^\[E\] Cannot write "x\.qcow2": \.qcow2 means qcow2, not raw$/,
      hint: /^\[E\] Set OUTPUT_FORMAT to qcow2, or end the name in \.raw or \.img$/,
    },
    {
      name: "an output that would have to be compressed in a way that we do not know",
      args: ["--output=/nowhere/x.img.lz4"],
      message: /^\[E\] Cannot write "x\.img\.lz4": /,
      hint: /^\[E\] End the name in \.raw or \.img/,
    },
    { name: "--json alone", args: ["--json"], message: /Cannot use --json alone/, hint: /Add --dry-run/ },
    {
      name: "an input that is not there",
      args: ["--input=/nowhere/at all"],
      message: /Cannot find the input "\/nowhere\/at all"/,
      hint: /--input/,
    },
    {
      name: "an input that is no tree",
      args: ["--input=/dev/null"],
      message: /Cannot use the input "\/dev\/null": neither a directory nor a tar archive/,
      hint: /Archives/,
    },
  ])(`${name} refuses $name, with exit code 2`, async ({ args, env = {}, message, hint }) => {
    await tempDir(async (dir) => {
      const output = `${dir}/image`;
      const result = await run(["--output", output, ...args], { env });
      assertUsage(result, message, hint);
      await assert.rejects(Deno.stat(output), Deno.errors.NotFound);
    });
  });

  Deno.test(
    `${name} builds where it is asked to, and says nothing on stdout`,
    { ignore: missing(...TOOLS) },
    () =>
      tempDir(async (dir) => {
        const input = await makeTree(dir);
        // Names that are options, networks or offsets to the programs that write the image.
        for (const output of name === "disk-image" ? ["-rf", "nbd:image"] : ["--help", "a b'\"$(x).img"]) {
          const started = Date.now();
          const { code, stdout, stderr } = await run([`--input=${input}`, `--output=${output}`], {
            env: settingsFor(name),
            cwd: dir,
          });
          assert.equal(code, 0, stderr);
          assert.equal(stdout, "");
          assert.match(stderr, /\n\[\*\] Done: /);
          // deno-lint-ignore no-control-regex
          assert.doesNotMatch(stderr, /[\u0000-\u0009\u000b-\u001f\u007f]/);
          const { size, mtime } = await Deno.stat(`${dir}/${output}`);
          assert(size >= 8 * MiB);
          assert(mtime!.getTime() > started - 1000);
        }
      }),
  );

  Deno.test(`${name} takes the format from the name of the output, unless it is set`, () =>
    tempDir(async (dir) => {
      const input = await makeTree(dir);
      const format = async (output: string, env: Record<string, string> = {}) => {
        const args = ["--dry-run", "--json", `--input=${input}`, `--output=${dir}/${output}`];
        // Without sizes, which an archive does not have.
        const { stdout, stderr } = await run(args, { env: { BOOTLOADER: "none", ...env } });
        assert(stdout, stderr);
        return JSON.parse(stdout).format;
      };
      for (const suffix of new Set(formatNames(name).map((one) => formatOf(one).suffixes[0]))) {
        const [first] = formatNames(name).filter((one) => formatOf(one).suffixes.includes(suffix));
        assert.equal(await format(`disk.${suffix}`), first);
      }
      for (const output of ["disk", "disk.img", "disk.efi"]) assert.equal(await format(output), "raw");
      assert.equal(await format("disk.img", { OUTPUT_FORMAT: "vdi" }), "vdi");
      assert.equal(await format("disk.qcow2", { OUTPUT_FORMAT: "qcow2-zstd" }), "qcow2-zstd");
    }));

  Deno.test(`${name} writes the file behind a symlink, and names after it what it writes beside`, {
    ignore: missing(...TOOLS),
  }, () =>
    tempDir(async (dir) => {
      const input = await makeTree(dir);
      await Deno.writeTextFile(`${dir}/real.img`, "an older image");
      await Deno.symlink("real.img", `${dir}/link.img`);
      await Deno.symlink("new.img", `${dir}/dangling.img`);
      const images: string[] = [];
      for (const [link, file] of [["link", "real"], ["dangling", "new"]]) {
        const { code, stderr } = await run([`--input=${input}`, `--output=${dir}/${link}.img`], {
          env: settingsFor(name),
        });
        assert.equal(code, 0, stderr);
        assert.ok((await Deno.lstat(`${dir}/${link}.img`)).isSymlink);
        images.push(await sha256(`${dir}/${file}.img`));
      }
      const plain = await run([`--input=${input}`, `--output=${dir}/plain.img`], { env: settingsFor(name) });
      assert.equal(plain.code, 0, plain.stderr);
      assert.deepEqual(new Set(images), new Set([await sha256(`${dir}/plain.img`)]));
    }));

  Deno.test(`${name} logs what a person reads, with --verbose and --log=json also what programs do`, {
    ignore: missing(...TOOLS),
  }, () =>
    tempDir(async (dir) => {
      const input = await makeTree(dir);
      const log = async (...flags: string[]) => {
        const args = [`--input=${input}`, `--output=${dir}/image`, ...flags];
        const { code, stderr } = await run(args, { env: settingsFor(name) });
        assert.equal(code, 0, stderr);
        return stderr;
      };
      const short = await log();
      assert.match(short, new RegExp(`^\\[\\|\\] ${name}: raw, `, "m"));
      assert.doesNotMatch(short, /^\[.\] +(mke2fs|mkfs|sfdisk)|^\[.\] *$/m);
      const long = await log("--verbose");
      assert.match(long, /^\[\|\] mke2fs -q /m);
      assert.doesNotMatch(long, /^\[.\] *$/m);
      assert.match(await log("--log=json"), /^\{"level":"trace","message":"mke2fs -q /m);
    }));

  Deno.test(`${name} exits with 1 when a program fails, says with what, and leaves an empty output of 1970`, {
    ignore: missing(...TOOLS),
  }, () =>
    tempDir(async (dir) => {
      const input = await makeTree(dir);
      await Deno.writeTextFile(`${dir}/image`, "an older image");
      await Deno.mkdir(`${dir}/bin`);
      await stubProgram(`${dir}/bin`, "mke2fs", `${VERSION_ONLY}\necho no such luck >&2\nexit 3`);
      const { code, stdout, stderr } = await run([`--input=${input}`, `--output=${dir}/image`], {
        env: { ...settingsFor(name), PATH: `${dir}/bin:${searchPath()}` },
      });
      assert.equal(code, 1, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /\n\[E\] mke2fs failed with exit code 3: no such luck\n\[E\] mke2fs -q .*\n$/);
      const { size, mtime } = await Deno.stat(`${dir}/image`);
      assert.deepEqual([size, mtime!.getTime()], [0, 0]);
    }));

  for (const [signal, wanted] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    Deno.test(`${name} exits with ${wanted} on ${signal}, ends its programs and leaves an empty output`, {
      ignore: missing(...TOOLS),
    }, () =>
      tempDir(async (dir) => {
        const input = await makeTree(dir);
        await Deno.writeTextFile(`${dir}/image`, "an older image");
        await Deno.mkdir(`${dir}/bin`);
        await Deno.mkdir(`${dir}/tmp`);
        await stubProgram(`${dir}/bin`, "mke2fs", `${VERSION_ONLY}\necho $$ >${dir}/pid\nexec sleep 300`);
        const process = await startBuilder(name, {
          args: [`--input=${input}`, `--output=${dir}/image`],
          env: { ...settingsFor(name), PATH: `${dir}/bin:${searchPath()}`, TMPDIR: `${dir}/tmp` },
        });
        const output = process.output();
        const pid = await waitFor(async () => Number(await Deno.readTextFile(`${dir}/pid`)));
        process.kill(signal);
        const { code, stderr } = await output;
        const text = new TextDecoder().decode(stderr);
        assert.equal(code, wanted, text);
        assert.match(text, new RegExp(`\\n\\[E\\] Interrupted by ${signal}\\n$`));
        await assert.rejects(Deno.stat(`/proc/${pid}`), Deno.errors.NotFound);
        const { size, mtime } = await Deno.stat(`${dir}/image`);
        assert.deepEqual([size, mtime!.getTime()], [0, 0]);
        assert.deepEqual(await Array.fromAsync(Deno.readDir(`${dir}/tmp`)), []);
      }));
  }
}

/** What `fn` returns, as soon as it neither throws nor returns nothing. */
async function waitFor<T>(fn: () => Promise<T>): Promise<T> {
  for (let left = 12_000;; left--) {
    const found = await fn().catch(() => undefined);
    if (found) return found;
    assert(left > 0, "waited for ten minutes");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

Deno.test("disk-image names a setting that part-image has no use for", () =>
  tempDir(async (dir) => {
    const input = await makeTree(dir);
    const { code, stderr } = await runBuilder("part-image", {
      args: ["--dry-run", `--input=${input}`],
      env: { EFI_MB: "64", BOOT_MB: "", BOOTLOADER: "none" },
    });
    assert.equal(code, 0, stderr);
    const warnings = [...stderr.matchAll(/^\[W\] (\S+) is ignored: part-image does not support it/gm)];
    assert.deepEqual(warnings.map(([, variable]) => variable), ["EFI_MB", "BOOTLOADER"]);
  }));

Deno.test("the message names what went wrong with an output, with exit code 2", () =>
  tempDir(async (dir) => {
    const input = await makeTree(dir);
    for (
      const [output, message] of [
        [dir, "it is a directory"],
        [`${dir}/none/image`, "there is no directory"],
        ["/dev/null", "it is neither a regular file nor a block device"],
      ]
    ) {
      const { code, stderr } = await runBuilder("part-image", {
        args: [`--input=${input}`, `--output=${output}`],
      });
      assert.equal(code, 2, stderr);
      assert(stderr.includes(`[E] Cannot write the image to "${output}": ${message}`), stderr);
    }
  }));

Deno.test("the name of a mounted output chooses no format, and a warning says what it will hold", {
  ignore: missing("unshare", ...TOOLS) || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const input = await makeTree(dir);
    await Deno.writeTextFile(`${dir}/outside.qcow2`, "");
    await Deno.writeTextFile(`${dir}/inside.vdi`, "");
    const mounts = `mount --bind ${dir}/outside.qcow2 ${dir}/inside.vdi && exec "$@"`;
    const args = [`--input=${input}`, `--output=${dir}/inside.vdi`, "--free-mb=8"];
    const [program = "", ...words] = await builderCommand("part-image");
    const { code, stderr } = await new Deno.Command("unshare", {
      args: ["--mount", "sh", "-c", mounts, "sh", program, ...words, ...args],
      env: { PATH: searchPath() },
      stdin: "null",
    }).output();
    const log = new TextDecoder().decode(stderr);
    assert.equal(code, 0, log);
    assert.match(
      log,
      /^\[W\] The name "outside\.qcow2" does not match the format: \.qcow2 means qcow2, not raw$/m,
    );
    assert.match(log, /^\[\|\] part-image: raw, /m);
    assert.equal((await Deno.readFile(`${dir}/outside.qcow2`)).subarray(0x438, 0x43a).toHex(), "53ef");
  }));

// On a terminal -------------------------------------------------------------------------------------------

/** Runs a builder with a terminal of its own, and returns what that got. */
async function onTerminal(
  name: string,
  args: string[],
  env: Record<string, string>,
): Promise<string> {
  const words = [...await builderCommand(name), ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
  const variables = Object.entries({ TERM: "xterm", ...env }).map(([key, value]) => `'${key}=${value}'`);
  const command = `stty cols 100; env -u NO_COLOR ${variables.join(" ")} ${words.join(" ")}`;
  return await quiet`script --quiet --return --command ${command} /dev/null`;
}

/** A qemu-img that takes its time and says how far it is. */
const SLOW = `real=$(PATH=\${PATH#*:} command -v qemu-img)
case $1 in convert) for i in 10 45 80; do printf '    (%s.00/100%%)\\r' $i; sleep 0.15; done ;; esac
exec $real "$@"`;

Deno.test("a bar with bytes, rate and time left is drawn on a terminal, and nowhere else", {
  ignore: missing("script", "qemu-img", ...TOOLS),
}, () =>
  tempDir(async (dir) => {
    const input = await makeTree(dir);
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(`${dir}/bin`, "qemu-img", SLOW);
    const args = [`--input=${input}`, `--output=${dir}/image`];
    const env = { FREE_MB: "8", OUTPUT_FORMAT: "vdi", PATH: `${dir}/bin:${searchPath()}` };
    const bar = /vdi \[#+-+\] +\d+ % +[\d.]+ MiB of [\d.]+ MiB +[\d.]+ [KMG]iB\/s +\d+ s left/;

    const watched = await onTerminal("part-image", args, env);
    assert.match(watched, bar);
    assert(watched.includes("\u001b[1m\u001b[32m[*]"), watched);
    // The last thing on the screen is a line of the log, not half a bar.
    assert.match(watched.trimEnd().split("\u001b[K").at(-1)!, /Done: /);

    const plain = await onTerminal("part-image", args, { ...env, NO_COLOR: "1" });
    assert.match(plain, bar);
    assert(!plain.includes("\u001b[32m"));

    const { stderr } = await runBuilder("part-image", { args, env });
    assert.doesNotMatch(stderr, bar);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(stderr, /[\u0000-\u0009\u000b-\u001f\u007f]/);
    assert.match(stderr, /^\[\|\] vdi: [\d.]+ MiB in [\d.]+ s$/m);
  }));
