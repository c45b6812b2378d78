import assert from "node:assert/strict";
import { BuildError } from "../../lib/core/error.ts";
import { openInput } from "../../lib/make/input.ts";
import { $ } from "../../lib/system/sh.ts";
import { failingCalls, missing, stubProgram, tempDir, unprivileged } from "../lab/helpers.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** Everything about a tree, as find and getfattr read it. */
async function facts(tree: string): Promise<string> {
  const entries = await $`find ${tree} -printf ${"%P %y %m %U:%G %s %T@ %n %l\\n"}`.quiet().text();
  const xattrs = await $`getfattr -d -h -R -m - --absolute-names -e hex ${tree}`.quiet().text();
  const normal = (text: string) => text.replaceAll(tree, "").split("\n").sort().join("\n");
  return normal(entries) + normal(xattrs);
}

/** A tree with one of everything that an archive can carry. */
async function makeTree(tree: string): Promise<void> {
  await Deno.mkdir(`${tree}/etc`, { recursive: true });
  await Deno.mkdir(`${tree}/dev`);
  await Deno.writeTextFile(`${tree}/etc/shadow`, "root\n", { mode: 0o600 });
  await Deno.chown(`${tree}/etc/shadow`, 0, 42);
  await Deno.writeTextFile(`${tree}/etc/owned`, "");
  await Deno.chown(`${tree}/etc/owned`, 100_000, 200_000);
  await Deno.chmod(`${tree}/etc/owned`, 0o6755);
  await Deno.link(`${tree}/etc/shadow`, `${tree}/etc/hard link`);
  await Deno.symlink("/etc/shadow", `${tree}/etc/absolute`);
  await Deno.symlink("../../..", `${tree}/etc/upwards`);
  await $`mkfifo ${tree}/etc/fifo`;
  await $`mknod ${tree}/dev/null c 1 3`;
  await $`truncate -s 64M ${tree}/sparse`;
  await Deno.writeTextFile(`${tree}/etc/new\nline \\ "quote" é`, "x");
  await $`setfattr -n user.plain -v 1 ${tree}/${'etc/new\nline \\ "quote" é'}`;
  await Deno.copyFile("/bin/true", `${tree}/ping`);
  await $`setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 ${tree}/ping`;
  await $`setfacl -m u:12345:rw ${tree}/etc/owned`;
  await $`setfacl -d -m g:54321:r ${tree}/etc`;
  // A name that is not UTF-8, which no program can be given from here.
  const script = 'name="$1/$(printf "caf\\351")"; touch "$name" && setfattr -n user.name -v 1 "$name"';
  await $`sh -c ${script} sh ${tree}`;
  await Deno.chmod(tree, 0o750);
}

const PACK = ["--create", "--numeric-owner", "--sparse", "--acls", "--xattrs", "--xattrs-include=*"];

/** One member of a tar archive, made by hand since tar itself does not write hostile ones. */
function member(name: string, { type = "0", link = "", text = "", size = 0 } = {}): Uint8Array<ArrayBuffer> {
  const data = new TextEncoder().encode(text);
  const block = new Uint8Array(512 + Math.ceil(data.length / 512) * 512);
  const put = (at: number, text: string) => block.set(new TextEncoder().encode(text), at);
  put(0, name);
  put(100, "0000644\0" + "0000000\0" + "0000000\0");
  put(124, `${(size || data.length).toString(8).padStart(11, "0")}\0`);
  put(136, "14000000000\0" + " ".repeat(8) + type + link);
  put(257, "ustar\x0000");
  const sum = block.subarray(0, 512).reduce((sum, byte) => sum + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  block.set(data, 512);
  return block;
}

async function names(dir: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(dir), ({ name }) => name)).sort();
}

async function writeArchive(path: string, members: Uint8Array<ArrayBuffer>[]): Promise<void> {
  await Deno.writeFile(path, await new Blob([...members, new Uint8Array(1024)]).bytes());
}

const noTools = missing("getfattr", "setfattr", "setfacl", "zstd", "xz") || unprivileged();

Deno.test("openInput() takes a directory as it is", async () => {
  await tempDir(async (dir) => {
    await using input = await openInput(dir);
    assert.equal(input.directory, dir);
  });
});

