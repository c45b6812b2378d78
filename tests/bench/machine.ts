/**
 * Where the benchmark ran: the machine and the versions of all programs.
 *
 * @module
 */

import { VERSION } from "../../lib/cli/cli.ts";
import { isInstalled } from "../../lib/system/programs.ts";
import { repartProgram } from "./contenders.ts";
import { quiet } from "../lab/helpers.ts";

/** The machine, as far as it matters here. */
export async function inspectMachine(): Promise<Record<string, string | number>> {
  const [, processor = "unknown"] = /^model name\s*: (.*)$/m.exec(await Deno.readTextFile("/proc/cpuinfo")) ??
    [];
  const [, memory = "0"] = /^MemTotal: +(\d+) kB$/m.exec(await Deno.readTextFile("/proc/meminfo")) ?? [];
  const directory = Deno.env.get("TMPDIR") ?? "/var/tmp";
  return {
    processor,
    cores: navigator.hardwareConcurrency,
    memoryGiB: Math.round(Number(memory) / 1024 ** 2),
    kernel: Deno.osRelease(),
    filesystem: (await quiet`stat --file-system --format=%T ${directory}`).trim(),
  };
}

const PROGRAMS = {
  "genimage": ["genimage", "--version"],
  "guestfs-tools": ["virt-make-fs", "--version"],
  "qemu-img": ["qemu-img", "--version"],
  "tar": ["tar", "--version"],
} as const;

/** The first line of each program's version output. */
export async function inspectVersions(): Promise<Record<string, string>> {
  const versions: Record<string, string> = { "raptor-builders": VERSION, "deno": Deno.version.deno };
  for (const [name, command] of Object.entries(PROGRAMS)) {
    if (isInstalled(command[0])) versions[name] = firstLine(await quiet`${[...command]}`);
  }
  // It prints to stderr.
  const { stderr } = await new Deno.Command("mke2fs", { args: ["-V"], stdout: "null", stderr: "piped" })
    .output();
  versions["mke2fs"] = firstLine(new TextDecoder().decode(stderr));
  if (isInstalled("mmdebstrap")) {
    versions["systemd-repart"] = firstLine(await quiet`${await repartProgram()} --version`);
  }
  return versions;
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}
