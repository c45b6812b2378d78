/**
 * An interpreter of Raptor's build files, with which the tests make the container that Raptor would.
 *
 * It follows the real lexer and grammar, and knows what is allowed at the top level, what is hashed, and what is dated;
 * raptor_cases.ts lists what the real program accepts and refuses. It is stricter in some ways: no templates,
 * one FROM, and COPY of one file.
 *
 * - https://chrivers.github.io/raptor/grammar.html
 * - https://chrivers.github.io/raptor/syntax.html
 *
 * @module
 */

import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { $ } from "../../lib/system/sh.ts";

/** One statement of a file. */
export interface Statement {
  /** The file that holds it. */
  readonly file: string;
  readonly instruction: string;
  /** Values, with quotes and escapes resolved; assignments as `NAME=value`. */
  readonly args: readonly string[];
  /** `--chmod`, `--chown`, `-p`, or those of MOUNT: name → value. */
  readonly options: Readonly<Record<string, string>>;
}

export interface Mount {
  /** `file`, `simple`, `layers`, `overlay`. */
  readonly type: string;
  readonly optional: boolean;
  readonly readonly: boolean;
  readonly name: string;
  readonly path: string;
}

/** A `.rapt` file with everything it includes and is based on. */
export interface Program {
  readonly file: string;
  /** What follows `docker://` at the root of the chain. */
  readonly image: string;
  /** The statements to execute, from the base upwards. */
  readonly steps: readonly Statement[];
  readonly mounts: readonly Mount[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** The hash of the layer: to Raptor, two files with the same hash are the same layer. */
  readonly hash: string;
  /** The files that an image must be newer than to be up to date. */
  readonly dated: readonly string[];
}

type TokenType =
  | "bareword"
  | "number"
  | "true"
  | "false"
  | "string"
  | "space"
  | "newline"
  | "comment"
  | "mark";

interface Token {
  readonly type: TokenType;
  /** As written; for a string, its value. */
  readonly text: string;
}

/** In the order in which one of two equally long matches wins. */
const TOKENS: readonly (readonly [TokenType, RegExp])[] = [
  ["mark", /[[\]{}:=,/.\-$@]/y],
  ["true", /true/y],
  ["false", /false/y],
  ["bareword", /[a-zA-Z_][^\]@/. \n\t",=:{}[-]*/y],
  ["number", /[0-9]+/y],
  ["newline", /\n/y],
  ["comment", /#[^\n]+\n/y],
  ["space", /(?: |\t|\\\n)+/y],
];

const ESCAPES: Readonly<Record<string, string>> = { "n": "\n", "t": "\t", '"': '"', "\\": "\\" };

/** @throws {Error} where no token begins. */
function lex(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length;) {
    if (text[at] === '"') {
      const [whole = "", inside = ""] = /^"((?:[^"\\\n]|\\.)*)"/s.exec(text.slice(at)) ?? [];
      if (!whole) throw new Error(`unterminated string: ${text.slice(at, at + 20)}`);
      const value = inside.replace(/\\(.)/gs, (escape, char) => {
        if (!Object.hasOwn(ESCAPES, char)) throw new Error(`unsupported string escape: ${escape}`);
        return ESCAPES[char]!;
      });
      tokens.push({ type: "string", text: value });
      at += whole.length;
      continue;
    }
    let best: Token | undefined;
    for (const [type, regexp] of TOKENS) {
      regexp.lastIndex = at;
      const found = regexp.exec(text)?.[0];
      if (found !== undefined && found.length > (best?.text.length ?? 0)) best = { type, text: found };
    }
    if (!best) throw new Error(`no token: ${JSON.stringify(text.slice(at, at + 20))}`);
    tokens.push(best);
    at += best.text.length;
  }
  return tokens;
}

/** The statements of one file, as Raptor's recursive descent finds them. */
class Parser {
  private at = 0;
  private readonly tokens: readonly Token[];

  constructor(text: string, private readonly file: string) {
    this.tokens = lex(text);
  }

  private peek(): Token | undefined {
    return this.tokens[this.at];
  }