for (const program of ["", "gzip", "zstd", "xz"]) {
  Deno.test(`openInput() unpacks an archive without losing anything: ${program || "plain"}`, {
    ignore: noTools,
  }, async () => {
    await tempDir(async (dir) => {
      const tree = `${dir}/tree`;
      await makeTree(tree);
      // The name says nothing, and holds what tar takes for a host.
      const archive = `${dir}/host:input`;
      const compress = program ? [`--use-compress-program=${program}`] : [];
      await $`tar ${PACK} ${compress} --force-local --file=${archive} --directory=${tree} .`;
      let unpacked: string;
      {
        await using input = await openInput(archive, dir);
        unpacked = input.directory;
        assert.equal(await facts(unpacked), await facts(tree));
        const { blocks } = await Deno.stat(`${unpacked}/sparse`);
        assert.ok(blocks! < 100, `the hole became ${blocks} blocks`);
        const [a, b] = await Promise.all([
          Deno.stat(`${unpacked}/etc/shadow`),
          Deno.stat(`${unpacked}/etc/hard link`),
        ]);
        assert.equal(a.ino, b.ino);
      }
      assert.deepEqual(await names(dir), ["host:input", "tree"]);
    });
  });
}

Deno.test("openInput() reads what podman export writes: names without a leading dot", {
  ignore: unprivileged(),
}, async () => {
  await tempDir(async (dir) => {
    await writeArchive(`${dir}/a`, [
      member("etc/", { type: "5" }),
      member("etc/hostname", { text: "box\n" }),
    ]);
    await using input = await openInput(`${dir}/a`, dir);
    assert.equal(await Deno.readTextFile(`${input.directory}/etc/hostname`), "box\n");
    assert.equal((await Deno.stat(input.directory)).mode! & 0o777, 0o755);
  });
});

