/**
 * Trees that mean harm: nothing outside them is read or written, nothing of them is taken for a command, and
 * whatever a builder refuses, it refuses with one clear message and in time.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MiB } from "../../lib/core/units.ts";
import { builderCommand, type BuildResult, runBuilder } from "../lab/builds.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { pe } from "../lab/program_heads.ts";
import { type Files, GOOD, LINKS, makeOutside, makeTree, planOf, SECRET } from "../lab/hostile.ts";

const TOOLS = ["sfdisk", "mke2fs", "mkfs.vfat", "mdir"];
const ignore = missing(...TOOLS);
const SMALL = { EFI_MB: "2", BOOT_MB: "2", FREE_MB: "4" };

/** What must be in it. */
const INSIDE = "stands inside the tree";

/** Runs a builder, which has ten minutes. */
async function run(
  builder: string,
  tree: string,
  output: string,
  env: Record<string, string> = builder === "disk-image" ? SMALL : { FREE_MB: "4" },
): Promise<BuildResult> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("The build hangs")), 600_000);
  });
  const build = runBuilder(builder, { args: [`--input=${tree}`, `--output=${output}`], env });
  return await Promise.race([build, late]).finally(() => clearTimeout(timer));
}

/** The build is refused: with this exit code and message, and before the output is touched. */
async function assertRefused(builder: string, tree: string, code: number, message: RegExp): Promise<void> {
  const output = `${tree}.image`;
  await Deno.writeTextFile(output, "an older image");
  const result = await run(builder, tree, output);
  assert.equal(result.code, code, result.stderr);
  assert.match(result.stderr, message);
  assert.doesNotMatch(result.stderr, /bug in raptor-builders/);
  assert.equal(result.stdout, "");
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(result.stderr, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  assert.equal(await Deno.readTextFile(output), "an older image");
}

/** Everything about a directory that a change would show in, its inodes' times included. */
function listing(dir: string): Promise<string> {
  return quiet`find ${dir} -printf ${"%p %y %m %u %g %s %T@ %C@ %l\\n"}`;
}

Deno.test("links out of the tree all at once: nothing of what they point at is in the image, or changed", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    const outside = await makeOutside(dir);
    const links = (Object.keys(LINKS) as (keyof typeof LINKS)[])
      .filter((path) =>
        !["/boot", "/etc", "/usr/lib", "/boot/efi", "/usr/lib/systemd/boot/efi"].includes(path)
      );
    const tree = await makeTree(`${dir}/tree`, {
      ...GOOD,
      ...Object.fromEntries(
        links.filter((path) => path !== "/usr/sbin/init").map((path) => [
          path,
          `->${"../".repeat(30)}${outside.slice(1)}${LINKS[path]}`,
        ]),
      ),
      "/var/inside": INSIDE,
      // What the builders write must not go through a link either.
      "/etc/fstab": `->${outside}/fstab`,
      "/loader": `->${outside}`,
    });
    const before = [await listing(outside), await listing(tree)];
    for (const builder of ["disk-image", "part-image"]) {
      const image = `${dir}/${builder}.img`;
      const { code, stderr } = await run(builder, tree, image);
      assert.equal(code, 0, stderr);
      const bytes = await Deno.readFile(image);
      const text = new TextDecoder("latin1").decode(bytes);
      assert.equal(text.indexOf(SECRET), -1, builder);
      assert(text.includes(INSIDE), builder);
      assert.deepEqual([await listing(outside), await listing(tree)], before);
    }
  }));

/** os-release, command line, names and labels that would be more than text to sfdisk, a shell or a loader. */
const EVIL = `x"\\nlinux /evil\\n$(touch /tmp/evil) \`id\`' , type=L, name="evil"; } menuentry 'e' {`;

