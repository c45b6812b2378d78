import assert from "node:assert/strict";
import { $ } from "../../lib/system/sh.ts";
import { packagesFor } from "../../lib/system/programs.ts";
import { missing } from "../lab/helpers.ts";

/** Where Debian has the libraries of its architectures. */
const LIBRARIES = ["x86_64", "aarch64", "riscv64"].flatMap((architecture) =>
  ["/usr/lib", "/lib"].map((dir) => `${dir}/${architecture}-linux-gnu`)
);

for (const { names, has, purpose } of packagesFor("bench")) {
  // Nothing installs what is only measured.
  const ignore = missing("dpkg-query", ...has) || purpose === "bench";
  Deno.test(`PROGRAMS: the package ${names.join(" or ")} has ${has.join(", ")}`, { ignore }, async () => {
    const lists = names.map((name) => $`dpkg-query --listfiles ${name}`.quiet().noThrow(1).text());
    const files = new Set((await Promise.all(lists)).join("").split("\n"));
    for (const program of has) {
      const places = program.startsWith("/")
        ? [program]
        : ["/usr/bin", "/usr/sbin", "/bin", "/sbin", ...LIBRARIES].map((dir) => `${dir}/${program}`);
      assert.ok(places.some((path) => files.has(path)), program);
    }
  });
}