Deno.test.each([
  { name: "an absolute name", members: (out: string) => [member(`${out}/evil`, { text: "evil" })] },
  { name: "a name with ..", members: () => [member("../../out/evil", { text: "evil" })] },
  {
    name: "a file through an absolute symlink",
    members: (out: string) => [
      member("way", { type: "2", link: out }),
      member("way/evil", { text: "evil" }),
    ],
  },
  {
    name: "a file through a symlink with ..",
    members: () => [
      member("way", { type: "2", link: "../../out" }),
      member("way/evil", { text: "evil" }),
    ],
  },
  {
    name: "a chain of symlinks",
    members: () => [
      member("a", { type: "2", link: ".." }),
      member("b", { type: "2", link: "a/.." }),
      member("c", { type: "2", link: "b/out" }),
      member("c/evil", { text: "evil" }),
    ],
  },
  {
    name: "a file over a hard link to outside",
    members: (out: string) => [
      member("hard", { type: "1", link: `${out}/victim` }),
      member("hard", { text: "evil" }),
    ],
  },
  {
    name: "a file over a hard link with ..",
    members: () => [
      member("hard", { type: "1", link: "../../out/victim" }),
      member("hard", { text: "evil" }),
    ],
  },
  {
    name: "a hard link through a symlink",
    members: (out: string) => [
      member("way", { type: "2", link: out }),
      member("hard", { type: "1", link: "way/victim" }),
      member("hard", { text: "evil" }),
    ],
  },
])("openInput() writes nothing outside its scratch directory: $name", {
  ignore: unprivileged(),
}, async ({ members }) => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/out`);
    await Deno.writeTextFile(`${dir}/out/victim`, "as it was");
    await writeArchive(`${dir}/archive`, members(`${dir}/out`));
    try {
      // One level deeper than the scratch directory lies `out`.
      await using input = await openInput(`${dir}/archive`, dir);
      assert.ok(input.directory.startsWith(`${dir}/raptor-builders-`));
    } catch (error) {
      assert.ok(error instanceof BuildError, String(error));
    }
    assert.deepEqual(await names(`${dir}/out`), ["victim"]);
    assert.equal(await Deno.readTextFile(`${dir}/out/victim`), "as it was");
    assert.deepEqual(await names(dir), ["archive", "out"]);
  });
});

Deno.test("openInput() says what is wrong with what is no tree", async (t) => {
  await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/text`, "not an archive ".repeat(100));
    await Deno.writeTextFile(`${dir}/empty`, "");
    await $`mkfifo ${dir}/fifo`;
    await writeArchive(`${dir}/oci`, [member("oci-layout", { text: "{}" }), member("index.json")]);
    await Deno.writeFile(`${dir}/cut`, member("etc/big", { text: "x".repeat(5000) }).slice(0, 2048));
    const second = [new Uint8Array(1024), member("etc/second")];
    await writeArchive(`${dir}/two`, [member("etc/first"), ...second]);
    await $`gzip --keep --stdout ${dir}/two`.stdout((bytes) =>
      Deno.writeFileSync(`${dir}/two.gz`, bytes, { append: true })
    );
    await writeArchive(`${dir}/hole`, [member("etc/first"), new Uint8Array(512), member("etc/second")]);
    const noise = new TextEncoder().encode("noise".repeat(300));
    await writeArchive(`${dir}/noise`, [member("etc/first"), new Uint8Array(1024), noise]);
    await writeArchive(`${dir}/garbage`, [member("etc/first")]);
    await $`gzip ${dir}/garbage`;
    await Deno.writeFile(`${dir}/garbage.gz`, noise, { append: true });
    const long = "n".repeat(3 * 2 ** 20);
    await writeArchive(`${dir}/long`, [
      member("././@LongLink", { type: "L", text: `${long}\0` }),
      member("n"),
    ]);
    await Deno.writeFile(`${dir}/gzip`, new Uint8Array([0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6]));
    const cases = [
      { name: "missing", kind: "usage", message: /^Cannot find the input "[^"]*\/missing"$/ },
      { name: "text", kind: "usage", message: /neither a directory nor a tar archive$/ },
      { name: "empty", kind: "usage", message: /neither a directory nor a tar archive$/ },
      { name: "fifo", kind: "usage", message: /neither a directory nor a tar archive$/ },
      { name: "oci", kind: "usage", message: /is a container image, not a tree$/ },
      { name: "cut", kind: "build", message: /^Cannot unpack "[^"]*\/cut": tar failed .*Unexpected EOF/ },
      ...["two", "two.gz", "hole", "noise", "garbage.gz"].map((name) => ({
        name,
        kind: "build",
        message: /^Cannot unpack "[^"]*": there is something after the end of the archive$/,
      })),
      {
        name: "long",
        kind: "build",
        message: /^Cannot unpack "[^"]*\/long": a name in it has more than 1 MiB$/,
      },
      { name: "gzip", kind: "build", message: /^Cannot unpack "[^"]*\/gzip": tar failed/ },
    ];
    for (const { name, kind, message } of cases) {
      await t.step(name, async () => {
        await assert.rejects(openInput(`${dir}/${name}`, dir), (error) => {
          assert.ok(error instanceof BuildError, String(error));
          assert.match(error.message, message);
          assert.equal(error.kind, kind);
          return true;
        });
      });
    }
    const left = (await names(dir)).filter((name) => name.startsWith("raptor"));
    assert.deepEqual(left, []);
  });
});

const ATTRIBUTES = "/%P %y %m %U:%G %Ts\\n";

