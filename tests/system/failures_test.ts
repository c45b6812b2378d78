/**
 * Whatever goes wrong in a build, nobody can take its output for a good image: programs that fail in every
 * way, disks that are full, signals at any moment.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { runBuilder } from "../lab/builds.ts";
import { useErofs } from "../lab/erofs.ts";
import {
  addStub,
  assertNothingLeft,
  type FaultName,
  FAULTS,
  isDiscarded,
  isUntouched,
  makePlace,
  OLD,
  type Place,
  pooled,
  showOutcomes,
  start,
  waitFor,
} from "../lab/faults.ts";
import { missing, quiet, sha256, tempDir, unprivileged } from "../lab/helpers.ts";
import { onFilesystem } from "../lab/loop_filesystem.ts";
import { newRandom, seedFrom } from "../lab/random_tree.ts";
import { cached, tinyTree } from "../lab/trees.ts";

const ignore = missing(
  "sfdisk",
  "mke2fs",
  "mkfs.vfat",
  "qemu-img",
  "mksquashfs",
  "mkfs.erofs",
  "veritysetup",
  "openssl",
  "mmdebstrap",
) || unprivileged();
const SMALL = { EFI_MB: "33", BOOT_MB: "64", FREE_MB: "16" };
const BUILDERS = ["disk-image", "part-image"] as const;
const FORMATS = ["raw", "qcow2"] as const;

/** The builds that every fault is tried with. */
const BUILDS = BUILDERS.flatMap((builder) =>
  FORMATS.map((format) => ({ builder, format, env: settings(builder, format) }))
);

function settings(builder: string, format: string): Record<string, string> {
  const { FREE_MB } = SMALL;
  return { ...builder === "disk-image" ? SMALL : { FREE_MB }, OUTPUT_FORMAT: format };
}

/** The programs of a build; with `checkers`, those that VERIFY=full runs besides. */
function toolsOf(builder: string, format: string): { tools: string[]; checkers: string[] } {
  const isDisk = builder === "disk-image";
  return {
    tools: [
      "mke2fs",
      ...isDisk ? ["sfdisk", "mkfs.vfat"] : [],
      ...format === "raw" ? [] : ["qemu-img"],
    ],
    checkers: ["e2fsck", ...isDisk ? ["fsck.vfat"] : []],
  };
}

/** Builds with the programs that only some filesystems and hashes take. */
async function others() {
  await useErofs();
  const key = await cached("failures-key", { version: 1 }, async (dir) => {
    await quiet`openssl req -x509 -newkey rsa:2048 -nodes -subj ${"/CN=test"} -keyout ${dir}/key -out ${dir}/cert`;
  });
  const signed = { VERITY: "signed", VERITY_KEY: `${key}/key`, VERITY_CERT: `${key}/cert` };
  return [
    {
      builder: "part-image",
      env: { FILESYSTEM: "squashfs", VERITY: "hash" } as Record<string, string>,
      tools: ["mksquashfs", "veritysetup"],
      checkers: ["unsquashfs"],
    },
    {
      builder: "disk-image",
      env: { ...SMALL, FILESYSTEM: "erofs", ...signed },
      tools: ["mkfs.erofs", "veritysetup", "openssl"],
      checkers: ["fsck.erofs"],
    },
  ];
}