Deno.test(
  "nothing that stands in a tree is taken for a line of a script, table or boot entry",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const { "/etc/os-release": _, ...rest } = GOOD;
      const tree = await makeTree(`${dir}/tree`, {
        ...rest,
        "/etc/os-release": [
          `ID="../../${EVIL}"`,
          `PRETTY_NAME="${EVIL.replaceAll('"', '\\"')}\u0001\u001b[2J\u0085linux /evil\u2028linux /evil"`,
          "VERSION_ID=1\r",
          "linux /evil",
          "",
        ].join("\n"),
        "/etc/kernel/cmdline": `quiet\nlinux /evil\r\ninitrd /evil\u0000\u001b[2J "a b" 'c $(reboot)\n`,
        "/boot/vmlinuz-2\nlinux evil": "x",
        "/boot/vmlinuz-$(reboot)": pe("x86-64"),
      });
      // FAT has no such names, and that is said first.
      await assertRefused(
        "disk-image",
        tree,
        1,
        /\[E\] Cannot put "\/boot\/vmlinuz-2\\nlinux evil" into a FAT/,
      );
      await Deno.remove(`${tree}/boot/vmlinuz-2\nlinux evil`);
      const image = `${dir}/image`;
      const { code, stderr } = await run("disk-image", tree, image);
      assert.equal(code, 0, stderr);
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(stderr, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
      const { partitiontable: { partitions } } = JSON.parse(await quiet`sfdisk --json ${image}`);
      assert.deepEqual(partitions.map(({ name }: { name: string }) => name), ["esp", "xbootldr", "root"]);

      const at = `${image}@@${partitions[1].start * 512}`;
      const names = (await quiet`mdir -b -i ${at} ::/loader/entries`).trim().split("\n");
      assert.equal(names.length, 1, String(names));
      const entry = await quiet`mtype -i ${at} ${names[0]!}`;
      const keys = entry.trimEnd().split("\n").map((line) => line.split(" ")[0]);
      assert.deepEqual(keys, ["title", "version", "sort-key", "linux", "initrd", "options"]);
      assert.match(entry, /^linux {6}\/vmlinuz-1$/m);
      assert.match(
        entry,
        /^options +root=UUID=[0-9a-f-]+ rw rootfstype=ext4 quiet linux \/evil initrd \/evil \[2J /m,
      );
      await assert.rejects(Deno.stat("/tmp/evil"), Deno.errors.NotFound);
    }),
);

Deno.test(
  "names that are options to programs are names",
  { ignore: ignore || missing("debugfs", "dd") },
  () =>
    tempDir(async (dir) => {
      const names = ["-rf", "--help", "--", "-", "@@1M", "-i"];
      const files = names.flatMap((
        name,
      ) => [[`/boot/${name}`, name], [`/boot/efi/${name}`, name], [`/${name}/-f`, name]]);
      const tree = await makeTree(`${dir}/tree`, { ...GOOD, ...Object.fromEntries(files) });
      const image = `${dir}/image`;
      const { code, stderr } = await run("disk-image", tree, image);
      assert.equal(code, 0, stderr);
      const { partitiontable: { partitions } } = JSON.parse(await quiet`sfdisk --json ${image}`);
      for (const name of names) {
        for (const { start } of partitions.slice(0, 2)) {
          assert.equal(await quiet`mtype -i ${`${image}@@${start * 512}`} ${`::/${name}`}`, name);
        }
        const root = `${image}?offset=${partitions[2].start * 512}`;
        assert.equal(await quiet`debugfs -R ${`cat "/${name}/-f"`} ${root}`, name);
      }
    }),
);

// What is no file -----------------------------------------------------------------------------------------

const FIFO = ["mkfifo"], NULL = ["mknod", "-m", "666"];

