import assert from "node:assert/strict";
import { DISKS, firmwareFiles, type Guest, qemuCommand } from "../../../tasks/qemu.ts";
import { boot, GUEST } from "../../lab/boot_task.ts";
import { evaluate, tempDir } from "../../lab/helpers.ts";

/** The `-drive` arguments of a command, as QEMU reads them. */
function drives(command: readonly string[]): Map<string, string>[] {
  return command.flatMap((word, i) => command[i - 1] === "-drive" ? [word] : [])
    .map((word) => new Map(word.split(/(?<!,),(?!,)/).map((pair) => pair.split("=", 2) as [string, string])));
}

Deno.test("qemuCommand() leaves the image alone unless told otherwise", { permissions: "none" }, () => {
  const [code, variables, disk] = drives(qemuCommand(GUEST));
  assert.equal(code!.get("readonly"), "on");
  assert.equal(variables!.get("file"), "/tmp/variables.fd");
  assert.deepEqual([disk!.get("file"), disk!.get("format"), disk!.get("snapshot")], [
    "/images/disk.raw",
    "raw",
    "on",
  ]);
  assert.equal(drives(qemuCommand({ ...GUEST, snapshot: false }))[2]!.get("snapshot"), "off");
});

Deno.test("qemuCommand() keeps a comma in a file name", { permissions: "none" }, () => {
  const command = qemuCommand({ ...GUEST, image: "/a,b/c,readonly=on" });
  assert.equal(drives(command)[2]!.get("file"), "/a,,b/c,,readonly");
  assert.ok(command.some((word) => word.endsWith("file=/a,,b/c,,readonly=on")));
});

Deno.test("qemuCommand() uses the host's processor under KVM only", { permissions: "none" }, () => {
  const cpu = (guest: Guest) => qemuCommand(guest)[qemuCommand(guest).indexOf("-cpu") + 1];
  assert.equal(cpu({ ...GUEST, accel: "kvm" }), "host");
  assert.equal(cpu(GUEST), "qemu64,-cx16");
  assert.match(qemuCommand({ ...GUEST, accel: "kvm" }).join(" "), /-machine q35,accel=kvm /);
});

Deno.test("qemuCommand() takes Secure Boot's firmware where there is one", { permissions: "none" }, () => {
  const command = qemuCommand({ ...GUEST, firmware: "microsoft" }).join(" ");
  assert.match(command, /smm=on.*OVMF_CODE_4M\.ms\.fd.*property=secure,value=on/);
  assert.equal(firmwareFiles("x86-64", "microsoft")?.variables, "/usr/share/OVMF/OVMF_VARS_4M.ms.fd");
  assert.throws(() => firmwareFiles("arm64", "microsoft"), { name: "BuildError", kind: "usage" });
});

Deno.test.each([
  { args: [], message: /without an image/ },
  { args: ["a", "b"], message: /several images/ },
  { args: ["--accel=warp", "a"], message: /--accel=warp\n.*tcg, kvm/ },
  { args: ["--disk=floppy", "a"], message: /--disk=floppy\n.*nvme.*, virtio/ },
  { args: ["--snapshot=maybe", "a"], message: /--snapshot=maybe\n.*on, off/ },
  { args: ["--memory=1G", "a"], message: /--memory=1G\n.*MiB/ },
  { args: ["--frob", "a"], message: /"--frob": there is no such flag\n.*See --help/ },
  { args: ["missing.raw"], message: /missing\.raw".*no such file/ },
])("boot refuses $args", ({ args, message }) =>
  tempDir(async (dir) => {
    const { code, stdout, stderr } = await boot(dir, args);
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
    assert.match(stderr, message);
  }));

Deno.test("boot --help names every flag and choice", () =>
  tempDir(async (dir) => {
    const { code, stdout } = await boot(dir, ["--help"]);
    assert.equal(code, 0);
    for (const word of ["--accel", "--memory", "--snapshot", "--disk", "--format", ...Object.keys(DISKS)]) {
      assert.ok(stdout.includes(word), word);
    }
  }));

Deno.test("checkInstalled() names what is missing and its package", async () => {
  const script =
    `try { lib.checkInstalled("arm64") } catch (error) { console.log(error.message + "\\n" + error.hint) }`;
  // Programs of QEMU are not in the directories of system programs.
  const { stdout } = await evaluate("../tasks/qemu.ts", script, { PATH: "/nonexistent" });
  assert.match(stdout, /^Cannot boot an arm64 image: "qemu-system-aarch64" is missing\n.*qemu-system-arm\n$/);
});
