/**
 * The real Raptor, where somebody has it: `RAPTOR=/path/to/raptor deno test -A tests/system/real_raptor_test.ts`. It is the one
 * program whose absence skips tests under CI, too: no package has it.
 *
 * `falcon`, which belongs to it, has to be on PATH. The jobs are built for real as root with systemd-nspawn 257 and
 * `/dev/kvm`. Where no registry can be reached, `RAPTOR_CACHE` names a directory as Raptor's own `cache`, with the images
 * `denoland/deno` and `debian:trixie`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { delimiter, dirname } from "node:path";
import { bootQemu, nspawn, report } from "../lab/guests.ts";
import { copyCheckout, missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { CASES, INCLUDED } from "../lab/raptor_cases.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const RAPTOR = Deno.env.get("RAPTOR");
const CACHE = Deno.env.get("RAPTOR_CACHE");
const only = "With the real Raptor (skipped without RAPTOR): ";

async function raptor(cwd: string, args: readonly string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(RAPTOR!, {
    args: [...args],
    cwd,
    env: { NO_COLOR: "1", PATH: [dirname(RAPTOR!), Deno.env.get("PATH")].join(delimiter) },
    stdin: "null",
  }).output();
  return { code, text: [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("") };
}

Deno.test(
  `${only}it accepts and refuses what raptor_cases.ts says`,
  { ignore: !RAPTOR },
  () =>
    tempDir(async (dir) => {
      await Deno.writeTextFile(`${dir}/inc.rinc`, INCLUDED);
      for (const name of ["a", "b"]) await Deno.writeTextFile(`${dir}/${name}`, "");
      for (const [text, printed] of CASES) {
        await Deno.writeTextFile(`${dir}/x.rapt`, `FROM docker://debian\n${text}\n`);
        const { code, text: out } = await raptor(dir, ["build", "--no-act", "x"]);
        const lines = out.split("\n").filter((line) => line.startsWith("[*] ")).map((line) => line.slice(4));
        const found = code === 0 ? lines.slice(lines.indexOf("FROM docker://debian") + 1) : null;
        assert.deepEqual(found, printed, JSON.stringify(text));
      }
    }),
);

for (const example of ["examples", "examples/efibootguard"]) {
  Deno.test(`${only}it reads ${example}/Raptor.toml, where it lies`, { ignore: !RAPTOR }, async () => {
    const { code, text } = await raptor(ROOT + example, ["make", "--no-act", "--batch"]);
    assert.equal(code, 0, text);
    assert.match(text, /^\[\*\] CMD "--input=\/input"$/m);
    // It looks at the layers that it would have made: everything else is an error of ours.
    const errors = text.split("\n").filter((line) => line.startsWith("[E]"));
    assert.deepEqual(errors.filter((line) => !/checking cache status of "layers\//.test(line)), []);
  });
}

/** The documentation's file, to the letter. */
async function documented(): Promise<string> {
  const readme = await Deno.readTextFile(`${ROOT}README.md`);
  return /^```toml\n(\[raptor\.link\]\n.*?)^```$/ms.exec(readme)![1]!;
}

/** What makes the example's tree report what it sees when it has booted. */
const REPORTING = `
COPY --chmod 0755 report.sh /usr/local/sbin/report
COPY --chmod 0644 report.service /etc/systemd/system/report.service
RUN mkdir --parents /etc/systemd/system.conf.d
COPY --chmod 0644 patience.conf /etc/systemd/system.conf.d/patience.conf
RUN systemctl enable report.service
RUN systemctl mask serial-getty@.service console-getty.service systemd-firstboot.service
`;

/** A project as the documentation has it: the file, the tree, and a checkout of the builders beside them. */
async function project(dir: string): Promise<void> {
  await copyCheckout(`${dir}/raptor-builders`);
  const tree = await Deno.readTextFile(`${ROOT}examples/test.rapt`);
  await Deno.writeTextFile(`${dir}/test.rapt`, tree + REPORTING);
  for (const name of ["report.sh", "report.service", "patience.conf"]) {
    await Deno.copyFile(new URL(`../lab/trees/${name}`, import.meta.url), `${dir}/${name}`);
  }
  await Deno.writeTextFile(`${dir}/Raptor.toml`, await documented());
  if (CACHE) await quiet`cp --archive --reflink=auto ${CACHE} ${dir}/cache`;
}

const JOBS = { disk1: "disk.img", disk2: "disk.qcow2", part1: "part.img" } as const;

