/**
 * Images for `portablectl` and `systemd-nspawn`: what they need is checked, and they run there.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type FilesystemName, FILESYSTEMS } from "../../lib/filesystem/filesystems.ts";
import { MAKERS } from "../../lib/make/filesystems.ts";
import { build } from "../lab/builds.ts";
import { useErofs } from "../lab/erofs.ts";
import { bootQemu, nspawn, report } from "../lab/guests.ts";
import { missing, tempDir, unprivileged } from "../lab/helpers.ts";
import { addToReport, copyTree, debianTree, tinyTree } from "../lab/trees.ts";

const SYSTEMS = (Object.keys(FILESYSTEMS) as FilesystemName[]).filter((name) =>
  FILESYSTEMS[name].holdsSystem
);

const TOOLS = SYSTEMS.flatMap((name): readonly string[] => MAKERS[name].programs);

const ignore = unprivileged() || missing(...TOOLS, "mmdebstrap", "systemd-nspawn");

for (const filesystem of SYSTEMS) {
  Deno.test(`part-image: ${filesystem} boots in systemd-nspawn, also read-only and with --volatile`, {
    ignore,
  }, () =>
    tempDir(async (dir) => {
      await useErofs();
      const image = `${dir}/part.raw`;
      const tree = await tinyTree({ kernel: false, loader: false });
      await build("part-image", tree, image, { FILESYSTEM: filesystem, FREE_MB: "16" });
      for (const readOnly of [false, true]) {
        const seen = report(await nspawn(image, { readOnly }));
        assert.equal(seen.get("writable"), readOnly || FILESYSTEMS[filesystem].readOnly ? "no" : "yes");
        assert.match(seen.get("mounts")!, new RegExp(` / ${filesystem} r`));
      }
      // Where each of them puts what is forgotten.
      const volatile = { overlay: / \/ overlay rw/, state: / \/var tmpfs rw/, yes: / \/ tmpfs rw/ };
      for (const [kind, mounted] of Object.entries(volatile)) {
        const seen = report(await nspawn(image, { volatile: kind as keyof typeof volatile }));
        assert.match(seen.get("mounts")!, mounted, kind);
      }
    }));
}

Deno.test("part-image: a trixie tree on squashfs boots in systemd-nspawn --volatile=overlay, no unit fails", {
  ignore,
}, () =>
  tempDir(async (dir) => {
    const image = `${dir}/part.raw`;
    await build("part-image", await debianTree({ suite: "trixie" }), image, {
      FILESYSTEM: "squashfs",
      COMPRESSION: "lz4",
    });
    const seen = report(await nspawn(image, { volatile: "overlay" }));
    assert.equal(seen.get("failed"), "", seen.get("logs"));
  }));

/** Run in the guest for each image. */
const PORTABLE = SYSTEMS.map((name) =>
  `echo "=== portable ${name}"
image=/opt/${name}/hello.raw
portablectl inspect "$image" hello
portablectl attach --runtime --now "$image" hello
systemctl is-active hello.service
journalctl --boot --unit=hello --output=cat --no-pager | grep "^hello from"
portablectl is-attached "$image"
portablectl detach --runtime --now "$image" hello
portablectl is-attached "$image"
`
).join("");

Deno.test("part-image: portablectl inspects, attaches, starts and detaches images of every filesystem", {
  ignore: ignore || missing("qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
}, () =>
  tempDir(async (dir) => {
    await useErofs();
    const service = await copyTree(await tinyTree({ kernel: false, loader: false }), `${dir}/service`);
    // What PORTABLE has to add.
    for (const path of ["etc/machine-id", "etc/resolv.conf", "var/tmp", "run"]) {
      await Deno.remove(`${service}/${path}`);
    }
    await Deno.mkdir(`${service}/usr/lib/systemd/system`, { recursive: true });
    await Deno.writeTextFile(
      `${service}/usr/lib/systemd/system/hello.service`,
      '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/sh -c "echo hello from $$(stat -f -c %%T /)"\n',
    );
    const guest = await copyTree(
      await debianTree({ suite: "trixie", include: ["systemd-container"] }),
      `${dir}/guest`,
    );
    for (const filesystem of SYSTEMS) {
      await Deno.mkdir(`${guest}/opt/${filesystem}`);
      await build("part-image", service, `${guest}/opt/${filesystem}/hello.raw`, {
        FILESYSTEM: filesystem,
        PORTABLE: "hello",
        FREE_MB: "8",
      });
    }
    await addToReport(guest, PORTABLE);
    const image = `${dir}/disk.img`;
    await build("disk-image", guest, image, { FREE_MB: "64", BOOT_MB: "256" });
    const seen = report(await bootQemu(image, { architecture: "x86-64", format: "raw" }));
    for (const filesystem of SYSTEMS) {
      const said = seen.get(`portable ${filesystem}`)!;
      assert.match(said, /^active$/m, said);
      assert.match(said, /^hello from /m, said);
      assert.match(said, /hello\.service/, said);
      assert.match(said, /^(running|attached)(-runtime)?$/m, said);
      assert.match(said, /^detached$/m, said);
    }
  }));
