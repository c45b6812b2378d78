import assert from "node:assert/strict";
import { BuildError } from "../../../../lib/core/error.ts";
import { PARTITION_TYPES, partitionType } from "../../../../lib/core/dps.ts";
import { MiB } from "../../../../lib/core/units.ts";
import { entryPath } from "../../../../lib/filesystem/contents.ts";
import { type Definition, readDefinitions } from "../../../../lib/plan/repart/definitions.ts";
import { parseLayout } from "../../../../lib/plan/repart/files.ts";
import { KEYS, REFUSED } from "../../../../lib/plan/repart/keys.ts";
import { DEBIAN, factsOf } from "../../../lab/facts.ts";
import { layoutOf, planLayout } from "../../../lab/layouts.ts";
import { tempDir } from "../../../lab/helpers.ts";

const pure = { permissions: "none" } as const;

const MACHINE = {
  architecture: "x86-64",
  osRelease: { ID: "demo", IMAGE_ID: "appliance", IMAGE_VERSION: "7", VERSION_ID: "13" },
  kernel: "6.12.48",
} as const;

/** Reads a file with this text, and drop-ins. */
function read(text: string, dropIns: Readonly<Record<string, string>> = {}): Definition {
  const files = { "10-a.conf": text, ...dropIns };
  return readDefinitions({ directory: "layout", files }, MACHINE)[0]!;
}

const partition = (lines: string) => read(`[Partition]\n${lines}\n`);

Deno.test("readDefinitions() reads systemd's syntax", pure, () => {
  const text = [
    "\ufeff# A comment",
    "; and another",
    "",
    "[X-Notes]",
    "Anything = goes",
    "[Partition]",
    "  Type =  home  ",
    "X-Ours=1",
    "MakeDirectories=/a \\",
    "# in between",
    '  "/b c" \\',
    "  /d",
    "Label=a\\\\",
    "Weight=1\r",
  ].join("\n").replace("a\\\\", "a b");
  const definition = read(text);
  assert.equal(definition.name, "10-a");
  assert.equal(definition.type, PARTITION_TYPES.home);
  assert.equal(definition.role, "home");
  assert.deepEqual(definition.makeDirectories, ["/a", "/b c", "/d"]);
  assert.equal(definition.label, "a b");
  assert.equal(definition.weight, 1);
  assert.equal(definition.places["MakeDirectories"], "layout/10-a.conf:9");
});

Deno.test(
  "readDefinitions(): the last value wins, lists grow, and nothing takes back what was written",
  pure,
  () => {
    assert.equal(partition("Weight=1\nWeight=2").weight, 2);
    assert.equal(partition("Weight=1\nWeight=").weight, undefined);
    assert.equal(partition("UUID=null\nUUID=").uuid, undefined);
    const lists = partition(
      "MakeDirectories=/a\nMakeDirectories=/b\nExcludeFiles=/x\nExcludeFiles=\nExcludeFiles=/y/",
    );
    assert.deepEqual(lists.makeDirectories, ["/a", "/b"]);
    assert.deepEqual(lists.excludeFiles, ["/y/"]);
    // An empty label is one.
    assert.equal(partition("Label=a\nLabel=").label, "");
  },
);

Deno.test("readDefinitions(): drop-ins come after their file, by name, and files by theirs", pure, () => {
  const definition = read("[Partition]\nWeight=1\nMakeDirectories=/a\n", {
    "10-a.conf.d/20.conf": "[Partition]\nWeight=3\nMakeDirectories=/c\n",
    "10-a.conf.d/10.conf": "[Partition]\nWeight=2\nMakeDirectories=/b\n",
  });
  assert.equal(definition.weight, 3);
  assert.equal(definition.places["Weight"], "layout/10-a.conf.d/20.conf:2");
  assert.deepEqual(definition.makeDirectories, ["/a", "/b", "/c"]);
  const layout = layoutOf({ "b": "Type=home", "10": "Type=root", "9": "Type=srv", "masked": "" });
  const files = { ...layout.files, "masked.conf": "" };
  assert.deepEqual(readDefinitions({ ...layout, files }, MACHINE).map(({ name }) => name), ["10", "9", "b"]);
});

