/**
 * EFI Boot Guard: images of part-image become its config and root partitions, and a slot is updated by
 * writing two of them. The layout is that of its documentation, made by hand.
 *
 * - https://github.com/siemens/efibootguard/blob/master/docs/USAGE.md
 *
 * @module
 */

import assert from "node:assert/strict";
import { partitionType } from "../../lib/core/dps.ts";
import { MiB } from "../../lib/core/units.ts";
import { $ } from "../../lib/system/sh.ts";
import { build } from "../lab/builds.ts";
import { bootQemu, report } from "../lab/guests.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { parseRapt } from "../lab/rapt.ts";
import { copyTree, tinyTree } from "../lab/trees.ts";

const MOD = new URL("../../builders/mod.ts", import.meta.url).pathname;
const EXAMPLE = new URL("../../examples/efibootguard/", import.meta.url).pathname;
const LIBRARY = "/usr/lib/x86_64-linux-gnu/efibootguard";
const ignore = unprivileged() ||
  missing(
    "bg_setenv",
    "bg_gen_unified_kernel",
    `${LIBRARY}/efibootguardx64.efi`,
    "qemu-system-x86_64",
    "mmdebstrap",
  );

/** "Microsoft basic data", which the documentation asks for. */
const CONFIG_TYPE = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7";

/** In the order of the disk. The PARTUUIDs are the layout's: a UKI names the root of its slot by it. */
const PARTITIONS = {
  esp: { size: 33 * MiB, type: partitionType("esp", "x86-64"), uuid: "3ecb0d9a-0b6b-4a1e-8f3d-000000000001" },
  configA: { size: 128 * MiB, type: CONFIG_TYPE, uuid: "3ecb0d9a-0b6b-4a1e-8f3d-000000000002" },
  configB: { size: 128 * MiB, type: CONFIG_TYPE, uuid: "3ecb0d9a-0b6b-4a1e-8f3d-000000000003" },
  rootA: {
    size: 2048 * MiB,
    type: partitionType("root", "x86-64"),
    uuid: "3ecb0d9a-0b6b-4a1e-8f3d-00000000000a",
  },
  rootB: {
    size: 2048 * MiB,
    type: partitionType("root", "x86-64"),
    uuid: "3ecb0d9a-0b6b-4a1e-8f3d-00000000000b",
  },
} as const;

type PartitionName = keyof typeof PARTITIONS;

function offsetOf(name: PartitionName): number {
  const names = Object.keys(PARTITIONS) as PartitionName[];
  return names.slice(0, names.indexOf(name)).reduce((sum, name) => sum + PARTITIONS[name].size, MiB);
}

/** Writes an image into its partition, as an updater does: it fits, and what it leaves does not matter. */
async function install(disk: string, name: PartitionName, image: string): Promise<void> {
  const { size } = await Deno.stat(image);
  assert(size <= PARTITIONS[name].size, `${name}: ${size} bytes`);
  await quiet`dd if=${image} of=${disk} bs=1M seek=${offsetOf(name) / MiB} conv=notrunc status=none`;
}

/** One release: the images of a config and of a root partition for a slot. */
async function release(
  dir: string,
  { version, slot, revision }: { version: string; slot: "A" | "B"; revision: number },
): Promise<{ config: string; root: string }> {
  const name = `${dir}/${version}`;
  const tree = await copyTree(await tinyTree(), name);
  await Deno.writeTextFile(`${tree}/usr/lib/os-release`, `ID=tiny\nNAME=Tiny\nVERSION_ID=${version}\n`);
  const [kernel] = (await Array.fromAsync(Deno.readDir(`${tree}/boot`)))
    .map(({ name }) => name).filter((name) => name.startsWith("vmlinuz-"));
  // As examples/efibootguard/system.rapt does it in the tree itself.
  const boot = `${tree}/usr/lib/slots/${slot}`;
  await Deno.mkdir(boot, { recursive: true });
  const label = `BOOT${slot}`;
  await Deno.writeFile(`${boot}/EFILABEL`, utf16(label));
  const options = `root=PARTUUID=${PARTITIONS[`root${slot}`].uuid} rw console=ttyS0 panic=-1`;
  await quiet`bg_gen_unified_kernel ${LIBRARY}/kernel-stubx64.efi ${`${tree}/boot/${kernel}`} ${boot}/linux.efi
    --cmdline ${options}`;
  await quiet`bg_setenv --filepath=${boot}/BGENV.DAT --revision=${revision}
    ${`--kernel=C:${label}:linux.efi`} --watchdog=0`;
  // As the example has it, in a copy: the images lie beside the file.
  const project = `${dir}/${slot}`;
  await Deno.mkdir(project);
  await Deno.copyFile(`${EXAMPLE}Raptor.toml`, `${project}/Raptor.toml`);
  const jobs = [`config-${slot.toLowerCase()}`, `root-${slot.toLowerCase()}`];
  await quiet`deno run --quiet --allow-all ${MOD} -C ${project} --input ${`system=${tree}`} ${jobs}`;
  return { config: `${project}/${jobs[0]}.img`, root: `${project}/${jobs[1]}.img` };
}

