import assert from "node:assert/strict";
import { cannot, reasonOf, remedyFor, setSize } from "../../../lib/system/failure.ts";
import * as posix from "../../../lib/system/posix.ts";
import { tempDir } from "../../lab/helpers.ts";

/** What a call of Deno throws. */
async function thrown(call: () => Promise<unknown>): Promise<Error> {
  return await call().then(() => assert.fail("it succeeded"), (error) => error);
}

Deno.test("remedyFor() and reasonOf() know errors of the machine from others", () =>
  tempDir(async (dir) => {
    const full = await thrown(() => Deno.writeTextFile("/dev/full", "x"));
    assert.equal(reasonOf(full), "No space left on device");
    assert.match(remedyFor(full)!, /Free some space/);
    const missing = await thrown(() => Deno.open(`${dir}/none`));
    assert.equal(reasonOf(missing), "No such file or directory");
    assert.equal(remedyFor(missing), undefined);
    const other = new Error("nothing of the system's");
    assert.equal(reasonOf(other), "nothing of the system's");
    assert.equal(remedyFor(other), undefined);
  }));

Deno.test("cannot() names the file and the reason, for an errno of either sign, and at the end of a file", () => {
  for (const errno of [posix.ENOSPC, -posix.ENOSPC]) {
    const { message, hint } = cannot("write", "/a\n", errno);
    assert.equal(message, 'Cannot write "/a\\n": No space left on device');
    assert.match(hint!, /Free some space/);
  }
  const { message, hint } = cannot("read", "/a", 0);
  assert.equal(message, 'Cannot read "/a": it ends too early');
  assert.equal(hint, undefined);
});

Deno.test("setSize() makes a file longer and shorter, and says what it could not do", () =>
  tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/file`, "abc");
    setSize(`${dir}/file`, 5);
    assert.equal(await Deno.readTextFile(`${dir}/file`), "abc\0\0");
    setSize(`${dir}/file`, 1);
    assert.equal(await Deno.readTextFile(`${dir}/file`), "a");
    assert.throws(() => setSize(`${dir}/none`, 2 ** 31), {
      message: `Cannot make "${dir}/none" 2 GiB large: No such file or directory`,
    });
  }));
