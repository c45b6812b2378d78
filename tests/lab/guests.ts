/**
 * Guests: images booted or inspected with QEMU and systemd-nspawn.
 *
 * Works as root on a machine without systemd as process 1, without vfat in the kernel, and without KVM.
 *
 * @module
 */

import { inspectImage } from "../../tasks/boot.ts";
import {
  type BootableName,
  checkInstalled,
  type DiskName,
  firmwareFiles,
  type FirmwareName,
  qemuCommand,
} from "../../tasks/qemu.ts";
import { quiet, stubProgram, tempDir } from "./helpers.ts";
import { unpack } from "./trees.ts";

/** The lines around the report of the init in every tree of trees.ts. */
const BEGIN = "=== begin";
const END = "=== end";

export interface QemuOptions {
  /** Format and architecture of the image; by default, both are detected. */
  readonly format?: string;
  readonly architecture?: BootableName;
  readonly disk?: DiskName;
  readonly firmware?: FirmwareName;
  /** In MiB. */
  readonly memory?: number;
  /** Whether to discard what the guest writes (default). */
  readonly snapshot?: boolean;
}

/** Console output of a guest that will never report. */
const DEAD = [
  /Kernel panic/,
  /in emergency mode/,
  /^\(initramfs\)/m,
  /^dracut:\/#/m,
  /grub( rescue)?>/,
  /No bootable (option or )?device/,
];

/** CPU seconds for a guest: wall-clock time depends on what else the machine does. */
const CPU_SECONDS = 1200;

/** Wall-clock limit in seconds, for a guest that waits and takes no CPU time. */
const PATIENCE = 1800;

/**
 * Boots a disk image until the guest powers off, and returns what it wrote on the serial console, without
 * control codes.
 *
 * @throws when the guest's report is incomplete; the message has the last lines of its console.
 */
export async function bootQemu(image: string, options: QemuOptions = {}): Promise<string> {
  const { disk = "nvme", firmware = "uefi", memory = 1024, snapshot = true } = options;
  const found = options.format && options.architecture
    ? undefined
    : await inspectImage(image, options.format);
  const format = options.format ?? found!.format;
  const architecture = options.architecture ?? found!.architecture;
  checkInstalled(architecture, firmware);
  return await tempDir(async (dir) => {
    const variables = `${dir}/variables.fd`;
    const files = firmwareFiles(architecture, firmware);
    if (files?.variables) {
      await Deno.copyFile(files.variables, variables);
      await Deno.chmod(variables, 0o600);
    }
    const guest = { architecture, image, format, disk, memory, snapshot, firmware, variables };
    const output = await runGuest(qemuCommand({ ...guest, accel: "tcg", serial: "stdio" }));
    if (output.includes(END)) return output;
    const tail = output.trimEnd().split("\n").slice(-60).join("\n");
    throw new Error(`The guest of ${image} did not report; its last lines:\n${tail}`);
  });
}

/** Runs QEMU until the guest powers off, is dead, or runs out of time; returns its console. */
async function runGuest(command: readonly string[]): Promise<string> {
  const child = new Deno.Command("prlimit", {
    args: [`--cpu=${CPU_SECONDS}`, ...command],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const stop = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has already ended.
    }
  };
  const timer = setTimeout(stop, PATIENCE * 1000);
  let output = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    output += text;
    const console = plain(output.slice(-2000));
    if (!output.includes(BEGIN) && DEAD.some((pattern) => pattern.test(console))) stop();
  }
  await child.status;
  clearTimeout(timer);
  return plain(output);
}

/** A terminal's output as lines of text. */
function plain(output: string): string {
  // deno-lint-ignore no-control-regex
  return output.replace(/\x1b(\[[0-9;?=]*[A-Za-z]|[()][0-9A-Z]|[=>78cDM])/g, "").replace(/\r+/g, "");
}

/** The sections of a guest's report, by name: `report(await bootQemu(image)).get("cmdline")`. */
export function report(output: string): Map<string, string> {
  const begin = output.indexOf(BEGIN);
  const end = output.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`No report in:\n${output}`);
  const sections = output.slice(begin, end).split(/^=== /m).slice(1);
  return new Map(sections.map((section) => {
    const newline = section.indexOf("\n");
    return [section.slice(0, newline), section.slice(newline + 1).trimEnd()];
  }));
}

export interface NspawnOptions {
  /** Runs init (default), or the command in `args`. */
  readonly boot?: boolean;
  readonly args?: readonly string[];
  readonly readOnly?: boolean;
  readonly volatile?: "yes" | "overlay" | "state";
}

/**
 * What systemd-nspawn needs where systemd is not process 1: its own /run, a udev that seems to run
 * (nspawn connects to it and checks its namespace), and the unified cgroup hierarchy.
 * Everything is mounted in a namespace that ends with the script. `$@` is the command.
 */
