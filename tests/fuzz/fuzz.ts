/**
 * Fuzzes everything that parses input from outside: each target gets mutated examples and checks what must
 * be true for all of them.
 *
 * `deno task fuzz` runs all targets for a minute each, `deno task fuzz 600 fstab` one of them for ten minutes.
 * Failures are printed with their seed; `FUZZ_SEED=…` starts with that one.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { posix } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { quoteGrub, splitOptions } from "../../lib/boot/grub.ts";
import { parseProject, selectJobs } from "../../lib/cli/raptor.ts";
import { elfArchitecture, peArchitecture } from "../../lib/core/dps.ts";
import { decodeText, encodeText } from "../../lib/core/bytes.ts";
import { BuildError } from "../../lib/core/error.ts";
import { LineSplitter } from "../../lib/core/lines.ts";
import { alignUp, MiB } from "../../lib/core/units.ts";
import { readSigner, signedSize, signProgram } from "../../lib/efi/authenticode.ts";
import { appendSections, readPe } from "../../lib/efi/pe.ts";
import { readSections } from "../../lib/tree/pe.ts";
import { nameOf, select } from "../../lib/filesystem/contents.ts";
import { header, newOutput } from "../../lib/filesystem/pax-header.ts";
import { parseTable, sfdiskScript } from "../../lib/image/gpt.ts";
import { openInput } from "../../lib/make/input.ts";
import { packageUrl, parseApk, parseDpkg } from "../../lib/make/sbom.ts";
import { verifyTable, writeTable } from "../../lib/make/table.ts";
import { planDisk, planPart } from "../../lib/plan/plan.ts";
import { KEYS } from "../../lib/plan/repart/keys.ts";
import { readSettings } from "../../lib/plan/read-settings.ts";
import { type SettingName, SETTINGS } from "../../lib/plan/settings.ts";
import { isVolatile, nameOutside, parseMounts } from "../../lib/system/mounts.ts";
import {
  checkVersion,
  isInstalled,
  type ProgramName,
  PROGRAMS,
  versionedPrograms,
} from "../../lib/system/programs.ts";
import { openLabels } from "../../lib/system/selinux.ts";
import { buildNodes } from "../../lib/tree/builder.ts";
import { inspectTree } from "../../lib/tree/inspect.ts";
import { targetBytes } from "../../lib/tree/nodes.ts";
import { readInitrd } from "../../lib/tree/initrd.ts";
import { parseOsRelease } from "../../lib/tree/os-release.ts";
import { closeRoot } from "../../lib/tree/root.ts";
import { openPolicy } from "../../lib/tree/selinux.ts";
import { compareVersions } from "../../lib/tree/versions.ts";
import { DEBIAN, factsOf, kernel, settingsOf } from "../lab/facts.ts";
import { quiet, tempDir } from "../lab/helpers.ts";
import { elf, pe } from "../lab/program_heads.ts";
import { newRandom, type Random, seedFrom } from "../lab/random_tree.ts";

/** Fragments with a special meaning somewhere. */
const TOKENS = [
  ..."\n\r\t \0\"'`$\\;#=[]{}()<>|&*?~!%,:./-_@^+".split(""),
  ..."\u001b[2J \u0085 \u2028 \u202e \ufeff \ud800 é 😀 __proto__ constructor PARTUUID= root= rw ro".split(
    " ",
  ),
  ...[
    "0",
    "-1",
    "1e9",
    "0x10",
    "9".repeat(30),
    "NaN",
    "../",
    "/boot",
    "/boot/efi",
    "\\040",
    "\\057",
    "$(id)",
  ],
  ...["\nID=", "\noptions ", "\ntitle ", "'''", '"""', "[run.", "true", "[[", "x".repeat(300)],
];

/** A text with a few changes. */
function mutate(random: Random, text: string, others: readonly string[] = TOKENS): string {
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(text.length + 1);
    const length = random.below(random.chance(20) ? 40 : 4);
    const piece = random.chance(70)
      ? random.pick(others)
      : random.chance(50)
      ? text.slice(at, at + random.below(30))
      : String.fromCharCode(random.below(random.chance(80) ? 128 : 65536));
    text = text.slice(0, at) + piece + text.slice(at + length);
  }
  return text;
}

/** Bytes with a few changes. */
function mutateBytes(random: Random, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const changed = random.chance(10) ? bytes.slice(0, random.below(bytes.length + 1)) : bytes.slice();
  for (let left = 1 + random.below(8); left > 0 && changed.length > 0; left--) {
    const at = random.below(changed.length);
    changed[at] = random.pick([
      0,
      1,
      0x7f,
      0x80,
      0xff,
      random.below(256),
      changed[at]! ^ (1 << random.below(8)),
    ]);
  }
  return changed;
}

