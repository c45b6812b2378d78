import * as assert from "node:assert/strict";
import { hashName } from "../../lib/filesystem/ext4/hash.ts";
import { missing, quiet, tempDir } from "../lab/helpers.ts";

const SEED = "b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e";

/** The seed as four little-endian words. */
function words(uuid: string): Uint32Array<ArrayBuffer> {
  const bytes = Uint8Array.from(uuid.replaceAll("-", "").match(/../g)!, (hex) => parseInt(hex, 16));
  return new Uint32Array(bytes.buffer);
}

Deno.test("hashName() hashes as e2fsprogs does", { ignore: missing("mke2fs", "debugfs") }, async () => {
  await tempDir(async (dir) => {
    const names = [
      "a",
      "ab",
      "abc",
      "abcd",
      "lost+found",
      "x".repeat(31),
      "y".repeat(32),
      "z".repeat(33),
      "é",
      "日本語",
    ];
    names.push("long ".repeat(20).trim(), "q".repeat(255), "Ünïcödé".repeat(9));
    const script = names.map((name) => `dx_hash -h half_md4 -s ${SEED} "${name}"`).join("\n");
    await Deno.writeTextFile(`${dir}/script`, script);
    const output = await quiet`debugfs -f ${`${dir}/script`}`;
    const hashes = [...output.matchAll(/^Hash of .* is (0x[0-9a-f]+)/gm)].map(([, hash]) => Number(hash));
    assert.equal(hashes.length, names.length);
    const encoder = new TextEncoder();
    names.forEach((name, i) => {
      const bytes = encoder.encode(name);
      assert.equal(hashName(bytes, 0, bytes.length, words(SEED)), hashes[i], name);
    });
  });
});
