/**
 * Images for `portablectl` and `systemd-nspawn`: what they need is checked, and they run there.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { planPart } from "../../../lib/plan/plan.ts";
import { checkPortable } from "../../../lib/plan/portable.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import { factsOf, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

const COMPLETE: readonly NodeInput[] = [
  ...["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"].map((
    path,
  ) => ({ path, type: "directory" } as const)),
  { path: "/etc/resolv.conf", target: "../run/systemd/resolve/stub-resolv.conf" },
  { path: "/etc/machine-id" },
  { path: "/usr/lib/systemd/system/web.service" },
];

const without = (...paths: string[]) => COMPLETE.filter(({ path }) => !paths.includes(path));

Deno.test.each([
  { name: "a complete tree", list: COMPLETE, lacks: [], add: [] },
  {
    name: "a tree without a unit",
    list: without("/usr/lib/systemd/system/web.service"),
    lacks: [/a unit in/],
    add: [],
  },
  {
    name: "a unit of another name",
    list: [...without("/usr/lib/systemd/system/web.service"), {
      path: "/usr/lib/systemd/system/webby.service",
    }],
    lacks: [/starts with "web", such as web\.service/],
    add: [],
  },
  {
    name: "a template and a socket",
    list: [...without("/usr/lib/systemd/system/web.service"), { path: "/etc/systemd/system/web-a@.socket" }],
    lacks: [],
    add: [],
  },
  {
    name: "a tree without mount points",
    list: without("/etc/resolv.conf", "/var/tmp", "/run"),
    lacks: [],
    add: ["/run", "/var/tmp", "/etc/resolv.conf"],
  },
])("checkPortable() judges $name", pure, ({ list, lacks, add }) => {
  const found = checkPortable(factsOf(list), "web");
  assert.deepEqual(found.add.map(({ path }) => path), add);
  assert.equal(found.lacks.length, lacks.length);
  lacks.forEach((pattern, i) => assert.match(found.lacks[i]!, pattern));
});

Deno.test(
  "PORTABLE makes it an error when a tree lacks what only its author can add, and adds the rest",
  pure,
  () => {
    const tree = factsOf(without("/run", "/etc/machine-id"));
    const plan = planPart(settingsOf({ PORTABLE: "web" }), tree);
    assert.deepEqual(plan.partitions[0].contents.add, [
      { path: "/run", type: "directory" },
      { path: "/etc/machine-id", type: "file", text: "" },
    ]);
    assert.match(
      plan.portable.join("\n"),
      /Adding .*: \/run, \/etc\/machine-id\n.*only with a name like web\.raw/,
    );
    assert.throws(() => planPart(settingsOf({ PORTABLE: "other" }), tree), (error) => {
      assert(error instanceof BuildError);
      assert.match(error.message, /lacks a unit in .*"other"/);
      return true;
    });
    assert.throws(
      () => planPart(settingsOf({ PORTABLE: "web" }), { ...tree, osRelease: {} }),
      /lacks an os-release/,
    );
    for (const env of [{ OUTPUT_FORMAT: "qcow2" }, { FILESYSTEM: "vfat" }, { DIRECTORY: "/usr" }]) {
      assert.throws(() => planPart(settingsOf({ PORTABLE: "web", ...env }), tree), (error) => {
        assert(error instanceof BuildError && error.kind === "usage");
        return true;
      });
    }
    // Without PORTABLE nobody asked, and the tree only gets what every system needs.
    const plain = planPart(settingsOf(), tree);
    assert.deepEqual(plain.partitions[0].contents.add, [{ path: "/run", type: "directory" }]);
    assert.deepEqual(plain.portable, []);
  },
);