/** Waits for a build to end; a program that hangs gets the build a SIGTERM. */
async function end(child: Deno.ChildProcess, place: Place, hangs: boolean) {
  if (hangs) {
    assert(await waitFor(() => exists(place.called)), "the program was not called");
    child.kill("SIGTERM");
  }
  const { code, stderr } = await child.output();
  return { code, stderr: new TextDecoder().decode(stderr) };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test("a program that fails in any way: no build succeeds, no output and nothing else is left", {
  ignore,
}, async (t) => {
  const tree = await tinyTree();
  const cases = [
    ...BUILDS.map((build) => ({ ...build, ...toolsOf(build.builder, build.format) })),
    ...await others(),
  ]
    .flatMap(({ builder, env, tools, checkers }) => {
      const faults = Object.keys(FAULTS) as FaultName[];
      return [
        ...tools.flatMap((tool) => faults.map((fault) => ({ builder, env, tool, fault }))),
        // A checker that says nothing finds nothing: that cannot be told from a sound image.
        ...checkers.flatMap((tool) =>
          faults.filter((fault) => fault !== "exits 0 without working")
            .map((fault) => ({
              builder,
              env: { ...env, VERIFY: "full" } as Record<string, string>,
              tool,
              fault,
            }))
        ),
      ];
    });
  const outcomes = await pooled(cases, ({ builder, env, tool, fault }) =>
    tempDir(async (dir) => {
      const name = `${builder} ${env.OUTPUT_FORMAT ?? env.FILESYSTEM}: ${tool} ${fault}`;
      const place = await makePlace(dir);
      await addStub(place, tool, FAULTS[fault]);
      const hangs = fault === "hangs until it is stopped";
      const { code, stderr } = await end(await start(place, builder, tree, env), place, hangs);
      assert(await exists(place.called), `${name}: it was not called\n${stderr}`);
      assert.equal(code, hangs ? 143 : 1, `${name}\n${stderr}`);
      assert(await isDiscarded(place), `${name}: the output is not discarded\n${stderr}`);
      assert.match(stderr.trimEnd().split("\n").at(-1)!, /^\[E\] /, name);
      assert.doesNotMatch(stderr, /This is a bug/, name);
      const files = (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort();
      assert.deepEqual(files, ["called", "image", "scratch", "stubs"], name);
      await assertNothingLeft(place);
      return code === 143 ? "stopped (143)" : "failed (1)";
    }));
  await showOutcomes(t, outcomes);
});

Deno.test(
  "an archive that tar fails on, in any way, is no tree, and the output is left alone",
  { ignore },
  async () => {
    await tempDir(async (parent) => {
      const archive = `${parent}/tree.tar`;
      await quiet`tar --create --file=${archive} --directory=${await tinyTree()} .`;
      await pooled(Object.keys(FAULTS) as FaultName[], (fault) =>
        tempDir(async (dir) => {
          const place = await makePlace(dir);
          await addStub(place, "tar", FAULTS[fault]);
          const hangs = fault === "hangs until it is stopped";
          const { code, stderr } = await end(await start(place, "part-image", archive, {}), place, hangs);
          assert(hangs ? code === 143 : code === 1 || code === 2, `${fault}: ${code}\n${stderr}`);
          assert.doesNotMatch(stderr, /This is a bug/, fault);
          assert(await isUntouched(place), fault);
          await assertNothingLeft(place);
        }));
    });
  },
);

Deno.test("a program that ignores SIGTERM is killed, and the build ends", { ignore }, async () => {
  const tree = await tinyTree();
  await pooled(["mkfs.vfat", "mke2fs"], (tool) =>
    tempDir(async (dir) => {
      const place = await makePlace(dir);
      await addStub(place, tool, "trap '' TERM INT; exec sleep 600");
      const { code } = await end(await start(place, "disk-image", tree, SMALL), place, true);
      assert.equal(code, 143);
      assert(await isDiscarded(place));
      await assertNothingLeft(place);
    }));
});

Deno.test(
  "a program whose own child does not end is not waited for once it is stopped",
  { ignore },
  async () => {
    await tempDir(async (dir) => {
      const place = await makePlace(dir);
      await addStub(place, "mke2fs", `sleep 600 & echo $! >${dir}/id; wait`);
      const child = await start(place, "part-image", await tinyTree(), {});
      assert(await waitFor(async () => await exists(`${dir}/id`)));
      const { code } = await end(child, place, true);
      // Nobody but the program itself knows of its child.
      Deno.kill(Number(await Deno.readTextFile(`${dir}/id`)), "SIGKILL");
      assert.equal(code, 143);
      assert(await isDiscarded(place));
      await assertNothingLeft(place);
    });
  },
);

Deno.test("a program that fails stops those that run beside it", { ignore }, async () => {
  await tempDir(async (dir) => {
    const place = await makePlace(dir);
    await addStub(place, "mkfs.vfat", "exec sleep 600");
    await addStub(place, "mke2fs", `while ! [ -e ${place.called} ]; do sleep 0.01; done; sleep 0.1; exit 9`);
    const { code, stderr } = await end(
      await start(place, "disk-image", await tinyTree(), SMALL),
      place,
      false,
    );
    assert.equal(code, 1);
    assert.match(stderr, /\n\[E\] mke2fs failed with exit code 9\n\[E\] mke2fs [^\n]*\n$/);
    assert(await isDiscarded(place));
    await assertNothingLeft(place);
  });
});

/** When a build begins to write: before, the output is what it was. */
const BEGIN = "[*] Making";

/** Reads a build's log to its end, and calls `onBegin` when it begins to write. */
async function follow(child: Deno.ChildProcess, onBegin: () => void): Promise<string> {
  let text = "";
  for await (const piece of child.stderr.pipeThrough(new TextDecoderStream())) {
    const hadBegun = text.includes(BEGIN);
    text += piece;
    if (!hadBegun && text.includes(BEGIN)) onBegin();
  }
  return text;
}

Deno.test("signals at random moments leave the older image, nothing, or the finished image", {
  ignore,
}, async (t) => {
  const tree = await tinyTree();
  const references = new Map<string, { digest: string; before: number; writing: number }>();
  for (const { builder, format, env } of BUILDS) {
    await tempDir(async (dir) => {
      const place = await makePlace(dir);
      const started = performance.now();
      let begin = started;
      const child = await start(place, builder, tree, env);
      const log = await follow(child, () => begin = performance.now());
      assert.equal((await child.status).code, 0, log);
      references.set(`${builder} ${format}`, {
        digest: await sha256(place.output),
        before: begin - started,
        writing: performance.now() - begin,
      });
    });
  }
  const MOMENTS = 30;
  const SIGNALS = ["SIGTERM", "SIGINT", "SIGKILL"] as const;
  const random = newRandom(seedFrom("SIGNAL_SEED"));
  const cases = BUILDS.flatMap((build) =>
    Array.from({ length: MOMENTS }, (_, i) => ({
      ...build,
      share: random.below(1000) / 1000,
      signal: SIGNALS[i % SIGNALS.length]!,
      // One in five while the program starts and reads, the others while it writes.
      isEarly: i % 5 === 0,
    }))
  );
  const outcomes = await pooled(
    cases,
    ({ builder, format, env, signal, isEarly, share }) =>
      tempDir(async (dir) => {
        const place = await makePlace(dir);
        const { digest, before, writing } = references.get(`${builder} ${format}`)!;
        const child = await start(place, builder, tree, env);
        const delay = share * (isEarly ? before : writing);
        let timer: ReturnType<typeof setTimeout> | undefined;
        const send = () => {
          try {
            child.kill(signal);
          } catch {
            // It was done before.
          }
        };
        if (isEarly) timer = setTimeout(send, delay);
        const log = await follow(child, () => timer ??= setTimeout(send, delay));
        const { code, signal: killedBy } = await child.status;
        clearTimeout(timer);
        const when = `${delay.toFixed(0)} ms after ${isEarly ? "its start" : "it began to write"}`;
        const text = `${builder} ${format}: ${signal} ${when}: ${log}`;
        let outcome: string;
        if (code === 0) {
          assert.equal(await sha256(place.output), digest, text);
          outcome = "done";
        } else {
          const expected = { SIGTERM: 143, SIGINT: 130, SIGKILL: 137 }[signal];
          assert.equal(code, expected, text);
          // What SIGKILL leaves is cleaned up by the guard, a moment later. A signal may also come when all is done.
          const isDone = async () => await sha256(place.output) === digest;
          const isSafe = async () => await isUntouched(place) || await isDiscarded(place) || await isDone();
          if (killedBy !== "SIGKILL") assert(await isSafe(), text);
          assert(await waitFor(isSafe), `${text}: ${JSON.stringify(await Deno.stat(place.output))}`);
          outcome = await isUntouched(place) ? "not begun" : await isDiscarded(place) ? "discarded" : "done";
        }
        await waitFor(async () => (await Array.fromAsync(Deno.readDir(place.scratch))).length === 0);
        await assertNothingLeft(place);
        return `${signal} ${outcome}`;
      }),
  );
  await showOutcomes(t, outcomes);
});

/** Gives `fn` a filesystem in memory with so many bytes. */
async function withTmpfs<T>(bytes: number, fn: (dir: string) => Promise<T>): Promise<T> {
  return await tempDir(async (dir) => {
    await quiet`mount -t tmpfs -o size=${bytes} tmpfs ${dir}`;
    try {
      return await fn(dir);
    } finally {
      await quiet`umount --lazy ${dir}`;
      // Its own directory is removed by tempDir().
    }
  });
}

Deno.test("a full disk is found before the build, and nothing is left when it fills up during it", {
  ignore: ignore || missing("mount"),
}, async (t) => {
  const tree = await tinyTree();
  const outcomes: string[] = [];
  const more = BUILDERS.flatMap((builder) =>
    ["vdi", "vpc"].map((format) => ({ builder, format, env: settings(builder, format) }))
  );
  // How large it becomes is known when it was made, so room for it is looked for then.
  const readOnly = BUILDERS.map((builder) => ({
    builder,
    format: "qcow2 of squashfs",
    env: { ...settings(builder, "qcow2"), FILESYSTEM: "squashfs" },
  }));
  for (const { builder, format, env } of [...BUILDS, ...more, ...readOnly]) {
    for (const what of ["output", "scratch"] as const) {
      for (const when of ["before", "during"] as const) {
        const name = `${builder} ${format}: no space for ${what}, ${when} the build`;
        const size = when === "before" ? MiB : 64 * MiB;
        await tempDir((dir) =>
          withTmpfs(size, async (tmpfs) => {
            const place = { ...await makePlace(dir), [what]: `${tmpfs}/${what}` };
            if (what === "output") await Deno.copyFile(`${dir}/image`, place.output);
            else await Deno.mkdir(place.scratch);
            await Deno.utime(place[what], 1, 1);
            // Somebody else takes all the space.
            const filler = `${tmpfs}/filler`;
            if (when === "during") {
              const maker = env.FILESYSTEM === "squashfs" ? "mksquashfs" : "mke2fs";
              await addStub(place, maker, `"$real" "$@"; head -c 100M /dev/zero >${filler} 2>&1; exit 0`);
            }
            const { code, stderr } = await end(await start(place, builder, tree, env), place, false);
            // What is made in place needs next to no scratch space.
            if (format !== "vdi" && what === "scratch" && code === 0) {
              return outcomes.push("done without scratch space");
            }
            assert.equal(code, 1, `${name}\n${stderr}`);
            assert.match(stderr, /^\[E\] .*([Ss]pace|left|full)/m, `${name}\n${stderr}`);
            assert.doesNotMatch(stderr, /This is a bug/, name);
            const { size, mtime } = await Deno.stat(place.output);
            const isOld = size === 100_000 && mtime!.getTime() <= OLD;
            assert(
              when === "before" && isOld || await isDiscarded(place),
              `${name}: ${size}, ${mtime}\n${stderr}`,
            );
            await Deno.remove(filler).catch(() => {});
            await assertNothingLeft(place);
            outcomes.push(`refused or failed ${when} the build`);
          })
        );
      }
    }
  }
  await showOutcomes(t, outcomes);
});

Deno.test("an image that is larger than files may be here is refused before anything is written", {
  ignore,
}, async () => {
  const tree = await tinyTree();
  for (const { builder, env } of BUILDS) {
    await tempDir(async (dir) => {
      const output = `${dir}/image`;
      const script = 'ulimit -f 1024 && exec "$@"';
      const command = [
        Deno.execPath(),
        "run",
        "-A",
        new URL("../../builders/mod.ts", import.meta.url).pathname,
        builder,
      ];
      const { code, stderr } = await new Deno.Command("bash", {
        args: ["-c", script, "bash", ...command, "--input", tree, "--output", output],
        env: { ...env, NO_COLOR: "1" },
      }).output();
      const text = new TextDecoder().decode(stderr);
      assert.equal(code, 1, text);
      assert.match(
        text,
        /^\[E\] Cannot write a file of .*: the limit for this process is 1 MiB\n.*ulimit -f/m,
      );
      await assert.rejects(Deno.stat(output), Deno.errors.NotFound);
    });
  }
});

Deno.test("an image that is larger than its filesystem can hold files is refused", {
  ignore: ignore || missing("mount"),
}, async () => {
  const tree = await tinyTree();
  // The most with these blocks is 4 TiB.
  await tempDir((dir) =>
    onFilesystem("ext4 with 1 KiB blocks", dir, async (own) => {
      for (const { builder, format, env } of BUILDS) {
        await tempDir(async (elsewhere) => {
          const place = { ...await makePlace(elsewhere), output: `${own}/image`, scratch: `${own}/scratch` };
          await Deno.mkdir(place.scratch, { recursive: true });
          const large = { ...env, FREE_MB: "", SIZE_MB: "5000000" };
          const { code, stderr } = await end(await start(place, builder, tree, large), place, false);
          assert.equal(code, 1, `${builder} ${format}\n${stderr}`);
          assert.match(
            stderr,
            /^\[E\] Cannot make .* 4\.8 TiB large: File too large\n\[E\] Use a filesystem/m,
          );
          await assertNothingLeft(place);
          await assert.rejects(Deno.stat(place.output), Deno.errors.NotFound);
        });
      }
    })
  );
});

Deno.test("an output that held an older, larger image is the same image as in a new file, and sparse", {
  ignore,
}, async () => {
  const tree = await tinyTree();
  for (const { builder, env } of BUILDS) {
    await tempDir(async (dir) => {
      const [fresh, used] = [`${dir}/fresh`, `${dir}/used`];
      await Deno.writeFile(used, new Uint8Array(130 * MiB).fill(0xee));
      const { ino } = await Deno.stat(used);
      const started = Date.now();
      for (const output of [fresh, used]) {
        const { code, stderr } = await runBuilder(builder, {
          args: ["--input", tree, "--output", output],
          env,
        });
        assert.equal(code, 0, stderr);
      }
      await quiet`cmp ${used} ${fresh}`;
      const info = await Deno.stat(used);
      assert.equal(info.ino, ino);
      assert(info.blocks! * 512 < 40 * MiB, `${info.blocks! * 512} bytes on disk`);
      assert(info.mtime!.getTime() > started - 1000);
    });
  }
});

Deno.test("a side file that does not fit on its disk fails the build, and empties the image", {
  ignore: ignore || missing("mount"),
}, async () => {
  const tree = await tinyTree();
  const files = { MANIFEST: "m.json", SBOM: "s.json", BMAP: "b.bmap", INCUS_METADATA: "i.tar" };
  await withTmpfs(MiB, async (full) => {
    // It says so, too.
    await quiet`sh -c ${`head -c 2M /dev/zero >${full}/filler 2>&1; exit 0`}`;
    for (const [name, file] of Object.entries(files)) {
      await tempDir(async (dir) => {
        const output = `${dir}/image`;
        const { code, stderr } = await runBuilder("part-image", {
          args: ["--input", tree, "--output", output],
          env: {
            ...name === "INCUS_METADATA" ? { FILESYSTEM: "squashfs" } : { FREE_MB: "1" },
            [name]: `${full}/${file}`,
          },
        });
        assert.equal(code, 1, `${name}\n${stderr}`);
        assert.match(
          stderr,
          new RegExp(`^\\[E\\] Cannot write "${full}/${file}": No space left on device$`, "m"),
        );
        await assert.rejects(Deno.stat(output), Deno.errors.NotFound);
        assert.equal((await Deno.stat(`${full}/${file}`)).size, 0);
      });
    }
  });
});

/** Makes a loop device of that size over a file full of old bytes. */
async function withLoop(bytes: number, fn: (device: string, file: string) => Promise<void>): Promise<void> {
  await tempDir(async (dir) => {
    const file = `${dir}/disk`;
    await Deno.writeFile(file, new Uint8Array(bytes).fill(0xee));
    const device = (await quiet`losetup --find --show ${file}`).trim();
    try {
      await fn(device, file);
    } finally {
      await quiet`losetup --detach ${device}`;
    }
  });
}

Deno.test("a block device gets the same image as a file, and nothing on it is found after a failure", {
  ignore: ignore || missing("losetup"),
}, async () => {
  const tree = await tinyTree();
  for (const builder of BUILDERS) {
    const env = { ...settings(builder, "raw"), SIZE_MB: builder === "disk-image" ? "160" : "60" };
    const size = Number(env.SIZE_MB) * MiB;
    await withLoop(size, (device, file) =>
      tempDir(async (dir) => {
        const image = `${dir}/image`;
        for (const output of [image, device]) {
          const { code, stderr } = await runBuilder(builder, {
            args: ["--input", tree, "--output", output],
            env,
          });
          assert.equal(code, 0, stderr);
        }
        await quiet`cmp ${image} ${device}`;
        assert.equal((await Deno.stat(file)).size, size);

        // What reads the whole image reads a device, too.
        const files = { MANIFEST: `${dir}/manifest`, SBOM: `${dir}/sbom`, BMAP: `${dir}/bmap` };
        const { code: again, stderr: said } = await runBuilder(builder, {
          args: ["--input", tree, "--output", device],
          env: { ...env, ...files, VERIFY: "full" },
        });
        assert.equal(again, 0, said);
        await quiet`cmp ${image} ${device}`;
        const [whole] = JSON.parse(await Deno.readTextFile(files.MANIFEST)).subject;
        assert.equal(whole.digest.sha256, await sha256(file));

        const place = { ...await makePlace(dir), output: device };
        const last = builder === "disk-image" ? "sfdisk" : "mke2fs";
        await addStub(place, last, FAULTS["fails after its work"]);
        const { code } = await end(await start(place, builder, tree, env), place, false);
        assert.equal(code, 1);
        await assert.rejects(quiet`blkid --probe ${device}`, /exit code 2/);
        await assertNothingLeft(place);
      }));
  }
});

Deno.test("a larger block device has the backup of the table at its own end, and loses it with the image", {
  ignore: ignore || missing("losetup", "sgdisk"),
}, async () => {
  const tree = await tinyTree();
  await withLoop(150 * MiB, (device) =>
    tempDir(async (dir) => {
      const { code, stderr } = await runBuilder("disk-image", {
        args: ["--input", tree, "--output", device],
        env: SMALL,
      });
      assert.equal(code, 0, stderr);
      assert.match(await quiet`sgdisk --verify ${device}`, /No problems found/);
      const place = { ...await makePlace(dir), output: device };
      await addStub(place, "mkfs.vfat", FAULTS["fails at once"]);
      assert.equal((await end(await start(place, "disk-image", tree, SMALL), place, false)).code, 1);
      assert.match(await quiet`sgdisk --print ${device}`, /Creating new GPT entries/);
    }));
});

Deno.test("an output that cannot hold the image is refused and left alone", { ignore }, async () => {
  const tree = await tinyTree();
  const refused = async (
    output: string,
    message: RegExp,
    { input = tree, env = {} }: { input?: string; env?: Record<string, string> } = {},
  ) => {
    const { code, stderr } = await runBuilder("part-image", {
      args: ["--input", input, "--output", output],
      env,
    });
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  };
  await tempDir(async (dir) => {
    await refused(dir, /^\[E\] Cannot write the image to ".*": it is a directory$/m);
    await refused("/dev/null", /neither a regular file nor a block device/);
    await quiet`mkfifo ${dir}/fifo`;
    await refused(`${dir}/fifo`, /it is a pipe|neither a regular file nor a block device/);
    await refused(`${dir}/none/image`, /there is no directory/);
    await Deno.mkdir(`${dir}/tree`);
    await Deno.writeTextFile(`${dir}/tree/file`, "");
    await refused(`${dir}/tree/image`, /it is inside the tree that the image is made from/, {
      input: `${dir}/tree`,
    });
  });
  if (missing("losetup")) return;
  await withLoop(20 * MiB, async (device, file) => {
    const before = await sha256(file);
    await refused(device, /the image has \d+ MiB, the device only 20 MiB/);
    await refused(device, /qcow2 cannot go on a block device/, {
      env: { OUTPUT_FORMAT: "qcow2", FREE_MB: "1" },
    });
    assert.equal(await sha256(file), before);
  });
});
