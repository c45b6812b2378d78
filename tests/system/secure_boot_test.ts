import assert from "node:assert/strict";
import { BuildError } from "../../lib/core/error.ts";
import { readSigner, signedSize, signProgram } from "../../lib/efi/authenticode.ts";
import { appendSections, readPe, sizeWithSections } from "../../lib/efi/pe.ts";
import { readSections } from "../../lib/tree/pe.ts";
import { missing, quiet, tempDir } from "../lab/helpers.ts";
import { unpack } from "../lab/trees.ts";

const ignore = missing("openssl", "sbverify", "mmdebstrap", "objdump");

async function programOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const packages = await unpack("trixie", "amd64", ["systemd-boot-efi", "systemd-boot-efi-amd64-signed"]);
  return await Deno.readFile(`${packages}/usr/lib/systemd/boot/efi/${name}`);
}

/** A fresh key with its certificate, as PEM and as files. */
async function newKey(dir: string, name: string, kind = "rsa:2048") {
  const [key, certificate] = [`${dir}/${name}.key`, `${dir}/${name}.crt`];
  const curve = kind === "ec" ? ["-pkeyopt", "ec_paramgen_curve:P-256"] : [];
  await quiet`openssl req -new -x509 -newkey ${kind} ${curve} -nodes -days 9 -subj ${`/CN=${name}`}
    -keyout ${key} -out ${certificate}`;
  const [keyText, certificateText] = await Promise.all(
    [key, certificate].map((path) => Deno.readTextFile(path)),
  );
  return { keyText: keyText!, certificateText: certificateText!, certificate };
}

for (const bits of [2048, 4096]) {
  Deno.test(`signProgram() with ${bits} bits makes what sbverify accepts, of the size that was said`, {
    ignore,
  }, () =>
    tempDir(async (dir) => {
      const { keyText, certificateText, certificate } = await newKey(dir, "own", `rsa:${bits}`);
      const signer = readSigner(keyText, certificateText);
      const program = await programOf("systemd-bootx64.efi");
      for (const size of [program.length, program.length + 3]) {
        const longer = new Uint8Array(size);
        longer.set(program);
        const signed = signProgram(signer, longer, "it");
        assert.equal(signed.length, signedSize(signer, size));
        assert.deepEqual(signed, signProgram(signer, longer, "it"), "another one each time");
        await Deno.writeFile(`${dir}/signed.efi`, signed);
        await quiet`sbverify --cert ${certificate} ${dir}/signed.efi`;
        signed[program.length >> 1]! ^= 1;
        await Deno.writeFile(`${dir}/changed.efi`, signed);
        await assert.rejects(quiet`sbverify --cert ${certificate} ${dir}/changed.efi`, /exit code 1/);
      }
    }));
}

Deno.test(
  "signProgram() leaves the signature of the vendor in place and valid",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const { keyText, certificateText } = await newKey(dir, "own");
      const program = await programOf("systemd-bootx64.efi.signed");
      await Deno.writeFile(
        `${dir}/signed.efi`,
        signProgram(readSigner(keyText, certificateText), program, "it"),
      );
      const list = await quiet`sbverify --list ${dir}/signed.efi`;
      assert.match(list, /^signature 1\n(.*\n)* - .*Debian(.*\n)*signature 2\n(.*\n)* - .*CN=own/m);
    }),
);

Deno.test("readSigner() refuses what cannot sign", { ignore }, () =>
  tempDir(async (dir) => {
    const [own, other, curve] = [
      await newKey(dir, "own"),
      await newKey(dir, "other"),
      await newKey(dir, "ec", "ec"),
    ];
    const refused = (key: string, certificate: string, reason: RegExp) =>
      assert.throws(() => readSigner(key, certificate), (error) => {
        assert.ok(error instanceof BuildError && error.kind === "usage");
        assert.match(error.message, reason);
        assert.doesNotMatch(error.message, /BEGIN/);
        return true;
      });
    refused(own.keyText, other.certificateText, /a different key/);
    refused(curve.keyText, curve.certificateText, /not RSA/);
    refused(own.keyText, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", /not PEM/);
    refused(own.keyText, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", /./);
    refused("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", own.certificateText, /./);
  }));

Deno.test("appendSections() makes what objdump reads back", { ignore }, () =>
  tempDir(async (dir) => {
    const stub = await programOf("linuxx64.efi.stub");
    const texts = [".osrel", ".cmdline", ".linux"].map((name, i) => ({
      name,
      contents: new TextEncoder().encode(name.repeat(1 + i * 1000)),
      memory: i * 5_000_000,
    }));
    const made = appendSections(stub, texts, "stub");
    assert.equal(made.length, sizeWithSections(stub.length, texts.map(({ contents }) => contents.length)));
    readPe(made, "it");
    assert.deepEqual(readSections(made)!.slice(-3).map(({ name }) => name), [".osrel", ".cmdline", ".linux"]);
    await Deno.writeFile(`${dir}/uki.efi`, made);
    const listing = await quiet`objdump --section-headers ${dir}/uki.efi`;
    for (const { name } of texts) assert.match(listing, new RegExp(` \\${name} +[0-9a-f]{8} `));
  }));
