import assert from "node:assert/strict";
import { cString, ELOOP, ENOENT, OPEN } from "../lib/posix.ts";
import * as posix from "../lib/posix.ts";
import { tempDir } from "./helpers.ts";

const EXDEV = 18, ENOTDIR = 20;

for (const open of [posix.openInside, posix.openStepwise]) {
  Deno.test(`${open.name}() opens what is below the root, and follows no symlink`, async () => {
    await tempDir(async (dir) => {
      await Deno.mkdir(`${dir}/root/a/b`, { recursive: true });
      await Deno.writeTextFile(`${dir}/root/a/b/file`, "inside");
      await Deno.writeTextFile(`${dir}/outside`, "outside");
      await Deno.symlink("b", `${dir}/root/a/link`);
      await Deno.symlink("file", `${dir}/root/a/b/link`);
      await Deno.symlink("/", `${dir}/root/absolute`);
      const root = posix.open(cString(`${dir}/root`), OPEN.place);
      const attempt = (path: string, flags: number = OPEN.file): number => {
        const fd = open(root, cString(path), flags);
        if (fd < 0) return fd;
        const buffer = new Uint8Array(100);
        const length = flags === OPEN.file ? posix.pread(fd, buffer, 0) : 0;
        posix.close(fd);
        return length;
      };
      const probe = () => {
        attempt("a/b/file");
        const fd = posix.open(cString(dir), OPEN.place);
        posix.close(fd);
        return fd;
      };
      try {
        assert.equal(attempt("a/b/file"), "inside".length);
        // Descriptors are closed again: the next one has the same number.
        assert.equal(probe(), probe());
        assert.equal(attempt(".", OPEN.place), 0);
        assert.equal(attempt("a/b", OPEN.place), 0);
        assert.equal(attempt("a/c/file"), -ENOENT);
        assert.equal(attempt("a/b/file/x"), -ENOTDIR);
        assert.equal(attempt("a/b/link"), -ELOOP);
        for (const path of ["a/link/file", "absolute/etc/passwd", "absolute"]) {
          assert.ok([-ELOOP, -ENOTDIR].includes(attempt(path)), path);
        }
        assert.ok([-EXDEV, -ENOENT].includes(attempt("../outside")), "it led out of the root");
        assert.ok([-EXDEV, -ENOENT].includes(attempt("a/../../outside")), "it led out of the root");
      } finally {
        posix.close(root);
      }
    });
  });
}
