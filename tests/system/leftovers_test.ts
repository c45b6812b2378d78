import assert from "node:assert/strict";
import { build } from "../lab/builds.ts";
import { missing, quiet, tempDir } from "../lab/helpers.ts";
const ID = "0123456789abcdef0123456789abcdef\n";

const TOOLS = ["mke2fs", "debugfs"];

Deno.test(
  "part-image: the image has none of them, and the log says which",
  { ignore: missing(...TOOLS) },
  () =>
    tempDir(async (dir) => {
      const tree = `${dir}/tree`;
      for (const path of ["etc/ssh", "usr/lib/systemd", "var/lib/systemd"]) {
        await Deno.mkdir(`${tree}/${path}`, { recursive: true });
      }
      await Deno.writeTextFile(`${tree}/etc/machine-id`, ID);
      await Deno.chmod(`${tree}/etc/machine-id`, 0o444);
      await Deno.writeTextFile(`${tree}/etc/ssh/ssh_host_rsa_key`, "secret");
      await Deno.writeTextFile(`${tree}/etc/ssh/.wh.ssh_host_dsa_key`, "");
      await Deno.writeTextFile(`${tree}/usr/lib/systemd/libsystemd-shared-257.so`, "");
      await Deno.writeTextFile(`${tree}/var/lib/systemd/random-seed`, "seed");
      const image = `${dir}/image`;
      const look = (command: string) => quiet`debugfs -R ${command} ${image}`;
      const { stderr } = await build("part-image", tree, image, { FREE_MB: "4", KEEP: "random-seed" });
      assert.equal(await look("cat /etc/machine-id"), "uninitialized\n");
      assert.match(await look("stat /etc/machine-id"), /Mode: +0444/);
      assert.doesNotMatch(await look("ls -p /etc/ssh"), /ssh_host/);
      assert.equal(await look("cat /var/lib/systemd/random-seed"), "seed");
      assert.match(stderr, /^\[\|\] left out: host-keys: 1, "\/etc\/ssh\/ssh_host_rsa_key"$/m);
      assert.match(stderr, /^\[W\] .*: The image has no SSH host keys /m);
      assert.equal(await Deno.readTextFile(`${tree}/etc/machine-id`), ID);
    }),
);