  private is(type: TokenType, text?: string): boolean {
    const token = this.peek();
    return token?.type === type && (text === undefined || token.text === text);
  }

  private accept(type: TokenType, text?: string): boolean {
    const found = this.is(type, text);
    if (found) this.at++;
    return found;
  }

  private expect(type: TokenType, text?: string): string {
    const token = this.peek();
    if (!this.accept(type, text)) {
      throw new Error(`expected ${text ?? type}, found ${JSON.stringify(token?.text)}`);
    }
    return token!.text;
  }

  private trim(): void {
    while (this.accept("space"));
  }

  private endOfLine(): void {
    this.trim();
    if (!this.accept("newline")) this.expect("comment");
  }

  /** A bareword or a string. */
  private value(): string {
    const value = this.is("string") ? this.expect("string") : this.expect("bareword");
    this.trim();
    return value;
  }

  /** Tokens of any kind up to the next blank. */
  private path(): string {
    let word = "";
    while (this.peek() && !this.is("comment") && !this.is("space") && !this.is("newline")) {
      word += this.peek()!.text;
      this.at++;
    }
    if (!word) throw new Error("expected path");
    this.trim();
    return word;
  }

  private moduleName(): string {
    const part = () => {
      let name = "";
      while (this.is("bareword") || this.is("mark", "-")) name += this.tokens[this.at++]!.text;
      return name;
    };
    let name = "";
    if (this.accept("mark", "$")) {
      name = `$${part()}.`;
      this.expect("mark", ".");
    }
    const parts: string[] = [];
    for (let next = part(); next; next = this.accept("mark", ".") ? part() : "") parts.push(next);
    if (!parts.length) throw new Error("expected module name");
    return name + parts.join(".") + (this.accept("mark", "@") ? `@${this.path()}` : "");
  }

  /** The rest of the line as words: a string is its own word, and comes before adjacent text. */
  private line(): string[] {
    this.trim();
    const words: string[] = [];
    let word = "";
    for (;;) {
      const token = this.tokens[this.at++];
      if (token?.type === "string") words.push(token.text);
      else if (!token || ["space", "newline", "comment"].includes(token.type)) {
        if (word) words.push(word);
        word = "";
        if (token?.type !== "space") break;
      } else word += token.text;
    }
    // Raptor accepts such a line, and crashes when it executes it.
    if (!words.length) throw new Error("expected words");
    return words;
  }

  /** `--chmod`, `--chown`, and `-p` where it is allowed. */
  private fileOptions(parents = false): Record<string, string> {
    const options: Record<string, string> = {};
    while (this.accept("mark", "-")) {
      if (!this.accept("mark", "-")) {
        if (!parents) throw new Error("expected file option");
        options[this.expect("bareword", "p")] = "";
        this.trim();
        continue;
      }
      const name = this.expect("bareword");
      if (name !== "chmod" && name !== "chown") throw new Error(`expected file option, found ${name}`);
      if (!this.accept("mark", "=")) this.expect("space");
      if (name === "chmod") {
        options.chmod = this.expect("number");
        if (!/^[0-7]{3,4}$/.test(options.chmod)) throw new Error("invalid permission mask");
      } else {
        const user = this.is("mark", ":") ? "" : this.value();
        const group = this.accept("mark", ":") ? this.is("bareword") ? this.expect("bareword") : user : "";
        options.chown = group ? `${user}:${group}` : user;
      }
      this.trim();
    }
    this.trim();
    return options;
  }

  private mountOptions(): Record<string, string> {
    const options: Record<string, string> = { type: "simple" };
    while (this.accept("mark", "-")) {
      this.expect("mark", "-");
      const name = this.expect("bareword");
      if (["file", "simple", "layers", "overlay"].includes(name)) options.type = name;
      else if (name === "optional") options.optional = "";
      else if (name === "required") delete options.optional;
      else if (name === "readonly") options.readonly = "";
      else if (name === "readwrite") delete options.readonly;
      else throw new Error(`expected mount option, found ${name}`);
      this.trim();
    }
    this.trim();
    return options;
  }