Deno.test.each(
  [
    ["SizeMinBytes=8191", "sizeMin", 4096],
    ["SizeMaxBytes=8192B", "sizeMax", 8192],
    ["SizeMinBytes=1.5G", "sizeMin", 1536 * MiB],
    ["SizeMaxBytes=8191", "sizeMax", 8192],
    ["PaddingMinBytes=10M", "paddingMin", 10 * MiB],
    ["Type=usr", "type", partitionType("usr", "x86-64")],
    ["Type=0FC63DAF-8483-4772-8E79-3D69D8477DE4", "type", PARTITION_TYPES["linux-generic"]],
    ["", "type", PARTITION_TYPES["linux-generic"]],
    ["Label=%M_%A-%a %%", "label", "appliance_7-x86-64 %"],
    ["Label=%o %w%W%B", "label", "demo 13"],
    ["MakeDirectories=/lib/%v", "makeDirectories", ["/lib/6.12.48"]],
    ["CopyFiles=/a//b/:/", "copyFiles", [{ from: "/a/b", path: "/" }]],
    ["CopyFiles=/usr", "copyFiles", [{ from: "/usr", path: "/usr" }]],
    ["CopyFiles=/a\\x3ab:/c", "copyFiles", [{ from: "/a:b", path: "/c" }]],
    ["CopyFiles=/sp\\x20ace\\s\\040:/\\\\x20", "copyFiles", [{ from: "/sp ace  ", path: "/\\x20" }]],
    ["CopyFiles=/\\xc3\\xa9\\u00e9\\303\\251é:/\\U0001F600\\u20AC", "copyFiles", [{
      from: "/éééé",
      path: "/😀€",
    }]],
    // Quotes are text there, and spaces, too.
    ["CopyFiles=/'a b':/\\\"c", "copyFiles", [{ from: "/'a b'", path: '/"c' }]],
    ["CopyFiles=/\\a\\b\\f\\n\\r\\t\\v\\\\\\'", "copyFiles", [{
      from: "/\x07\b\f\n\r\t\v\\'",
      path: "/\x07\b\f\n\r\t\v\\'",
    }]],
    ["MakeDirectories=/a\\x20b /c\\ d /\u00a0e", "makeDirectories", ["/ax20b", "/c d", "/\u00a0e"]],
    // It is split twice.
    ["MakeSymlinks=/a\\\\:b:'c d'", "makeSymlinks", [{ path: "/a:b", target: "c d" }]],
    ["MountPoint='/a:b\\x20c':noatime", "mountPoints", [{ path: "/a:b c", options: ["noatime"] }]],
    ["ExcludeFiles=/a/ '/b c'", "excludeFiles", ["/a/", "/b c"]],
    ["MakeSymlinks=/a:../b /c:/d", "makeSymlinks", [{ path: "/a", target: "../b" }, {
      path: "/c",
      target: "/d",
    }]],
    ["UUID=aabbccddeeff00112233445566778899", "uuid", "aabbccdd-eeff-0011-2233-445566778899"],
    ["UUID=null", "uuid", "00000000-0000-0000-0000-000000000000"],
    ["Flags=0x8000000000000001", "flags", [0, 63]],
    ["Flags=0b101", "flags", [0, 2]],
    ["ReadOnly=on\nType=root", "readOnly", true],
    ["Minimize=yes\nFormat=squashfs", "minimize", "best"],
    ["Minimize=no", "minimize", "off"],
    ["MountPoint=/srv/data:noatime,ro", "mountPoints", [{ path: "/srv/data", options: ["noatime", "ro"] }]],
    ["Compression=zstd\nCompressionLevel=3\nFormat=erofs", "compression", { name: "zstd" }],
    ["Encrypt=off", "label", undefined],
    ["Priority=-1\nFactoryReset=yes", "label", undefined],
    ["Format=empty", "label", "_empty"],
    ["Format=empty\nLabel=b", "label", "b"],
  ] as const,
)("readDefinitions() reads %s", pure, (text: string, field: string, value: unknown) => {
  assert.deepEqual(partition(text)[field as keyof Definition], value);
});

