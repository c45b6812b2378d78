/**
 * Archives, read by the programs that they are for. `ARCHIVE_SEED=NUMBER` makes other random trees, `ARCHIVE_SEED=random`
 * new ones.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { select } from "../../lib/filesystem/contents.ts";
import { planTar } from "../../lib/filesystem/tar.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { $, type Command } from "../../lib/system/sh.ts";
import { closeRoot, openRoot } from "../../lib/tree/root.ts";
import { walk } from "../../lib/tree/walk.ts";
import { build } from "../lab/builds.ts";
import { assertEqualTrees, type CompareOptions } from "../lab/compare.ts";
import { podman } from "../lab/containers.ts";
import { REQUEST, WHOLE } from "../lab/ext4_image.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { makeRandomTree, newRandom, seedFrom } from "../lab/random_tree.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const FIRST_SEED = seedFrom("ARCHIVE_SEED");
const { time: TIME } = REQUEST;

/** As an archive keeps times: none of them is later than the build's. */
const keptTime: NonNullable<CompareOptions["time"]> = (seconds, fraction) =>
  seconds >= TIME ? `${TIME}.${"0".repeat(fraction.length)}` : `${seconds}.${fraction}`;

interface Unpacker {
  readonly unpack: (archive: string, directory: string) => Command;
  /** How it sets times. */
  readonly time: NonNullable<CompareOptions["time"]>;
  /** The largest user or group that it sets in an ACL. */
  readonly maxAclId?: number;
  /** Whether it dates the directory that it unpacks into. */
  readonly datesRoot: boolean;
}

/** What unpacks an archive. */
const UNPACKERS: Readonly<Record<string, Unpacker>> = {
  "tar": {
    unpack: (archive, directory) =>
      $`tar --extract --file=${archive} --directory=${directory} --acls --xattrs --xattrs-include=${"*"}
        --numeric-owner --same-permissions --delay-directory-restore`,
    time: keptTime,
    datesRoot: true,
  },
  "bsdtar": {
    unpack: (archive, directory) =>
      $`bsdtar --extract --file=${archive} --directory=${directory} --acls --xattrs --numeric-owner --same-owner -p`,
    maxAclId: 2 ** 31 - 1,
    // Up to libarchive 3.8 it takes the fraction of a time before 1970 for one after the second.
    time: (seconds, fraction) => seconds <= 0 ? "before 1970" : keptTime(seconds, fraction),
    datesRoot: false,
  },
};

/** Makes an archive of a tree. */
async function makeArchive(tree: string, path: string, scratch: string): Promise<void> {
  const root = openRoot(tree);
  try {
    const nodes = await walk(root);
    const plan = planTar(select(nodes, WHOLE), TIME);
    assert(plan.type === "tar");
    await Deno.writeFile(path, new Uint8Array());
    const target = { path, offset: 0, size: plan.size };
    const { signal } = new AbortController();
    await MAKERS.tar.make(target, plan.writer, { root, nodes, scratch, onProgress: () => {}, signal });
    MAKERS.tar.verify!(target, plan.writer);
    await MAKERS.tar.compare!(target, plan.writer, root);
  } finally {
    closeRoot(root);
  }
}

for (const [program, { unpack, time, datesRoot, ...limits }] of Object.entries(UNPACKERS)) {
  for (const seed of [FIRST_SEED, FIRST_SEED + 1]) {
    Deno.test(
      `${program} unpacks the archive of a random tree to one that is equal to it: ARCHIVE_SEED=${seed}`,
      {
        ignore: missing(program, "find", "stat", "getfattr") || unprivileged(),
      },
      () =>
        tempDir(async (dir) => {
          const tree = `${dir}/tree`, to = `${dir}/to`;
          await Deno.mkdir(tree);
          await Deno.mkdir(to);
          makeRandomTree(tree, seed, newRandom(seed).pick([200, 1000]), { largest: 64 * MiB, ...limits });
          await makeArchive(tree, `${dir}/tar`, dir);
          await unpack(`${dir}/tar`, to);
          if (!datesRoot) await quiet`touch --reference=${tree} ${to}`;
          assertEqualTrees(tree, to, { noSockets: true, time });
        }),
    );
  }
}

Deno.test("podman imports a tar, and runs what is in it", {
  ignore: missing("podman", "runc", "mmdebstrap") || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tree = await copyTree(await tinyTree({ kernel: false, loader: false }), `${dir}/tree`);
    await quiet`setfattr --name security.capability --value 0x0100000200200000000000000000000000000000
      ${tree}/usr/bin/busybox`;
    const { stderr } = await build("part-image", tree, `${dir}/image.tar`, { VERIFY: "full" });
    assert.match(stderr, /^\[\|\] part-image: tar, /m);
    const { out: image, code, err } = await podman(["import", "--quiet", `${dir}/image.tar`]);
    assert.equal(code, 0, err);
    const id = image.trim();
    try {
      const run = ["run", "--rm", "--network=none", id, "grep", "^PRETTY_NAME=", "/etc/os-release"];
      assert.equal((await podman(run)).out, 'PRETTY_NAME="Tiny 1.0 (for tests)"\n');
      const mounted = (await podman(["image", "mount", id])).out.trim();
      // Of the root directory podman changes mode and time.
      assertEqualTrees(tree, mounted, { omit: [""] });
      await podman(["image", "unmount", id]);
    } finally {
      await podman(["image", "rm", "--force", id]);
    }
  }));