Deno.test.each([
  { umask: "077", packer: ["tar", "--format=gnu"] },
  { umask: "000", packer: ["tar", "--format=pax"] },
  { umask: "027", packer: ["bsdtar"] },
])("openInput() gives directories without a member what only the archive decides: $umask, $packer", {
  ignore: missing("bsdtar") || unprivileged(),
}, async ({ umask, packer }) => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    for (const name of ["a/b/c", "own/inner", "usr/lib/modules/6.1", "usr/lib/own"]) {
      await Deno.mkdir(`${tree}/${name}`, { recursive: true });
    }
    await Deno.symlink("usr/lib", `${tree}/lib`);
    const files = ["a/b/c/d", "a/x", "own/inner/late", "lib/own/file", "lib/modules/6.1/m", "outer"];
    for (const file of files) {
      await Deno.writeTextFile(`${tree}/${file}`, "");
      await Deno.chmod(`${tree}/${file}`, 0o644);
    }
    for (const own of ["own", "usr/lib/own"]) {
      await Deno.chown(`${tree}/${own}`, 7, 8);
      await Deno.chmod(`${tree}/${own}`, 0o2711);
    }
    await $`touch --no-dereference --date=@1500000000 ${
      [...files, "own", "lib", "usr/lib/own"].map((name) => `${tree}/${name}`)
    }`;
    await $`touch --date=@1699999999 ${tree}/a/x`;
    // A directory comes after what is in it, and files are behind a symlink; there is nothing for the root.
    const members = ["a/b/c/d", "./a/x", "own/inner/late", "own", "lib", "./usr/lib/own", ...files.slice(3)];
    await $`${packer} --no-recursion -c -f ${dir}/archive -C ${tree} ${members}`;
    // A name that is not text.
    const script = 'cd "$1" && name="$(printf "caf\\351")" && mkdir "$name" && touch -d @0 "$name/f" && ' +
      'chmod 644 "$name/f" && tar --append --file=../archive "$name/f"';
    await $`sh -c ${script} sh ${tree}`;
    // It hands down its group.
    await Deno.mkdir(`${dir}/scratch`);
    await Deno.chown(`${dir}/scratch`, 0, 9);
    await Deno.chmod(`${dir}/scratch`, 0o2755);

    const print = `new TextDecoder().decode(new Deno.Command("find", {
      args: [input.directory, "-printf", ${JSON.stringify(ATTRIBUTES)}],
    }).outputSync().stdout)`;
    const shell = ["-c", 'umask "$0" && exec "$@"', umask];
    const { stdout } = await openBy("sh", shell, `${dir}/archive`, `${dir}/scratch`, print);
    // As tar lists it: in whole minutes.
    const newest = 1_699_999_999 - 1_699_999_999 % 60;
    const implied = [
      "",
      "a",
      "a/b",
      "a/b/c",
      "own/inner",
      "usr",
      "usr/lib",
      "usr/lib/modules",
      "usr/lib/modules/6.1",
    ];
    const old = ["a/b/c/d", "own/inner/late", "outer", "usr/lib/own/file", "usr/lib/modules/6.1/m"];
    assert.deepEqual(
      stdout.split("\n").sort(),
      [
        ...[...implied, "caf\uFFFD"].map((name) => `/${name} d 755 0:0 ${newest}`),
        ...old.map((name) => `/${name} f 644 0:0 1500000000`),
        "/a/x f 644 0:0 1699999999",
        "/caf\uFFFD/f f 644 0:0 0",
        "/lib l 777 0:0 1500000000",
        "/own d 2711 7:8 1500000000",
        "/usr/lib/own d 2711 7:8 1500000000",
      ].sort(),
    );
  });
});

Deno.test.each([".", "./", "/", "././"].map((name) => ({ name })))(
  "openInput() leaves the root directory as the archive has it: $name",
  { ignore: unprivileged() },
  async ({ name }) => {
    await tempDir(async (dir) => {
      await writeArchive(`${dir}/a`, [member("etc/hostname"), member(name, { type: "5" })]);
      await using input = await openInput(`${dir}/a`, dir);
      const lines = await $`find ${input.directory} -printf ${ATTRIBUTES}`.text();
      assert.deepEqual(lines.trimEnd().split("\n"), [
        "/ d 644 0:0 1610612736",
        "/etc d 755 0:0 1610612700",
        "/etc/hostname f 644 0:0 1610612736",
      ]);
    });
  },
);

Deno.test(
  "openInput() gives implied directories nothing outside the tree",
  { ignore: unprivileged() },
  async () => {
    await tempDir(async (dir) => {
      await Deno.mkdir(`${dir}/out/inner`, { recursive: true });
      await Deno.chmod(`${dir}/out/inner`, 0o700);
      // The directory of the first member is replaced by a symlink to outside.
      await writeArchive(`${dir}/a`, [
        member("way", { type: "2", link: "inside" }),
        member("inside/", { type: "5" }),
        member("way/inner/file"),
        member("way", { type: "2", link: `${dir}/out` }),
      ]);
      await using input = await openInput(`${dir}/a`, dir);
      assert.equal(await Deno.readLink(`${input.directory}/way`), `${dir}/out`);
      assert.equal((await Deno.stat(`${dir}/out/inner`)).mode! & 0o777, 0o700);
    });
  },
);

