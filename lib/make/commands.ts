/**
 * Every command line of the builders, one function each.
 *
 * They do not start until awaited or asked for their output. See the linked man pages for unusual flags. None contains
 * text from the tree: names could be mistaken for options.
 *
 * @module
 */

import { SECTOR } from "../core/units.ts";
import { KiB } from "../core/units.ts";
import { BLOCK_SIZE, INODE_SIZE } from "../filesystem/ext4/layout.ts";
import type { Ext4Plan } from "../filesystem/ext4/plan.ts";
import { FAT_ROOT_ENTRIES } from "../filesystem/fat/geometry.ts";
import type { StreamPlan } from "../filesystem/types.ts";
import type { FatPlan } from "../filesystem/types.ts";
import type { Compressor } from "../image/formats.ts";
import type { Target } from "../image/target.ts";
import { type ProgramName, PROGRAMS } from "../system/programs.ts";
import { $, type Command } from "../system/sh.ts";

type Chunks = Iterable<Uint8Array<ArrayBuffer>>;

/** Asks a program for its version. */
export function askVersion(program: ProgramName): Command {
  const { version } = PROGRAMS[program] as { version: { ask: string } };
  // mkfs.vfat --help exits with 0 or 1, depending on its version.
  return $`${program} ${version.ask}`.quiet().noThrow(1);
}

// --- The partition table: https://man7.org/linux/man-pages/man8/sfdisk.8.html

/** For sfdisk, an image has 512-byte sectors; before version 2.41, there is no option to change that. */
function sectorOption(sector: number): string[] {
  return sector === SECTOR ? [] : ["--sector-size", String(sector)];
}

/** Writes the partition table that a script describes. The backup goes to the very end of the image. */
export function sfdiskWrite(image: string, script: string, sector: number): Command {
  // Without --no-tell-kernel, it waits a quarter of a second before it notifies a kernel that has no such disk.
  return $`sfdisk --quiet ${
    sectorOption(sector)
  } --no-tell-kernel --wipe=never --wipe-partitions=never ${image}`
    .stdinText(script);
}

/** Prints the partition table as JSON. */
export function sfdiskJson(image: string, sector: number): Command {
  return $`sfdisk ${sectorOption(sector)} --json ${image}`.quiet();
}

/** Checks the partition table. */
export function sfdiskVerify(image: string, sector: number): Command {
  return $`sfdisk ${sectorOption(sector)} --verify --quiet ${image}`;
}

// --- ext4: https://man7.org/linux/man-pages/man8/mke2fs.8.html

/** `mke2fs -O`; anything not listed is off. The fill adds the journal, in the planned location. */
const FEATURES = [
  ...["none", "64bit", "dir_index", "dir_nlink", "ext_attr", "extent", "extra_isize", "filetype", "flex_bg"],
  ...["huge_file", "large_file", "metadata_csum", "resize_inode", "sparse_super"],
].join(",");

/** Formats an ext4 without journal and files. */
export function mke2fs({ path, offset, size }: Target, { layout, request }: Ext4Plan): Command {
  const extended = [
    `offset=${offset}`,
    `hash_seed=${request.hashSeed}`,
    // All tables at the front: the rest is one piece, at a predictable location.
    "packed_meta_blocks=1",
    "lazy_itable_init=1",
    "nodiscard",
    "root_owner=0:0",
  ].join(",");
  const inodes = layout.inodesPerGroup * layout.groups;
  return $`mke2fs -q -F -t ext4 -b ${BLOCK_SIZE} -I ${INODE_SIZE} -N ${inodes} -g ${layout.blocksPerGroup} -G 16 -m 0
    -U ${request.uuid} -L ${request.label} -O ${FEATURES} -E ${extended} ${path} ${
    Math.floor(size / BLOCK_SIZE)
  }`
    // It clears the end of the filesystem: written zeros are data for good, while a range that was zeroed by the kernel is
    // a hole or not, depending on what else has read it. A block map must not depend on that.
    .env({ UNIX_IO_NOZEROOUT: "1" });
}

/** Checks an ext4. A question mark in the argument starts the options, so `path` must not contain any. */
export function e2fsck(path: string, offset: number): Command {
  return $`e2fsck -f -n ${`${path}?offset=${offset}`}`;
}

// --- FAT: https://manpages.debian.org/trixie/dosfstools/mkfs.fat.8.en.html

/** Formats a FAT filesystem. */
export function mkfsVfat({ path, offset, start = offset, size }: Target, plan: FatPlan): Command {
  const { geometry: { bits, sector, perCluster, reserved }, serial, label, time } = plan;
  const rootEntries = bits === 32 ? [] : ["-r", FAT_ROOT_ENTRIES];
  // -a: sizes as planned, without alignment. -h: FAT records where it starts on the disk.
  return $`mkfs.vfat --invariant -F ${bits} -S ${sector} -s ${perCluster} -R ${reserved} -f 2 ${rootEntries} -a
    -i ${serial} -n ${label} --offset ${offset / sector} -h ${start / sector} ${path} ${size / KiB}`
    // Otherwise, the entry of the label would have the current time.
    .env({ SOURCE_DATE_EPOCH: String(time) });
}

