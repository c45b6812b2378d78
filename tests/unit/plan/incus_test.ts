import assert from "node:assert/strict";
import { checkIncus, incusFiles } from "../../../lib/plan/incus.ts";
import { DEBIAN, factsOf, NEWEST, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

Deno.test("the metadata for Incus has what it must have, and quotes what os-release says", pure, () => {
  const osRelease = { ID: "x", NAME: 'X "1": #', VERSION_ID: "2" };
  const tree = factsOf([...DEBIAN, { path: "/etc/hostname" }], { osRelease, architecture: "arm64" });
  assert.deepEqual(incusFiles({ tree, time: NEWEST }), [
    {
      name: "metadata.yaml",
      text: [
        "architecture: aarch64",
        `creation_date: ${NEWEST}`,
        "properties:",
        '  architecture: "aarch64"',
        '  description: "X \\"1\\": #"',
        '  name: "x-2-aarch64"',
        '  os: "X \\"1\\": #"',
        '  release: "2"',
        "templates:",
        "  /etc/hostname:",
        "    when: [create, copy]",
        "    template: hostname.tpl",
        "",
      ].join("\n"),
    },
    { name: "templates/hostname.tpl", text: "{{ container.name }}\n" },
  ]);
  // In a virtual machine nobody fills templates.
  assert.equal(incusFiles({ tree, time: NEWEST }, true).length, 1);
  assert.throws(() => incusFiles({ tree: factsOf(DEBIAN, { architecture: "parisc" }), time: 0 }), {
    message: /^Cannot make an image for Incus for parisc/,
  });
});

Deno.test("metadata for Incus is refused beside what Incus takes for no root filesystem", pure, () => {
  const check = (builder: "disk-image" | "part-image", env: Record<string, string>) =>
    checkIncus(settingsOf({ INCUS_METADATA: "x.tar", ...env }), builder);
  check("disk-image", { OUTPUT_FORMAT: "qcow2" });
  check("part-image", { FILESYSTEM: "squashfs" });
  const refused = { message: /^Cannot write INCUS_METADATA for this image/ };
  assert.throws(() => check("disk-image", {}), { ...refused, hint: /qcow2/ });
  assert.throws(() => check("part-image", {}), { ...refused, hint: /squashfs/ });
  assert.throws(() => check("part-image", { FILESYSTEM: "squashfs", COMPRESS: "xz" }), refused);
});