/** Wrong definitions: the line that is at fault, the message, and the hint. */
const WRONG: readonly (readonly [text: string, line: number | undefined, message: RegExp, hint: RegExp])[] = [
  ["[Partition]\nType=rot", 2, /Type="rot" is not possible/, /did you mean root\?/],
  ["[Partition]\nTyp=root", 2, /"Typ" is no key/, /Did you mean Type\?/],
  ["[Partition]\nSizeMin=1G", 2, /"SizeMin" is no key/, /./],
  ["[Partition]\nSizeMinByte=1G", 2, /"SizeMinByte" is no key/, /Did you mean SizeMinBytes\?/],
  ["[Partitions]\nType=root", 1, /"\[Partitions\]" is no section/, /\[Partition\]/],
  ["Type=root", 1, /"Type" is in no section/, /\[Partition\]/],
  ["[Partition]\nType root", 2, /"Type root" is no assignment/, /KEY=VALUE/],
  ["[Partition]\nSizeMinBytes=1 TB", 2, /SizeMinBytes="1 TB" is not possible/, /512M/],
  ["[Partition]\nSizeMaxBytes=2000P", 2, /is not possible/, /up to 1P/],
  ["[Partition]\nWeight=1000001", 2, /Weight="1000001" is not possible/, /0 to 1000000/],
  ["[Partition]\nWeight=-1", 2, /is not possible/, /0 to 1000000/],
  ["[Partition]\nSizeMinBytes=2M\nSizeMaxBytes=1M", 3, /SizeMinBytes= is larger than SizeMaxBytes=/, /./],
  ["[Partition]\nPaddingMinBytes=2M\nPaddingMaxBytes=1M", 3, /PaddingMinBytes= is larger/, /./],
  ["[Partition]\nFormat=btrfs", 2, /Format="btrfs" is not possible/, /one of ext4, vfat/],
  ["[Partition]\nFormat=swap\nCopyFiles=/a", 2, /Format=swap has no files/, /CopyFiles/],
  ["[Partition]\nEncrypt=tpm2", 2, /Encrypt= is not supported: .* keys/, /first boot|Leave/],
  ["[Partition]\nSubvolumes=/a", 2, /Subvolumes= is not supported: .* no subvolumes/, /Leave/],
  ["[Partition]\nCopyBlocks=auto", 2, /CopyBlocks= is not supported: .*CopyFiles=/, /Leave/],
  ["[Partition]\nSupplementFor=10-esp", 2, /SupplementFor= is not supported/, /Leave/],
  ["[Partition]\nLabel=%H", 2, /%H would be that of the machine that builds: its host name/, /%A/],
  ["[Partition]\nLabel=%z", 2, /"%z" is no specifier/, /%A/],
  [`[Partition]\nLabel=${"x".repeat(37)}`, 2, /Label=.* is not possible/, /up to 36/],
  ["[Partition]\nLabel=é", 2, /Label="é" is not possible/, /ASCII/],
  ["[Partition]\nCopyFiles=usr:/", 2, /CopyFiles="usr:\/" is not possible/, /absolute path/],
  ["[Partition]\nCopyFiles=/a/../b", 2, /is not possible/, /without \.\./],
  ["[Partition]\nCopyFiles=/a:/b:/c", 2, /is not possible/, /SOURCE:TARGET/],
  ["[Partition]\nExcludeFiles='/a", 2, /is not possible/, /quotes/],
  ["[Partition]\nMakeSymlinks=/a", 2, /is not possible/, /PATH:TARGET/],
  ["[Partition]\nCopyFiles=/a\\:b:/c", 2, /CopyFiles=.* is not possible: it has another escape/, /\\xHH/],
  ["[Partition]\nCopyFiles=/a\\x2", 2, /another escape/, /\\xHH/],
  ["[Partition]\nCopyFiles=/a\\X20", 2, /another escape/, /\\xHH/],
  ["[Partition]\nCopyFiles=/a\\400", 2, /another escape/, /\\OOO/],
  ["[Partition]\nCopyFiles=/a\\ud800", 2, /another escape/, /\\uHHHH/],
  ["[Partition]\nCopyFiles=/a\\x00", 2, /another escape/, /\\xHH/],
  ["[Partition]\nCopyFiles=/a\\xff", 2, /is not possible/, /UTF-8/],
  ["[Partition]\nMakeSymlinks=/a:b\\\\", 2, /is not possible/, /backslash/],
  ["[Partition]\nMountPoint=/home:a\\040b", 2, /MountPoint=.* is not possible/, /without spaces/],
  ["[Partition]\nUUID=1234", 2, /UUID="1234" is not possible/, /a UUID/],
  ["[Partition]\nFlags=0x100", 2, /Flags="0x100" is not possible/, /bits 0 to 2/],
  ["[Partition]\nReadOnly=maybe", 2, /is not possible/, /yes or no/],
  ["[Partition]\nType=esp\nGrowFileSystem=yes", 3, /no flag for GrowFileSystem=/, /Flags=/],
  ["[Partition]\nFormat=ext4\nMinimize=best", 3, /Minimize=best is only for read-only/, /guess/],
  ["[Partition]\nVerity=data\nFormat=erofs", 2, /does not say with which partitions/, /VerityMatchKey=/],
  ["[Partition]\nVerityMatchKey=a", 2, /without Verity=/, /data, hash or signature/],
  ["[Partition]\nVerity=hash\nVerityMatchKey=a\nFormat=ext4", 2, /Verity=hash has no filesystem/, /Format=/],
  ["[Partition]\nVerity=signature\nVerityMatchKey=a\nSizeMinBytes=1M", 2, /size of its own/, /SizeMin/],
  ["[Partition]\nVerity=data\nVerityMatchKey=a\nFormat=ext4", 2, /would not stay what was hashed/, /erofs/],
  ["[Partition]\nFormat=ext4\nCompression=zstd", 3, /no compression/, /squashfs/],
  ["[Partition]\nFormat=erofs\nCompression=zst", 3, /no compression "zst"/, /did you mean zstd\?/],
  [
    "[Partition]\nFormat=squashfs\nCompression=gzip\nCompressionLevel=12",
    4,
    /gzip has no level 12/,
    /1 to 9/,
  ],
  ["[Partition]\nCompressionLevel=3", 2, /without Compression=/, /./],
  ["[Partition]\nVerityDataBlockSizeBytes=512", 2, /is not possible/, /4096/],
];

