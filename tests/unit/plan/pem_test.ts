/**
 * Keys as pipelines hand them over: whatever is usual is read, and nothing of one is ever shown.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { relative } from "node:path";
import { BuildError } from "../../../lib/core/error.ts";
import { parseProject } from "../../../lib/cli/raptor.ts";
import { parametersOf, readSettings } from "../../../lib/plan/read-settings.ts";
import { type SettingName, SETTINGS } from "../../../lib/plan/settings.ts";
import { evaluate, tempDir } from "../../lab/helpers.ts";

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const PKCS8 = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
const PKCS1 = privateKey.export({ type: "pkcs1", format: "pem" }).toString();
const EC = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey
  .export({ type: "sec1", format: "pem" }).toString();
const ENCRYPTED = privateKey.export(
  {
    ...{ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" },
  } as const,
).toString();
/** A sequence of two sequences, as certificates are. */
const CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAQwADAA\n-----END CERTIFICATE-----\n";

const bodyOf = (text: string) => text.replaceAll(/-----[A-Z0-9 ]+-----|\s/g, "");
const toBase64 = (text: string) => new TextEncoder().encode(text).toBase64();

/** What is done to a text on its way. */
const VARIANTS: Readonly<Record<string, (text: string) => string>> = {
  "as it is": (text) => text,
  "without its last line break": (text) => text.trimEnd(),
  "after a line break": (text) => `\n${text}`,
  "after blanks": (text) => `  \t${text}  `,
  "with the line ends of Windows": (text) => text.replaceAll("\n", "\r\n"),
  "with \\n for line breaks": (text) => text.replaceAll("\n", "\\n"),
  "with \\r\\n for line breaks": (text) => text.replaceAll("\n", "\\r\\n"),
  "with blanks for line breaks": (text) => text.replaceAll("\n", " "),
  "without line breaks": (text) => text.replaceAll("\n", ""),
  "in double quotes": (text) => `"${text.replaceAll("\n", "\\n")}"`,
  "in single quotes": (text) => `'${text}'`,
  "with what openssl pkcs12 writes before it": (text) =>
    `Bag Attributes\n    localKeyID: 01\nKey Attributes: <No>\n${text}`,
  "after a certificate": (text) => CERTIFICATE + text,
  "in base64": toBase64,
  "in base64 with line breaks": (text) => toBase64(text).replaceAll(/.{76}/g, "$&\n"),
  "in base64 for URLs": (text) => toBase64(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""),
  "in base64 twice": (text) => toBase64(toBase64(text)),
  "the base64 alone": bodyOf,
  "the base64 alone, with line breaks": (text) => text.replaceAll(/-----.*-----/g, ""),
  "the base64 alone, without padding": (text) => bodyOf(text).replace(/=+$/, ""),
};

const readKey = (text: string) => readSettings(["verityKey"], {}, { VERITY_KEY: text }).verityKey!;

for (const [variant, change] of Object.entries(VARIANTS)) {
  Deno.test(`a key is read ${variant}`, { permissions: "none" }, () => {
    for (const [text, type] of [[PKCS8, "rsa"], [PKCS1, "rsa"], [EC, "ec"]] as const) {
      const read = readKey(change(text));
      assert.match(read, /^-----BEGIN ((RSA|EC) )?PRIVATE KEY-----\n([\w+/=]{1,64}\n)+-----END .*-----\n$/);
      assert.equal(createPrivateKey(read).asymmetricKeyType, type);
      assert.deepEqual(
        createPrivateKey(read).export({ format: "jwk" }),
        createPrivateKey(text).export({ format: "jwk" }),
      );
    }
  });
}

Deno.test("a key is read from a file, as PEM, DER or base64", () =>
  tempDir(async (dir) => {
    for (const [variant, change] of Object.entries(VARIANTS)) {
      await Deno.writeTextFile(`${dir}/key`, change(PKCS8));
      assert.equal(readKey(`${dir}/key`), PKCS8, variant);
    }
    await Deno.writeFile(`${dir}/key`, Uint8Array.fromBase64(bodyOf(PKCS8)));
    assert.equal(readKey(`${dir}/key`), PKCS8);
    assert.equal(readKey(relative(Deno.cwd(), `${dir}/key`)), PKCS8);
  }));

