/**
 * Reads assignments from shell scripts, such as `/etc/default/grub`, without running them.
 *
 * https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html
 *
 * @module
 */

/** Words that open and close blocks that a shell may run, skip or repeat. */
const OPENING = ["if", "case", "for", "while", "until", "{"];
const CLOSING = ["fi", "esac", "done", "}"];
/** Words after which a command follows. */
const BETWEEN = ["then", "else", "elif", "do", "export", "readonly", "local", "declare", "typeset", "!"];

/**
 * Adds the variables that a script sets to the known ones.
 *
 * @returns the names of variables that only a shell could evaluate: they depend on a condition or on the
 * output of a command. Their values do not change.
 */
export function readAssignments(script: string, variables: Map<string, string>): string[] {
  const unknown = new Set<string>();
  let depth = 0, subshells = 0;
  // Whether the rest of the line depends on what came before it.
  let conditional = false;
  let pending: [name: string, value: string | undefined][] = [];
  let isCommand = false;
  const endCommand = () => {
    // Assignments before a command apply only to that command.
    for (const [name, value] of isCommand ? [] : pending) {
      if (value === undefined || depth + subshells > 0 || conditional) unknown.add(name);
      else {
        variables.set(name, value);
        unknown.delete(name);
      }
    }
    pending = [];
    isCommand = false;
  };
  for (const token of tokens(script, variables)) {
    if (token.type === "separator") {
      endCommand();
      conditional = token.text === "&&" || token.text === "||" || token.text === "|";
      continue;
    }
    const { raw, value } = token;
    if (raw === "(" && !isCommand) subshells++;
    else if (raw === ")") {
      // Also after the pattern of a case.
      endCommand();
      subshells = Math.max(0, subshells - 1);
      continue;
    }
    const [, name, start] = /^([A-Za-z_]\w*)(\+?=)/.exec(raw) ?? [];
    if (name && !isCommand) {
      const text = value?.slice(name.length + start!.length);
      pending.push([name, start === "=" ? text : text && (variables.get(name) ?? "") + text]);
    } else if (!isCommand && OPENING.includes(raw)) depth++;
    else if (!isCommand && CLOSING.includes(raw)) depth = Math.max(0, depth - 1);
    else if (!BETWEEN.includes(raw)) isCommand = true;
  }
  endCommand();
  return [...unknown];
}

type Token =
  | { readonly type: "separator"; readonly text: string }
  /** As written, and as a shell expands it; `undefined`: only a shell knows. */
  | { readonly type: "word"; readonly raw: string; readonly value: string | undefined };

function* tokens(script: string, variables: ReadonlyMap<string, string>): Generator<Token> {
  const blank = /(?:[ \t\r]|\\\n)+|#[^\n]*/y;
  const separator = /&&|\|\||[\n;&|]+/y;
  for (let at = 0; at < script.length;) {
    blank.lastIndex = separator.lastIndex = at;
    if (blank.test(script)) at = blank.lastIndex;
    else if (separator.test(script)) {
      yield { type: "separator", text: script.slice(at, separator.lastIndex) };
      at = separator.lastIndex;
    } else if ("()<>".includes(script[at]!)) {
      yield { type: "word", raw: script[at]!, value: undefined };
      at++;
    } else {
      const { end, value } = readWord(script, at, variables);
      yield { type: "word", raw: script.slice(at, end), value };
      at = end;
    }
  }
}

/** Reads a word with its quotes and variables. */
function readWord(script: string, start: number, variables: ReadonlyMap<string, string>) {
  let value: string | undefined = "";
  let quoted = false;
  let at = start;
  const add = (text: string | undefined) => {
    value = value === undefined || text === undefined ? undefined : value + text;
  };
  for (; at < script.length; at++) {
    const char = script[at]!;
    if (char === '"') quoted = !quoted;
    else if (char === "'" && !quoted) {
      const end = endOf(script, "'", at + 1);
      add(script.slice(at + 1, end));
      at = end;
    } else if (char === "\\") {
      const next = script[++at] ?? "";
      if (next !== "\n") add(quoted && !'"\\$`'.includes(next) ? `\\${next}` : next);
    } else if (char === "`") {
      add(undefined);
      at = endOf(script, "`", at + 1);
    } else if (char === "$") {
      const variable = /\$(?:(\w+)|\{(\w+)\})/y;
      variable.lastIndex = at;
      const [all, bare, braced] = variable.exec(script) ?? [];
      if (all) {
        add(variables.get((bare ?? braced)!) ?? "");
        at += all.length - 1;
      } else if (script[at + 1] === "(" || script[at + 1] === "{") {
        add(undefined);
        at = closingOf(script, at + 1);
      } else add(char);
    } else if (!quoted && /[\s;&|()<>]/.test(char)) break;
    else add(char);
  }
  return { end: Math.min(at, script.length), value };
}

/** Where a quote ends; the end of the script if it is never closed. */
function endOf(script: string, quote: string, from: number): number {
  const end = script.indexOf(quote, from);
  return end < 0 ? script.length : end;
}

/** Where the bracket at `from` is closed; brackets in quotes do not count. */
function closingOf(script: string, from: number): number {
  const open = script[from]!, close = open === "(" ? ")" : "}";
  let depth = 0;
  for (let at = from; at < script.length; at++) {
    const char = script[at]!;
    if (char === "\\") at++;
    else if (char === "'" || char === '"') at = endOf(script, char, at + 1);
    else if (char === open) depth++;
    else if (char === close && --depth === 0) return at;
  }
  return script.length;
}