Deno.test("readDefinitions() says of each mistake what it is, where, and what to write", pure, () => {
  assert.ok(WRONG.length >= 20);
  for (const [text, line, message, hint] of WRONG) {
    assert.throws(() => read(text), (error) => {
      assert.ok(error instanceof BuildError, String(error));
      assert.equal(error.kind, "usage");
      assert.ok(error.message.startsWith(`Cannot use layout/10-a.conf:${line}: `), error.message);
      assert.match(error.message, message, text);
      assert.match(error.hint!, hint, text);
      return true;
    }, text);
  }
});

Deno.test("readDefinitions() refuses drop-ins of no definition, and no definitions", pure, () => {
  const refuse = (files: Record<string, string>) => () =>
    readDefinitions({ directory: "layout", files }, MACHINE);
  assert.throws(refuse({}), /it has no definitions/);
  assert.throws(refuse({ "10-a.conf": "" }), /it has no definitions/);
  assert.throws(
    refuse({ "a\u001b[31m.conf": "[Partition]" }),
    /Cannot use the definition "a\\u001b\[31m\.conf"/,
  );
  assert.throws(
    refuse({ "10-a.conf": "[Partition]", "10-b.conf.d/x.conf": "[Partition]" }),
    /layout\/10-b\.conf\.d\/x\.conf: there is no 10-b\.conf/,
  );
});

