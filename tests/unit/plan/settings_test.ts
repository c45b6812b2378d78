import assert from "node:assert/strict";
import { BuildError } from "../../../lib/core/error.ts";
import { formatNames } from "../../../lib/image/formats.ts";
import { LEFTOVER_NAMES } from "../../../lib/plan/leftovers.ts";
import { ignoredSettings, parametersOf, readSettings } from "../../../lib/plan/read-settings.ts";
import {
  flagOf,
  groupedSettings,
  type Setting,
  SETTING_GROUPS,
  type SettingName,
  settingOf,
  settingRows,
  SETTINGS,
} from "../../../lib/plan/settings.ts";

const pure = { permissions: "none" } as const;
const ALL = Object.keys(SETTINGS) as SettingName[];
const ENV: Readonly<Record<string, string>> = { HOME: "/root", PATH: "/bin" };

const KEY = "-----BEGIN PRIVATE KEY-----\nMAUCAQAwAA==\n-----END PRIVATE KEY-----\n";
const CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAQwADAA\n-----END CERTIFICATE-----\n";

/** For each setting a value that is not its default, and what it is read as; and values that are refused. */
const EXAMPLES: Record<SettingName, { good: [string, unknown][]; bad: string[] }> = {
  outputFormat: {
    good: [["qcow2", "qcow2"], ["vhd", "vpc"], ["img", "raw"], ["vmdk", "vmdk"]],
    bad: ["QCOW2", "file", "nbd", "qcow2 ", "constructor", "__proto__", "toString", "raw,qcow2"],
  },
  compress: {
    good: [["zst", "zst"], ["xz", "xz"], ["none", "none"]],
    bad: ["zstd", "gzip", "ZST", "constructor"],
  },
  filesystem: { good: [["squashfs", "squashfs"], ["vfat", "vfat"]], bad: ["EXT4", "ntfs", "constructor"] },
  compression: {
    good: [["zstd", { name: "zstd" }], ["zstd:19", { name: "zstd", level: 19 }], ["none", { name: "none" }]],
    bad: ["zstd:", "zstd:high", "ZSTD", "zstd:100", "-comp zstd", ":3"],
  },
  label: { good: [["data_1.2", "data_1.2"]], bad: ["a b", "é", "a\n", "x".repeat(256)] },
  outputName: {
    good: [["disk.raw", "disk.raw"], ["é 1", "é 1"], [".a.raw", ".a.raw"], ["raw", "raw"]],
    bad: ["a/b", "x".repeat(256), "a\0", "a\nb", "a\x7f", ".", "..", ".raw", "..raw", "...img"],
  },
  directory: { good: [["/srv/boot", "/srv/boot"]], bad: ["srv", "./srv", "/srv\0"] },
  portable: { good: [["web", "web"], ["a-b.c", "a-b.c"]], bad: ["a b", "web_1", "../x", "-x", "é"] },
  verity: { good: [["hash", "hash"], ["signed", "signed"]], bad: ["yes", "Hash", "constructor"] },
  verityKey: { good: [[KEY, KEY]], bad: ["/no/such/file", CERTIFICATE] },
  verityCert: { good: [[CERTIFICATE, CERTIFICATE]], bad: ["/no/such/file", KEY] },
  verityDirectory: { good: [["/cache", "/cache"]], bad: ["a\0b"] },
  layout: { good: [["tree", "tree"]], bad: ["/no/such/directory", "/etc/hostname", "a\0b"] },
  efiMb: {
    good: [["64", 64], ["1", 1], ["0100", 100]],
    bad: ["0", "-1", "1.5", "1e3", "0x20", "64M", " 64", "64 ", "1073741825", "9".repeat(400), "NaN"],
  },
  bootMb: { good: [["1024", 1024]], bad: ["0", "-512", "a lot"] },
  freeMb: { good: [["0", 0], ["2048", 2048]], bad: ["-1", "1,5", "Infinity"] },
  usedMb: { good: [["100", 100]], bad: ["0", "auto"] },
  sizeMb: { good: [["1000", 1000], ["1073741824", 2 ** 30]], bad: ["0", "10G"] },
  bootloader: {
    good: [["none", "none"], ["systemd-boot", "systemd-boot"]],
    bad: ["lilo", "NONE", "constructor", "auto\n"],
  },
  firmware: { good: [["hybrid", "hybrid"], ["bios", "bios"]], bad: ["efi", "UEFI", "uefi,bios"] },
  sectorSize: { good: [["512", 512], ["4096", 4096]], bad: ["0", "520", "4k", "4096.0", " 512"] },
  secureBootKey: {
    good: [[KEY, KEY]],
    bad: ["/nowhere/key.pem", "/etc/hostname", "PRIVATE KEY"],
  },
  secureBootCert: {
    good: [[CERTIFICATE, CERTIFICATE]],
    bad: ["/nowhere/cert.pem", "/etc/hostname", "CERTIFICATE"],
  },
  kernelCmdline: {
    good: [["console=ttyS0 quiet", "console=ttyS0 quiet"], [' a="b c" ', 'a="b c"']],
    bad: ["a\nb", "root=/dev/sda1", "quiet root=LABEL=x", "é", "x".repeat(2001)],
  },
  // All were tried with podman.
  ociTag: {
    good: [
      "localhost/web:1.0",
      "registry.example.com:5000/a/b_c:x",
      "a--b:5000/c---d/e__f:1",
      `localhost/${"a".repeat(245)}:${"1".repeat(128)}`,
    ].map((text) => [text, text]),
    bad: [
      ...["web", "Web:1", "web:", "web:1 ", "-web:1", "a//b:1", "web:.1"],
      ...["a___b:1", "a..b:1", "a.-b:1", "a_.b:1", "a_:1", "a_b:5000/c:1", "a-.b:5000/c:1", "a:b/c:1"],
      `localhost/${"a".repeat(246)}:1`,
      `localhost:5000/${"a".repeat(245)}:1`,
      `web:${"1".repeat(129)}`,
    ],
  },
  ociCommand: {
    good: [
      ["/bin/sh -c true", ["/bin/sh", "-c", "true"]],
      ['["sh", "-c", "a b"]', ["sh", "-c", "a b"]],
      ["/sbin/init", ["/sbin/init"]],
    ],
    bad: [" sh", "sh ", "a  b", "[", "[]", '[""]', "[1]", '{"a":"b"}\n', "a\0", '["a\\u0000"]'],
  },
  ociEnv: {
    good: [["A=b C=", ["A=b", "C="]], ['["A=b c"]', ["A=b c"]]],
    bad: ["A", "A=b c", "1=2", "=x", '["A"]', "A=b\n", "A=1 B= A=2"],
  },
  ociLabels: {
    good: [
      ["org.example.x=1 b=c", ["org.example.x=1", "b=c"]],
      ['["a=b c"]', ["a=b c"]],
      ["a=1 A=2", ["a=1", "A=2"]],
    ],
    bad: ["x", ".x=1", "a b=c", '["a"]', "a=1 a=2", '["a=1", "b=", "a="]'],
  },
  keep: {
    good: [
      ["host-keys", ["host-keys"]],
      ["random-seed,whiteouts", ["whiteouts", "random-seed"]],
      ["all", LEFTOVER_NAMES],
    ],
    bad: ["hostkeys", "host-keys,", "host-keys, whiteouts", "ALL", "constructor", "none,all"],
  },
  selinux: { good: [["auto", "auto"], ["policy", "policy"]], bad: ["enforcing", "POLICY", "constructor"] },
  strict: { good: [["1", true], ["0", false]], bad: ["yes", "2"] },
  incusMetadata: { good: [["a b.tar", "a b.tar"]], bad: ["a\0b"] },
  manifest: { good: [["a b.json", "a b.json"], ["/x", "/x"]], bad: ["a\0b"] },
  splitDirectory: { good: [["updates", "updates"]], bad: ["\0"] },
  imageVersion: { good: [["1.0~rc1", "1.0~rc1"], ["47", "47"]], bad: ["1_0", "a/b", "-1", "é"] },
  bmap: { good: [["disk.bmap", "disk.bmap"]], bad: ["\0"] },
  sbom: { good: [["sbom.spdx.json", "sbom.spdx.json"]], bad: ["\0"] },
  verify: { good: [["full", "full"], ["quick", "quick"]], bad: ["Full", "none", "constructor", "full\n"] },
  seed: {
    good: [["x", "x"], ["random", "random"], ["a b\n", "a b\n"], ["é".repeat(1024), "é".repeat(1024)]],
    bad: ["x".repeat(1025)],
  },
  sourceDateEpoch: {
    good: [["0", 0], ["1700000000", 1_700_000_000], ["15032385535", 15_032_385_535]],
    bad: ["-1", "15032385536", "2024-01-01", "1e9", "1.0"],
  },
};

