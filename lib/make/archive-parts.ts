/**
 * The archives that a disk goes into, with what their readers want to know of it. One row each.
 *
 * @module
 */

import { node } from "../core/node.ts";
import { GiB } from "../core/units.ts";
import { ARCHIVE_END, memberHeader, padding, type Range, sparseHeader } from "../filesystem/tar-member.ts";
import type { ArchiveFile } from "../filesystem/types.ts";
import { type FormatName, formatOf } from "../image/formats.ts";
import { hashImage } from "../image/hash.ts";
import { imageSize, openImageFile } from "../image/image.ts";
import type { Part } from "../image/parts.ts";
import { dataClusters } from "../image/qcow2/clusters.ts";
import { CLUSTER } from "../image/qcow2/header.ts";
import type { DiskPlan } from "../plan/plan.ts";
import type { Tree } from "../tree/inspect.ts";
import { ovfOf } from "./ovf.ts";
import { memberPieces } from "./tar.ts";
import type { ImageInProgress } from "./types.ts";

interface Packed {
  readonly plan: DiskPlan;
  readonly tree: Pick<Tree, "osRelease">;
  readonly image: Pick<ImageInProgress, "made" | "name">;
  /** The image's name in the archive. */
  readonly member: string;
}

const PACKERS: { readonly [F in FormatName]?: (packed: Packed) => Promise<Part[]> } = {
  "gce": packGce,
  "ova": packOva,
  "vagrant": packVagrant,
};

/** The archive around the image of a plan, as a stream. */
export async function archiveParts(
  plan: DiskPlan,
  tree: Packed["tree"],
  image: Packed["image"],
): Promise<Part[]> {
  const { archive } = formatOf(plan.format);
  return [...await PACKERS[plan.format]!({ plan, tree, image, member: archive!.member }), {
    bytes: ARCHIVE_END,
  }];
}

/** A file as a part of a stream. */
export function wholeFile(path: string): Part & { readonly length: number } {
  return { path, offset: 0, length: imageSize(path) };
}

/** Texts as members of an archive. */
function textMembers(files: readonly ArchiveFile[], time: number): Part[] {
  return [...memberPieces(files, time)].map((bytes) => ({ bytes }));
}

/** A file as a member of an archive. */
function fileMember(name: string, path: string, time: number): Part[] {
  const file = wholeFile(path);
  return [{ bytes: memberHeader({ name, size: file.length, time }) }, file, { bytes: padding(file.length) }];
}

/**
 * A sparse file in GNU's old format, as `tar --format=oldgnu -S` writes it.
 *
 * https://cloud.google.com/compute/docs/import/import-existing-image#create_image_file
 */
async function packGce({ plan: { time }, image: { made }, member }: Packed): Promise<Part[]> {
  const size = imageSize(made);
  const ranges: { offset: number; length: number }[] = [];
  using file = openImageFile(made);
  // What is zeros, and not what is a hole, so that it is the same on any filesystem.
  for await (const offset of dataClusters({ image: file, host: 0, guest: 0, size })) {
    const length = Math.min(CLUSTER, size - offset);
    const last = ranges.at(-1);
    if (last && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  }
  const stored = ranges.reduce((sum, { length }) => sum + length, 0);
  return [
    { bytes: sparseHeader({ name: member, size, time }, ranges satisfies Range[]) },
    ...ranges.map((range) => ({ path: made, ...range })),
    { bytes: padding(stored) },
  ];
}

/** The descriptor first, then the manifest, then the disk: DSP0243, "Distribution as a single file". */
async function packOva({ plan, tree, image, member }: Packed): Promise<Part[]> {
  const { time, size, seed, architecture, settings: { firmware } } = plan;
  const name = image.name.replace(/\.ova$/i, "");
  const ovf = ovfOf({
    ...{ name, osRelease: tree.osRelease, isX86: architecture === "x86-64", firmware, seed },
    disk: { file: member, fileSize: imageSize(image.made), capacity: size },
  });
  const sums = {
    "disk.ovf": node.crypto.createHash("sha256").update(ovf).digest("hex"),
    [member]: await hashImage(image.made),
  };
  const manifest = Object.entries(sums).map(([file, sum]) => `SHA256(${file})= ${sum}\n`).join("");
  return [
    ...textMembers([{ name: "disk.ovf", text: ovf }, { name: "disk.mf", text: manifest }], time),
    ...fileMember(member, image.made, time),
  ];
}

/** Where distributions have UEFI firmware for machines without Secure Boot. */
const FIRMWARE_FILES = [
  "/usr/share/OVMF/OVMF_CODE_4M.fd",
  "/usr/share/OVMF/OVMF_CODE.fd",
  "/usr/share/edk2/ovmf/OVMF_CODE.fd",
  "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
  "/usr/share/qemu/ovmf-x86_64-code.bin",
];

/** https://vagrant-libvirt.github.io/vagrant-libvirt/boxes.html, https://developer.hashicorp.com/vagrant/docs/boxes/format */
function packVagrant({ plan, image, member }: Packed): Promise<Part[]> {
  const { time, size, settings: { firmware } } = plan;
  const metadata = { provider: "libvirt", format: "qcow2", virtual_size: Math.ceil(size / GiB) };
  return Promise.resolve([
    ...textMembers([
      { name: "metadata.json", text: `${JSON.stringify(metadata)}\n` },
      { name: "Vagrantfile", text: vagrantfile(firmware) },
    ], time),
    ...fileMember(member, image.made, time),
  ]);
}

/** What a machine of this box needs; it is merged with the user's own. */
function vagrantfile(firmware: DiskPlan["settings"]["firmware"]): string {
  const uefi = `    # The disk boots through UEFI. Set libvirt.loader if your firmware is elsewhere.
    loader = %w[
${FIRMWARE_FILES.map((path) => `      ${path}\n`).join("")}    ].find { |path| File.exist?(path) }
    libvirt.loader = loader if loader
`;
  return `Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.disk_bus = "virtio"
${firmware === "uefi" ? uefi : ""}  end
end
`;
}