Deno.test.each<{ name: string; files: Files; message: RegExp }>([
  {
    name: "a FIFO for a kernel",
    files: { "/boot/vmlinuz-2": FIFO },
    message: /Cannot put "\/boot\/vmlinuz-2" .*: it is a fifo/,
  },
  {
    name: "a FIFO for an initrd",
    files: { "/boot/initrd.img-2": FIFO },
    message: /"\/boot\/initrd.img-2".*: it is a fifo/,
  },
  { name: "a FIFO on the ESP", files: { "/boot/efi/x": FIFO }, message: /"\/boot\/efi\/x".*: it is a fifo/ },
  {
    name: "a FIFO for os-release",
    files: { "/etc/os-release": FIFO },
    message: /\/etc\/os-release.*: it is a fifo/,
  },
  { name: "a FIFO for fstab", files: { "/etc/fstab": FIFO }, message: /\/etc\/fstab.*: it is a fifo/ },
  {
    name: "a FIFO for the command line",
    files: { "/etc/kernel/cmdline": FIFO },
    message: /cmdline.*: it is a fifo/,
  },
  {
    name: "a directory for os-release",
    files: { "/etc/os-release/x": "" },
    message: /os-release.*: it is a directory/,
  },
  {
    name: "a link from /boot to a FIFO",
    files: { "/fifo": FIFO, "/boot/x": "->../fifo" },
    message: /"\/boot\/x".*: it is a link to "\/fifo"/,
  },
  {
    name: "names that differ in case",
    files: { "/boot/A": "", "/boot/a": "" },
    message: /"\/boot\/a".*differs from "\/boot\/A"/,
  },
  { name: "a name with a colon", files: { "/boot/a:b": "" }, message: /"\/boot\/a:b".*forbids/ },
  {
    name: "a name with a dot at its end",
    files: { "/boot/trail.": "" },
    message: /"\/boot\/trail\.".*ends with a dot/,
  },
  {
    name: "two names that differ only in the case of letters that are not ASCII",
    files: { "/boot/sub/É": "", "/boot/sub/é": "" },
    message: /"\/boot\/sub\/é".*differs from "\/boot\/sub\/É" only in case/,
  },
  {
    name: "a file over 4 GiB",
    files: { "/boot/big": ["truncate", "-s", "5G"] },
    message: /"\/boot\/big".*4 GiB/,
  },
  {
    name: "more than the ESP holds",
    files: { "/boot/efi/big": ["truncate", "-s", "3M"] },
    message: /Cannot fit the files of the tree into EFI_MB=2\n\[E\] Set EFI_MB to 4 or more\n/,
  },
  {
    name: "more than XBOOTLDR holds",
    files: { "/boot/big": ["truncate", "-s", "9M"] },
    message: /Cannot fit the files of the tree into BOOT_MB=2\n\[E\] Set BOOT_MB to 10 or more\n/,
  },
  {
    name: "an os-release of 300 MB",
    files: { "/etc/os-release": ["truncate", "-s", "300M"] },
    message: /Cannot read \/etc\/os-release of the tree: 314572800 bytes are too many/,
  },
])("disk-image refuses before it writes: $name", { ignore }, ({ files, message }) =>
  tempDir(async (dir) => {
    const names = Object.keys(files);
    const rest = Object.entries(GOOD).filter(([path]) =>
      !names.some((name) => `${name}/`.startsWith(`${path}/`))
    );
    const tree = await makeTree(`${dir}/tree`, { ...Object.fromEntries(rest), ...files });
    await assertRefused("disk-image", tree, message.source.includes("_MB") ? 2 : 1, message);
  }));

Deno.test("disk-image refuses names in /boot that are not UTF-8", { ignore }, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(`${dir}/tree`, GOOD);
    await new Deno.Command("sh", { args: ["-c", `: > "$1/boot/$(printf 'a\\377b')"`, "sh", tree] }).output();
    await assertRefused("disk-image", tree, 1, /Cannot put "\/boot\/a\ufffdb" .*: its name is not UTF-8/);
  }));

Deno.test("a kernel that is a directory or a device is none, and nothing waits for a FIFO elsewhere", {
  ignore: ignore || unprivileged(),
}, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(`${dir}/tree`, {
      ...GOOD,
      "/boot/vmlinuz-2/x": "",
      "/usr/lib/modules/3/vmlinuz": FIFO,
      "/usr/lib/systemd/boot/efi/systemd-bootaa64.efi": FIFO,
      "/var/fifo": FIFO,
    });
    await quiet`${NULL} ${`${tree}/var/null`} c 1 3`;
    const plan = await planOf(tree);
    assert.deepEqual(
      plan.findings.filter(({ name }) => name === "kernel-stub").map(({ path }) => path),
      ["/boot/vmlinuz-2", "/usr/lib/modules/3/vmlinuz"],
    );
    for (const builder of ["disk-image", "part-image"]) {
      const { code, stderr } = await run(builder, tree, `${dir}/image`);
      assert.equal(code, 0, stderr);
    }
    assert.match(await quiet`debugfs -R ${"stat /var/fifo"} ${`${dir}/image`}`, /Type: FIFO/);
    assert.match(await quiet`debugfs -R ${"stat /var/null"} ${`${dir}/image`}`, /character special/);
  }));