Deno.test("no key is both read and refused", pure, () => {
  for (const key of Object.keys(REFUSED)) assert.ok(!Object.hasOwn(KEYS, key), key);
});

Deno.test("parseLayout() reads a directory with its links and drop-ins, and says what is wrong with it", () =>
  tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/50-root.conf.d`);
    await Deno.writeTextFile(`${dir}/50-root.conf`, "[Partition]\nType=root\n");
    await Deno.writeTextFile(`${dir}/50-root.conf.d/size.conf`, "[Partition]\nSizeMinBytes=1G\n");
    await Deno.writeTextFile(`${dir}/notes.txt`, "nothing");
    await Deno.symlink("50-root.conf", `${dir}/60-root-b.conf`);
    await Deno.symlink("/dev/null", `${dir}/70-masked.conf`);
    // Hidden files, and the link that Emacs makes for a file with changes that are not saved.
    await Deno.writeTextFile(`${dir}/.hidden.conf`, "[Partition]\n");
    await Deno.symlink("user@host.1234:1", `${dir}/.#50-root.conf`);
    await Deno.symlink("user@host.1234:1", `${dir}/50-root.conf.d/.#size.conf`);
    await Deno.writeTextFile(`${dir}/.old.conf.d`, "");
    const layout = parseLayout(`${dir}/`);
    assert.deepEqual(layout, {
      directory: dir,
      files: {
        "50-root.conf": "[Partition]\nType=root\n",
        "50-root.conf.d/size.conf": "[Partition]\nSizeMinBytes=1G\n",
        "60-root-b.conf": "[Partition]\nType=root\n",
      },
    });
    assert.equal(parseLayout("tree"), "tree");
    const cause = (path: string) => {
      try {
        parseLayout(path);
      } catch (error) {
        return String((error as Error).cause);
      }
    };
    assert.equal(cause(`${dir}/missing`), "there is no such directory");
    assert.equal(cause(`${dir}/notes.txt`), "it is no directory");
    await Deno.writeTextFile(`${dir}/60-root-b.conf.d`, "");
    assert.equal(cause(dir), `${dir}/60-root-b.conf.d: it is no directory`);
    await Deno.remove(`${dir}/60-root-b.conf.d`);
    await Deno.symlink("missing", `${dir}/55.conf`);
    assert.equal(cause(dir), `${dir}/55.conf: it links to nothing`);
    await Deno.remove(`${dir}/55.conf`);
    await Deno.writeFile(`${dir}/bad.conf`, Uint8Array.of(0xff, 0xfe));
    assert.match(cause(dir)!, /bad\.conf: it is not UTF-8/);
  }));

/** Definitions that are wrong only together. */
const WRONG_TOGETHER: readonly (readonly [Readonly<Record<string, string>>, RegExp])[] = [
  [
    { a: "Verity=data;VerityMatchKey=x;Format=erofs;Type=root" },
    /a\.conf:3: VerityMatchKey="x" has no partition with Verity=hash/,
  ],
  [
    {
      a: "Verity=data;VerityMatchKey=x;Format=erofs;Type=root",
      b: "Verity=hash;VerityMatchKey=x",
      c: "Verity=hash;VerityMatchKey=x",
    },
    /c\.conf:3: VerityMatchKey="x" has Verity=hash twice: also in layout\/b\.conf/,
  ],
  [{ a: "Type=home", b: "MountPoint=/home" }, /b\.conf:2: "\/home" is also that of layout\/a\.conf/],
  [{ a: "Type=root;MountPoint=/:noatime" }, /the root is mounted before fstab is read/],
  [{ a: "MountPoint=/a;MountPoint=/b" }, /only one filesystem, without subvolumes/],
  [{ a: "Type=swap;MountPoint=/a" }, /a\.conf:3: the partition has no filesystem to mount at "\/a"/],
  [{ a: "Type=home;MountPoint=/a;Format=swap" }, /a\.conf:3: the partition has no filesystem/],
  [{ a: "MountPoint=/a:noatime;Format=empty" }, /a\.conf:2: the partition has no filesystem/],
  [
    {
      a: "Verity=data;VerityMatchKey=x;Format=erofs;Type=root",
      b: "Verity=hash;VerityMatchKey=x;MountPoint=/a",
    },
    /b\.conf:4: the partition has no filesystem/,
  ],
  [{ a: "Type=esp;Format=ext4" }, /firmware reads no ESP with ext4/],
  [{ a: "Type=root;Format=vfat" }, /vfat keeps no owners, modes and links/],
  [{ a: "Format=squashfs" }, /a squashfs without files stays empty/],
  [{ a: "Type=esp" }, /the layout has no root partition/],
  [
    { a: "Type=root;CopyFiles=/usr:/x;CopyFiles=/usr/lib:/y" },
    /"\/usr\/lib" would be in the filesystem twice/,
  ],
  [{ a: "Type=root;CopyFiles=/etc/fstab:/" }, /"\/etc\/fstab" is no directory/],
];

