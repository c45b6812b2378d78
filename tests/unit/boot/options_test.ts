import assert from "node:assert/strict";
import { foreignOptions, keptOptions } from "../../../lib/boot/options.ts";

const pure = { permissions: "none" } as const;

Deno.test("keptOptions() and foreignOptions() tell a machine's own options from the system's", pure, () => {
  const foreign = [
    ..."root=UUID=1 rootflags=subvol=@ resume=/dev/sda2 resume_offset=3 rd.luks.uuid=luks-1 luks.name=1=x"
      .split(" "),
    ..."rd.lvm.lv=a/b rd.md.uuid=1 ostree=/x/0 systemd.machine_id=1 cryptdevice=UUID=1:x BOOT_IMAGE=/x".split(
      " ",
    ),
  ];
  const kept = [
    ..."quiet rd.lvm=0 luks=no rd.luks.options=discard noresume console=ttyS0 rootwait rootdelay=3".split(
      " ",
    ),
    'dyndbg="file root=x +p"',
  ];
  const tree = { kernelOptions: ["ro", ...foreign, "rootfstype=xfs", ...kept, "rw"].join(" ") };
  assert.deepEqual(keptOptions(tree), kept);
  const [line, ...more] = foreignOptions(tree).map(({ message }) => message);
  assert.deepEqual(more, []);
  for (const word of foreign) assert(line!.includes(`"${word}"`), word);
  assert.deepEqual([keptOptions({}), foreignOptions({ kernelOptions: "ro quiet" })], [[], []]);
});
