import assert from "node:assert/strict";
import { planPart } from "../../../lib/plan/plan.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import { DEBIAN, factsOf, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

const COMPLETE: readonly NodeInput[] = [
  ...DEBIAN,
  { path: "/bin", target: "usr/bin" },
  ...["/etc/passwd", "/etc/shadow", "/usr/bin/sh"].map((path) => ({ path })),
];

function planOf(list: readonly NodeInput[], fstab = "") {
  const plan = planPart(settingsOf({ OUTPUT_FORMAT: "wsl" }), factsOf(list, { fstab }));
  const { add, omit } = plan.partitions[0].contents!;
  return {
    files: Object.fromEntries(add.flatMap((file) => file.type === "file" ? [[file.path, file.text]] : [])),
    omit,
    found: plan.findings.map(({ name }) => name).filter((name) => name.startsWith("wsl-")),
  };
}

Deno.test(
  "a distribution for WSL says what it is called and that it has systemd, unless the tree does",
  pure,
  () => {
    assert.deepEqual(planOf(COMPLETE), {
      files: {
        "/etc/wsl-distribution.conf": "[oobe]\ndefaultName = debian-13\n",
        "/etc/wsl.conf": "[boot]\nsystemd = true\n",
      },
      omit: [],
      found: [],
    });
    const own = ["/etc/wsl.conf", "/etc/wsl-distribution.conf", "/etc/resolv.conf"].map((path) => ({ path }));
    assert.deepEqual(planOf([...COMPLETE, ...own]), { files: {}, omit: [], found: [] });
    const plain = COMPLETE.filter(({ path }) => !path.includes("systemd"));
    assert.deepEqual(Object.keys(planOf(plain).files), ["/etc/wsl-distribution.conf"]);
  },
);

Deno.test("what WSL writes itself is left out, and what its checks do not like is named", pure, () => {
  const wants = "/usr/lib/systemd/system/sysinit.target.wants";
  const list = [
    ...COMPLETE.filter(({ path }) => path !== "/etc/shadow"),
    { path: "/etc/resolv.conf" },
    { path: `${wants}/systemd-resolved.service`, target: "../systemd-resolved.service" },
  ];
  const { omit, found } = planOf(list, "# a comment\n\nUUID=1 / ext4 defaults 0 0\n");
  assert.deepEqual(omit, ["/etc/resolv.conf"]);
  assert.deepEqual(found, ["wsl-resolver", "wsl-lacks", "wsl-units", "wsl-fstab"]);
  const mask = { path: "/etc/systemd/system/systemd-resolved.service", target: "/dev/null" };
  assert.ok(!planOf([...list, mask]).found.includes("wsl-units"));
});
