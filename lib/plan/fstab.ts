/**
 * Decides on `/etc/fstab` of the image.
 *
 * - https://man7.org/linux/man-pages/man5/fstab.5.html
 * - https://www.freedesktop.org/software/systemd/man/latest/systemd.mount.html#fstab
 *
 * @module
 */

import { normalize } from "node:path";
import { quote } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { isDefaultFlag, isFlag, isForPrograms } from "./mount-options.ts";

/** Mount points of which the tree's lines name the disks of another machine. */
const OTHERS_MOUNT_POINTS = ["/", "/boot", "/boot/efi", "/efi"];

const FSTAB = "/etc/fstab";

/** A line of an fstab. */
interface Line {
  /** What is mounted, without quotes. */
  readonly source: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** A field in fstab's spelling, with octal escapes. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}

/** A field as fstab spells it. */
function escape(field: string): string {
  return field.replace(/[\s\\#]/g, (mark) => `\\${mark.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

/** A line that mounts something; `undefined` for comments and empty lines. */
function parseLine(text: string): Line | undefined {
  const [source = "", mountPoint = "", type = "", options = ""] = text.replace(/^[ \t]+/, "").split(/[ \t]+/);
  if (source === "" || source.startsWith("#")) return undefined;
  return {
    source: unescape(source).replaceAll('"', ""),
    // There are many ways to write a path.
    mountPoint: normalize(unescape(mountPoint)).replace(/(?<=.)\/+$/, ""),
    type,
    options: options.split(",").filter(Boolean),
  };
}

/** The line of `/` in the tree's fstab. */
export function rootLine(
  fstab: string,
):
  | { readonly source: string; readonly type: string; readonly options: readonly string[] }
  | undefined {
  for (const line of fstab.split("\n")) {
    const fields = parseLine(line);
    if (fields?.type && fields.mountPoint === "/") {
      const { source, type } = fields;
      return { source, type, options: fields.options.length ? fields.options : ["defaults"] };
    }
  }
}

/**
 * The finding about the tree's line of `/` in an image without partitions, where systemd-remount-fs does not find what
 * it names. The line is kept: the partition, and whoever gives the image another UUID or label, are not known here.
 */
export function findForeignRoot(
  fstab: string,
  { uuid, label }: { readonly uuid: string; readonly label: string },
): Finding[] {
  const source = rootLine(fstab)?.source ?? "";
  const [, kind = "", value = ""] = /^(?:\/dev\/disk\/by-)?(uuid|label)[=/](.*)$/i.exec(source) ?? [];
  const isOwn = kind.toLowerCase() === "uuid" ? value.toLowerCase() === uuid.toLowerCase() : value === label;
  if (kind === "" || isOwn) return [];
  return [
    finding("fstab-root", `The line of / in ${FSTAB} names ${quote(source)}, which the image is not`, {
      path: FSTAB,
    }),
  ];
}

/** A filesystem of the image, or its swap. */
export interface FstabLine {
  /** `UUID=…` where there is one: busybox's mount does not support PARTUUID. */
  readonly source: string;
  /** `none` for swap. */
  readonly mountPoint: string;
  readonly type: string;
  readonly options: string;
  /** When it is checked: 0 never, 2 after the root. */
  readonly pass: number;
  /** Whether systemd finds and mounts it without a line. */
  readonly isDiscovered?: boolean;
}

/** What is decided elsewhere. */
export interface FstabContext {
  readonly lines: readonly FstabLine[];
  /** Whether the image has a file at that path. */
  readonly exists: (path: string) => boolean;
}

/** Options besides flags that do not depend on the filesystem, nor on what else is on the disk. */
const KEPT_OPTIONS =
  /^(?:ro|nosymfollow|nofail|noauto|x-systemd\.(?:automount|(?:idle|mount|device)-timeout=.*))$/;

/** Whether an option of a line still makes sense for another filesystem at its mount point. */
function isKept(option: string): boolean {
  return isFlag(option) ? !isDefaultFlag(option) : KEPT_OPTIONS.test(option);
}

/** Whether leaving out an option changes how a filesystem is mounted. */
function isLost(option: string): boolean {
  return !isKept(option) && !isFlag(option) && option !== "rw" && !isForPrograms(option);
}

/** Our line with the options of the tree's lines that it replaces. Its own come last, and hold where both differ. */
function withOptions(line: FstabLine, replaced: readonly Line[]): FstabLine {
  const own = line.options.split(",").filter((option) => option !== "defaults");
  const kept = replaced.flatMap(({ options }) => options).filter((option) =>
    isKept(option) && !own.includes(option)
  );
  if (kept.length === 0) return line;
  // What is mounted read-only cannot grow.
  const fitting = own.filter((option) => option !== "x-systemd.growfs" || !kept.includes("ro"));
  return { ...line, options: [...new Set(kept), ...fitting].join(","), isDiscovered: false };
}

/** The tree's fstab with our lines for the image's partitions instead of its own, and findings about it. */
export function planFstab(fstab: string, context: FstabContext): { text: string; findings: Finding[] } {
  const places = context.lines.filter(({ type }) => type !== "swap").map(({ mountPoint }) => mountPoint);
  const own = [...OTHERS_MOUNT_POINTS, ...places];
  // The image has its own filesystem there, or the mount point was below the old boot partition.
  const isOwn = ({ mountPoint, type }: Line) =>
    type !== "swap" && own.includes(mountPoint) || /^\/(boot|efi)\//.test(mountPoint);
  const findings: Finding[] = [];
  const below: string[] = [];
  const replaced: Line[] = [];
  const kept = fstab.split("\n").filter((text) => {
    const line = parseLine(text);
    if (!line) return !text.includes("UNCONFIGURED FSTAB");
    if (isOwn(line)) {
      if (own.includes(line.mountPoint)) replaced.push(line);
      else below.push(line.mountPoint);
      return false;
    }
    const problem = findProblem(line, context);
    if (problem) {
      findings.push(
        finding("fstab-device", `${problem}, which is to be mounted on ${quote(line.mountPoint)}`, {
          path: FSTAB,
        }),
      );
    }
    return true;
  });
  if (below.length) {
    const paths = below.map(quote).join(", ");
    findings.push(
      finding("fstab-boot", `Leaving out the lines of ${FSTAB} for ${paths}: they belong to the old /boot`, {
        path: FSTAB,
      }),
    );
  }
  const lines = context.lines.flatMap((line) => {
    const before = replaced.filter(({ mountPoint }) => mountPoint === line.mountPoint);
    const { source, mountPoint, type, options, pass, isDiscovered } = withOptions(line, before);
    const lost = before.flatMap(({ options }) => options).filter((option) =>
      isLost(option) && !options.split(",").includes(option)
    );
    // Those of the boot partitions say what the old disk needed.
    if (lost.length && !OTHERS_MOUNT_POINTS.includes(mountPoint)) {
      findings.push(
        finding(
          "fstab-options",
          `Leaving out the mount options ${quote(lost.join(","))} of ${
            quote(mountPoint)
          }, which is ${type} now`,
          { path: FSTAB },
        ),
      );
    }
    return isDiscovered ? [] : [`${source} ${escape(mountPoint)} ${type} ${options} 0 ${pass}`];
  });
  const before = kept.join("\n").trim();
  return { text: [...before ? [before] : [], ...lines].map((line) => `${line}\n`).join(""), findings };
}

/** Options with which the boot continues without the filesystem, or does not wait for it. */
const NOT_NEEDED = ["nofail", "noauto", "x-systemd.automount", "_netdev"];

/** Devices that the kernel or systemd creates, and devices that are not disks. */
const MADE_DEVICES = /^\/dev\/(root$|zram|loop|shm|null$)/;

/** Labels of the image's own partitions and filesystems. */
const OWN_LABELS = /^(LABEL=(root|ESP|BOOT)|PARTLABEL=(root|esp|xbootldr))$/;

/** The device that a line names and the image does not have. */
function findProblem({ source, type, options }: Line, { lines, exists }: FstabContext): string | undefined {
  if (options.some((option) => NOT_NEEDED.includes(option))) return undefined;
  if (lines.some((line) => line.source === source) || OWN_LABELS.test(source)) return undefined;
  if (/^(UUID|LABEL|PARTUUID|PARTLABEL|ID)=/.test(source) || source.startsWith("/dev/")) {
    return MADE_DEVICES.test(source) ? undefined : `The image has no device ${quote(source)}`;
  }
  // For network filesystems and the like, this is just a name.
  const isFile = source.startsWith("/") &&
    (type === "swap" || options.some((option) => /^(r?bind|loop)$/.test(option)));
  return isFile && !exists(source) ? `The tree has no ${quote(source)}` : undefined;
}
