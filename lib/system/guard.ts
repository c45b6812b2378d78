/**
 * The guard: a shell that outlives this process, and cleans up after it if it is killed.
 *
 * Out of memory, a broken terminal or a bug can end a build where no handler runs. The guard waits at the end
 * of a pipe: when the pipe closes without a word, it kills the programs that still write, empties the output,
 * dates it 1970 (or removes it, if it was not there before) and removes the scratch directory. It cannot help where it dies as well: when the first
 * process of a container is killed, the kernel kills all others of it at the same time.
 *
 * A build also works without it, so it is not logged, and failing to start it is not an error.
 *
 * @module
 */

import { RUN_MARK } from "./process.ts";
import { childEnvironment } from "./programs.ts";

/** An output that must not be left half made. */
export interface GuardedOutput {
  readonly path: string;
  /** Whether it was not there before, so that it is removed. */
  readonly isNew?: true;
}

/**
 * Four arguments: the output (empty: none), the scratch directory, the mark of the programs, and a text when the output was
 * not there before.
 */
const SCRIPT = `
trap '' HUP INT QUIT TERM
read -r word
if [ "$word" = done ]; then exit; fi
# Look repeatedly: a program may just be starting, and a last write may be under way.
for _ in 1 2 3 4 5; do
  for file in $(grep -lsF -- "$3" /proc/[0-9]*/environ); do
    id=\${file#/proc/}
    kill -KILL "\${id%/environ}"
  done
  sleep 0.05
done
if [ -n "$1" ]; then : >"$1"; touch -d @0 -- "$1"; fi
if [ -n "$4" ]; then rm -f -- "$1"; fi
rm -rf -- "$2"
`;

/** Guards a build until disposed of, which tells the guard that there is nothing left to do. */
export function startGuard(
  { output, scratch }: { readonly output?: GuardedOutput; readonly scratch: string },
): AsyncDisposable {
  let child: Deno.ChildProcess;
  try {
    // In a session of its own, so that signals from the terminal do not reach it.
    child = new Deno.Command("/bin/sh", {
      args: ["-c", SCRIPT, "guard", output?.path ?? "", scratch, RUN_MARK, output?.isNew ? "new" : ""],
      stdin: "piped",
      stdout: "null",
      stderr: "null",
      cwd: "/",
      env: childEnvironment(),
      clearEnv: true,
      detached: true,
    }).spawn();
  } catch {
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  // The build must not wait for it.
  child.unref();
  const writer = child.stdin.getWriter();
  return {
    async [Symbol.asyncDispose]() {
      await writer.write(new TextEncoder().encode("done\n")).catch(() => {});
      await writer.close().catch(() => {});
    },
  };
}