/** Checks a FAT filesystem, which must start at the beginning of the file. */
export function fsckVfat(path: string): Command {
  return $`fsck.vfat -n ${path}`;
}

// --- Read-only filesystems

/**
 * Makes a squashfs from a pax stream.
 *
 * -no-tailends: without it, as -tar has it, a file can get the contents of another one. If a file is the end of a larger
 * one, all versions up to 4.7.5 may take a third file for it; before 4.7 threads race for the place in the image, too.
 *
 * -mem: it fills a quarter of the machine's memory with what it has read and not compressed yet, whatever limit its container
 * has. The size changes neither the time it takes nor its output. -processors: it would start threads for all of the machine's,
 * of which a container may only use some of the time.
 *
 * https://manpages.debian.org/trixie/squashfs-tools/mksquashfs.1.en.html
 */
export function mksquashfs(path: string, { compression, root, time }: StreamPlan, stream: Chunks): Command {
  // Pseudo files of the form "/ x NAME=VALUE", the value in base64: 4.6.1 writes beyond its buffer with hexadecimal ones.
  const xattrs = root.xattrs.flatMap(({ name, value }) => ["-p", `/ x ${name}=0s${value.toBase64()}`]);
  return $`mksquashfs - ${path} -tar -no-tailends -noappend -exit-on-error -quiet -no-progress -reproducible
    -mem 256M -processors ${navigator.hardwareConcurrency} ${compression} -root-mode ${root.mode.toString(8)}
    -root-uid ${root.uid} -root-gid ${root.gid} -root-time ${root.time} ${xattrs}`
    .env({ SOURCE_DATE_EPOCH: String(time) }).stdin(stream);
}

/**
 * Reads all of a squashfs, as a list of pseudo files with their contents, which nobody keeps. Without xattrs: 4.6.1 prints
 * them with a buffer that is not its own, and is aborted.
 */
export function unsquashfs(path: string, offset: number): Command {
  return $`unsquashfs -no-xattrs -o ${offset} -pf /dev/null ${path}`;
}

/**
 * Makes an erofs from a pax stream.
 *
 * SOURCE_DATE_EPOCH is not set: it would replace all times before 1970. The stream has no later times.
 *
 * @param scratch a directory for its temporary files.
 *
 * https://manpages.debian.org/trixie/erofs-utils/mkfs.erofs.1.en.html
 */
export function mkfsErofs(path: string, plan: StreamPlan, stream: Chunks, scratch: string): Command {
  const { compression, uuid, label, time } = plan;
  return $`mkfs.erofs --quiet --tar=f -b4096 -T${time} --mkfs-time -U${uuid} -L${label} ${compression} ${path}`
    .env({ TMPDIR: scratch }).stdin(stream);
}

/** Reads all of an erofs. */
export function fsckErofs(path: string, offset: number): Command {
  return $`fsck.erofs --extract ${`--offset=${offset}`} ${path}`;
}

// --- dm-verity: https://manpages.debian.org/trixie/cryptsetup-bin/veritysetup.8.en.html

/** Makes the hashes of `data` in the file `hashes`, and prints the root hash. */
export function veritysetupFormat(data: string, hashes: string, salt: string, uuid: string): Command {
  return $`veritysetup format --format=1 --hash=sha256 --data-block-size=4096 --hash-block-size=4096
    --salt=${salt} --uuid=${uuid} ${data} ${hashes}`;
}

/** Compares data with their hashes. */
export function veritysetupVerify(data: string, hashes: string, rootHash: string): Command {
  return $`veritysetup verify ${data} ${hashes} ${rootHash}`.quiet();
}

/** Signs a file: PKCS #7 in DER. https://docs.openssl.org/master/man1/openssl-smime/ */
export function opensslSign(file: string, key: string, certificate: string, signature: string): Command {
  // Without attributes, no time is signed, and the same hash gives the same bytes.
  return $`openssl smime -sign -nocerts -noattr -binary -in ${file} -inkey ${key} -signer ${certificate}
    -outform der -out ${signature}`;
}

/** Prints the SHA-256 of a certificate. */
export function opensslFingerprint(certificate: string): Command {
  return $`openssl x509 -in ${certificate} -noout -fingerprint -sha256`;
}

// --- GRUB: https://www.gnu.org/software/grub/manual/grub/grub.html#Invoking-grub_002dmkimage

interface GrubOptions {
  /** The modules. */
  readonly directory: string;
  /** For which machine: `i386-pc`, `x86_64-efi`. */
  readonly format: string;
  /** Where it finds its menu. */
  readonly prefix: string;
  /** Which modules are built in. */
  readonly modules: readonly string[];
  /** A file with commands that it runs first. */
  readonly script?: string;
}