Deno.test("openInput() refuses an archive that is cut off, wherever that is", {
  ignore: missing("bsdtar", "gzip", "xz", "zstd") || unprivileged(),
}, async (t) => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(`${tree}/etc`, { recursive: true });
    await Deno.writeTextFile(`${tree}/etc/a`, "x".repeat(700));
    // A member with a second header for its long name.
    await Deno.writeTextFile(`${tree}/etc/${"b".repeat(200)}`, "x".repeat(700));
    const packers = {
      "tar": ["tar", "--sort=name"],
      "tar --format=pax": ["tar", "--sort=name", "--format=pax"],
      "bsdtar": ["bsdtar"],
    };
    const open = async (archive: string) => {
      await using input = await openInput(archive, dir);
      assert.deepEqual(await names(`${input.directory}/etc`), await names(`${tree}/etc`));
    };
    for (const [name, packer] of Object.entries(packers)) {
      await $`${packer} -c -f ${dir}/archive -C ${tree} .`;
      const whole = await Deno.readFile(`${dir}/archive`);
      const end = Math.ceil((whole.findLastIndex((byte) => byte !== 0) + 1) / 512) * 512;
      const lengths = Array.from({ length: end / 512 }, (_, block) => 512 * (block + 1));
      const cut = async (length: number) => {
        await Deno.writeFile(`${dir}/archive`, whole.subarray(0, length));
        return `${dir}/archive`;
      };
      await t.step(`${name}: between blocks and in the middle of one`, async () => {
        for (const length of lengths.flatMap((length) => [length, length + 300])) {
          await assert.rejects(
            open(await cut(length)),
            /^BuildError: Cannot unpack "[^"]*": (it is cut off$|tar failed .*Unexpected EOF)/,
            `${length} of ${end}`,
          );
        }
        await assert.rejects(open(await cut(end)), {
          message: /: it is cut off$/,
          hint: "The archive is damaged, or was made to do harm",
        });
      });
      await t.step(`${name}: compressed after it was cut off`, async () => {
        for (const program of ["gzip", "xz", "zstd"]) {
          const compress = async (length: number) => {
            await Deno.remove(`${dir}/packed`).catch(() => {});
            const write = (bytes: Uint8Array) => Deno.writeFileSync(`${dir}/packed`, bytes, { append: true });
            await $`${program} --stdout --quiet ${await cut(length)}`.stdout(write);
            return `${dir}/packed`;
          };
          // Before the second header of the last member, and after its contents.
          for (const length of [end - 1536, end]) {
            await assert.rejects(open(await compress(length)), { message: /: it is cut off$/ });
          }
          await open(await compress(end + 512));
        }
      });
      await t.step(`${name}: with a single block of zeros or more, it is whole`, async () => {
        for (const length of [end + 512, end + 1024, whole.length]) await open(await cut(length));
        await $`tar --append --file=${dir}/archive --directory=${tree} ./etc/a`;
        await open(`${dir}/archive`);
      });
    }
  });
});

/** A file with its bytes from `at` on, counted from its end if that is negative, replaced. */
async function damage(path: string, at: number, bytes: number[]): Promise<void> {
  const data = await Deno.readFile(path);
  data.set(bytes, at < 0 ? data.length + at : at);
  await Deno.writeFile(path, data);
}