/** Runs `fn`; an expected failure is fine if its message has no terminal control codes. */
async function expectBuildError(fn: () => unknown): Promise<void> {
  try {
    await fn();
  } catch (error) {
    assert(error instanceof BuildError, error instanceof Error ? error.stack : String(error));
    // The command line of a program that failed is on its own line.
    const [message, command = ""] = error.message.split(/\n(?=\S+ .*$)/);
    for (const text of [message!, command, error.hint ?? ""]) assertPrintable(text);
  }
}

// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e]/;

function assertPrintable(text: string): void {
  assert.doesNotMatch(text, CONTROL);
}

const EXPRESSION_PIECES = [
  ...[
    "/",
    "/a",
    "/a/",
    "/b",
    "b",
    "a",
    "bin",
    "/bin",
    "so",
    "\\.so",
    "\\.",
    "\\+",
    "(/.*)?",
    "(.*/)?",
    "(.*/)?bin",
  ],
  ...[
    "(.*/)?bin(/.*)?",
    ".*",
    ".+",
    ".",
    "[^/]*",
    "[^/]+",
    "[ab]",
    "[^a]",
    "[]a]",
    "(a|b)",
    "(a/)?",
    "(a(b|c))?",
  ],
  ...["?", "*", "+", "{1,2}", "{", "\\d", "\\n", "$", "^", "|", "(", ")", "[", "(?i)", "(?:a)", "#", ""],
];
const PATH_NAMES = [
  "a",
  "b",
  "bin",
  "bina",
  "a.so",
  "+",
  "ab",
  "a/b",
  "aa",
  "7",
  "so",
  "a\n",
  "\n",
  "\xe9",
  "]",
  "#",
]
  .map((name) => name.replace("/", "-"));

const RAPTOR = `[raptor.link]
rbuild = "raptor-builders"
[run.disk1]
target = "$rbuild.disk-image"
input = ["test"]
output = "disk.img"
env.OUTPUT_FORMAT = "qcow2"
[run.part1]
target = "$rbuild.part-image"
input = "test"
output = 'part.img'
[group.all]
run = ["disk1", "part1"]
`;

const OS_RELEASE = `PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME='Debian'\nVERSION_ID="13"\nID=debian\n`;

const FSTAB = `# comment
UUID=1234 / ext4 errors=remount-ro 0 1
PARTUUID=1 /boot vfat umask=0077 0 2
LABEL=EFI /boot/efi/ vfat defaults 0 2
tmpfs /tmp tmpfs defaults 0 0
/dev/sr0\t/media/cd\\0401 iso9660 ro,noauto 0 0
`;

const LAYOUT: Readonly<Record<string, string>> = {
  "10-esp.conf": "# The ESP\n[Partition]\nType=esp\nSizeMinBytes=64M\nCopyFiles=/boot:/a\n",
  "20-root.conf":
    "[Partition]\nType=root\nLabel=%o_%w\nWeight=300\nPaddingWeight=20\nCopyFiles=/\nExcludeFiles=/etc/ \\\n /usr/share\n",
  "20-root.conf.d/more.conf":
    "[Partition]\nMakeSymlinks=/a:b\nMakeDirectories=/c/d '/e f'\nFlags=0x1\nUUID=null\n",
  "30-usr.conf":
    "[Partition]\nType=usr\nFormat=erofs\nVerity=data\nVerityMatchKey=usr\nMinimize=best\nCompression=lz4\n",
  "40-hash.conf": "[Partition]\nType=usr-verity\nVerity=hash\nVerityMatchKey=usr\n",
  "50-data.conf": "[Partition]\nFormat=ext4\nMountPoint=/srv/data:noatime\nSizeMaxBytes=1.5G\n",
};

const SETTING_TEXTS = [
  "raw",
  "qcow2",
  "64",
  "512",
  "systemd-boot",
  "none",
  "all",
  "random",
  "full",
  "1700000000",
];

