import assert from "node:assert/strict";
import { partitionType } from "../../lib/core/dps.ts";
import { BuildError } from "../../lib/core/error.ts";
import { MiB } from "../../lib/core/units.ts";
import { FORMATS } from "../../lib/image/formats.ts";
import { inspectImage } from "../../tasks/boot.ts";
import { DISKS, MACHINES, qemuCommand } from "../../tasks/qemu.ts";
import { boot, GUEST } from "../lab/boot_task.ts";
import { build } from "../lab/builds.ts";
import { $ } from "../../lib/system/sh.ts";
import { missing, quiet, sha256, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";
import { tinyTree } from "../lab/trees.ts";

const PROJECT = new URL("../..", import.meta.url).pathname;

for (const [name, machine] of Object.entries(MACHINES)) {
  for (const disk of Object.keys(DISKS) as (keyof typeof DISKS)[]) {
    const { code, variables }: { code: string; variables?: string } = machine.firmware.uefi;
    Deno.test(`QEMU accepts the options for ${name} with an ${disk} disk`, {
      ignore: missing(machine.program, code, ...variables ? [variables] : [], "qemu-img"),
    }, () =>
      tempDir(async (dir) => {
        const image = `${dir}/with, a comma.qcow2`;
        await quiet`qemu-img create -q -f qcow2 ${image} 4M`;
        if (variables) await Deno.copyFile(variables, `${dir}/variables.fd`);
        if (variables) await Deno.chmod(`${dir}/variables.fd`, 0o600);
        const architecture = name as keyof typeof MACHINES;
        const [program = "", ...args] = qemuCommand({
          ...{ ...GUEST, architecture, image, disk, format: "qcow2", serial: "null" },
          variables: `${dir}/variables.fd`,
        });
        // Stopped before its first instruction, and told to quit.
        const stdin = '{"execute":"qmp_capabilities"}{"execute":"query-block"}{"execute":"quit"}';
        const answer = await $`${program} ${args} -S -qmp stdio`.quiet().stdinText(stdin).text();
        assert.match(answer, /"file": "[^"]*with, a comma\.qcow2"|"filename": "[^"]*with, a comma\.qcow2"/);
        assert.match(answer, /SHUTDOWN/);
      }));
  }
}

/** An empty disk with these partition types. */
async function emptyDisk(dir: string, types: readonly string[], label = "gpt"): Promise<string> {
  const image = `${dir}/${label}-${types.length}.raw`;
  await Deno.writeFile(image, new Uint8Array());
  await Deno.truncate(image, 64 * MiB);
  const lines = [`label: ${label}`, ...types.map((type) => `size=8MiB, type=${type}`)];
  await $`sfdisk --quiet ${image}`.quiet().stdinText(lines.join("\n") + "\n");
  return image;
}

const NO_TOOLS = missing("sfdisk", "qemu-img");

/** What QEMU calls the formats. */
const DRIVERS = new Set(Object.values(FORMATS).map((row) => "driver" in row ? row.driver : "raw"));

for (const driver of DRIVERS) {
  Deno.test(
    `inspectImage() finds the architecture in a ${driver} image`,
    { ignore: NO_TOOLS },
    () =>
      tempDir(async (dir) => {
        for (const architecture of ["x86-64", "arm64"] as const) {
          const raw = await emptyDisk(dir, [
            partitionType("esp", architecture),
            partitionType("root", architecture),
          ]);
          const image = `${dir}/disk.${driver}`;
          await quiet`qemu-img convert -O ${driver} ${raw} ${image}`;
          const found = await inspectImage(image);
          // A VHD of a changing size has a header; a fixed one is the raw disk with a footer.
          assert.deepEqual(found, { architecture, format: driver });
          assert.equal((await inspectImage(image, driver)).architecture, architecture);
          await Deno.remove(raw);
        }
      }),
  );
}

Deno.test(
  "inspectImage() says why an image cannot be booted",
  { ignore: NO_TOOLS || missing("mke2fs") },
  () =>
    tempDir(async (dir) => {
      const rejects = async (image: string, message: RegExp, hint: RegExp | undefined) => {
        await assert.rejects(inspectImage(image), (error: BuildError) => {
          assert.ok(error instanceof BuildError);
          assert.equal(error.kind, "usage");
          assert.match(error.message, message);
          if (hint) assert.match(error.hint!, hint);
          return true;
        });
      };
      await rejects(`${dir}/none.raw`, /no such file/, undefined);
      await rejects(dir, /no such file/, undefined);
      await quiet`mke2fs -q -t ext4 ${dir}/part.raw 8M`;
      await rejects(`${dir}/part.raw`, /no partition table/, /systemd-nspawn --image=.*part\.raw --boot/);
      await rejects(await emptyDisk(dir, ["83"], "dos"), /no partition table \(GPT\)/, undefined);
      const generic = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
      await rejects(await emptyDisk(dir, [generic]), /no root partition/, new RegExp(generic));
      await rejects(await emptyDisk(dir, []), /no root partition/, /\(none\)/);
      const other = partitionType("root", "loongarch64");
      await rejects(
        await emptyDisk(dir, [other, generic]),
        /no virtual machine for loongarch64/,
        /x86-64, arm64, riscv64/,
      );
    }),
);

Deno.test("boot starts the right QEMU with a copy of the firmware's variables", {
  ignore: NO_TOOLS || missing(...Object.values(MACHINES.arm64.firmware.uefi)),
}, () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/bin`);
    await stubProgram(
      `${dir}/bin`,
      "qemu-system-aarch64",
      `printf '%s\\n' "$@"
for word; do case $word in *variables.fd) file=\${word##*file=}; ls -l "$file"; echo "$file" >${dir}/copy;; esac; done`,
    );
    const disk = await emptyDisk(dir, [partitionType("root", "arm64")]);
    const { code, stdout, stderr } = await boot(dir, ["gpt-1.raw", "--memory=512", "--disk", "virtio"]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^\[\*\] Booting ".*gpt-1\.raw" \(arm64, raw\); leave with Ctrl-A X$/m);
    const words = stdout.split("\n");
    assert.ok(words.includes(`if=none,id=disk,format=raw,snapshot=on,file=${disk}`), stdout);
    assert.ok(
      words.includes("virtio-blk-pci,drive=disk") && words.includes("512") && words.includes("mon:stdio"),
    );
    assert.match(stdout, /^-rw------- .*variables\.fd$/m);
    await assert.rejects(Deno.stat((await Deno.readTextFile(`${dir}/copy`)).trim()), Deno.errors.NotFound);
    const writable = await boot(dir, ["--snapshot=off", disk]);
    assert.match(writable.stdout, /snapshot=off/);

    await stubProgram(`${dir}/bin`, "qemu-system-aarch64", "exit 7");
    const failed = await boot(dir, [disk]);
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /^\[E\] qemu-system-aarch64 failed with exit code 7$/m);
  }));