Deno.test("readSettings() gives every setting its default, and nothing to one that is computed", pure, () => {
  const settings = readSettings(ALL, {}, ENV);
  for (const name of ALL) {
    const row: { default?: string; parse: (text: string) => unknown } = SETTINGS[name];
    assert.deepEqual(settings[name], row.default === undefined ? undefined : row.parse(row.default), name);
  }
  // As Raptor documents them.
  const { outputFormat, efiMb, bootMb, freeMb, usedMb, sizeMb } = settings;
  assert.deepEqual([outputFormat, efiMb, bootMb, freeMb, usedMb, sizeMb], [
    "raw",
    32,
    512,
    512,
    undefined,
    undefined,
  ]);
});

for (const name of ALL) {
  const { env } = SETTINGS[name];
  const flag = flagOf(name);
  const format = settingOf(name).formats?.[0];
  const ENV = { HOME: "/root", PATH: "/bin", ...format && { OUTPUT_FORMAT: format } };
  Deno.test(
    `SETTINGS.${name} is read as a flag and as ${env}, and refused with its name and value`,
    pure,
    () => {
      for (const [text, value] of EXAMPLES[name].good) {
        assert.deepEqual(readSettings(ALL, { [flag]: text }, ENV)[name], value, text);
        assert.deepEqual(readSettings(ALL, {}, { ...ENV, [env]: text })[name], value, text);
      }
      for (const text of EXAMPLES[name].bad) {
        for (
          const [flags, environment, source] of [
            [{ [flag]: text }, ENV, `--${flag}=`],
            [{}, { ...ENV, [env]: text }, `${env}=`],
          ] as const
        ) {
          assert.throws(() => readSettings(ALL, flags, environment), (error) => {
            assert(error instanceof BuildError, `${text}: ${error}`);
            assert.equal(error.kind, "usage");
            assert(error.message.startsWith(`Cannot use ${source}`), error.message);
            assert.match(error.hint!, /^Accepted: ./);
            return true;
          }, text);
        }
      }
    },
  );
}

