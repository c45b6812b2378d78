/**
 * Modules of Node.js that not every run needs: loading one takes 10 to 30 ms, so it waits until it is used.
 *
 * https://nodejs.org/api/process.html#processgetbuiltinmoduleid
 *
 * @module
 */

/** The modules by name, e.g. `node.zlib.gunzipSync(…)`. */
export const node = {
  get crypto() {
    return globalThis.process.getBuiltinModule("node:crypto");
  },
  get fs() {
    return globalThis.process.getBuiltinModule("node:fs");
  },
  get zlib() {
    return globalThis.process.getBuiltinModule("node:zlib");
  },
};