  private statement(): Statement {
    const instruction = this.expect("bareword");
    const make = (args: string[], options: Record<string, string> = {}) => {
      return { file: this.file, instruction, args, options };
    };
    const ended = (statement: Statement) => {
      this.endOfLine();
      return statement;
    };
    // These parse the rest of the line themselves.
    if (["RUN", "ENTRYPOINT", "CMD"].includes(instruction)) return make(this.line());
    this.trim();
    switch (instruction) {
      case "FROM": {
        if (!this.is("bareword", "docker")) return ended(make([this.moduleName()]));
        this.expect("bareword");
        [":", "/", "/"].forEach((mark) => this.expect("mark", mark));
        return ended(make([`docker://${this.path()}`]));
      }
      case "INCLUDE": {
        const name = this.moduleName();
        this.trim();
        // Arguments for the included file are not known here, and a comment would be one.
        this.expect("newline");
        return make([name]);
      }
      case "MOUNT": {
        const options = this.mountOptions();
        const name = this.expect("bareword");
        this.trim();
        return ended(make([name, this.path()], options));
      }
      case "WORKDIR":
        return ended(make([this.path()]));
      case "ENV": {
        const args: string[] = [];
        while (!this.is("newline")) {
          const name = this.expect("bareword");
          args.push(`${name}=${this.accept("mark", "=") ? this.value() : name}`);
          this.trim();
        }
        return ended(make(args));
      }
      case "WRITE": {
        const options = this.fileOptions();
        return ended(make([this.value(), this.path()], options));
      }
      case "MKDIR": {
        const options = this.fileOptions(true);
        return ended(make([this.path()], options));
      }
      case "COPY": {
        const options = this.fileOptions();
        const paths: string[] = [];
        while (!this.is("newline")) paths.push(this.path());
        // Raptor accepts several sources, and copies the first.
        if (paths.length !== 2) throw new Error(`COPY has ${paths.length} paths`);
        return ended(make(paths, options));
      }
      default:
        throw new Error(`expected statement, found ${instruction}`);
    }
  }

  parse(): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      while (this.accept("space") || this.accept("comment") || this.accept("newline"));
      if (!this.peek()) return statements;
      statements.push(this.statement());
    }
  }
}