export const NSPAWN = `set -eu
mount -t tmpfs run /run
mkdir /run/udev
systemd-socket-activate --seqpacket --listen=/run/udev/control sleep 3600 2>/dev/null &
trap "kill $!" EXIT
while [ ! -e /run/udev/control ]; do sleep 0.05; done
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
"$@" </dev/null
`;

/**
 * Boots an image of either kind, or a directory, as a container, and returns what it wrote on its console.
 * Without `readOnly` or `volatile` the container writes into the image.
 *
 * If the kernel has no vfat, a newer systemd-nspawn runs it, which can leave out the ESP and a FAT boot
 * partition; Debian 12's cannot.
 *
 * @throws {BuildError} when the container cannot be started or its init fails.
 */
export async function nspawn(
  target: string | { readonly directory: string },
  { boot = true, args = [], readOnly = false, volatile }: NspawnOptions = {},
): Promise<string> {
  const options = [
    ...await nspawnProgram(typeof target === "string"),
    ...["--console=read-only"],
    typeof target === "string" ? `--image=${target}` : `--directory=${target.directory}`,
    ...(readOnly ? ["--read-only"] : []),
    ...(volatile ? [`--volatile=${volatile}`] : []),
    ...(boot ? ["--boot"] : []),
  ];
  const output = await quiet`timeout --kill-after=10 ${PATIENCE} unshare --mount --propagation private
    sh -c ${NSPAWN} nspawn ${options} ${args}`;
  return plain(output);
}

/** systemd-nspawn with what it needs to be told where systemd is not process 1. */
async function nspawnProgram(isImage: boolean): Promise<string[]> {
  const program = isImage && !await hasVfat()
    ? [
      ...await newerSystemd("systemd-nspawn"),
      "--image-policy=root=unprotected:home=unprotected+absent:srv=unprotected+absent:=ignore",
    ]
    : ["/usr/bin/systemd-nspawn"];
  return [
    ...program,
    ...["--quiet", "--register=no", "--keep-unit", "--settings=no"],
    ...["--resolv-conf=off", "--timezone=off", "--link-journal=no"],
  ];
}

/** Writes a `systemd-nspawn` for the `PATH` of scripts, which works where systemd is not process 1. */
export async function stubNspawn(dir: string): Promise<void> {
  const quote = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
  const words = (await nspawnProgram(true)).map(quote).join(" ");
  await stubProgram(
    dir,
    "systemd-nspawn",
    `exec unshare --mount --propagation private sh -c ${quote(NSPAWN)} nspawn ${words} "$@"`,
  );
}

async function hasVfat(): Promise<boolean> {
  const known = async () => /\bvfat\b/.test(await Deno.readTextFile("/proc/filesystems"));
  if (await known()) return true;
  try {
    await quiet`modprobe vfat`;
  } catch {
    // No such module, or no modprobe: the answer is the same.
  }
  return await known();
}

/** Debian 13's systemd with its libraries, unpacked. */
export function newerSystemdTree(): Promise<string> {
  return unpack("trixie", "amd64", [
    "systemd",
    "systemd-boot-tools",
    "systemd-container",
    "udev",
    "libcryptsetup12",
  ]);
}

/**
 * The command for a program of Debian 13's systemd (257), run from its unpacked packages by their own
 * dynamic loader: for options that Debian 12's does not have yet (`--image-policy`, `--validate`).
 */
export async function newerSystemd(program: string): Promise<string[]> {
  const dir = await newerSystemdTree();
  const lib = `${dir}/usr/lib/x86_64-linux-gnu`;
  return [
    `${dir}/usr/lib64/ld-linux-x86-64.so.2`,
    ...["--library-path", `${lib}:${lib}/systemd`, `${dir}/usr/bin/${program}`],
  ];
}

/** What `systemd-dissect` of this machine says about an image: its partitions by designator, and its OS. */
// deno-lint-ignore no-explicit-any
export async function dissect(image: string): Promise<any> {
  return JSON.parse(await quiet`systemd-dissect --json=short ${image}`);
}

/** Mounts a filesystem within an image, read-only, and gives `fn` the mount point. `offset` in bytes. */
export async function mountLoop<T>(
  image: string,
  { offset = 0 }: { readonly offset?: number },
  fn: (dir: string) => T | Promise<T>,
): Promise<T> {
  return await tempDir(async (parent) => {
    const dir = `${parent}/mount`;
    await Deno.mkdir(dir);
    await quiet`mount -o ${`loop,ro,offset=${offset}`} ${image} ${dir}`;
    try {
      return await fn(dir);
    } finally {
      await quiet`umount ${dir}`;
    }
  });
}