Deno.test("planDisk() refuses definitions that contradict each other", pure, () => {
  for (const [definitions, message] of WRONG_TOGETHER) {
    assert.throws(() => planLayout(definitions), (error) => {
      assert.ok(error instanceof BuildError && error.kind === "usage", String(error));
      assert.match(error.message, message);
      assert.ok(error.hint);
      return true;
    }, JSON.stringify(definitions));
  }
});

/** What takes the place of something of another kind, all in a tree with a file `/srv/a/f` and a link `/srv/l` to it. */
const CLASHES: readonly (readonly [definition: string, line: number, what: string, there: string])[] = [
  [
    "CopyFiles=/srv:/s;MakeDirectories=/s/a/f",
    3,
    'the directory "/s/a/f"',
    'the file "/srv/a/f" of the tree',
  ],
  [
    "CopyFiles=/srv:/s;MakeDirectories=/s/a/f/g",
    3,
    'the directory "/s/a/f/g"',
    'the file "/srv/a/f" of the tree',
  ],
  ["CopyFiles=/srv:/s;MakeSymlinks=/s/a:/x", 3, 'the symlink "/s/a"', 'the directory "/srv/a" of the tree'],
  ["CopyFiles=/srv:/s;MakeSymlinks=/s/a/f:/x", 3, 'the symlink "/s/a/f"', 'the file "/srv/a/f" of the tree'],
  [
    "CopyFiles=/srv:/s;MakeSymlinks=/s/a/f/g:/x",
    3,
    'the symlink "/s/a/f/g"',
    'the file "/srv/a/f" of the tree',
  ],
  ["CopyFiles=/srv:/s;MakeSymlinks=/s/l:/x", 3, 'the symlink "/s/l"', 'the symlink "/srv/l" of the tree'],
  ["MakeSymlinks=/a:/x /a:/y", 2, 'the symlink "/a"', 'the symlink "a"'],
  ["MakeSymlinks=/a:/x;MakeDirectories=/a/b", 2, 'the symlink "/a"', 'the directory "a"'],
  ["CopyFiles=/srv/a/f:/d;CopyFiles=/srv/a:/d", 3, '"/srv/a" as "/d"', 'the file "/srv/a/f" of the tree'],
  ["CopyFiles=/srv/a:/d;CopyFiles=/srv/l:/d", 3, '"/srv/l" as "/d"', 'the directory "/srv/a" of the tree'],
  ["CopyFiles=/srv:/s;CopyFiles=/opt:/s/a/f/b", 3, '"/opt" as "/s/a/f/b"', 'the file "/srv/a/f" of the tree'],
  ["MountPoint=/srv/a/f", 2, '"/srv/a/f"', 'the file "/srv/a/f" of the tree'],
  ["MountPoint=/srv/l/b", 2, '"/srv/l/b"', 'the file "/srv/l" of the tree'],
];

const CLASH_TREE = factsOf([
  ...DEBIAN,
  { path: "/srv/a/f", size: 1 },
  { path: "/srv/l", target: "a/f" },
  { path: "/srv/m", target: "a" },
  { path: "/opt/b/f", size: 2 },
  { path: "/opt/b/g", size: 3 },
]);

