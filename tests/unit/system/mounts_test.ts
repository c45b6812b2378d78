import assert from "node:assert/strict";
import { isVolatile, mountAt, nameOutside, parseMounts, readMounts } from "../../../lib/system/mounts.ts";

const pure = { permissions: "none" } as const;

/** As in a container of podman or systemd-nspawn: an image, a cache, a directory, and a file on tmpfs. */
const TEXT = String.raw`1 0 0:50 / / rw,relatime master:12 shared:3 - overlay overlay rw,lowerdir=/a:/b
2 1 0:51 / /proc rw - proc proc rw
3 1 0:52 / /tmp rw - tmpfs tmpfs rw
4 1 8:1 /home/u/my\040images/web\134.raw /output/part.img rw,nosuid - ext4 /dev/sda1 rw
5 1 8:1 /home/u/cache /cache rw - ext4 /dev/sda1 rw
6 5 0:53 / /cache/volatile rw - tmpfs tmpfs rw
7 1 8:1 /gone//deleted /gone rw - ext4 /dev/sda1 rw
8 1 8:1 /two /output/part.img rw - ext4 /dev/sda1 rw
nonsense
`;

Deno.test("parseMounts() reads the mounts, with optional fields and escapes", pure, () => {
  const mounts = parseMounts(TEXT);
  assert.equal(mounts.length, 8);
  assert.deepEqual(mounts[0], { root: "/", point: "/", type: "overlay" });
  assert.deepEqual(mounts[3], {
    root: "/home/u/my images/web\\.raw",
    point: "/output/part.img",
    type: "ext4",
  });
});

Deno.test("mountAt() finds the topmost mount", pure, () => {
  assert.equal(mountAt("/output/part.img", parseMounts(TEXT))?.root, "/two");
  assert.equal(mountAt("/output", parseMounts(TEXT)), undefined);
});

Deno.test("nameOutside() is the name of a mounted file outside the container", pure, () => {
  const mounts = parseMounts(TEXT);
  assert.equal(nameOutside("/output/part.img", mounts.slice(0, 7)), "web\\.raw");
  assert.equal(nameOutside("/gone", mounts), "gone");
  assert.equal(nameOutside("/proc", mounts), undefined);
  assert.equal(nameOutside("/output", mounts), undefined);
});

Deno.test("isVolatile() knows what is lost with the container", pure, () => {
  const mounts = parseMounts(TEXT);
  for (const path of ["/", "/output", "/output/x", "/tmp/x", "/cachet/x", "/cache/volatile/x"]) {
    assert.equal(isVolatile(path, mounts), true, path);
  }
  for (const path of ["/cache", "/cache/x/y", "/output/part.img"]) {
    assert.equal(isVolatile(path, mounts), false, path);
  }
});

Deno.test("readMounts() reads those of this process", () => {
  assert.ok(readMounts().some(({ point, type }) => point === "/proc" && type === "proc"));
});