Deno.test("readSettings() takes the flag before the variable before the default", pure, () => {
  assert.equal(readSettings(ALL, {}, {}).efiMb, 32);
  assert.equal(readSettings(ALL, {}, { EFI_MB: "64" }).efiMb, 64);
  assert.equal(readSettings(ALL, { "efi-mb": "128" }, { EFI_MB: "64" }).efiMb, 128);
  // A variable that is overruled is not even looked at.
  assert.equal(readSettings(ALL, { "efi-mb": "128" }, { EFI_MB: "nonsense" }).efiMb, 128);
});

Deno.test("readSettings() takes an empty variable for unset, but not an empty flag", pure, () => {
  assert.equal(readSettings(ALL, {}, { EFI_MB: "", SIZE_MB: "", OUTPUT_FORMAT: "" }).efiMb, 32);
  for (const name of ALL) {
    assert.throws(() => readSettings(ALL, { [flagOf(name)]: "" }, {}), BuildError, name);
  }
});

Deno.test(
  "readSettings() reads only what the builder takes, and ignoredSettings() names the rest",
  pure,
  () => {
    const taken = ["outputFormat", "freeMb"] as const;
    const env = { FREE_MB: "1", EFI_MB: "nonsense", BOOT_MB: "", HOME: "/" };
    const settings = readSettings(taken, {}, env);
    assert.equal(settings.freeMb, 1);
    assert.equal(settings.efiMb, 32);
    assert.deepEqual(ignoredSettings(taken, env), ["EFI_MB"]);
  },
);

Deno.test("readSettings() names the label that is given twice", pure, () => {
  assert.throws(
    () => readSettings(ALL, {}, { ...ENV, OUTPUT_FORMAT: "oci", OCI_LABELS: "b= a=1 a=2" }),
    { message: 'Cannot use OCI_LABELS="b= a=1 a=2": a is in it twice', hint: "Accepted: each NAME once" },
  );
});

