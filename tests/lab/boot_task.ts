/**
 * `deno task boot` for the tests: a guest, and the task itself.
 *
 * @module
 */

import type { Guest } from "../../tasks/qemu.ts";

const PROJECT = new URL("../..", import.meta.url).pathname;

export const GUEST: Guest = {
  architecture: "x86-64",
  image: "/images/disk.raw",
  format: "raw",
  disk: "nvme",
  accel: "tcg",
  memory: 2048,
  snapshot: true,
  variables: "/tmp/variables.fd",
  serial: "stdio",
};

/** Runs `deno task boot` in a directory, with the programs of its `bin` first. */
export async function boot(dir: string, args: readonly string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "--config", `${PROJECT}deno.json`, "boot", ...args],
    cwd: dir,
    // A task inside a task keeps the directory in which the outer one was started.
    env: { PATH: `${dir}/bin:${Deno.env.get("PATH")}`, NO_COLOR: "1", INIT_CWD: dir },
    stdin: "null",
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: decode(stdout), stderr: decode(stderr) };
}