/** What cannot be used, and may hold a key all the same. */
const REFUSED: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    Object.entries(VARIANTS).map((
      [variant, change],
    ) => [
      `for SSH, ${variant}`,
      change(PKCS8.replaceAll("PRIVATE KEY", "OPENSSH KEY").replace(/\nM/, "\nb")),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(VARIANTS).map(([variant, change]) => [`with a passphrase, ${variant}`, change(ENCRYPTED)]),
  ),
  "cut off": PKCS8.slice(0, 900),
  "the base64 cut off": bodyOf(PKCS8).slice(0, 900),
  "base64 of it cut off": toBase64(PKCS8).slice(0, 900),
  "with a digit too much": `${bodyOf(PKCS8)}A`,
  "with a NUL": `${PKCS8}\0`.replace("-----END", "-----"),
  "one line of it": PKCS8.split("\n")[3]!,
  "like a path": `/${PKCS8.split("\n")[3]!}`,
  "in hexadecimal digits": Uint8Array.fromBase64(bodyOf(PKCS8)).toHex(),
  "in JSON": JSON.stringify({ key: PKCS8 }).replace("BEGIN", "BEGlN"),
};

/** Pieces of the keys by which they would be known in a text, whatever was done to them. */
function assertNothingShown(shown: string, given: string): void {
  for (let at = 0; at + 12 <= given.length; at += 6) {
    const piece = given.slice(at, at + 12);
    // The names of the labels are no secret.
    if (/^[A-Za-z0-9+/=_]{12}$/.test(piece)) assert.ok(!shown.includes(piece), `${piece} in ${shown}`);
  }
}

const SECRET = (Object.keys(SETTINGS) as SettingName[]).filter((name) => "secret" in SETTINGS[name]);

for (const [variant, text] of Object.entries(REFUSED)) {
  Deno.test(`nothing is shown of a key ${variant}`, () => {
    assert.deepEqual(SECRET, ["verityKey", "verityCert", "secureBootKey", "secureBootCert"]);
    for (const name of SECRET) {
      const { env } = SETTINGS[name];
      if (variant.endsWith("after a certificate") && env.endsWith("_CERT")) continue;
      const flag = env.toLowerCase().replaceAll("_", "-");
      for (const [flags, variables] of [[{}, { [env]: text }], [{ [flag]: text }, {}]]) {
        assert.throws(() => readSettings([name], flags!, variables!), (error) => {
          assert(error instanceof BuildError && error.kind === "usage");
          assert.match(error.message, /=\(not shown\): ./);
          assertNothingShown(`${error.message}${error.hint}${error.cause}${error.stack}`, text);
          return true;
        });
      }
    }
  });
}

Deno.test("a certificate takes nothing of a key with it", { permissions: "none" }, () => {
  const settings = readSettings(["secureBootCert", "secureBootKey"], {}, {
    SECURE_BOOT_CERT: PKCS8 + CERTIFICATE,
    SECURE_BOOT_KEY: PKCS8 + CERTIFICATE,
  });
  assert.equal(settings.secureBootCert, CERTIFICATE);
  assert.equal(settings.secureBootKey, PKCS8);
  assert.equal(parametersOf(settings).SECURE_BOOT_CERT, CERTIFICATE);
  assertNothingShown(JSON.stringify(parametersOf(settings)), PKCS8);
  // Others than OpenSSL put more labels on it, and OpenSSL more behind it.
  for (const label of ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"]) {
    const text = `-----BEGIN ${label}-----\nMAQwADAAMAA=\n-----END ${label}-----\n`;
    assert.equal(readSettings(["verityCert"], {}, { VERITY_CERT: text }).verityCert, CERTIFICATE);
  }
});

Deno.test("nothing is shown of a key in a command line or a Raptor.toml that cannot be read", async () => {
  const words = PKCS8.split(/\s+/);
  const lines = [
    ["disk-image", ...`--secure-boot-key=${PKCS8}`.split(/\s+/)],
    ["disk-image", `--secure-boot-key=${words[3]}`, ...words.slice(4)],
    ["disk-image", "--secure-boot-key", PKCS8],
    ["disk-image", `--secure-boot-kye=${bodyOf(PKCS8)}`],
    ["part-image", `--verity-key=${bodyOf(PKCS8)}`, bodyOf(PKCS8)],
  ];
  const { stdout, stderr } = await evaluate(
    "../builders/mod.ts",
    `for (const line of ${
      JSON.stringify(lines)
    }) console.log(await lib.main([...line, "--input=/nowhere"]));`,
  );
  assert.equal(stdout, "2\n".repeat(lines.length), stderr);
  assertNothingShown(stdout + stderr, PKCS8);
  const job = '[run.a]\ntarget = "disk-image"\ninput = "a"\noutput = "b"\n';
  const json = JSON.stringify(bodyOf(PKCS8));
  for (
    const rest of [
      `env.VERITY_KEY = [${json}]`,
      `env = ${json}`,
      `env = [${json}]`,
      `args = ${json}`,
      `args = [[${json}]]`,
      `env.VERITY_KEY = ${json.slice(0, -1)}`,
    ]
  ) {
    assert.throws(() => parseProject(job + rest, "Raptor.toml", ["disk-image"]), (error) => {
      assert(error instanceof BuildError);
      assertNothingShown(`${error.message}${error.hint}`, PKCS8);
      return true;
    });
  }
});
