/**
 * podman for the tests, with its own storage, and the image of the Containerfile.
 *
 * No registry is used: the base images of the Containerfile are made here, a minimal Debian with mmdebstrap,
 * and an image with only the Deno that runs the tests.
 *
 * @module
 */

import { join } from "node:path";
import { quiet, stubProgram } from "./helpers.ts";
import { cached, exclusively } from "./trees.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** The image of the Containerfile. */
export const IMAGE = "localhost/raptor-builders";

/** The base image of the Containerfile. */
export const BASE = "docker.io/library/debian:trixie-slim";

/** Works where crun may not raise limits, and without systemd. */
const CONFIG = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`;

/** The user without a name that rootless containers are run as, and its subordinate ids. */
const USER = { name: "raptor-test", id: 54321, subordinate: 600_000 } as const;

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The tests' own storage and configuration. */
async function home(): Promise<string> {
  return await cached("containers", { CONFIG }, async (dir) => {
    await Deno.writeTextFile(join(dir, "containers.conf"), CONFIG);
    await Deno.chmod(dir, 0o755);
  });
}

/** Runs podman and returns how it ended. */
export async function podman(args: readonly string[], options: { stdin?: string } = {}): Promise<Outcome> {
  const dir = await home();
  return await start("podman", [...storage(dir), ...args], {
    env: { CONTAINERS_CONF: `${dir}/containers.conf` },
    ...options,
  });
}

/** Writes a `podman` for the `PATH` of scripts that works on the same storage. */
export async function stubPodman(dir: string): Promise<void> {
  const own = await home();
  const quoted = (words: readonly string[]) => words.map((word) => `'${word}'`).join(" ");
  const program = `case $1 in build) shift; set -- build --pull=never ${quoted(certificates())} "$@" ;; esac