/** Puts GRUB's modules together into one program. */
export function grubMkimage(
  { directory, format, prefix, modules, script }: GrubOptions,
  output: string,
): Command {
  return $`grub-mkimage --directory=${directory} --format=${format} --output=${output} --prefix=${prefix} ${
    script === undefined ? [] : [`--config=${script}`]
  } ${modules}`;
}

// --- Formats: https://www.qemu.org/docs/master/tools/qemu-img.html

/** Converts a raw image; prints its progress in percent. */
export function qemuImgConvert(
  from: string,
  to: string,
  driver: string,
  options: string | undefined,
): Command {
  return $`qemu-img convert -p -f raw -O ${driver} ${options ? ["-o", options] : []} ${from} ${to}`;
}

/** Prints information about an image as JSON. */
export function qemuImgInfo(image: string, driver: string): Command {
  return $`qemu-img info --output=json -f ${driver} ${image}`;
}

/** Checks the structure of an image. */
export function qemuImgCheck(image: string, driver: string): Command {
  return $`qemu-img check -q -f ${driver} ${image}`;
}

/** Compares an image with the raw one that it was made from. */
export function qemuImgCompare(raw: string, image: string, driver: string): Command {
  return $`qemu-img compare -q -f raw -F ${driver} ${raw} ${image}`;
}

// --- Compression

/** Compresses what `chunks` are with the usual level, as a single block, and prints the result. */
export function xzCompress(chunks: Chunks): Command {
  // A second thread would change the result.
  return $`xz --compress --stdout --threads=1`.stdin(chunks).quiet();
}

const DECOMPRESS = {
  zst: (path: string) => $`zstd --decompress --stdout --quiet ${path}`,
  xz: (path: string) => $`xz --decompress --stdout ${path}`,
  // gzip only reads names that end in .gz, unless it is told to.
  gz: (path: string) => $`gzip --decompress --stdout --force ${path}`,
} as const satisfies Record<Compressor, (path: string) => Command>;

/** Prints the contents of a compressed file. */
export function decompress(path: string, method: Compressor): Command {
  return DECOMPRESS[method](path);
}

/** Prints a member of an archive. */
export function tarMember(path: string, member: string, method: Compressor | "none"): Command {
  const filter = method === "none" ? [] : [`--use-compress-program=${PROGRAM_OF[method]}`];
  return $`tar --extract --to-stdout ${filter} ${archive(path)} ${member}`;
}

/** The programs of the compressions. */
export const PROGRAM_OF = { zst: "zstd", xz: "xz", gz: "gzip" } as const satisfies Record<
  Compressor,
  ProgramName
>;

// --- The tree

/** Everything that a tree can hold is read from an archive and set. */
const METADATA = ["--numeric-owner", "--selinux", "--xattrs"];

/** The xattrs that Linux has; whatever others an archive names could not be set. */
const XATTRS = ["user", "trusted", "security", "system"].map((space) => `--xattrs-include=${space}.*`);

/** Otherwise, a colon in the path would mean a remote host. */
function archive(path: string): string[] {
  return ["--quoting-style=escape", "--force-local", `--file=${path}`];
}

/**
 * Lists an archive with its xattrs, to the end of the file: not only to the end of the first of several archives.
 *
 * https://www.gnu.org/software/tar/manual/html_node/list.html
 */
export function tarList(path: string, decompress: readonly string[]): Command {
  return $`tar --list --verbose --verbose --block-number --ignore-zeros ${decompress} ${METADATA} --acls --xattrs-include=* ${
    archive(path)
  }`;
}

/** Lists the names in an archive, one a line: whatever is wrong with its headers is an error. */
export function tarNames(path: string, decompress: readonly string[]): Command {
  return $`tar --list ${decompress} ${archive(path)}`;
}

/**
 * Unpacks an archive. https://www.gnu.org/software/tar/manual/html_node/extract-options.html
 *
 * @param hasXattrAcls With `--acls`, tar removes ACLs that are only xattrs.
 */
export function tarExtract(
  path: string,
  directory: string,
  decompress: readonly string[],
  exclude: readonly string[],
  hasXattrAcls: boolean,
): Command {
  return $`tar --extract ${`--directory=${directory}`} --same-owner --same-permissions --delay-directory-restore
    ${exclude} ${decompress} ${METADATA} ${hasXattrAcls ? [] : ["--acls"]} ${XATTRS} ${archive(path)}`;
}

/** Makes a device node, as a test. */
export function mknod(path: string): Command {
  return $`mknod ${path} c 1 3`.quiet();
}

/** Prints "newer" if anything in a tree changed after the file `than`; compares nanoseconds. */
export function findNewer(tree: string, than: string): Command {
  return $`find -H ${tree} ${["(", "-newer", than, "-o", "-cnewer", than, ")"]} ${[
    "-printf",
    "newer",
    "-quit",
  ]}`
    .quiet();
}