Deno.test("a file that may not be read is an error that names it, and leaves no image", {
  ignore: ignore || unprivileged() || missing("setpriv"),
}, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(`${dir}/tree`, GOOD);
    const [program = "", ...words] = await builderCommand("part-image");
    for (const path of ["/boot/initrd.img-1", "/usr/lib/os-release", "/usr/lib/systemd", "/etc"]) {
      await quiet`chown 1234 ${`${tree}${path}`}`;
      await quiet`chmod 0 ${`${tree}${path}`}`;
      const output = `${dir}/image`;
      const { code, stderr } = await new Deno.Command("setpriv", {
        args: [
          "--bounding-set=-dac_override,-dac_read_search",
          "--inh-caps=-all",
          ...[program, ...words, `--input=${tree}`, `--output=${output}`, "--free-mb=4"],
        ],
      }).output();
      const text = new TextDecoder().decode(stderr);
      assert.equal(code, 1, text);
      assert(text.includes(`[E] Cannot read "${path}": `), text);
      assert.match(text, /\n\[E\] Run as root, in a container with [^\n]+\n$/);
      const size = await Deno.stat(output).then(({ size }) => size, () => 0);
      assert.equal(size, 0);
      await quiet`chown 0 ${`${tree}${path}`}`;
      await quiet`chmod 755 ${`${tree}${path}`}`;
    }
  }));

// What is no tree -----------------------------------------------------------------------------------------

Deno.test.each<{ name: string; make: (path: string) => Promise<unknown>; code: number; message: RegExp }>([
  { name: "nothing", make: () => Promise.resolve(), code: 2, message: /Cannot find the input/ },
  {
    name: "an empty directory",
    make: (path) => Deno.mkdir(path),
    code: 2,
    message: /Cannot build an image of .*: it is empty/,
  },
  {
    name: "a file",
    make: (path) => Deno.writeTextFile(path, "x"),
    code: 2,
    message: /neither a directory nor a tar/,
  },
  {
    name: "an empty file",
    make: (path) => Deno.writeTextFile(path, ""),
    code: 2,
    message: /neither a directory nor a tar/,
  },
  {
    name: "a dangling link",
    make: (path) => Deno.symlink("/nowhere", path),
    code: 2,
    message: /Cannot find the input/,
  },
  {
    name: "a link to itself",
    make: (path) => Deno.symlink(path, path),
    code: 2,
    message: /Cannot (find|use) the input/,
  },
  {
    name: "a FIFO",
    make: (path) => quiet`mkfifo ${path}`,
    code: 2,
    message: /neither a directory nor a tar/,
  },
])("$name is no tree", { ignore }, ({ make, code, message }) =>
  tempDir(async (dir) => {
    await make(`${dir}/tree`);
    for (const builder of ["disk-image", "part-image"]) {
      await assertRefused(builder, `${dir}/tree`, code, message);
    }
  }));

Deno.test("a link to a tree is that tree", { ignore }, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(`${dir}/tree`, GOOD);
    await Deno.symlink(tree, `${dir}/link`);
    const { code, stderr } = await run("part-image", `${dir}/link`, `${dir}/image`);
    assert.equal(code, 0, stderr);
  }));

Deno.test("directories 4,000 levels deep are read, written and checked", {
  ignore: ignore || missing("e2fsck"),
}, () =>
  tempDir(async (dir) => {
    const tree = await makeTree(`${dir}/tree`, GOOD);
    // Deeper than any path can name: each step puts what there is below a new chain of 1,000.
    const chain = "d/".repeat(1000).slice(0, -1);
    try {
      for (let i = 0; i < 4; i++) {
        await Deno.mkdir(`${dir}/new/${chain}`, { recursive: true });
        if (i > 0) await Deno.rename(`${dir}/deep`, `${dir}/new/${chain}/d`);
        await Deno.rename(`${dir}/new`, `${dir}/deep`);
      }
      await Deno.rename(`${dir}/deep`, `${tree}/var`);
      const { code, stderr } = await run("part-image", tree, `${dir}/image`);
      assert.equal(code, 0, stderr);
      assert((await Deno.stat(`${dir}/image`)).size > 4_000 * 4096);
      assert.match(await quiet`dumpe2fs -h ${`${dir}/image`}`, /clean/);
    } finally {
      await quiet`rm -rf ${tree} ${`${dir}/deep`} ${`${dir}/new`}`;
    }
  }));

Deno.test(
  "the size of what is refused is found before anything of that size is made",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const tree = await makeTree(`${dir}/tree`, { ...GOOD, "/huge": ["truncate", "-s", "15T"] });
      // 15 TiB of hole is a small file, and stays one.
      const { code, stderr } = await run("part-image", tree, `${dir}/image`);
      assert.equal(code, 0, stderr);
      assert((await Deno.stat(`${dir}/image`)).size < 200 * MiB);
    }),
);