Deno.test("examples/efibootguard makes in the tree what its Raptor.toml makes images of", async () => {
  const steps = (await parseRapt(`${EXAMPLE}system.rapt`)).map(({ instruction, args }) =>
    [instruction, ...args].join(" ")
  );
  const toml = await Deno.readTextFile(`${EXAMPLE}Raptor.toml`);
  for (const slot of ["A", "B"] as const) {
    const directory = `/usr/lib/slots/${slot}`;
    assert.match(toml, new RegExp(`^env\\.DIRECTORY = "${directory}"$`, "m"));
    for (const file of ["EFILABEL", "linux.efi", "BGENV.DAT"]) {
      assert.equal(steps.filter((step) => step.includes(`${directory}/${file}`)).length, 1, file);
    }
    const { uuid } = PARTITIONS[`root${slot}`];
    assert.ok(steps.some((step) => step.includes(`root=PARTUUID=${uuid} rw`) && step.includes(directory)));
    assert.match(toml, new RegExp(`root ${slot} .*PARTUUID ${uuid}$`, "m"));
  }
});

Deno.test(
  "part-image: EFI Boot Guard boots slot A, and after an update of slot B that",
  { ignore },
  () =>
    tempDir(async (dir) => {
      const disk = `${dir}/disk.img`;
      await Deno.writeFile(disk, new Uint8Array());
      await Deno.truncate(disk, offsetOf("rootB") + PARTITIONS.rootB.size + MiB);
      const lines = Object.entries(PARTITIONS).map(([name, { size, type, uuid }]) =>
        `start=${offsetOf(name as PartitionName) / 512}, size=${
          size / 512
        }, type=${type}, uuid=${uuid}, name=${name}`
      );
      await $`sfdisk --quiet ${disk}`.quiet().stdinText(`label: gpt\n${lines.join("\n")}\n`);

      // The ESP is an image of part-image, too.
      const loader = `${dir}/loader/EFI/BOOT`;
      await Deno.mkdir(loader, { recursive: true });
      await Deno.copyFile(`${LIBRARY}/efibootguardx64.efi`, `${loader}/BOOTX64.EFI`);
      await build("part-image", `${dir}/loader`, `${dir}/esp.img`, {
        FILESYSTEM: "vfat",
        LABEL: "ESP",
        SIZE_MB: String(PARTITIONS.esp.size / MiB),
      });
      await install(disk, "esp", `${dir}/esp.img`);

      const first = await release(dir, { version: "1", slot: "A", revision: 2 });
      await install(disk, "configA", first.config);
      await install(disk, "rootA", first.root);
      // Boot Guard wants both slots; the other one has nothing that is newer.
      await Deno.mkdir(`${dir}/empty`);
      await Deno.writeFile(`${dir}/empty/EFILABEL`, utf16("BOOTB"));
      await quiet`bg_setenv --filepath=${dir}/empty/BGENV.DAT --revision=1 ${"--kernel=C:BOOTB:linux.efi"} --watchdog=0`;
      await build("part-image", `${dir}/empty`, `${dir}/empty.img`, {
        FILESYSTEM: "vfat",
        LABEL: "BOOTB",
        FREE_MB: "0",
      });
      await install(disk, "configB", `${dir}/empty.img`);

      const before = await boot(disk);
      assert.match(before.get("cmdline")!, new RegExp(`root=PARTUUID=${PARTITIONS.rootA.uuid} rw`));
      assert.match(before.get("os-release")!, /^VERSION_ID=1$/m);

      const second = await release(dir, { version: "2", slot: "B", revision: 3 });
      await install(disk, "configB", second.config);
      await install(disk, "rootB", second.root);
      const after = await boot(disk);
      assert.match(after.get("cmdline")!, new RegExp(`root=PARTUUID=${PARTITIONS.rootB.uuid} rw`));
      assert.match(after.get("os-release")!, /^VERSION_ID=2$/m);
    }),
);

/** UTF-16LE without a byte order mark. */
function utf16(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([...text].flatMap((letter) => [letter.charCodeAt(0), 0]));
}

async function boot(disk: string): Promise<Map<string, string>> {
  return report(await bootQemu(disk, { format: "raw", architecture: "x86-64" }));
}
