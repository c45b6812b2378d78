/**
 * The guard: a shell that outlives this process and does what SIGKILL keeps it from doing.
 *
 * Out of memory, a broken terminal or a bug can end a build where no handler runs. The guard waits at the end
 * of a pipe: when the pipe closes without a word, it kills the programs that still write, empties the output,
 * dates it 1970 and removes the scratch directory. It cannot help where it dies as well: when the first
 * process of a container is killed, the kernel kills all others of it at the same time.
 *
 * It is no tool of the build, so it is neither logged nor judged: without it a build works just as well.
 *
 * @module
 */

import { watchPrograms } from "./process.ts";

/** Two arguments: the output (empty: none) and the scratch directory. */
const SCRIPT = `
trap '' HUP INT QUIT TERM
programs=
while read -r word rest; do
  case $word in
    done) exit ;;
    programs) programs=$rest ;;
  esac
done
for id in $programs; do kill -KILL "$id"; done
# A last write may be on its way; who is dead but not yet collected still seems to be there.
for _ in 1 2 3 4 5; do
  alive=
  for id in $programs; do if kill -0 "$id"; then alive=1; fi; done
  if [ -z "$alive" ]; then break; fi
  sleep 0.1
done
if [ -n "$1" ]; then : >"$1"; touch -d @0 -- "$1"; fi
rm -rf -- "$2"
`;

/** Guards a build until it is disposed of, which says that there is nothing left to do. */
export function startGuard(
  { output = "", scratch }: { readonly output?: string; readonly scratch: string },
): AsyncDisposable {
  let child: Deno.ChildProcess;
  try {
    // A session of its own: what a terminal sends to all of the build does not reach it.
    child = new Deno.Command("/bin/sh", {
      args: ["-c", SCRIPT, "guard", output, scratch],
      stdin: "piped",
      stdout: "null",
      stderr: "null",
      cwd: "/",
      detached: true,
    }).spawn();
  } catch {
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  // A build that is done does not wait for it.
  child.unref();
  const encoder = new TextEncoder();
  const writer = child.stdin.getWriter();
  const tell = (line: string) => writer.write(encoder.encode(`${line}\n`)).catch(() => {});
  const unwatch = watchPrograms((ids) => tell(`programs ${ids.join(" ")}`));
  return {
    async [Symbol.asyncDispose]() {
      unwatch();
      await tell("done");
      await writer.close().catch(() => {});
    },
  };
}