CONTAINERS_CONF='${own}/containers.conf' exec /usr/bin/podman ${quoted(storage(own))} "$@"`;
  await stubProgram(dir, "podman", program);
}

/** podman refuses a runroot of more than 50 characters, and remembers it in the storage. */
function storage(dir: string, run = `/run/raptor-test-${dir.slice(-12)}`): string[] {
  return ["--root", `${dir}/storage`, "--runroot", run, "--storage-driver", "overlay"];
}

async function start(
  program: string,
  args: readonly string[],
  { env, stdin }: { env: Record<string, string>; stdin?: string },
): Promise<Outcome> {
  const child = new Deno.Command(program, {
    args: [...args],
    env,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const feed = async () => {
    if (stdin !== undefined) await new Blob([stdin]).stream().pipeTo(child.stdin);
  };
  const [{ code, stdout, stderr }] = await Promise.all([child.output(), feed()]);
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** Runs podman, which must not fail. */
async function must(args: readonly string[]): Promise<string> {
  const { code, out, err } = await podman(args);
  if (code !== 0) throw new Error(`podman ${args.join(" ")}: ${code}\n${out}${err}`);
  return out;
}

/** If the network uses its own CA, npm needs its certificates while the image is built. */
function certificates(): string[] {
  const bundle = Deno.env.get("NODE_EXTRA_CA_CERTS");
  if (!bundle) return [];
  const args = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"].map((name) => `--build-arg=${name}=${bundle}`);
  return [`--volume=${bundle}:${bundle}:ro`, ...args];
}

let built: Promise<string> | undefined;

/** Builds the image of the Containerfile, once, and returns its name. */
export function builderImage(): Promise<string> {
  return built ??= exclusively("podman", async () => {
    // Images left by earlier versions of the code.
    await must(["image", "prune", "--force"]);
    const deno = `docker.io/denoland/deno:bin-${Deno.version.deno}`;
    if ((await podman(["image", "exists", BASE])).code !== 0) {
      await must(["import", "--quiet", join(await minimalDebian(), "tree.tar"), BASE]);
    }
    if ((await podman(["image", "exists", deno])).code !== 0) await importDeno(deno);
    await must(["build", "--quiet", "--pull=never", ...certificates(), "--tag", IMAGE, ROOT]);
    return IMAGE;
  });
}

/** Debian 13 with only the essential packages and apt, as a tree and as an archive. */
export async function minimalDebian(): Promise<string> {
  return await cached("debian-trixie-minbase", { version: 1 }, async (dir) => {
    await quiet`mmdebstrap --quiet --variant=minbase --mode=root trixie ${dir}/tree.tar`;
    await Deno.mkdir(`${dir}/tree`);
    await quiet`tar --extract --file=${dir}/tree.tar --directory=${dir}/tree --numeric-owner --xattrs`;
  });
}

async function importDeno(name: string): Promise<void> {
  const dir = await Deno.makeTempDir({ dir: await home() });
  try {
    await Deno.copyFile(Deno.execPath(), `${dir}/deno`);
    await Deno.chmod(`${dir}/deno`, 0o755);
    await quiet`tar --create --file=${dir}/tar --directory=${dir} --owner=0 --group=0 deno`;
    await must(["import", "--quiet", `${dir}/tar`, name]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Imports a tree as the image `name`, as if it came from a registry. */
export async function importTree(tree: string, name: string): Promise<string> {
  const dir = await Deno.makeTempDir({ dir: await home() });
  try {
    await quiet`tar --create --file=${dir}/tar --directory=${tree} --numeric-owner --xattrs --xattrs-include=* .`;
    await must(["import", "--quiet", `${dir}/tar`, name]);
    return name;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** A rootless podman, run by a user that exists only for it. */
export interface Rootless extends AsyncDisposable {
  readonly podman: (args: readonly string[]) => Promise<Outcome>;
  /** A directory of the user's own. */
  readonly directory: string;
  readonly uid: number;
}

/**
 * Starts a rootless podman that has the builders' image and the named ones.
 *
 * The user is made up: in a separate mount namespace, a copy of /etc that knows it is mounted over the machine's.
 */
export async function rootless(images: readonly string[]): Promise<Rootless> {
  const dir = await Deno.makeTempDir({
    dir: Deno.env.get("TMPDIR") ?? "/var/tmp",
    prefix: "raptor-rootless-",
  });
  const { name, id, subordinate } = USER;
  await Deno.chmod(dir, 0o755);
  const runtime = await Deno.makeTempDir({ dir: "/run", prefix: "raptor-test-" });
  await Deno.chown(runtime, id, id);
  for (const path of ["home", "files"]) {
    await Deno.mkdir(`${dir}/${path}`);
    await Deno.chown(`${dir}/${path}`, id, id);
  }
  await Deno.writeTextFile(`${dir}/containers.conf`, CONFIG);
  await quiet`cp --archive /etc ${dir}/etc`;
  const add = (file: string, line: string) =>
    Deno.writeTextFile(`${dir}/etc/${file}`, line, { append: true });
  await add("passwd", `${name}:x:${id}:${id}::${dir}/home:/bin/sh\n`);
  await add("group", `${name}:x:${id}:\n`);
  await add("subuid", `${name}:${subordinate}:65536\n`);
  await add("subgid", `${name}:${subordinate}:65536\n`);
  const script = `set -e
    mount --bind "$1/etc" /etc
    shift
    exec setpriv --reuid=${id} --regid=${id} --clear-groups "$@"`;
  const env = {
    HOME: `${dir}/home`,
    XDG_RUNTIME_DIR: runtime,
    CONTAINERS_CONF: `${dir}/containers.conf`,
  };
  const run = (args: readonly string[]) => {
    const command = ["podman", ...storage(`${dir}/home`, runtime), ...args];
    return start("unshare", ["--mount", "--propagation=private", "sh", "-c", script, "sh", dir, ...command], {
      env,
    });
  };
  const remove = async () => {
    // The tests run as root and can remove files of subordinate ids; this ends the helper process.
    await run(["system", "migrate"]);
    for (const path of [dir, runtime]) await Deno.remove(path, { recursive: true });
  };
  try {
    const archive = `${dir}/images.tar`;
    await must(["save", "--quiet", "--multi-image-archive", "--output", archive, ...images]);
    await Deno.chmod(archive, 0o644);
    const { code, err } = await run(["load", "--quiet", "--input", archive]);
    if (code !== 0) throw new Error(`podman load: ${err}`);
    await Deno.remove(archive);
  } catch (error) {
    await remove();
    throw error;
  }
  return { podman: run, directory: `${dir}/files`, uid: id, [Symbol.asyncDispose]: remove };
}