/** The targets: each takes one random case and throws when something is wrong. */
export const TARGETS = {
  "settings": async (random: Random) => {
    const names = Object.keys(SETTINGS) as SettingName[];
    const env: Record<string, string> = {};
    for (const name of names) {
      if (random.chance(50)) env[SETTINGS[name].env] = mutate(random, random.pick(SETTING_TEXTS));
    }
    await expectBuildError(() => {
      const settings = readSettings(names, {}, env);
      for (const size of [settings.efiMb, settings.bootMb, settings.freeMb]) {
        assert(Number.isSafeInteger(size));
      }
      assertPrintable(settings.kernelCmdline ?? "");
    });
  },

  "Raptor.toml": async (random: Random) => {
    const text = mutate(random, RAPTOR);
    await expectBuildError(() => {
      const project = parseProject(text, "dir/Raptor.toml", ["disk-image", "part-image"]);
      for (const { builder, output, input } of selectJobs(project, [])) {
        assert(["disk-image", "part-image"].includes(builder));
        assert(output && input);
      }
    });
  },

  "os-release": (random: Random) => {
    const fields = parseOsRelease(mutate(random, OS_RELEASE));
    for (const [name, value] of Object.entries(fields)) {
      assert.match(name, /^[A-Z][A-Z0-9_]*$/);
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(value, /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
    }
  },

  "package databases": (random: Random) => {
    const dpkg =
      "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\nDescription: x\n Package: y\n\n";
    const apk = "P:musl\nV:1.2.5-r0\nA:x86_64\n\nP:busybox\nV:1\n\n";
    for (const one of [...parseDpkg(mutate(random, dpkg.repeat(3))), ...parseApk(mutate(random, apk))]) {
      assert(one.name && one.version);
      assert.match(
        packageUrl(one, {}),
        /^pkg:[a-z]+\/[a-z]+\/[\w.~!*'()%-]+@[\w.~!*'()%-]+(\?arch=[\w.~!*'()%-]+)?$/,
      );
    }
  },

  "ELF and PE": (random: Random) => {
    const elf = new Uint8Array(64);
    elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    elf[18] = 62;
    const pe = new Uint8Array(256);
    pe.set([0x4d, 0x5a]);
    pe[0x3c] = 0x80;
    pe.set([0x50, 0x45, 0, 0, 0x64, 0x86], 0x80);
    assert.equal(elfArchitecture(elf), "x86-64");
    assert.equal(peArchitecture(pe), "x86-64");
    elfArchitecture(mutateBytes(random, elf));
    peArchitecture(mutateBytes(random, pe));
  },

  "versions": (random: Random) => {
    const [a, b, c] = ["6.12.48+deb13-amd64", "6.1.0-9", "5~rc1^git"].map((text) => mutate(random, text));
    assert.equal(Math.sign(compareVersions(a!, b!)) + Math.sign(compareVersions(b!, a!)), 0);
    const sorted = [a!, b!, c!].sort(compareVersions);
    assert(compareVersions(sorted[0]!, sorted[2]!) <= 0);
  },

  "fstab": async (random: Random) => {
    const fstab = mutate(random, FSTAB);
    await expectBuildError(() => {
      const { partitions } = planDisk(SETTINGS_OF_TREE, factsOf(DEBIAN, { fstab }));
      const added = partitions.at(-1)!.contents.add.find(({ path }) => path === "/etc/fstab");
      assert(added?.type === "file");
      const mounts = added.text.split("\n").map((line) => line.trim()).filter((line) =>
        line && line[0] !== "#"
      )
        .map((line) => line.split(/[ \t]+/)[1] ?? "")
        .map((path) => path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8))))
        .map((path) => path.startsWith("/") ? posix.normalize(`${path}/`) : path);
      assert.deepEqual(mounts.filter((path) => ["/", "/efi/"].includes(path)), []);
      assert.deepEqual(mounts.filter((path) => path.startsWith("/boot/")).slice(-2), [
        "/boot/",
        "/boot/efi/",
      ]);
      assert.equal(mounts.filter((path) => ["/boot/", "/boot/efi/"].includes(path)).length, 2);
    });
  },

  "SELinux policies": (random: Random) => {
    const expressions = new Map(
      Array.from({ length: 1 + random.below(12) }, () => {
        const pieces = Array.from({ length: 1 + random.below(6) }, () => random.pick(EXPRESSION_PIECES));
        const expression = (random.chance(95) ? "/" : "") + pieces.join("");
        // Of two lines for one path in one file, either may win.
        return [expression.replaceAll("\\", ""), expression];
      }),
    );
    const lines = expressions.values().map((expression, i) =>
      `${expression}\t${random.pick(["", "--\t", "-d\t"])}${
        random.chance(10) ? "<<none>>" : `u:r:t${i}:s0`
      }\n`
    );
    const files = new Map([["", Uint8Array.from(Buffer.from([...lines].join(""), "latin1"))]]);
    const answer = (label: () => string | undefined) => {
      try {
        return label();
      } catch (error) {
        assert(error instanceof BuildError, String(error));
        return error;
      }
    };
    const whole = answer(() => {
          openLabels(files, "x");
          return undefined;
        }) === undefined && openLabels(files, "x");
    if (!whole) return;
    const policy = openPolicy(files, "x");
    for (let i = 0; i < 20; i++) {
      const names = Array.from({ length: random.below(5) }, () => random.pick(PATH_NAMES));
      const name = names.pop() ?? "";
      const directory = ["", ...names, ""].join("/");
      const mode = random.pick([0o100644, 0o40755]);
      const expected = answer(() => whole(directory + name, mode));
      // An expression that is no such may stand in a line that libselinux does not come to.
      const found = answer(() => policy(directory)(name, mode));
      if (expected instanceof Error || found instanceof Error) continue;
      assert.equal(
        found,
        expected,
        `${JSON.stringify(directory + name)} in\n${[...expressions.values()].join("\n")}`,
      );
    }
  },

  "layouts": async (random: Random) => {
    const words = [
      ...TOKENS,
      ...Object.keys(KEYS),
      "1G",
      "4096",
      "root",
      "ext4",
      "data",
      "usr-verity",
      "/etc",
      "%A",
    ];
    const files = Object.fromEntries(
      Object.entries(LAYOUT).map((
        [name, text],
      ) => [name, random.chance(60) ? mutate(random, text, words) : text]),
    );
    await expectBuildError(() => {
      const layout = { directory: "layout", files };
      const { partitions, size } = planDisk({ ...SETTINGS_OF_TREE, layout }, factsOf());
      let end = MiB;
      for (const partition of partitions) {
        assert(partition.offset >= end && partition.offset % MiB === 0, "partitions overlap");
        end = partition.offset + partition.size;
        assertPrintable(partition.label);
      }
      assert(end + MiB <= size, "a partition ends behind the disk");
      sfdiskScript({ id: TABLE.id, entries: partitions });
    });
  },

  "kernel command line and boot entries": async (random: Random) => {
    const kernelOptions = mutate(random, "console=ttyS0 quiet root=/dev/sda1 ro").split(/\s+/).join(" ")
      .trim();
    const osRelease = parseOsRelease(mutate(random, OS_RELEASE));
    const tree = factsOf(DEBIAN, { kernelOptions, osRelease, kernels: [kernel("6.12.48")] });
    await expectBuildError(() => {
      const plan = planDisk(SETTINGS_OF_TREE, tree);
      assert.match(plan.kernelOptions, /^root=UUID=[0-9a-f-]{36} r[ow] rootfstype=ext4( |$)/);
      assert.equal(words(plan.kernelOptions).filter((option) => option.startsWith("root=")).length, 1);
      const files = plan.partitions.flatMap(({ contents }) => contents.add);
      const entries = files.filter(({ path }) => path.startsWith("/loader/entries/"));
      assert.equal(entries.length, 1);
      for (const entry of entries) {
        assert(entry.type === "file");
        assert.match(entry.path, /^\/loader\/entries\/[\w.+-]+\.conf$/);
        const keys = entry.text.trimEnd().split("\n").map((line) => line.split(/\s/)[0]!);
        // One line per key, and no key from the tree.
        assert.deepEqual(keys.filter((key) => ["linux", "options"].includes(key)).sort(), [
          "linux",
          "options",
        ]);
        assert(keys.every((key) => /^[a-z-]+$/.test(key)), JSON.stringify(keys));
      }
      planPart(SETTINGS_OF_TREE, tree);
    });
  },

  "trees": (random: Random) =>
    tempDir(async (dir) => {
      const tree = `${dir}/tree`;
      const text = (text: string) => encodeText(mutate(random, text).slice(0, 4000));
      const name = (name: string) =>
        mutate(random, name).replaceAll(/[/\0]/g, "").toWellFormed().slice(0, 60) || "x";
      for (
        const path of ["boot", "etc/kernel", "usr/lib/modules/6.1", "usr/lib/systemd/boot/efi", "usr/sbin"]
      ) {
        await Deno.mkdir(`${tree}/${path}`, { recursive: true });
      }
      const files: Record<string, Uint8Array> = {
        "etc/fstab": mutateBytes(random, text(FSTAB)),
        "etc/kernel/cmdline": mutateBytes(random, text("console=ttyS0 quiet")),
        "etc/os-release": mutateBytes(random, text(OS_RELEASE)),
        "etc/machine-id": mutateBytes(random, text("0123456789abcdef0123456789abcdef\n")),
        "usr/sbin/init": mutateBytes(random, Uint8Array.from(elf("x86-64"))),
        "usr/lib/systemd/boot/efi/systemd-bootx64.efi": new Uint8Array(pe("x86-64")),
        [`boot/${name("vmlinuz-6.12.48")}`]: mutateBytes(random, Uint8Array.from(pe("x86-64"))),
        [`boot/${name("initrd.img-6.12.48")}`]: new Uint8Array(1),
        [`usr/lib/modules/6.1/${name("vmlinuz")}`]: new Uint8Array(pe("x86-64")),
      };
      for (const [path, contents] of Object.entries(files)) {
        // Two may have the same name, or that of a directory.
        if (path !== "boot/." && path !== "boot/..") {
          await Deno.writeFile(`${tree}/${path}`, contents).catch(() => {});
        }
      }
      await expectBuildError(async () => {
        const found = await inspectTree(tree);
        try {
          for (const { version, image, initrds } of found.kernels) {
            for (const text of [version, image, ...initrds]) assert.match(text, /^[\w/.+~-]+$/);
          }
          planDisk(SETTINGS_OF_TREE, found);
        } finally {
          closeRoot(found.root);
        }
      });
    }),

  "initrds": (random: Random) => {
    const paths = Array.from({ length: random.below(6) }, () => `${random.below(99)}/${random.below(99)}`);
    const archive = cpio(random, paths);
    const packed = random.pick([(bytes: Uint8Array) => bytes, gzipSync, zstdCompressSync])(archive);
    const zeros = new Uint8Array(4 * random.below(3));
    const early = cpio(random, ["early"]);
    const initrd = Uint8Array.from([...early, ...zeros, ...packed]);
    assert.deepEqual(readInitrd(initrd), ["early", ...paths]);
    // Whatever is changed, it answers: with paths, or that it does not know.
    const found = readInitrd(mutateBytes(random, initrd)) ?? [];
    assert(found.every((path) => typeof path === "string" && path.length < initrd.length));
  },

  "PE programs": async (random: Random) => {
    const program = mutateBytes(random, random.chance(50) ? PROGRAM : PROGRAM.slice(0, 0x400));
    await expectBuildError(() => {
      const sections = [{ name: ".cmdline", contents: random.bytes(random.below(2000)) }, {
        name: ".linux",
        contents: random.bytes(700),
        memory: 5000,
      }];
      const before = readPe(program, "stub");
      const bytes = appendSections(program, sections, "stub");
      const after = readPe(bytes, "result");
      assert.deepEqual(readSections(bytes)!.map(({ name }) => name).slice(before.count), [
        ".cmdline",
        ".linux",
      ]);
      const view = new DataView(bytes.buffer);
      let free = before.imageSize;
      sections.forEach(({ contents, memory = 0 }, i) => {
        const row = after.sections + (before.count + i) * 40;
        const [size, address, rawSize, raw] = [8, 12, 16, 20].map((at) => view.getUint32(row + at, true));
        assert.deepEqual(bytes.subarray(raw!, raw! + contents.length), contents);
        assert(size === Math.max(contents.length, memory) && rawSize! >= contents.length);
        // Nothing overlaps in memory. A stub may end anywhere, as Debian 12's does.
        assert(
          address! >= free && (i === 0 || address! % after.sectionAlignment === 0),
          `${address} ${free}`,
        );
        free = address! + size!;
      });
      assert(after.imageSize >= free);
    });
  },

  "keys and certificates": async (random: Random) => {
    const { key, certificate } = await signerExample();
    const changed = (text: string) =>
      random.chance(50)
        ? mutate(random, text)
        : random.chance(50)
        ? mutateBytes(random, new Uint8Array(Buffer.from(text.replace(/-----.*-----/g, ""), "base64")))
          .toBase64()
        : text;
    const texts = [changed(key), changed(certificate)];
    await expectBuildError(() => {
      const { secureBootKey, secureBootCert } = readSettings(["secureBootKey", "secureBootCert"], {}, {
        SECURE_BOOT_KEY: texts[0]!,
        SECURE_BOOT_CERT: texts[1]!,
      });
      if (secureBootKey === undefined || secureBootCert === undefined) return;
      const signer = readSigner(secureBootKey, secureBootCert);
      const signed = signProgram(signer, PROGRAM, "program");
      assert.equal(signed.length, signedSize(signer, PROGRAM.length));
    });
  },

  "mounts": (random: Random) => {
    const text =
      "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 22 0:5 /a\\040b /mnt rw - tmpfs tmpfs rw\n";
    const mounts = parseMounts(mutate(random, text));
    for (const { root, point, type } of mounts) assert(root && point && type);
    isVolatile("/mnt/x", mounts);
    nameOutside("/mnt", mounts);
  },

  "versions of programs": async (random: Random) => {
    const programs = versionedPrograms(Object.keys(PROGRAMS) as ProgramName[]);
    const printed = mutate(
      random,
      random.pick(["mkfs.erofs 1.8.6\n", "mksquashfs version 4.5.1 (2022/03/17)\n"]),
    );
    await expectBuildError(() => assert.match(checkVersion(random.pick(programs), printed), /^\d+(\.\d+)+$/));
  },

  "bytes as text": (random: Random) => {
    const bytes = mutateBytes(random, encodeText(mutate(random, FSTAB)));
    assert.deepEqual(encodeText(decodeText(bytes)), bytes);
  },

  "lines of programs": (random: Random) => {
    const text = mutate(random, FSTAB).toWellFormed();
    const bytes = new TextEncoder().encode(text);
    const lines: string[] = [];
    const splitter = new LineSplitter(/\n/, (line) => lines.push(line));
    for (let at = 0, length; at < bytes.length; at += length) {
      splitter.write(bytes.subarray(at, at + (length = 1 + random.below(20))));
    }
    splitter.close();
    assert.deepEqual(lines, text.split("\n"));
  },

  "GRUB's words": (random: Random) => {
    for (const word of splitOptions(mutate(random, 'quiet a="b c" root=/dev/sda1'))) {
      // As a shell reads it: it has the same quoting.
      const read = quoteGrub(word).replaceAll("'\\''", "\0").replace(/^'([^']*)'$/, "$1").replaceAll(
        "\0",
        "'",
      );
      assert(read === word || word.includes("\0"));
    }
  },

  "pax headers": (random: Random) => {
    const text = (length: number) =>
      String.fromCharCode(...random.bytes(1 + random.below(length))).replaceAll(/[/\0=]/g, "_");
    const xattrs = [`user.${text(30)}`, "system.posix_acl_access"].map((name) => ({
      name,
      value: mutateBytes(random, ACL.slice(0, random.below(2) ? ACL.length : random.below(ACL.length))),
    }));
    const target = text(random.pick([90, 102, 600, 4000]));
    const nodes = buildNodes([
      {
        path: "/a",
        xattrs,
        mode: random.below(0o10000),
        uid: random.below(2 ** 32),
        size: random.below(2) * 2 ** 34,
      },
      { path: "/l", target, mtime: BigInt(random.below(2 ** 34) - 2 ** 31) * 10n ** 9n + 5n },
    ]);
    const selection = select(nodes, { from: "/", omit: [], add: [] });
    const limits = {
      reader: "mkfs",
      sparse: false,
      time: 2 ** 34,
      nanoseconds: random.chance(50),
      acls: random.chance(50) ? "xattrs" : false,
      firstTime: 0,
    } as const;
    const output = newOutput(0);
    for (const entry of [1, 2]) {
      const from = output.used;
      const link = entry === 2 ? targetBytes(nodes, 2) : undefined;
      const name = nameOf(selection, entry);
      header(output, selection, entry, limits, {
        name,
        flag: link ? "2" : "0",
        link,
        size: nodes.size[entry]!,
      });
      const found = readHeaders(output.bytes.subarray(from, output.used));
      if (link) assert.deepEqual(found.link, link);
      else {
        const kept = xattrs.filter(({ name }) => limits.acls || !name.startsWith("system."));
        const own = [...found.records].filter(([key]) => key.startsWith("SCHILY.xattr."));
        assert.deepEqual(
          new Map(own),
          new Map(kept.map(({ name, value }) => [`SCHILY.xattr.${name}`, value])),
        );
        // Nobody may get more permissions without the ACL than with it.
        assert.equal(found.mode & ~nodes.mode[1]!, 0);
      }
    }
  },

  "sfdisk --json": (random: Random) => {
    const text =
      `{"label":"gpt","id":"A","sectorsize":512,"partitions":[{"start":2048,"size":2048,"type":"T",` +
      `"uuid":"U","name":"n","attrs":"GUID:59"},{"start":4096,"size":1,"type":"T","uuid":"V"}]}`;
    let value: unknown;
    try {
      value = JSON.parse(mutate(random, text, ["null", "[]", "{}", "1e999", '"gpt"', "-1", '""', "true"]));
    } catch {
      return;
    }
    const table = parseTable(value);
    for (const { label, offset, attributes } of table?.entries ?? []) {
      assert.equal(typeof label, "string");
      assert.equal(typeof offset, "number");
      assert(Array.isArray(attributes));
    }
  },

  "GPT read-back": (random: Random) =>
    tempDir(async (dir) => {
      const image = `${dir}/image`;
      await writeGpt(image);
      using file = await Deno.open(image, { read: true, write: true });
      const size = 8 * MiB;
      // Both headers, both tables, the protective MBR.
      const places = [[0, 512], [512, 92], [1024, 384], [size - 33 * 512, 384], [size - 512, 92]] as const;
      const [at, length] = random.pick(places);
      const bytes = new Uint8Array(length);
      await file.seek(at, Deno.SeekMode.Start);
      await file.read(bytes);
      const changed = mutateBytes(random, bytes).slice(0, length);
      await file.seek(at, Deno.SeekMode.Start);
      await file.write(changed);
      const isSame = changed.every((byte, index) => byte === bytes[index]);
      await expectBuildError(async () => {
        await verifyTable(image, TABLE);
        // The boot code of the MBR does not matter.
        assert(isSame || at === 0, "a damaged table was taken for a sound one");
      });
    }),

  "tar archives": (random: Random) =>
    tempDir(async (dir) => {
      const archive = `${dir}/tree.tar`;
      await Deno.writeFile(archive, mutateBytes(random, await tarExample()));
      const before = await Array.fromAsync(Deno.readDir(dir));
      await expectBuildError(async () => {
        await using input = await openInput(archive, dir);
        assert((await Deno.stat(input.directory)).isDirectory);
      });
      const after = await Array.fromAsync(Deno.readDir(dir));
      assert.deepEqual(after.map(({ name }) => name), before.map(({ name }) => name));
    }),
} as const satisfies Record<string, (random: Random) => void | Promise<void>>;

