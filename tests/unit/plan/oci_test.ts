import assert from "node:assert/strict";
import type { OciPlan } from "../../../lib/filesystem/types.ts";
import { planPart } from "../../../lib/plan/plan.ts";
import type { NodeInput } from "../../../lib/tree/builder.ts";
import type { Tree } from "../../../lib/tree/inspect.ts";
import { DEBIAN, factsOf, NEWEST, settingsOf } from "../../lab/facts.ts";

const pure = { permissions: "none" } as const;

const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

function imageOf(
  list?: readonly NodeInput[],
  env: Record<string, string> = {},
  more: Partial<Omit<Tree, "nodes">> = {},
) {
  const plan = planPart(settingsOf({ OUTPUT_FORMAT: "oci", ...env }), factsOf(list, more));
  const { writer } = plan.partitions[0].filesystem as { writer: OciPlan };
  return { ...writer.image, findings: plan.findings.map(({ name }) => name) };
}

Deno.test("a container image of a system starts its init, and knows how to stop systemd", pure, () => {
  const { tag, architecture, created, config } = imageOf();
  assert.equal(tag, "localhost/debian:13");
  assert.equal(architecture, "amd64");
  assert.equal(created, new Date(NEWEST * 1000).toISOString().replace(".000", ""));
  assert.deepEqual(config, {
    Env: [PATH, "container=oci"],
    Cmd: ["/sbin/init"],
    Labels: {
      "org.opencontainers.image.title": "Debian GNU/Linux 13 (trixie)",
      "org.opencontainers.image.version": "13",
    },
    StopSignal: "SIGRTMIN+3",
  });
});

Deno.test("a container image without an init starts a shell, or says that it has no command", pure, () => {
  const shell = imageOf([{ path: "/usr/bin/dash" }, { path: "/bin", target: "usr/bin" }, {
    path: "/usr/bin/sh",
    target: "dash",
  }]);
  assert.deepEqual(shell.config.Cmd, ["/bin/sh"]);
  assert.deepEqual(shell.config.Env, [PATH]);
  assert.equal(shell.config.StopSignal, undefined);
  const none = imageOf([{ path: "/web" }]);
  assert.ok(!("Cmd" in none.config));
  assert.ok(none.findings.includes("no-command"));
  assert.ok(!imageOf([{ path: "/web" }], { OCI_COMMAND: "/web" }).findings.includes("no-command"));
  // In a part of the tree, paths are those of the image.
  const part = imageOf([{ path: "/srv/a/bin/bash" }, { path: "/sbin/init" }], { DIRECTORY: "/srv/a" });
  assert.deepEqual(part.config.Cmd, ["/bin/bash"]);
});

Deno.test("settings come before what a container image has by itself", pure, () => {
  const { tag, config } = imageOf(undefined, {
    OCI_TAG: "registry.example.com/web:2",
    OCI_COMMAND: '["/usr/bin/web", "--name=a b"]',
    OCI_ENV: "PATH=/bin LANG=C.UTF-8",
    OCI_LABELS: "org.opencontainers.image.title=Web x=a=b",
  });
  assert.equal(tag, "registry.example.com/web:2");
  assert.deepEqual(config, {
    Env: ["PATH=/bin", "LANG=C.UTF-8"],
    Cmd: ["/usr/bin/web", "--name=a b"],
    Labels: {
      "org.opencontainers.image.title": "Web",
      "org.opencontainers.image.version": "13",
      x: "a=b",
    },
  });
});

Deno.test(
  "the name of a container image is one that the engines take, whatever os-release says",
  pure,
  () => {
    for (
      const [osRelease, tag] of [
        [{ ID: "debian", IMAGE_ID: "Web Server", IMAGE_VERSION: "1.0+b1" }, "localhost/web-server:1.0-b1"],
        [{ ID: "arch" }, "localhost/arch:latest"],
        [{ ID: "../..", VERSION_ID: "--" }, "localhost/linux:latest"],
        [{}, "localhost/linux:latest"],
        [{ ID: "a.-b", VERSION_ID: "1..2_3" }, "localhost/a-b:1.2-3"],
        [
          { ID: "a".repeat(300), VERSION_ID: "1".repeat(300) },
          `localhost/${"a".repeat(245)}:${"1".repeat(128)}`,
        ],
        [{ IMAGE_ID: `${"a".repeat(244)}.b`, ID: "c" }, `localhost/${"a".repeat(244)}:latest`],
      ] as const
    ) {
      assert.equal(imageOf(undefined, {}, { osRelease }).tag, tag);
      assert.equal(settingsOf({ OUTPUT_FORMAT: "oci", OCI_TAG: tag }).ociTag, tag);
    }
  },
);

Deno.test("a container image needs an architecture, and files that are none of a layer's marks", pure, () => {
  const { architecture: _, ...facts } = factsOf([{ path: "/web" }]);
  assert.throws(() => planPart(settingsOf({ OUTPUT_FORMAT: "oci" }), facts), {
    message: /^Cannot find the architecture of "\/input"/,
    hint: /^Set OUTPUT_FORMAT to tar/,
  });
  assert.throws(() => imageOf(undefined, {}, { architecture: "parisc" }), { message: /for parisc/ });
  for (const mark of [{ path: "/etc/.wh.x" }, { path: "/etc/y", type: "char" }] as const) {
    imageOf([...DEBIAN, mark]);
    assert.throws(() => imageOf([...DEBIAN, mark], { KEEP: "whiteouts" }), {
      message: new RegExp(`^Cannot put "${mark.path.replace(".", "\\.")}" into a container image`),
    });
  }
});
