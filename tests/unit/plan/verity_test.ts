import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { BuildError } from "../../../lib/core/error.ts";
import { MiB } from "../../../lib/core/units.ts";
import { planDisk, planPart } from "../../../lib/plan/plan.ts";
import { verityUuids } from "../../../lib/plan/verity.ts";
import { factsOf, settingsOf } from "../../lab/facts.ts";
import { SIGNING } from "../../lab/keys.ts";
import { planLayout } from "../../lab/layouts.ts";

const HASH = "0123456789abcdeffedcba98765432100011223344556677aabbccddeeff8899";

Deno.test("verityUuids() are the halves of the root hash", { permissions: "none" }, () => {
  assert.deepEqual(verityUuids(HASH), {
    data: "01234567-89ab-cdef-fedc-ba9876543210",
    hashes: "00112233-4455-6677-aabb-ccddeeff8899",
  });
});

Deno.test(
  "planDisk() plans a read-only root again when it is made, to the byte",
  { permissions: "none" },
  () => {
    const env = { FILESYSTEM: "squashfs", VERITY: "signed", ...SIGNING };
    const first = planDisk(settingsOf(env), factsOf());
    assert.equal(first.partitions.at(-1)!.filesystem.estimate, true);
    const plan = planDisk(settingsOf(env), factsOf(), {
      root: {
        path: "/scratch/root",
        size: 5 * MiB + 4096,
        verity: {
          rootHash: HASH,
          hashes: { path: "/scratch/hashes", size: MiB + 1 },
          signature: { path: "/scratch/signature", size: 700 },
        },
      },
    });
    assert.equal(plan.partitions.some(({ filesystem }) => filesystem.estimate), false);
    assert.equal(plan.partitions.at(-1)!.filesystem.made, "/scratch/root");
    const roots = plan.partitions.filter(({ role }) => role?.startsWith("root"));
    assert.deepEqual(roots.map(({ role, size, uuid, attributes }) => [role, size / MiB, uuid, attributes]), [
      ["root-verity", 2, "00112233-4455-6677-aabb-ccddeeff8899", [60]],
      ["root-verity-sig", 1, roots[1]!.uuid, [60]],
      ["root", 6, "01234567-89ab-cdef-fedc-ba9876543210", [60]],
    ]);
    assert.equal(plan.size, roots[2]!.offset + roots[2]!.size + MiB);
    assert.match(plan.kernelOptions, new RegExp(`^root=/dev/mapper/root ro roothash=${HASH}( |$)`));
    // What is in the root is what was hashed: nothing in it can name the hash.
    assert.deepEqual(roots[2]!.contents, first.partitions.at(-1)!.contents);
    for (const addition of roots[2]!.contents.add) {
      assert(
        !JSON.stringify(addition).includes(HASH),
        addition.path,
      );
    }
  },
);

Deno.test("planDisk() keeps to SIZE_MB with a read-only root, and refuses one that cannot be", {
  permissions: "none",
}, () => {
  const made = { root: { path: "/scratch/root", size: 100 * MiB } };
  const plan = (env: Record<string, string>) =>
    planDisk(settingsOf({ FILESYSTEM: "erofs", ...env }), factsOf(), made);
  const fixed = plan({ SIZE_MB: "700" });
  assert.equal(fixed.size, 700 * MiB);
  assert.match(fixed.kernelOptions, /^root=UUID=\S+ ro rootfstype=erofs/);
  assert.throws(() => plan({ SIZE_MB: "600" }), /Cannot fit .*SIZE_MB=600/);
  assert.throws(() => plan({ FILESYSTEM: "vfat" }), /FILESYSTEM=vfat for the root of a disk/);
});

Deno.test("a key and a certificate that cannot sign the root hash are refused by the plan", {
  permissions: "none",
}, () => {
  const pemOf = ({ privateKey }: { privateKey: KeyObject }) =>
    privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const rsa = { modulusLength: 2048 };
  for (
    const [key, reason] of [
      [pemOf(generateKeyPairSync("rsa", rsa)), "the certificate belongs to a different key"],
      [pemOf(generateKeyPairSync("ec", { namedCurve: "P-256" })), "the key is not RSA"],
    ] as const
  ) {
    const env = { ...SIGNING, VERITY_KEY: key };
    const root = "Type=root;Format=squashfs;Verity=data;VerityMatchKey=r";
    const layout = {
      "10-root": root,
      "20-hash": "Type=root-verity;Verity=hash;VerityMatchKey=r",
      "30-sig": "Type=root-verity-sig;Verity=signature;VerityMatchKey=r",
    };
    const signed = settingsOf({ ...env, FILESYSTEM: "squashfs", VERITY: "signed" });
    for (
      const plan of [
        () => planDisk(signed, factsOf()),
        () => planPart(signed, factsOf()),
        () => planLayout(layout, env),
      ]
    ) {
      assert.throws(plan, (error) => {
        assert.ok(error instanceof BuildError && error.kind === "usage");
        assert.equal(error.message, `Cannot sign with VERITY_KEY and VERITY_CERT: ${reason}`);
        return true;
      });
    }
  }
});

Deno.test("settings that would do nothing are refused: keys without a signature, VERITY_DIR without hashes", {
  permissions: "none",
}, () => {
  const { VERITY_KEY, VERITY_CERT } = SIGNING;
  const hash = { FILESYSTEM: "squashfs", VERITY: "hash" };
  for (
    const [env, message, hint] of [
      [
        { VERITY_KEY },
        /^Cannot use VERITY_KEY: no root hash is signed$/,
        /Leave VERITY_KEY out, or set VERITY/,
      ],
      [{ VERITY_CERT }, /^Cannot use VERITY_CERT: no root hash is signed$/, /set VERITY to signed/],
      [{ ...hash, ...SIGNING }, /^Cannot use VERITY_KEY: no root hash is signed$/, /set VERITY to signed/],
      [{ VERITY_DIR: "/x" }, /^Cannot use VERITY_DIR: there are no hashes to write$/, /hash or signed/],
    ] as const
  ) {
    for (const plan of [planDisk, planPart]) {
      assert.throws(() => plan(settingsOf(env), factsOf()), { message, hint }, JSON.stringify(env));
    }
  }
  assert.throws(() => planLayout({ "10-root": "Type=root" }, SIGNING), { hint: /Verity=signature/ });
  planPart(settingsOf({ ...hash, VERITY_DIR: "/x" }), factsOf());
});