Deno.test("openInput() says what the programs say about a damaged archive", {
  ignore: missing("gzip", "xz", "zstd"),
}, async (t) => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree/etc`, { recursive: true });
    const random = crypto.getRandomValues(new Uint8Array(60_000));
    for (const name of ["a", "b", "c"]) await Deno.writeFile(`${dir}/tree/etc/${name}`, random);
    const pack = async (name: string, program: string) => {
      await $`tar --create --use-compress-program=${program} --file=${dir}/${name} --directory=${dir}/tree .`;
      return (await Deno.stat(`${dir}/${name}`)).size;
    };
    await pack("crc.gz", "gzip");
    await damage(`${dir}/crc.gz`, -8, [0, 0, 0, 0]);
    const middle = await pack("data.gz", "gzip") / 2;
    await damage(`${dir}/data.gz`, Math.floor(middle), [255, 255, 255, 255]);
    await Deno.truncate(`${dir}/cut.xz`, await pack("cut.xz", "xz") - 30);
    await Deno.truncate(`${dir}/cut.gz`, await pack("cut.gz", "gzip") - 5);
    await Deno.truncate(`${dir}/cut.zst`, await pack("cut.zst", "zstd") - 5);
    // Two archives in one, of which gzip says that it cannot read the rest.
    await $`tar --create --file=${dir}/one --directory=${dir}/tree .`;
    const one = await Deno.readFile(`${dir}/one`);
    await Deno.writeFile(`${dir}/both`, await new Blob([one, one]).bytes());
    await $`gzip ${dir}/both`;
    await damage(`${dir}/both.gz`, -8, [0, 0, 0, 0]);
    // A number of 64 bits, as GNU tar writes it: 2 ** 33.
    const owned = member("etc/owned");
    owned.set([0x80, 0, 0, 2, 0, 0, 0, 0], 108);
    const sum = owned.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : byte), 0);
    owned.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
    await writeArchive(`${dir}/owner`, [owned, member("etc/last")]);
    const hole = [member("etc/a"), new Uint8Array(512).fill(120), member("etc/b")];
    await writeArchive(`${dir}/skipped`, hole);
    const cases = [
      { name: "crc.gz", message: /gzip: .*crc error/ },
      { name: "both.gz", message: /gzip: .*crc error/ },
      { name: "data.gz", message: /gzip: .*(crc error|format violated|length error)/ },
      { name: "cut.gz", message: /gzip: .*unexpected end of file/ },
      { name: "cut.xz", message: /xz: .*Unexpected end of input/ },
      { name: "cut.zst", message: /premature end/ },
      { name: "owner", message: /8589934592 is out of uid_t range/ },
      { name: "skipped", message: /Skipping to next header/ },
    ];
    for (const { name, message } of cases) {
      await t.step(name, async () => {
        await assert.rejects(openInput(`${dir}/${name}`, dir), (error) => {
          assert.ok(error instanceof BuildError, String(error));
          assert.match(error.message, /^Cannot unpack "[^"]*": tar failed with exit code 2: /);
          assert.match(error.message, message);
          assert.doesNotMatch(error.hint ?? "", /several archives/);
          return true;
        });
      });
    }
  });
});

Deno.test("openInput() compares the archive with the free space before it unpacks", {
  ignore: missing("mount") || unprivileged(),
}, async () => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/small`);
    await writeArchive(`${dir}/archive`, [member("file", { text: "x".repeat(2 ** 21) })]);
    await $`mount -t tmpfs -o size=1M tmpfs ${dir}/small`;
    try {
      await assert.rejects(
        openInput(`${dir}/archive`, `${dir}/small`),
        /^BuildError: Cannot unpack .*: it needs 2 MiB, and "[^"]*\/small" has 1 MiB left$/,
      );
      assert.deepEqual(await names(`${dir}/small`), []);
    } finally {
      await $`umount ${dir}/small`;
    }
  });
});

/** What {@link openBy} prints by default: the names in the root directory. */
const NAMES = "JSON.stringify([...Deno.readDirSync(input.directory)].map(({ name }) => name).sort())";

/** Opens an archive in another process, started by a program with these arguments; returns its stdout and, as stderr, log and findings. */
async function openBy(
  program: string,
  args: readonly string[],
  archive: string,
  scratch: string,
  print: string = NAMES,
) {
  const script = `
    import { openInput } from "${ROOT}lib/make/input.ts";
    try {
      await using input = await openInput(${JSON.stringify(archive)}, ${JSON.stringify(scratch)});
      console.log(${print});
      for (const { name, message } of input.findings) console.error(name + ": " + message);
    } catch (error) {
      console.log(error.message + " / " + error.hint);
    }`;
  await Deno.writeTextFile(`${scratch}/script.ts`, script);
  const { stdout, stderr } = await new Deno.Command(program, {
    args: [...args, Deno.execPath(), "run", "-A", `--config=${ROOT}deno.json`, `${scratch}/script.ts`],
  }).output();
  return { stdout: new TextDecoder().decode(stdout).trim(), stderr: new TextDecoder().decode(stderr) };
}

/** Opens an archive without a capability. */
function openWithout(capability: string, archive: string, scratch: string) {
  return openBy("setpriv", [`--bounding-set=-${capability}`, `--inh-caps=-${capability}`], archive, scratch);
}

