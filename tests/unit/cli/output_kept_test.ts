import assert from "node:assert/strict";
import { requireOutputKept } from "../../../lib/cli/cli.ts";
import { BuildError } from "../../../lib/core/error.ts";
import { readTranscript, startTranscript } from "../../../lib/core/log.ts";

const MOUNTS = {
  container: { root: "/", point: "/", type: "overlay" },
  rootless: { root: "/", point: "/", type: "fuse.fuse-overlayfs" },
  host: { root: "/", point: "/", type: "ext4" },
  tree: { root: "/home/u/rootfs", point: "/input", type: "ext4" },
  disk: { root: "/home/u/disk.img", point: "/output/disk.img", type: "ext4" },
  part: { root: "/home/u/part.img", point: "/output/part.img", type: "ext4" },
  directory: { root: "/home/u/images", point: "/output", type: "ext4" },
  memory: { root: "/", point: "/output", type: "tmpfs" },
  work: { root: "/home/u", point: "/work", type: "ext4" },
} as const;

type Case = { name: string; mounts: (keyof typeof MOUNTS)[]; output?: string };

/** @returns what is logged. */
function check({ mounts, output }: Case): string {
  const builder = { output: "/output/part.img" };
  startTranscript();
  requireOutputKept(
    builder,
    output ?? builder.output,
    output !== undefined,
    mounts.map((name) => MOUNTS[name]),
  );
  return readTranscript().text;
}

Deno.test.each<Case & { hint: string }>([
  {
    name: "the default, with another file mounted beside it",
    mounts: ["container", "tree", "disk"],
    hint: "Write to what is mounted (--output=/output/disk.img), or mount it as /output/part.img",
  },
  {
    name: "the same with a storage driver that is not overlayfs",
    mounts: ["host", "tree", "disk"],
    hint: "Write to what is mounted (--output=/output/disk.img), or mount it as /output/part.img",
  },
  {
    name: "the default, with nothing mounted there",
    mounts: ["container", "tree"],
    hint: "Mount a file as /output/part.img, or name another one with --output",
  },
  {
    name: "the same without root",
    mounts: ["rootless", "tree"],
    hint: "Mount a file as /output/part.img, or name another one with --output",
  },
  {
    name: "the default in memory",
    mounts: ["container", "tree", "memory"],
    hint: "Mount a file as /output/part.img, or name another one with --output",
  },
  {
    name: "a name other than the mounted file's",
    mounts: ["container", "tree", "part"],
    output: "/output/prat.img",
    hint: "Write to what is mounted (--output=/output/part.img), or mount it as /output/prat.img",
  },
])("an image that would be lost with the container is refused: $name", ({ hint, ...call }) => {
  assert.throws(() => check(call), (error) => {
    assert.ok(error instanceof BuildError, String(error));
    assert.equal(error.kind, "usage");
    assert.match(error.message, /^Cannot write the image to "\/output\/\w+\.img": it would be lost/);
    assert.equal(error.hint, hint);
    return true;
  });
});

Deno.test.each<Case>([
  { name: "the mounted file", mounts: ["container", "tree", "disk", "part"] },
  { name: "a mounted directory", mounts: ["container", "tree", "directory"] },
  { name: "a file in a mounted checkout", mounts: ["container", "work"], output: "/work/a.img" },
  { name: "any file outside a container", mounts: ["host"], output: "/home/u/a.img" },
  { name: "the default outside a container", mounts: ["host"] },
  { name: "anything where the mounts cannot be read", mounts: [] },
])("an image is written without a word to $name", (call) => assert.equal(check(call), ""));

Deno.test("an image that was asked for inside the container gets a line in the log", () => {
  const text = check({ name: "", mounts: ["container", "tree", "disk"], output: "/tmp/a.img" });
  assert.equal(text, '[|] "/tmp/a.img" is not in a mounted directory: it will be lost with the container\n');
});
