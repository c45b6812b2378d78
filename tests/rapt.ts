/**
 * A small interpreter of Raptor's build files, with which the tests make the container that Raptor would.
 *
 * It knows the instructions that our files use and is as strict as Raptor: only the top level of a file
 * counts for MOUNT, ENTRYPOINT and CMD, COPY takes one file and needs the directory, RUN has no shell.
 *
 * - https://chrivers.github.io/raptor/syntax.html
 *
 * @module
 */

import { dirname, join } from "node:path";
import { sh } from "../lib/sh.ts";

/** One line of a file. */
export interface Statement {
  /** The file that holds it. */
  readonly file: string;
  readonly instruction: string;
  readonly args: readonly string[];
}

export interface Mount {
  /** `--file`, `--overlay`. */
  readonly type: string;
  readonly name: string;
  readonly path: string;
}

/** A `.rapt` file with all that it includes and is based on. */
export interface Program {
  /** What follows `docker://` at the root of the chain. */
  readonly image: string;
  /** What is executed, from the base upwards. */
  readonly steps: readonly Statement[];
  readonly mounts: readonly Mount[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
}

/** Runs `$3…`, which may begin with assignments, in the directory `$2` of the root `$1`. */
const RUN = `set -e
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
root=$1 directory=$2
shift 2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot "$root" env -i --chdir="$directory" PATH="$PATH" "$@"
`;

const STEPS = ["COPY", "ENV", "MKDIR", "RUN", "WORKDIR"];

/** Reads one file. @throws {Error} on what Raptor would refuse, or would take for a template. */
export async function parseRapt(file: string): Promise<Statement[]> {
  const text = await Deno.readTextFile(file);
  if (/\{[{%#]/.test(text)) throw new Error(`${file}: minijinja would take this for a template`);
  // Raptor's lexer has no comment of nothing but "#".
  if (/^#$/m.test(text)) throw new Error(`${file}: an empty comment is no comment`);
  const statements: Statement[] = [];
  for (const line of text.replaceAll(/^#.*\n/gm, "\n").replaceAll("\\\n", " ").split("\n")) {
    if (!line.trim()) continue;
    const words = [...line.matchAll(/"((?:[^"\\]|\\[nt"])*)"|([^\s"]+)/g)].map(([, quoted, bare]) =>
      bare ?? JSON.parse(`"${quoted}"`)
    );
    const rest = line.replaceAll(/"((?:[^"\\]|\\[nt"])*)"|([^\s"]+)/g, "").trim();
    if (rest) throw new Error(`${file}: cannot read ${line}`);
    statements.push({ file, instruction: words[0], args: words.slice(1) });
  }
  return statements;
}

/** Reads a `.rapt` file and everything it is made of. */
export async function loadRapt(file: string): Promise<Program> {
  const own = await parseRapt(file);
  const all = (instruction: string) => own.filter((statement) => statement.instruction === instruction);
  const [from, ...more] = all("FROM");
  if (!from || more.length) throw new Error(`${file}: has ${more.length + 1} FROM`);
  const source = from.args[0]!;
  const base = source.startsWith("docker://")
    ? { image: source.slice("docker://".length), steps: [] }
    : await loadRapt(modulePath(file, source, "rapt"));
  return {
    image: base.image,
    steps: [...base.steps, ...await expand(own)],
    mounts: all("MOUNT").map(({ args }) => {
      const [name = "", path = ""] = args.slice(-2);
      return { type: args.slice(0, -2).join(" "), name, path };
    }),
    entrypoint: all("ENTRYPOINT")[0]?.args ?? [],
    cmd: all("CMD")[0]?.args ?? [],
  };
}

/** Puts the steps of included files in the place of INCLUDE. */
async function expand(statements: readonly Statement[]): Promise<Statement[]> {
  const steps: Statement[] = [];
  for (const statement of statements) {
    const { file, instruction, args } = statement;
    if (STEPS.includes(instruction)) steps.push(statement);
    else if (instruction === "INCLUDE") {
      steps.push(...await expand(await parseRapt(modulePath(file, args[0]!, "rinc"))));
    } else if (!["FROM", "MOUNT", "ENTRYPOINT", "CMD"].includes(instruction)) {
      throw new Error(`${file}: ${instruction} is not known here`);
    }
  }
  return steps;
}

function modulePath(file: string, name: string, extension: string): string {
  return join(dirname(file), ...name.split(".")) + `.${extension}`;
}

/** What a COPY does. */
export interface Copy {
  readonly mode: number;
  readonly source: string;
  readonly destination: string;
}

export function copyOf({ file, args }: Statement): Copy {
  const [option, mode, ...files] = args[0] === "--chmod" ? args : ["", "0750", ...args];
  const [source, destination, ...more] = files;
  if (!source || !destination || more.length) throw new Error(`${file}: COPY ${args.join(" ")} ${option}`);
  return { mode: parseInt(mode!, 8), source: join(dirname(file), source), destination };
}

/**
 * Executes the steps in a root directory that already holds the image.
 *
 * @param env for the programs that RUN starts, besides what ENV sets.
 */
export async function buildRapt(
  program: Program,
  root: string,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const variables: Record<string, string> = { ...env };
  let directory = "/";
  for (const statement of program.steps) {
    const { file, instruction, args } = statement;
    if (instruction === "ENV") {
      for (const assignment of args) {
        const [name, ...value] = assignment.split("=");
        variables[name!] = value.join("=");
      }
    } else if (instruction === "WORKDIR") {
      directory = args[0]!;
    } else if (instruction === "MKDIR") {
      const [option, path] = args.length === 2 ? args : ["", args[0]];
      await Deno.mkdir(root + path, { recursive: option === "-p" });
    } else if (instruction === "COPY") {
      const { mode, source, destination } = copyOf(statement);
      await Deno.copyFile(source, root + destination);
      await Deno.chmod(root + destination, mode);
    } else if (instruction === "RUN") {
      // As in Raptor's sandbox: the words as they are, and the host's network.
      const assignments = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
      await sh`unshare --mount --propagation=private sh -c ${RUN} sh ${root} ${directory} ${assignments} ${args}`;
    } else throw new Error(`${file}: ${instruction} is not known here`);
  }
}