Deno.test("openInput() loses no ACL and no context where TMPDIR cannot have them", {
  ignore: noTools || missing("strace"),
}, async (t) => {
  await tempDir(async (dir) => {
    // As on a filesystem without: tar only warns.
    const fails = failingCalls("setxattr,lsetxattr,fsetxattr", "EOPNOTSUPP");
    const cases = [
      { name: "an ACL", option: "--acls", set: "setfacl -m u:1000:r", lost: "system.posix_acl_access" },
      {
        name: "a default ACL",
        option: "--acls",
        set: "setfacl -d -m u:1000:r",
        lost: "system.posix_acl_default",
      },
      {
        name: "a context",
        option: "--selinux",
        set: "setfattr -n security.selinux -v system_u:object_r:etc_t:s0",
        lost: "security.selinux",
      },
    ];
    for (const [i, { name, option, set, lost }] of cases.entries()) {
      await t.step(name, async () => {
        const tree = `${dir}/tree-${i}`;
        await Deno.mkdir(`${tree}/etc`, { recursive: true });
        await $`tar --create ${option} --file=${dir}/plain --directory=${tree} .`;
        await $`${set.split(" ")} ${tree}/etc`;
        // Not with --xattrs, of which the listing has lines of its own.
        await $`tar --create ${option} --file=${dir}/archive --directory=${tree} .`;
        const { stdout } = await openBy("strace", fails, `${dir}/archive`, dir);
        assert.ok(
          stdout.includes(`the xattr "${lost}" of "./etc/" is lost / Run as root, with a TMPDIR`),
          stdout,
        );
        assert.equal((await openBy("strace", fails, `${dir}/plain`, dir)).stdout, '["etc"]');
      });
    }
  });
});

/** The ACLs below a directory as getfacl shows them, with its own. */
async function aclsIn(tree: string): Promise<string> {
  return await $`getfacl --recursive --numeric --omit-header --absolute-names ${tree}`.quiet().text();
}

Deno.test("openInput() keeps ACLs, however they were packed, and adds none", {
  ignore: noTools || missing("bsdtar"),
}, async (t) => {
  await tempDir(async (dir) => {
    const tree = `${dir}/tree`;
    await Deno.mkdir(`${tree}/journal/below`, { recursive: true });
    await Deno.writeTextFile(`${tree}/journal/file`, "");
    await Deno.writeTextFile(`${tree}/secret`, "", { mode: 0o600 });
    await $`setfacl -m g:4:rX ${tree}/journal ${tree}/secret`;
    await $`setfacl -d -m g:4:rX ${tree}/journal`;
    await Deno.chmod(tree, 0o755);
    const wanted = await aclsIn(tree);
    // What is made in such a directory gets an ACL.
    await Deno.mkdir(`${dir}/scratch`);
    await $`setfacl -d -m u:7:rwX ${dir}/scratch`;
    const packers = {
      "tar --xattrs": ["tar", "--xattrs"],
      "tar --xattrs --xattrs-include=*": ["tar", "--xattrs", "--xattrs-include=*"],
      "tar --acls": ["tar", "--acls"],
      "tar --acls --xattrs": ["tar", "--acls", "--xattrs"],
      "bsdtar": ["bsdtar", "--acls"],
    };
    for (const [name, packer] of Object.entries(packers)) {
      await t.step(name, async () => {
        await $`${packer} -c -f ${dir}/archive -C ${tree} .`;
        await using input = await openInput(`${dir}/archive`, `${dir}/scratch`);
        assert.equal(await aclsIn(input.directory), wanted);
      });
    }
    await t.step("and says that names are looked up here", async () => {
      await $`tar --create --acls --file=${dir}/archive --directory=${tree} .`;
      {
        await using input = await openInput(`${dir}/archive`, `${dir}/scratch`);
        assert.deepEqual(input.findings.map(({ name, message }) => `${name}: ${message}`), [
          'acl-names: The ACLs of the archive name "adm": taking those with these names here',
        ]);
      }
      await $`sed -i s/group:adm:/group:mad:/g ${dir}/archive`;
      await assert.rejects(openInput(`${dir}/archive`, `${dir}/scratch`), {
        message: /^Cannot unpack .*: the xattr "system.posix_acl_(access|default)" of ".*" is lost$/,
        hint: "Run as root, with a TMPDIR on a filesystem that has xattrs and ACLs" +
          '. If nobody here is named "mad", pack it with GNU tar --xattrs',
      });
      await $`tar --create --acls --xattrs --file=${dir}/archive --directory=${tree} .`;
      await using input = await openInput(`${dir}/archive`, `${dir}/scratch`);
      assert.deepEqual(input.findings, []);
    });
    await t.step("with no entry for the root directory", async () => {
      await $`tar --create --xattrs --file=${dir}/archive --directory=${tree} journal secret`;
      await using input = await openInput(`${dir}/archive`, `${dir}/scratch`);
      assert.equal(await aclsIn(input.directory), wanted);
    });
    await t.step("but not in two ways, of which tar reads one", async () => {
      await $`tar --create --xattrs --file=${dir}/archive --directory=${tree} secret`;
      await $`tar --create --acls --file=${dir}/more --directory=${tree} journal`;
      await $`tar --concatenate --file=${dir}/archive ${dir}/more`;
      await assert.rejects(
        openInput(`${dir}/archive`, `${dir}/scratch`),
        /^BuildError: Cannot unpack .*: it has some ACLs only as xattrs and others only as text/,
      );
    });
  });
});

