/**
 * Runs the builders as their users do: as programs, with the permissions of their first line.
 *
 * @module
 */

import { searchPath } from "../../lib/system/programs.ts";
import { quiet } from "./helpers.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

export interface BuildOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface BuildResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command of a builder's entry script, as its first line has it; `root` is the checkout, with a slash at the end. */
export async function builderCommand(builder: string, root: string = ROOT): Promise<string[]> {
  const script = `${root}builders/${builder}/build.ts`;
  const [, flags] = /^#!\/usr\/bin\/env -S deno run (.*)\n/.exec(await Deno.readTextFile(script)) ?? [];
  if (!flags) throw new Error(`${script} has no #! line`);
  return [Deno.execPath(), "run", ...flags.split(" "), script];
}

/** Starts a builder with only the given settings in its environment. */
export async function startBuilder(
  builder: string,
  { args = [], env = {}, cwd = ROOT }: BuildOptions = {},
): Promise<Deno.ChildProcess> {
  const [program = "", ...words] = await builderCommand(builder);
  const kept = ["HOME", "DENO_DIR", "TMPDIR"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  });
  return new Deno.Command(program, {
    args: [...words, ...args],
    env: { PATH: searchPath(), ...Object.fromEntries(kept), ...env },
    clearEnv: true,
    cwd,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs a builder and returns its output, whatever its exit code. */
export async function runBuilder(builder: string, options: BuildOptions = {}): Promise<BuildResult> {
  const { code, stdout, stderr } = await (await startBuilder(builder, options)).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Builds an image. @throws with the whole log when that fails. */
export async function build(
  builder: string,
  input: string,
  output: string,
  env: Readonly<Record<string, string>> = {},
): Promise<BuildResult> {
  const result = await runBuilder(builder, { args: ["--input", input, "--output", output], env });
  if (result.code !== 0) throw new Error(`${builder} exited with ${result.code}:\n${result.stderr}`);
  return result;
}

/** The UUID of the filesystem in a partition, as blkid finds it; the partition as sfdisk shows it, in sectors of 512 bytes. */
export async function filesystemUuid(
  image: string,
  { start, size }: { readonly start: number; readonly size: number },
): Promise<string> {
  const [offset, length] = [start * 512, size * 512];
  return (await quiet`blkid -p -O ${offset} -S ${length} -o value -s UUID ${image}`).trim();
}