/** Parses a text. @throws {Error} on anything that Raptor would refuse, or treat as a template. */
export function parseText(text: string, file = "inline.rapt"): Statement[] {
  if (/\{[{%#]/.test(text)) throw new Error(`${file}: minijinja would take this for a template`);
  try {
    return new Parser(`${text}\n`, file).parse();
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** Reads one file. */
export async function parseRapt(file: string): Promise<Statement[]> {
  return parseText(await Deno.readTextFile(file), file);
}

/** What the hash of a layer covers. */
const HASHED = ["COPY", "WRITE", "MKDIR", "RUN", "ENV", "WORKDIR"];

/** Reads a `.rapt` file and everything it is made of. */
export async function loadRapt(file: string): Promise<Program> {
  const own = await parseRapt(file);
  const all = (instruction: string) => own.filter((statement) => statement.instruction === instruction);
  const [from, ...more] = all("FROM");
  if (!from || more.length) throw new Error(`${file}: has ${more.length + (from ? 1 : 0)} FROM`);
  const source = from.args[0]!;
  const parent = source.startsWith("docker://")
    ? undefined
    : await loadRapt(modulePath(file, source, "rapt"));
  const flat = await expand(own);
  const steps = flat.filter(({ instruction }) => HASHED.includes(instruction));
  const copied = steps.filter(({ instruction }) => instruction === "COPY").map((step) => copyOf(step).source);
  const included = flat.filter(({ instruction }) => instruction === "INCLUDE")
    .map((statement) => modulePath(statement.file, statement.args[0]!, "rinc"));
  const sha256 = createHash("sha256").update(parent?.hash ?? source);
  for (const { instruction, args, options } of steps) {
    sha256.update(JSON.stringify([instruction, args, options]));
  }
  for (const path of [...new Set(copied)].sort()) sha256.update(await Deno.readFile(path));
  return {
    file,
    image: parent?.image ?? source.slice("docker://".length),
    steps: [...parent?.steps ?? [], ...steps],
    mounts: all("MOUNT").map(({ args: [name = "", path = ""], options }) => ({
      type: options.type!,
      optional: "optional" in options,
      readonly: "readonly" in options,
      name,
      path,
    })),
    entrypoint: all("ENTRYPOINT")[0]?.args ?? [],
    cmd: all("CMD")[0]?.args ?? [],
    hash: sha256.digest("hex"),
    dated: [file, ...copied, ...included, ...parent ? [parent.file] : []],
  };
}

/** Inserts the statements of included files after INCLUDE. */
export async function expand(statements: readonly Statement[]): Promise<Statement[]> {
  const flat: Statement[] = [];
  for (const statement of statements) {
    flat.push(statement);
    const { file, instruction, args } = statement;
    if (instruction === "INCLUDE") {
      flat.push(...await expand(await parseRapt(modulePath(file, args[0]!, "rinc"))));
    }
  }
  return flat;
}

function modulePath(file: string, name: string, extension: string): string {
  if (name.startsWith("$")) throw new Error(`${file}: ${name} is no relative module name`);
  return join(dirname(file), ...name.split(".")) + `.${extension}`;
}

/** A statement as `raptor build --no-act` prints it. */
export function show({ instruction, args, options }: Statement): string {
  const words = args.map((arg) => JSON.stringify(arg));
  const flags = [
    ...("p" in options ? ["-p"] : []),
    ...(options.chmod ? [`--chmod ${options.chmod.padStart(4, "0")}`] : []),
    ...(options.chown ? [`--chown ${options.chown}`] : []),
    ...(options.type ? [`--${options.type}`] : []),
  ];
  switch (instruction) {
    case "FROM":
      // Raptor prints the mark of an instance twice.
      return `FROM ${args[0]!.startsWith("docker:") ? args[0] : args[0]!.replace("@", "@@")}`;
    case "ENV":
      return ["ENV", ...args.map((arg) => arg.replace(/=(.*)$/s, (_, value) => `=${JSON.stringify(value)}`))]
        .join(" ");
    case "MOUNT":
      return ["MOUNT", ...flags, args[0], words[1]].join(" ");
    default:
      return [instruction, ...flags, ...words].join(" ");
  }
}

/** The command line that a container is started with: `args` of a job replace CMD. */
export function commandOf({ file, entrypoint, cmd }: Program, args: readonly string[] = []): string[] {
  const rest = args.length ? args : cmd;
  if (!entrypoint.length || !rest.length) throw new Error(`${file}: no command specified`);
  return [...entrypoint, ...rest];
}

/** What a COPY does. */
export interface Copy {
  readonly mode: number;
  readonly source: string;
  readonly destination: string;
}

export function copyOf({ file, args: [source, destination], options }: Statement): Copy {
  return {
    mode: parseInt(options.chmod ?? "0750", 8),
    source: join(dirname(file), source!),
    destination: destination!,
  };
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

/**
 * Executes the steps in a root directory that already holds the image.
 *
 * @param env for the programs that RUN starts, in addition to ENV.
 */
export async function buildRapt(
  program: Pick<Program, "steps">,
  root: string,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const variables: Record<string, string> = { ...env };
  let directory = "/";
  for (const statement of program.steps) {
    const { file, instruction, args, options } = statement;
    if (instruction === "ENV") {
      for (const assignment of args) {
        const [name, ...value] = assignment.split("=");
        variables[name!] = value.join("=");
      }
    } else if (instruction === "WORKDIR") {
      directory = args[0]!;
    } else if (instruction === "MKDIR") {
      await Deno.mkdir(root + args[0], { recursive: "p" in options });
    } else if (instruction === "COPY") {
      const { mode, source, destination } = copyOf(statement);
      await Deno.copyFile(source, root + destination);
      await Deno.chmod(root + destination, mode);
    } else if (instruction === "RUN") {
      // As in Raptor's sandbox: the words as they are, and the host's network.
      const assignments = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
      await $`unshare --mount --propagation=private sh -c ${RUN} sh ${root} ${directory} ${assignments} ${args}`;
    } else throw new Error(`${file}: ${instruction} is not known here`);
  }
}