const SETTINGS_OF_TREE = settingsOf({ FREE_MB: "1" });

const TABLE = {
  id: "11111111-2222-5333-8444-555555555555",
  entries: [1, 2, 3].map((i) => ({
    type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    uuid: `1111111${i}-2222-5333-8444-555555555555`,
    label: `part${i}`,
    attributes: i === 3 ? [59] : [],
    offset: i * MiB,
    size: MiB,
  })),
};

/** The words of a kernel command line: blanks in double quotes do not end a word (lib/cmdline.c of Linux). */
function words(options: string): string[] {
  return options.match(/(?:"[^"]*"?|[^\s"])+/g) ?? [];
}

/** A cpio archive (newc) with these files, which hold anything. */
function cpio(random: Random, paths: readonly string[]): Uint8Array<ArrayBuffer> {
  const entry = (path: string, contents: Uint8Array) => {
    const fields = Array<number>(13).fill(0);
    [fields[6], fields[11]] = [contents.length, path.length + 1];
    const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${path}\0`;
    const bytes = new Uint8Array(alignUp(head.length, 4) + alignUp(contents.length, 4));
    bytes.set(new TextEncoder().encode(head));
    bytes.set(contents, alignUp(head.length, 4));
    return bytes;
  };
  const entries = paths.map((path) => entry(path, random.bytes(random.below(50))));
  return Uint8Array.from([...entries, entry("TRAILER!!!", new Uint8Array())].flatMap((each) => [...each]));
}

/** A UEFI program with one section, and room for more in its headers. */
const PROGRAM = (() => {
  const bytes = new Uint8Array(0x600);
  const view = new DataView(bytes.buffer);
  bytes.set(pe("x86-64"));
  const [header, optional] = [0x80, 0x98];
  view.setUint16(header + 6, 1, true);
  view.setUint16(header + 20, 240, true);
  view.setUint16(optional, 0x20b, true);
  for (const [at, value] of [[32, 4096], [36, 512], [56, 0x3000], [60, 0x400], [108, 16]] as const) {
    view.setUint32(optional + at, value, true);
  }
  const section = optional + 240;
  bytes.set(new TextEncoder().encode(".text"), section);
  for (const [at, value] of [[8, 0x200], [12, 0x1000], [16, 0x200], [20, 0x400]] as const) {
    view.setUint32(section + at, value, true);
  }
  return bytes;
})();

let signer: { key: string; certificate: string } | undefined;

/** A key and its certificate. */
async function signerExample(): Promise<{ key: string; certificate: string }> {
  return signer ??= await tempDir(async (dir) => {
    await quiet`openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout ${dir}/key -out ${dir}/certificate`;
    return {
      key: await Deno.readTextFile(`${dir}/key`),
      certificate: await Deno.readTextFile(`${dir}/certificate`),
    };
  });
}

/** An ACL with a mask: include/uapi/linux/posix_acl_xattr.h. */
const ACL = Uint8Array.from(
  [
    [2, 0, 0, 0],
    ...[[1, 6], [2, 7], [4, 5], [16, 3], [32, 4]].map(([tag, rights]) => [tag!, 0, rights!, 0, 9, 0, 0, 0]),
  ]
    .flat(),
);

/** Reads one entry's headers as POSIX and GNU tar describe them. */
function readHeaders(bytes: Uint8Array) {
  const records = new Map<string, Uint8Array>();
  let link: Uint8Array | undefined;
  for (let at = 0;;) {
    const block = bytes.subarray(at, at + 512);
    const octal = (from: number, length: number) =>
      parseInt(new TextDecoder().decode(block.subarray(from, from + length)), 8);
    const sum = block.reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0);
    assert.equal(octal(148, 8), sum);
    const [flag, size] = [String.fromCharCode(block[156]!), octal(124, 12)];
    const contents = bytes.subarray(at + 512, at + 512 + size);
    if (flag !== "x" && flag !== "K") {
      assert.equal(at + 512, bytes.length);
      const end = block.indexOf(0, 157);
      return { records, mode: octal(100, 8), link: link ?? block.subarray(157, Math.min(end, 257)) };
    }
    if (flag === "K") {
      assert.equal(contents.at(-1), 0);
      link = contents.subarray(0, -1);
    }
    for (let from = 0; flag === "x" && from < size;) {
      const space = contents.indexOf(0x20, from), equals = contents.indexOf(0x3d, space);
      const length = Number(new TextDecoder().decode(contents.subarray(from, space)));
      assert.equal(contents[from + length - 1], 0x0a);
      const key = String.fromCharCode(...contents.subarray(space + 1, equals));
      records.set(key, contents.slice(equals + 1, from + length - 1));
      from += length;
      // Some readers need a NUL after the last record.
      assert(from < size || size % 512 !== 0);
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

let gpt: Uint8Array<ArrayBuffer> | undefined;

/** An image with a valid table. */
async function writeGpt(image: string): Promise<void> {
  if (gpt) return await Deno.writeFile(image, gpt);
  assert(sfdiskScript(TABLE));
  await Deno.writeFile(image, new Uint8Array());
  await Deno.truncate(image, 8 * MiB);
  await writeTable(image, TABLE);
  gpt = await Deno.readFile(image);
}

let archive: Uint8Array<ArrayBuffer> | undefined;

/** A small archive with files, links, an ACL, and names that need their own headers. */
async function tarExample(): Promise<Uint8Array<ArrayBuffer>> {
  return archive ??= await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/tree/etc`, { recursive: true });
    await Deno.writeTextFile(`${dir}/tree/etc/${"long".repeat(40)}`, "text\n");
    await Deno.symlink("../..", `${dir}/tree/etc/link`);
    await Deno.writeTextFile(`${dir}/tree/etc/file`, "x".repeat(1000));
    await Deno.link(`${dir}/tree/etc/file`, `${dir}/tree/hard`);
    await Deno.symlink("x".repeat(200), `${dir}/tree/etc/far`);
    if (isInstalled("setfacl")) await quiet`setfacl -m u:7:r,g::x ${dir}/tree/etc/file`;
    await quiet`tar --create --format=pax --acls --xattrs --file=${dir}/tar --directory=${dir}/tree .`;
    return await Deno.readFile(`${dir}/tar`);
  });
}