Deno.test("readSettings() shows a bad value on one line", pure, () => {
  assert.throws(() => readSettings(ALL, {}, { EFI_MB: "1\n[*] all is well \u001b[2J\u202e" }), {
    message: 'Cannot use EFI_MB="1\\n[*] all is well \\u001b[2J\\u202e"',
  });
});

Deno.test(
  "SETTINGS have names as Raptor's documentation writes them, and texts that --help has room for",
  pure,
  () => {
    for (const name of ALL) {
      const row: Setting<unknown> = SETTINGS[name];
      assert.match(row.env, /^[A-Z][A-Z0-9_]*$/);
      assert.equal(flagOf(name), row.env.toLowerCase().replaceAll("_", "-"));
      assert((row.default === undefined) !== (row.computed === undefined), `${name}: default or computed`);
      assert.doesNotMatch(row.help, /\.$/);
      assert.match(row.about, /[.)/"`]$/, name);
    }
    assert.equal(new Set(ALL.map((name) => SETTINGS[name].env)).size, ALL.length);
    assert.deepEqual(settingRows(["efiMb"]), [{
      flag: "--efi-mb=MIB",
      env: "EFI_MB",
      fallback: "32",
      help: SETTINGS.efiMb.help,
    }]);
  },
);

Deno.test("SETTINGS have examples that are accepted", pure, () => {
  for (const name of ALL) {
    const row: Setting<unknown> = SETTINGS[name];
    const examples = Object.keys(row.examples);
    assert(examples.length, name);
    // Keys are read from their files.
    for (const text of row.secret ? [] : examples) {
      assert.notEqual(row.parse(text), undefined, `${name}: ${text}`);
      assert.notEqual(text, row.default, `${name}: the example is the default`);
    }
  }
});

Deno.test("every setting is in one group, in the order of the table", pure, () => {
  const groups = groupedSettings(ALL);
  assert.deepEqual(groups.flatMap(({ names }) => names).sort(), [...ALL].sort());
  assert.deepEqual(groups.map(({ title }) => title), Object.values(SETTING_GROUPS));
  assert.deepEqual(groupedSettings(["sizeMb", "efiMb", "keep"]), [
    { title: "Size", names: ["sizeMb", "efiMb"] },
    { title: "Contents", names: ["keep"] },
  ]);
});

Deno.test(
  "a setting of filesystems is refused for an archive, and a format for a builder that does not make it",
  pure,
  () => {
    const refused = ALL.filter((name) => settingOf(name).formats?.includes("tar") === false);
    assert.ok(
      ["filesystem", "compression", "freeMb", "sizeMb", "verity"].every((name) =>
        refused.includes(name as SettingName)
      ),
    );
    for (const name of refused) {
      const [[text]] = EXAMPLES[name].good as [[string, unknown]];
      const { env } = SETTINGS[name];
      assert.throws(
        () => readSettings(ALL, {}, { ...ENV, OUTPUT_FORMAT: "tar", [env]: text }, "part-image"),
        {
          message: `Cannot use ${env} with OUTPUT_FORMAT=tar`,
          // Only formats that this builder makes: the others would be an error, too.
          hint: `Leave ${env} out: it is for ${
            settingOf(name).formats!.filter((format) => formatNames("part-image").includes(format)).join(", ")
          }`,
        },
      );
      assert.ok(!(env in parametersOf(readSettings(ALL, {}, { ...ENV, OUTPUT_FORMAT: "tar" }))), env);
    }
    assert.throws(() => readSettings(ALL, { label: "a" }, { OUTPUT_FORMAT: "tar" }, "part-image"), {
      hint: "Leave LABEL out: it is for raw, qcow2, qcow2-zstd, vdi, vhdx, vmdk, vpc",
    });
    assert.throws(() => readSettings(ALL, {}, { OUTPUT_FORMAT: "tar" }, "disk-image"), {
      message: 'Cannot use OUTPUT_FORMAT="tar"',
      hint: `Accepted: one of ${formatNames("disk-image").join(", ")}`,
    });
  },
);
