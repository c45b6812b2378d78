#!/usr/bin/env -S deno run --allow-read --allow-write --allow-run --allow-env
/**
 * `deno task boot IMAGE`: starts a disk image in QEMU, with the serial console on the terminal. Machine and
 * firmware are those of the architecture in its partition table.
 *
 * The image is not changed unless `--snapshot=off` is given. Guests are emulated by default (`--accel tcg`): even
 * if there is a `/dev/kvm`, guests may crash, for example in virtual machines without nested virtualisation.
 *
 * @module
 */

import { resolve } from "node:path";
import type { ParseArgsConfig } from "node:util";
import { identifyType } from "../lib/core/dps.ts";
import { readFlags } from "../lib/cli/flags.ts";
import { BuildError, quote } from "../lib/core/error.ts";
import * as log from "../lib/core/log.ts";
import { MiB } from "../lib/core/units.ts";
import { $ } from "../lib/system/sh.ts";
import {
  type BootableName,
  checkInstalled,
  type DiskName,
  DISKS,
  firmwareFiles,
  FIRMWARES,
  MACHINES,
  qemuCommand,
} from "./qemu.ts";
import { choose, print, runTask } from "./task.ts";

/** Determines QEMU's name for the format of an image, and the architecture of its root partition. */
export async function inspectImage(
  image: string,
  format?: string,
): Promise<{ format: string; architecture: BootableName }> {
  if (!await isFile(image)) {
    throw new BuildError(`Cannot boot ${quote(image)}: no such file`, { kind: "usage" });
  }
  const force = format === undefined ? [] : ["-f", format];
  const info = JSON.parse(await $`qemu-img info --output=json ${force} ${image}`.quiet().text());
  const table = await withTempDir(async (dir) => {
    if (info.format === "raw") return await partitionTypes(image);
    const head = `${dir}/head.raw`;
    await $`qemu-img dd -f ${info.format} -O raw bs=${MiB} count=1 if=${image} of=${head}`.quiet();
    // sfdisk accepts a table only if the partitions are within the disk.
    await Deno.truncate(head, info["virtual-size"]);
    return await partitionTypes(head);
  });
  if (!table) {
    throw new BuildError(`Cannot boot ${quote(image)}: it has no partition table (GPT)`, {
      kind: "usage",
      hint: `An image of a single filesystem boots as a container: systemd-nspawn --image=${image} --boot`,
    });
  }
  const architecture = table.map((type) => identifyType(type)?.architecture).find(Boolean);
  if (!architecture) {
    throw new BuildError(`Cannot boot ${quote(image)}: no root partition of a known architecture`, {
      kind: "usage",
      hint: `The types of its partitions are ${table.join(", ") || "(none)"}`,
    });
  }
  if (!(architecture in MACHINES)) {
    throw new BuildError(`Cannot boot ${quote(image)}: no virtual machine for ${architecture}`, {
      kind: "usage",
      hint: `Supported architectures: ${Object.keys(MACHINES).join(", ")}`,
    });
  }
  return { format: info.format, architecture: architecture as BootableName };
}

/** The type GUIDs of the partitions; `undefined` if there is no GPT. */
async function partitionTypes(image: string): Promise<string[] | undefined> {
  const json = await $`sfdisk --json ${image}`.quiet().noThrow(1).text();
  if (!json) return;
  const { label, partitions } = JSON.parse(json).partitiontable;
  return label === "gpt" ? (partitions ?? []).map(({ type }: { type: string }) => type) : undefined;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function withTempDir<T>(fn: (dir: string) => Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir({ dir: Deno.env.get("TMPDIR") ?? "/var/tmp", prefix: "raptor-boot-" });
  try {
    return await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const OPTIONS = {
  accel: { type: "string", default: "tcg" },
  memory: { type: "string", default: "2048" },
  snapshot: { type: "string", default: "on" },
  disk: { type: "string", default: "nvme" },
  firmware: { type: "string", default: "uefi" },
  format: { type: "string" },
  directory: { type: "string", short: "C", default: "." },
  help: { type: "boolean", short: "h", default: false },
} as const satisfies ParseArgsConfig["options"];

const HELP = `Start a disk image in QEMU, with its serial console on this terminal

Usage: deno task boot [OPTION…] IMAGE

  --accel tcg|kvm     emulate (default), or use /dev/kvm, which is faster
  --memory MIB        memory of the guest (default: ${OPTIONS.memory.default})
  --snapshot on|off   on (default): leave the image as it is; off: the guest writes into it
  --disk NAME         how the disk is attached: ${
  Object.keys(DISKS).join(", ")
} (default: ${OPTIONS.disk.default})
  --firmware NAME     one of ${FIRMWARES.join(", ")} (default: ${OPTIONS.firmware.default})
  --format FORMAT     format of the image (default: found from its content)
  --directory, -C DIR where a relative IMAGE is (default: here)
  --help, -h          show this text
`;

async function main(): Promise<void> {
  const { values, positionals: [path, ...more] } = readFlags({
    args: Deno.args,
    options: OPTIONS,
    allowPositionals: true,
  });
  if (values.help) return await print(HELP);
  if (path === undefined || more.length > 0) {
    throw new BuildError(`Cannot boot ${more.length ? "several images at once" : "without an image"}`, {
      kind: "usage",
      hint: "Give one: deno task boot examples/disk.qcow2",
    });
  }
  const image = resolve(values.directory, path);
  const accel = choose("accel", values.accel, ["tcg", "kvm"]);
  const disk = choose("disk", values.disk, Object.keys(DISKS) as DiskName[]);
  const firmware = choose("firmware", values.firmware, FIRMWARES);
  const snapshot = choose("snapshot", values.snapshot, ["on", "off"]) === "on";
  if (!/^[1-9]\d{1,6}$/.test(values.memory)) {
    throw new BuildError(`Cannot use --memory=${values.memory}`, {
      kind: "usage",
      hint: "Give a whole number of MiB, such as 2048",
    });
  }
  const memory = Number(values.memory);
  const { architecture, format } = await inspectImage(image, values.format);
  checkInstalled(architecture, firmware);
  await withTempDir(async (dir) => {
    const variables = `${dir}/variables.fd`;
    const files = firmwareFiles(architecture, firmware);
    if (files?.variables) {
      await Deno.copyFile(files.variables, variables);
      await Deno.chmod(variables, 0o600);
    }
    const serial = "mon:stdio";
    const guest = { architecture, image, format, disk, accel, memory, snapshot, firmware, variables, serial };
    log.step(`Booting ${quote(image)} (${architecture}, ${format}); leave with Ctrl-A X`);
    if (accel === "tcg") log.detail("Emulated: this takes a minute; try --accel kvm if KVM works here");
    await runOnTerminal(qemuCommand(guest));
  });
}

/** Runs a program in the foreground of the terminal, which `$` cannot do. */
async function runOnTerminal([program = "", ...args]: string[]): Promise<void> {
  const child = new Deno.Command(program, { args, stdin: "inherit", stdout: "inherit", stderr: "inherit" })
    .spawn();
  const end = () => child.kill("SIGTERM");
  Deno.addSignalListener("SIGTERM", end);
  try {
    const { code, signal } = await child.status;
    if (signal) throw new BuildError(`${program} was killed by ${signal}`);
    if (code !== 0) throw new BuildError(`${program} failed with exit code ${code}`);
  } finally {
    Deno.removeSignalListener("SIGTERM", end);
  }
}

if (import.meta.main) await runTask(main);