Deno.test("planDisk() refuses what would take the place of something of another kind", pure, () => {
  for (const [text, line, what, there] of CLASHES) {
    assert.throws(() => planLayout({ a: text, b: "Type=root" }, {}, CLASH_TREE), (error) => {
      assert.ok(error instanceof BuildError && error.kind === "usage", String(error));
      assert.equal(
        error.message,
        `Cannot use layout/a.conf:${line}: ${what} would take the place of ${there}`,
        text,
      );
      assert.ok(error.hint);
      return true;
    }, text);
  }
});

Deno.test.each(
  [
    ["CopyFiles=/srv/a:/s;MakeDirectories=/s /s/d", ["/s", "/s/d", "/s/f"]],
    // A symlink to a directory is one.
    [
      "CopyFiles=/srv:/;MakeDirectories=/m /m/d;ExcludeFiles=/srv/l",
      ["/a", "/m", "/a/d", "/a/f"],
    ],
    ["CopyFiles=/srv/l:/d;CopyFiles=/opt/b/f:/d", ["/d"]],
    ["MakeSymlinks=/a:/x;MakeSymlinks=/a:/x", ["/a"]],
    // What is left out is in nobody's way, and takes no place.
    [
      "CopyFiles=/srv/a:/s;CopyFiles=/opt/b:/s;ExcludeFiles=/opt/b/f",
      ["/s", "/s/f", "/s/g"],
    ],
    ["CopyFiles=/srv:/s;ExcludeFiles=/srv/a /srv/l /srv/m;MakeDirectories=/s/a/f/g", [
      "/s",
      "/s/a",
      "/s/a/f",
      "/s/a/f/g",
    ]],
    ["CopyFiles=/srv:/s;ExcludeFiles=/srv/a /srv/l /srv/m;MakeSymlinks=/s/a:/x", ["/s", "/s/a"]],
    // Sources are joined whatever their order.
    ["CopyFiles=/srv/a:/b;CopyFiles=/opt:/", ["/b", "/b/f", "/b/g"]],
  ] as const,
)("planDisk() loses nothing with %s", pure, (text: string, expected: readonly string[]) => {
  const { selection } = planLayout({ a: text, b: "Type=root" }, {}, CLASH_TREE).partitions[0]!;
  const paths = Array.from({ length: selection.count }, (_, entry) => entryPath(selection, entry)).slice(1);
  assert.deepEqual(paths, expected);
});

Deno.test("settings that a layout does not have are refused", pure, () => {
  const definitions = { a: "Type=root" };
  const refused = [
    { EFI_MB: "64" },
    { BOOT_MB: "64" },
    { USED_MB: "64" },
    { VERITY: "hash", FILESYSTEM: "erofs" },
    // Their defaults, too.
    { EFI_MB: "32" },
    { BOOT_MB: "512" },
    { VERITY: "none" },
  ];
  for (const env of refused) {
    assert.throws(() => planLayout(definitions, env), /with LAYOUT: the definitions say it/);
  }
  assert.throws(() => planLayout(definitions, { BOOTLOADER: "grub" }), /the layout has no ESP/);
  assert.throws(() => planLayout(definitions, { FIRMWARE: "hybrid" }), /no partition for GRUB/);
});

Deno.test(
  "planDisk() says where a SplitName= has a specifier that is none, or stands for nothing",
  pure,
  () => {
    const plan = (name: string) => planLayout({ a: `Type=root;SplitName=${name}` }, { SPLIT_DIR: "updates" });
    assert.throws(() => plan("%z"), {
      kind: "usage",
      message: 'Cannot use layout/a.conf:3: SplitName="%z" is not possible: "%z" is no specifier',
      hint: /^Accepted: the specifiers .*%U/,
    });
    assert.throws(() => plan("%H"), { message: /would be that of the machine that builds/ });
    assert.equal(plan("%t-%n").partitions[0]!.splitName, "root-x86-64-1");
  },
);