/** Tries cases one after the other, each with its own seed, until `isDone`. @returns how many. */
export async function fuzz(
  target: keyof typeof TARGETS,
  seed: number,
  isDone: (cases: number) => boolean,
): Promise<number> {
  for (let cases = 0;; cases++, seed = (seed + 1) >>> 0) {
    if (isDone(cases)) return cases;
    try {
      await TARGETS[target](newRandom(seed));
    } catch (error) {
      throw new Error(`${target} fails: FUZZ_SEED=${seed}`, { cause: error });
    }
  }
}

if (import.meta.main) {
  // Nobody wants to read the log of thousands of broken inputs.
  Deno.stderr.writeSync = (bytes) => bytes.length;
  const [seconds = "60", ...names] = Deno.args;
  const seed = Deno.env.has("FUZZ_SEED")
    ? seedFrom("FUZZ_SEED")
    : crypto.getRandomValues(new Uint32Array(1))[0]!;
  const chosen = (Object.keys(TARGETS) as (keyof typeof TARGETS)[])
    .filter((name) => names.length === 0 || names.includes(name));
  for (const name of chosen) {
    const end = performance.now() + Number(seconds) * 1000;
    const cases = await fuzz(name, seed, () => performance.now() >= end);
    await Deno.stdout.write(new TextEncoder().encode(`${name}: ${cases} cases\n`));
  }
}
