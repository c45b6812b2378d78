import assert from "node:assert/strict";
import { BASE, builderImage, podman, stubPodman } from "../lab/containers.ts";
import { type Block, consoleSteps, docBlocks, outputPattern } from "../lab/doc_blocks.ts";
import { stubNspawn } from "../lab/guests.ts";
import { drawPictures } from "../pictures.ts";
import { copyCheckout, missing, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { debianTree } from "../lab/trees.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

const ignore = missing("mmdebstrap", "systemd-nspawn", "podman", "git") || unprivileged();

/** Where the blocks find programs: the installed command, the tests' podman, and what stands in for systemd as process 1. */
async function programs(dir: string): Promise<string> {
  const bin = `${dir}/bin`;
  await Deno.mkdir(bin);
  await stubPodman(bin);
  await stubNspawn(bin);
  await stubProgram(bin, "qemu-system-x86_64", QEMU);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "install", `--prefix=${dir}`],
    cwd: ROOT,
    stdin: "null",
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return bin;
}

/** Runs a command as on a terminal: stdout and stderr are one. */
async function run(command: string, cwd: string, bin: string): Promise<{ code: number; output: string }> {
  const { code, stdout } = await new Deno.Command("bash", {
    args: ["-euo", "pipefail", "-c", `exec 2>&1\n${command}`],
    cwd,
    env: { PATH: `${bin}:${Deno.env.get("PATH")}`, NO_COLOR: "1" },
    stdin: "null",
  }).output();
  return { code, output: new TextDecoder().decode(stdout) };
}

/** The images that the docs name: the one of the suite, and its base in place of others of the same distribution. */
async function prepareImages(): Promise<void> {
  const image = await builderImage();
  for (const [from, to] of [[image, "localhost/raptor-builders"], [BASE, "docker.io/library/debian:13"]]) {
    const { code, err } = await podman(["tag", from!, to!]);
    assert.equal(code, 0, err);
  }
}

/**
 * A `qemu-system-x86_64` that starts the real one with what is asked for, and ends it at the prompt of the login. No time
 * limit depends on the machine: a guest that panics ends, and one that hangs is ended after half an hour.
 */
const QEMU = `timeout 1800 /usr/bin/qemu-system-x86_64 "$@" -no-reboot >console.log 2>&1 </dev/null &
until grep --quiet --text "login: " console.log; do
  kill -0 $! || { tail -n 40 console.log; exit 1; }
  if grep --quiet --text "Kernel panic" console.log; then kill $!; tail -n 40 console.log; exit 1; fi
  sleep 0.5
done
kill $!`;

/** Runs a block in a fresh directory that has the tree as `rootfs`. */
async function tryBlock({ page, language, text, containerfile }: Block): Promise<void> {
  await tempDir(async (dir) => {
    const bin = await programs(dir);
    const cwd = `${dir}/work`;
    await Deno.mkdir(cwd);
    if (/^podman /m.test(text)) await prepareImages();
    if (containerfile === undefined) await copyCheckout(cwd);
    else await Deno.writeTextFile(`${cwd}/Containerfile`, containerfile);
    await Deno.symlink(await debianTree({ suite: "trixie" }), `${cwd}/rootfs`);
    if (language === "console") {
      for (const { command, output } of consoleSteps(text)) {
        const found = await run(command, cwd, bin);
        assert.match(found.output, outputPattern(output), `${page}: ${command}\n${found.output}`);
      }
      return;
    }
    const { code, output } = await run(text, cwd, bin);
    assert.equal(code, 0, `${page}: ${text}\n${output}`);
    assert.doesNotMatch(output, /^\[E\]/m, page);
    const isDry = text.includes("--dry-run");
    for (const [, image] of text.matchAll(/--output[ =](\S+)|(?:-v \.\/)(\S+):\/output/g)) {
      if (!isDry && image) assert((await Deno.stat(`${cwd}/${image}`)).size > 0, `${page}: ${image}`);
    }
  });
}

const blocks = await docBlocks();

for (const [i, block] of blocks.entries()) {
  if (block.notRun !== undefined) continue;
  const [first = ""] = block.text.split("\n");
  const before = blocks.slice(0, i).filter(({ page, text }) =>
    page === block.page && text.startsWith(`${first}\n`)
  ).length;
  Deno.test(
    `the docs' commands work: ${block.page}: ${first}${before ? ` (${before + 1})` : ""}`,
    { ignore },
    () => tryBlock(block),
  );
}

Deno.test("the pictures of the README show what a build says today", {
  ignore: missing("mmdebstrap") || unprivileged(),
}, async () => {
  // Sizes, versions and times change with Debian and with each run.
  const shape = (picture: string) =>
    picture.replaceAll(/[\da-f]{8}-[\da-f-]{27}/g, "UUID").replaceAll(/\d+(\.\d+)?/g, "N")
      .replaceAll(/[KMG]iB/g, "bytes");
  for (const [path, picture] of Object.entries(await drawPictures())) {
    const shown = await Deno.readTextFile(ROOT + path);
    assert.equal(shape(shown), shape(picture), `Run "deno task pictures" for ${path}`);
  }
});