/** Runs a command on a terminal, with the keys Ctrl-A X once what it wrote is enough. */
async function onTerminal(command: string, isEnough: (output: string) => boolean): Promise<string> {
  const child = new Deno.Command("script", {
    args: ["--quiet", "--return", "--command", command, "/dev/null"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const keys = child.stdin.getWriter();
  let output = "", isSent = false;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    output += text;
    if (isSent || !isEnough(output)) continue;
    isSent = true;
    await keys.write(new TextEncoder().encode("\x01x"));
  }
  await child.status;
  await keys.close().catch(() => {});
  return output;
}

Deno.test("boot boots an image on a terminal, and Ctrl-A X leaves it unchanged", {
  ignore: unprivileged() || NO_TOOLS || missing("mmdebstrap", "script", "qemu-system-x86_64"),
}, () =>
  tempDir(async (dir) => {
    const image = `${dir}/disk.img`;
    await build("disk-image", await tinyTree(), image, { FREE_MB: "16", BOOT_MB: "64" });
    const before = await sha256(image);
    const command = `"${Deno.execPath()}" task --quiet --config ${PROJECT}deno.json boot ${image}`;
    assert.match(await onTerminal(command, () => false), /=== end/);
    // Ctrl-A X as soon as the firmware says something.
    const left = await onTerminal(command, (output) => output.includes("BdsDxe"));
    assert.match(left, /QEMU: Terminated/);
    assert.doesNotMatch(left, /=== end/);
    assert.equal(await sha256(image), before);
  }));