Deno.test("openInput() says which capability is missing, and loses nothing without a word", {
  ignore: noTools || missing("setpriv"),
}, async (t) => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree`);
    await Deno.copyFile("/bin/true", `${dir}/tree/ping`);
    await $`tar ${PACK} --file=${dir}/plain --directory=${dir}/tree .`;
    await $`mknod ${dir}/tree/null c 1 3`;
    await $`tar ${PACK} --file=${dir}/device --directory=${dir}/tree .`;
    await $`setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 ${dir}/tree/ping`;
    await $`tar ${PACK} --file=${dir}/capability --directory=${dir}/tree .`;

    await t.step("CAP_CHOWN", async () => {
      const { stdout } = await openWithout("chown", `${dir}/plain`, dir);
      assert.match(stdout, /^Cannot unpack .* with its owners: .* \/ Run as root, .*--cap-add=CHOWN/);
    });
    await t.step("CAP_SETFCAP", async () => {
      const { stdout } = await openWithout("setfcap", `${dir}/capability`, dir);
      assert.match(stdout, /the xattr "security\.capability" of "\.\/ping" is lost \/ .*--cap-add=SETFCAP/);
    });
    await t.step("CAP_MKNOD: device nodes are left out with a warning", async () => {
      const { stdout, stderr } = await openWithout("mknod", `${dir}/device`, dir);
      assert.equal(stdout, '["ping"]');
      assert.match(stderr, /^devices: Leaving out 1 device node such as /m);
    });
  });
});

Deno.test("openInput() leaves nothing behind when it is interrupted", {
  ignore: missing("zstd") || unprivileged(),
}, async () => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/bin`);
    await Deno.mkdir(`${dir}/scratch`);
    await writeArchive(`${dir}/plain`, [member("file", { text: "x" })]);
    await $`zstd -q ${dir}/plain -o ${dir}/archive`;
    // The second time, which is when the archive is unpacked, a file of 8 GiB trickles in.
    await Deno.writeFile(`${dir}/endless`, member("file", { size: 2 ** 33 - 1 }));
    await stubProgram(
      `${dir}/bin`,
      "zstd",
      `test -e ${dir}/listed || { touch ${dir}/listed; exec /usr/bin/zstd "$@"; }
      cat ${dir}/endless
      while head -c 10240 /dev/zero; do sleep 0.1; done`,
    );
    const script = `
      import { openInput } from "${ROOT}lib/make/input.ts";
      import { setVerbose } from "${ROOT}lib/core/log.ts";
      import { interrupt } from "${ROOT}lib/system/process.ts";
      setVerbose(true);
      Deno.addSignalListener("SIGTERM", () => interrupt("SIGTERM"));
      try {
        await openInput("${dir}/archive", "${dir}/scratch");
      } catch (error) {
        console.log(error.message);
        Deno.exit(143);
      }`;
    await Deno.writeTextFile(`${dir}/script.ts`, script);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `--config=${ROOT}deno.json`, `${dir}/script.ts`],
      env: { PATH: `${dir}/bin:${Deno.env.get("PATH")}` },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const [status, stdout] = await Promise.all([
      child.status,
      new Response(child.stdout).text(),
      (async () => {
        for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
          if (text.includes("--extract")) child.kill("SIGTERM");
        }
      })(),
    ]);
    assert.equal(stdout, "Interrupted by SIGTERM\n");
    assert.equal(status.code, 143);
    assert.deepEqual(await names(`${dir}/scratch`), []);
  });
});