/** Builds the same jobs with `deno task build`'s program, from an overlay of the layers that Raptor has built. */
async function buildHere(dir: string): Promise<void> {
  const names = (await Array.fromAsync(Deno.readDir(`${dir}/layers`))).map(({ name }) => name);
  const layer = (prefix: string) => `${dir}/layers/${names.find((name) => name.startsWith(prefix))}`;
  const lower = [layer("test-"), layer("index.docker.io-library-debian-trixie-")].join(":");
  await Deno.mkdir(`${dir}/here`);
  await Deno.mkdir(`${dir}/merged`);
  const script = 'mount -t overlay overlay -o "ro,lowerdir=$1" "$2" && shift 2 && exec "$@"';
  const command = [Deno.execPath(), "run", "-A", `${ROOT}builders/mod.ts`, "-C", `${dir}/here`];
  const { success, stderr } = await new Deno.Command("unshare", {
    args: [
      ...["--mount", "sh", "-c", script, "sh", lower, `${dir}/merged`],
      ...[...command, "--file", `${dir}/Raptor.toml`, "--input", `test=${dir}/merged`, ...Object.keys(JOBS)],
    ],
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}

Deno.test(`${only}the documentation's jobs give three images that boot, those of deno task build`, {
  ignore: !RAPTOR || missing("systemd-nspawn", "qemu-system-x86_64") || unprivileged(),
}, async (t) => {
  await tempDir(async (dir) => {
    await project(dir);
    const make = async (...jobs: string[]) => {
      const { code, text } = await raptor(dir, ["make", "--batch", ...jobs]);
      assert.equal(code, 0, text);
      return text;
    };
    const info = (job: keyof typeof JOBS) => Deno.stat(`${dir}/${JOBS[job]}`);
    await t.step("all in one batch", async () => {
      const text = await make("disk1", "disk2", "part1");
      for (const job of Object.keys(JOBS) as (keyof typeof JOBS)[]) {
        assert.ok((await info(job)).size > 0, text);
      }
    });
    await t.step("byte for byte those of deno task build", async () => {
      await buildHere(dir);
      for (const file of Object.values(JOBS)) {
        assert.equal(await sha256(`${dir}/${file}`), await sha256(`${dir}/here/${file}`), file);
      }
    });
    await t.step("up to date the second time", async () => {
      const text = await make("disk1", "disk2", "part1");
      assert.equal(text.match(/Output is up to date/g)?.length, 3, text);
    });
    await t.step("again after a change of deno.lock", async () => {
      const before = (await info("part1")).mtime!;
      const path = `${dir}/raptor-builders/deno.lock`;
      await Deno.writeTextFile(path, `${await Deno.readTextFile(path)}\n`);
      const text = await make("part1");
      assert.ok((await info("part1")).mtime! > before, text);
    });
    await t.step("after a failure the output is empty and of 1970, and its log is kept", async () => {
      const path = `${dir}/Raptor.toml`;
      const text = await Deno.readTextFile(path);
      await Deno.writeTextFile(path, `${text}cache = "kept"\nenv.SIZE_MB = "1"\n`);
      await Deno.remove(`${dir}/part.img`);
      await make("part1");
      const { size, mtime } = await info("part1");
      assert.deepEqual([size, mtime?.getTime()], [0, 0]);
      assert.match(await Deno.readTextFile(`${dir}/kept/part.img.log`), /^\[E\] Cannot fit /m);
      await Deno.writeTextFile(path, text);
      await make("part1");
      assert.ok((await info("part1")).size > 0);
    });
    await t.step("raptor run with flags", async () => {
      const link = ["-L", "rbuild", "raptor-builders"];
      const call = ["$rbuild.part-image", "-I", "test", "-O", "flags.img", "--", "--size-mb=2000"];
      const { text } = await raptor(dir, [...link, "run", ...call]);
      assert.equal((await Deno.stat(`${dir}/flags.img`)).size, 2000 * 2 ** 20, text);
    });
    await t.step("disk.img and disk.qcow2 boot", async () => {
      for (const job of ["disk1", "disk2"] as const) {
        const seen = report(await bootQemu(`${dir}/${JOBS[job]}`));
        assert.equal(seen.get("failed"), "", seen.get("logs"));
        assert.match(seen.get("findmnt /boot/efi")!, /"partlabel": *"esp"/);
      }
    });
    await t.step("part.img boots", async () => {
      assert.equal(report(await nspawn(`${dir}/part.img`)).get("virtualization"), "systemd-nspawn");
    });
  });
});
