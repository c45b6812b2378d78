/**
 * The labels that an SELinux policy gives to files, by libselinux: nobody else's regular expressions decide.
 *
 * It reads the policy's `file_contexts` and nothing of the host: a look-up is by path and file type, and asks no kernel.
 *
 * - https://man7.org/linux/man-pages/man3/selabel_open.3.html
 * - https://man7.org/linux/man-pages/man3/selabel_lookup.3.html (the raw one translates nothing)
 * - https://man7.org/linux/man-pages/man5/selabel_file.5.html
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { BuildError, quote } from "../core/error.ts";
import { clearErrno, cString, ENOENT, errno, errorText } from "./posix.ts";
import { packageHint } from "./programs.ts";
import { withFiles } from "./scratch.ts";

const LIBRARY = "libselinux.so.1";

const SELABEL_CTX_FILE = 0;
const SELABEL_OPT_PATH = 3;
const SELINUX_CB_LOG = 0;

function load() {
  try {
    return Deno.dlopen(LIBRARY, {
      selabel_open: { parameters: ["u32", "buffer", "u32"], result: "pointer" },
      selabel_lookup_raw: { parameters: ["pointer", "buffer", "buffer", "i32"], result: "i32" },
      freecon: { parameters: ["pointer"], result: "void" },
      // Its second argument is a union of pointers to functions.
      selinux_set_callback: { parameters: ["i32", "function"], result: "void" },
    }).symbols;
  } catch (cause) {
    const denied = cause instanceof Deno.errors.NotCapable;
    throw new BuildError(`Cannot load ${LIBRARY} to label the files for SELinux`, {
      hint: denied
        ? "Run with --allow-ffi, or set SELINUX to none or tree"
        : `${packageHint(LIBRARY)}; or set SELINUX to none or tree`,
      cause,
    });
  }
}

let loaded: ReturnType<typeof load> | undefined;

/** Loads the library on first use. @throws {BuildError} that names its package. */
function library(): ReturnType<typeof load> {
  if (loaded) return loaded;
  loaded = load();
  // It would write to stderr, with arguments that a callback cannot read; what fails has an errno, too.
  const silence = new Deno.UnsafeCallback({ parameters: ["i32", "pointer"], result: "i32" }, () => 0);
  loaded.selinux_set_callback(SELINUX_CB_LOG, silence.pointer);
  return loaded;
}

/**
 * The label for a file of that mode (`st_mode`; the type counts); `undefined`: it gets none. The path has one character per
 * byte.
 */
export type LabelLookup = (path: string, mode: number) => string | undefined;

/** What `file_contexts` and the files beside it hold, by what follows that name: "", ".local", ".subs" … */
export type PolicyFiles = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/**
 * Opens the labels of a policy, for the rest of the process.
 *
 * The files are read from copies of their own: beside the originals libselinux would prefer compiled ones (`.bin`), which
 * fit only the version that made them.
 *
 * @param name what the policy is called in an error.
 * @throws {BuildError} when libselinux is missing or cannot read them.
 */
export function openLabels(files: PolicyFiles, name: string): LabelLookup {
  const { selabel_open, selabel_lookup_raw, freecon } = library();
  const handle = withFiles(files, (path) => {
    const bytes = cString(path);
    // struct selinux_opt: an int, padding, a pointer.
    const pointer = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
    clearErrno();
    const opened = selabel_open(SELABEL_CTX_FILE, BigUint64Array.of(BigInt(SELABEL_OPT_PATH), pointer), 1);
    if (opened === null) throw cannotUse(name, errno());
    return opened;
  });
  const out = new BigUint64Array(1);
  return (path, mode) => {
    clearErrno();
    if (selabel_lookup_raw(handle, out, Buffer.from(`${path}\0`, "latin1"), mode) === 0) {
      const context = Deno.UnsafePointer.create(out[0]!)!;
      const label = Deno.UnsafePointerView.getCString(context);
      freecon(context);
      return label;
    }
    const failure = errno();
    // "<<none>>", or nothing that matches.
    if (failure === ENOENT) return undefined;
    throw cannotUse(name, failure);
  };
}

function cannotUse(name: string, failure: number): BuildError {
  // Older versions give no reason.
  const reason = failure === 0 ? "Invalid regular expression" : errorText(failure);
  return new BuildError(
    `Cannot read the labels of the SELinux policy ${quote(name)}: ${reason}`,
    {
      hint: "Look for a broken line in its file_contexts, or set SELINUX to none",
    },
  );
}
