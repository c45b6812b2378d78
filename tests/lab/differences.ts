/**
 * Finds where two images differ: the first offset, its partition, and the structure there.
 *
 * @module
 */

import { type FormatName, formatOf } from "../../lib/image/formats.ts";
import { imageSize, readImage } from "../../lib/image/image.ts";
import { readTable } from "../../lib/make/table.ts";
import { $ } from "../../lib/system/sh.ts";
import { quiet, tempDir } from "./helpers.ts";

/** The first difference between two images of one format; `undefined` when there is none. */
export async function findDifference(a: string, b: string, format: FormatName): Promise<string | undefined> {
  const said = await $`cmp --verbose --bytes=${2 ** 50} ${a} ${b}`.quiet().noThrow(1).text();
  const sizes = [imageSize(a), imageSize(b)];
  const count = said.split("\n").length - 1;
  if (count === 0 && sizes[0] === sizes[1]) return undefined;
  const first = /^ *(\d+)/.exec(said)?.[1];
  if (first === undefined) return `the sizes: ${sizes.join(" and ")} bytes`;
  const at = Number(first) - 1;
  const text = `${count} bytes, the first at ${at}`;
  const { driver } = formatOf(format);
  if (driver === undefined || formatOf(format).archive) return text;
  if (driver === "raw") return `${text}: ${await placeIn(a, at)}`;
  return await tempDir(async (dir) => {
    for (const [name, image] of [["a", a], ["b", b]] as const) {
      await quiet`qemu-img convert -f ${driver} -O raw ${image} ${dir}/${name}`;
    }
    const inside = await findDifference(`${dir}/a`, `${dir}/b`, "raw");
    return inside ? `in the disk: ${inside}` : `${text}: in what ${format} puts around the disk`;
  });
}

/** The structure that a byte of a raw image belongs to. */
export async function placeIn(image: string, at: number): Promise<string> {
  const size = imageSize(image);
  const isDisk = text(image, 512, 8) === "EFI PART";
  if (!isDisk) return await placeInFilesystem(image, 0, size, at);
  const { entries } = await readTable(image);
  const number = entries.findIndex(({ offset, size }) => at >= offset && at < offset + size);
  if (number >= 0) {
    const { offset, size, label } = entries[number]!;
    const place = await placeInFilesystem(image, offset, size, at - offset);
    return `partition ${number + 1} (${label}), ${place}`;
  }
  if (at < 512) return "the protective MBR";
  if (at < 1024) return "the header of the GPT";
  if (at < 34 * 512) return `entry ${Math.floor((at - 1024) / 128) + 1} of the GPT`;
  if (at >= size - 512) return "the header of the backup GPT";
  if (at >= size - 33 * 512) {
    return `entry ${Math.floor((at - (size - 33 * 512)) / 128) + 1} of the backup GPT`;
  }
  return "no partition";
}

function text(image: string, offset: number, length: number): string {
  return new TextDecoder("latin1").decode(readImage(image, offset, length));
}

async function placeInFilesystem(image: string, offset: number, size: number, at: number): Promise<string> {
  const view = new DataView(readImage(image, offset, 4096).buffer);
  if (view.getUint16(1024 + 0x38, true) === 0xef53) return await placeInExt4(image, offset, size, at);
  if (view.getUint16(510, true) === 0xaa55) return placeInFat(view, at);
  return `byte ${at}`;
}

function placeInFat(sector: DataView, at: number): string {
  const bytes = sector.getUint16(11, true);
  const reserved = sector.getUint16(14, true) * bytes;
  const table = (sector.getUint16(22, true) || sector.getUint32(36, true)) * bytes;
  const root = sector.getUint16(17, true) * 32;
  const data = reserved + 2 * table + root;
  if (at < reserved) return `FAT: reserved sector ${Math.floor(at / bytes)}`;
  if (at < reserved + 2 * table) return `FAT: allocation table ${at < reserved + table ? 1 : 2}`;
  if (at < data) return `FAT: entry ${Math.floor((at - reserved - 2 * table) / 32)} of the root directory`;
  return `FAT: cluster ${Math.floor((at - data) / bytes / sector.getUint8(13)) + 2}`;
}

async function placeInExt4(image: string, offset: number, size: number, at: number): Promise<string> {
  return await tempDir(async (dir) => {
    const file = `${dir}/ext4`;
    await quiet`dd if=${image} of=${file} bs=64K iflag=skip_bytes,count_bytes skip=${offset} count=${size}
      conv=sparse status=none`;
    // "Group  0: block bitmap at 17, inode bitmap at 33, inode table at 49"
    const stats = await quiet`debugfs -R ${"stats"} ${file}`;
    const number = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)$`, "m").exec(stats)![1]);
    const block = Math.floor(at / 4096);
    if (at >= 1024 && at < 2048) return "ext4: the superblock";
    const groups = [
      ...stats.matchAll(/Group +(\d+): block bitmap at (\d+), inode bitmap at (\d+), inode table at (\d+)/g),
    ];
    const perGroup = number("Inodes per group"), tableBlocks = perGroup * number("Inode size") / 4096;
    for (const [, group, ...places] of groups) {
      const [blocks, inodes, table] = places.map(Number) as [number, number, number];
      if (block === blocks) return `ext4: the block bitmap of group ${group}`;
      if (block === inodes) return `ext4: the inode bitmap of group ${group}`;
      if (block >= table && block < table + tableBlocks) {
        const inode = Number(group) * perGroup + Math.floor((at - table * 4096) / number("Inode size")) + 1;
        return `ext4: inode ${inode}, ${await nameOf(file, inode)}`;
      }
    }
    const [, inode] = /^\d+\t(\d+)$/m.exec(await quiet`debugfs -R ${`icheck ${block}`} ${file}`) ?? [];
    if (inode) return `ext4: block ${block} of inode ${inode}, ${await nameOf(file, Number(inode))}`;
    return `ext4: block ${block}, which holds metadata or nothing`;
  });
}

async function nameOf(file: string, inode: number): Promise<string> {
  const said = await quiet`debugfs -R ${`ncheck ${inode}`} ${file}`;
  return /^\d+\t(.*)$/m.exec(said)?.[1] ?? "which has no name";
}
