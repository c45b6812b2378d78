import assert from "node:assert/strict";
import { warningsOf } from "../../../lib/core/findings.ts";
import { planDisk, planPart } from "../../../lib/plan/plan.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import type { Tree } from "../../../lib/tree/inspect.ts";
import { DEBIAN, factsOf, kernel, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

/** The small Debian with these entries instead of or besides its own. */
function debianWith(list: readonly NodeInput[], more: Partial<Omit<Tree, "nodes">> = {}): Tree {
  const replaced = new Set(list.map(({ path }) => path));
  return factsOf([...DEBIAN.filter(({ path }) => !replaced.has(path)), ...list], {
    kernels: [kernel("6.12.48")],
    ...more,
  });
}

/** Name and path of each warning about a disk. */
function found(tree: Tree, env: Record<string, string> = {}): string[] {
  return warningsOf(planDisk(settingsOf(env), tree).findings).map(({ name, path }) =>
    `${name} ${path ?? ""}`.trim()
  );
}

Deno.test("a tree that is fine has no findings that are warnings", pure, () => {
  assert.deepEqual(found(factsOf()), []);
});

for (
  const { name, root, names } of [
    { name: "as mktemp -d makes it", root: { mode: 0o700 }, names: ["root-mode /"] },
    { name: "that a group owns", root: { gid: 1000 }, names: ["root-owner /"] },
    {
      name: "of somebody else",
      root: { mode: 0o750, uid: 1000, gid: 1000 },
      names: ["root-mode /", "root-owner /"],
    },
    { name: "of Fedora's (0555)", root: { mode: 0o555 }, names: [] },
  ]
) {
  Deno.test(`a root directory ${name}: ${names.join(", ") || "nothing to say"}`, pure, () => {
    const tree = debianWith([{ path: "/", ...root }]);
    assert.deepEqual(found(tree), names);
    const part = (env: Record<string, string>) => warningsOf(planPart(settingsOf(env), tree).findings).length;
    assert.equal(part({}), names.length);
    // Not the root of a system.
    assert.equal(part({ DIRECTORY: "/usr" }), 0);
  });
}
