/**
 * Small files that say how a tree boots, and the kernel options in them.
 *
 * - Boot Loader Specification: https://uapi-group.org/specifications/specs/boot_loader_specification/
 * - `/etc/kernel/cmdline`: https://www.freedesktop.org/software/systemd/man/latest/kernel-install.html
 * - `/etc/cmdline.d`: https://man.archlinux.org/man/mkinitcpio.8
 * - `/etc/default/grub`: https://www.gnu.org/software/grub/manual/grub/grub.html#Simple-configuration; `grub.d` is
 *   read by Debian's grub-mkconfig
 * - `/etc/default/u-boot`: https://manpages.debian.org/trixie/u-boot-menu/u-boot-update.8.en.html
 *
 * @module
 */

import { readAssignments } from "./assignments.ts";
import { lookup, type Nodes, pathOf } from "./nodes.ts";
import { entriesIn, fileAt } from "./query.ts";

/** Texts by path in the tree. */
export type BootTexts = ReadonlyMap<string, string>;

/** Where distributions have the program that writes GRUB's menu. */
export const GRUB_MKCONFIG = ["/usr/sbin", "/usr/bin", "/sbin"].flatMap((directory) =>
  ["grub-mkconfig", "grub2-mkconfig"].map((name) => `${directory}/${name}`)
);

/** Paths of the files; a last component that begins with `*` matches all names with that ending. */
const FILES = [
  ...["/etc/kernel/cmdline", "/etc/cmdline.d/*.conf", "/usr/lib/kernel/cmdline", "/etc/kernel/devicetree"],
  ...["/etc/default/grub", "/etc/default/grub.d/*.cfg", "/etc/default/u-boot"],
  ...["/boot/loader/entries/*.conf", "/boot/grub/grubenv", "/boot/grub2/grubenv"],
  ...["/boot/loader/loader.conf", "/boot/efi/loader/loader.conf", "/efi/loader/loader.conf"],
  ...GRUB_MKCONFIG,
];

/** At most this many files of a directory are read. */
const MAX_FILES = 256;

/** Reads those that exist. `read` returns `undefined` for the others. */
export function readBootTexts(nodes: Nodes, read: (path: string) => string | undefined): BootTexts {
  const texts = new Map<string, string>();
  for (const pattern of FILES) {
    for (const path of expand(nodes, pattern)) {
      const text = read(path);
      if (text !== undefined) texts.set(path, text);
    }
  }
  return texts;
}

function expand(nodes: Nodes, pattern: string): string[] {
  const [directory, ending] = pattern.split("/*");
  if (ending === undefined) return [pattern];
  return entriesIn(nodes, directory!).map(({ name }) => name)
    .filter((name) => name.endsWith(ending) && !name.startsWith("."))
    .map((name) => `${directory}/${name}`)
    // A file can be masked with a link to /dev/null.
    .filter((path) => fileAt(nodes, path) !== undefined).slice(0, MAX_FILES);
}

/** The texts of a directory's files, in order of their names. */
function textsIn(texts: BootTexts, directory: string): [path: string, text: string][] {
  return [...texts].filter(([path]) => path.startsWith(`${directory}/`));
}

/** A text as words separated by single blanks, for a boot entry and the log. */
export function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, " ").trim();
}

/** The words of a kernel command line, where double quotes keep words together. Keeps the quotes. */
export function optionWords(options: string): string[] {
  return options.match(/(?:"[^"]*"|[^\s"])+/g) ?? [];
}

/** The kernel options of a tree. */
export interface TreeOptions {
  /** On one line; empty if the files for options have none, absent if there is no such file. */
  readonly options?: string;
  /** Files with options that only a shell could evaluate. */
  readonly unread: readonly string[];
}

/**
 * The kernel options of a tree: those in the first file that has any, then additional ones in the boot entry of
 * the kernel `image`.
 */
export function treeOptions(texts: BootTexts, nodes: Nodes, kernel?: KernelNames): TreeOptions {
  const unread: string[] = [];
  const sources = [
    () => withoutComments(texts.get("/etc/kernel/cmdline")),
    () => fragments(texts),
    () => withoutComments(texts.get("/usr/lib/kernel/cmdline")),
    () => grubOptions(texts, unread),
    () => ubootOptions(texts, unread),
  ];
  let base: string | undefined;
  for (const source of sources) {
    // A file without options hides none of those after it. If they have none either, it counts, as it does for
    // kernel-install, which would otherwise take the options of the running kernel.
    if (!base) base = source() ?? base;
  }
  const entry = kernel && findEntry(texts, nodes, kernel);
  const words = optionWords(base ?? "");
  const more = (entry?.options ?? []).filter((word) => !words.includes(word));
  if (base === undefined && more.length === 0) return { unread };
  return { options: [base, ...more].filter(Boolean).join(" "), unread };
}

/** `/etc/cmdline.d/*.conf`. */
function fragments(texts: BootTexts): string | undefined {
  const found = textsIn(texts, "/etc/cmdline.d").map(([, text]) => text);
  return found.length ? withoutComments(found.join("\n")) : undefined;
}

/** On one line, without comment lines, as kernel-install and mkinitcpio read it. A later `#` is part of an option. */
function withoutComments(text: string | undefined): string | undefined {
  return text === undefined ? undefined : oneLine(text.replace(/^[ \t]*#.*/gm, ""));
}

/** The files of GRUB's own settings, in the order in which Debian's grub-mkconfig reads them. */
export function grubSettings(texts: BootTexts): [path: string, text: string][] {
  const main = texts.get("/etc/default/grub");
  return [
    ...main === undefined ? [] : [["/etc/default/grub", main] as [string, string]],
    ...textsIn(texts, "/etc/default/grub.d"),
  ];
}

const GRUB_VARIABLES = ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"];

/** The options that GRUB's own settings hold. */
export function grubOptions(texts: BootTexts, unread: string[] = []): string | undefined {
  return variables(grubSettings(texts), GRUB_VARIABLES, unread);
}

function ubootOptions(texts: BootTexts, unread: string[]): string | undefined {
  const text = texts.get("/etc/default/u-boot");
  return text === undefined
    ? undefined
    : variables([["/etc/default/u-boot", text]], ["U_BOOT_PARAMETERS"], unread);
}

/** The values of the variables after all of these scripts, on one line; `undefined` if all are empty. */
function variables(
  scripts: readonly [path: string, text: string][],
  names: readonly string[],
  unread: string[],
): string | undefined {
  const values = new Map<string, string>();
  for (const [path, text] of scripts) {
    for (const name of readAssignments(text, values)) {
      if (names.includes(name) && !unread.includes(path)) unread.push(path);
    }
  }
  return oneLine(names.map((name) => values.get(name)).filter(Boolean).join(" ")) || undefined;
}

/** What identifies a kernel. */
interface KernelNames {
  readonly version: string;
  readonly image: string;
}

/** A boot entry of the tree. */
interface BootEntry {
  /** The file's name. */
  readonly name: string;
  readonly options: readonly string[];
  /** A path in the tree. */
  readonly devicetree?: string;
}

/** The tree's boot entry for a kernel. */
export function findEntry(texts: BootTexts, nodes: Nodes, kernel: KernelNames): BootEntry | undefined {
  const entries = textsIn(texts, "/boot/loader/entries").map(([path, text]) => ({
    path,
    fields: fieldsOf(text),
  }));
  const isOf = (path: string | undefined) => path !== undefined && inBoot(nodes, path) === kernel.image;
  const found = entries.find(({ fields }) => isOf(fields.get("linux")?.[0])) ??
    entries.find(({ fields }) => fields.get("version")?.[0] === kernel.version);
  if (!found) return undefined;
  const environment = new Map(
    ["/boot/grub2/grubenv", "/boot/grub/grubenv"].flatMap((path) => texts.get(path)?.split("\n") ?? [])
      .map((line): [string, string] => [line.split("=")[0]!, line.slice(line.indexOf("=") + 1)]),
  );
  // GRUB substitutes variables of its environment: `$kernelopts`.
  const options = (found.fields.get("options") ?? []).join(" ")
    .replace(/\$\{?(\w+)\}?/g, (_, name) => environment.get(name) ?? "");
  const devicetree = found.fields.get("devicetree")?.[0];
  const path = devicetree && inBoot(nodes, devicetree);
  return {
    name: found.path.slice(found.path.lastIndexOf("/") + 1),
    options: optionWords(oneLine(options)),
    ...path && { devicetree: path },
  };
}

/** The lines of a boot entry by key. */
function fieldsOf(text: string): Map<string, string[]> {
  const fields = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [, key, value] = /^\s*([A-Za-z][\w-]*)\s+(.*\S)/.exec(line) ?? [];
    if (key) fields.set(key, [...fields.get(key) ?? [], value!]);
  }
  return fields;
}

/** The file in the tree for a path of a boot entry: below the boot partition, or below the root where there is none. */
function inBoot(nodes: Nodes, path: string): string | undefined {
  for (const place of [`/boot/${path}`, `/${path}`]) {
    const node = lookup(nodes, place);
    if (node !== undefined && fileAt(nodes, place) !== undefined) return pathOf(nodes, node);
  }
}

/**
 * The device tree for a kernel, as a path in the tree: from its boot entry, else the one that
 * `/etc/kernel/devicetree` names, where kernel-install looks for it.
 */
export function findDevicetree(texts: BootTexts, nodes: Nodes, kernel: KernelNames): string | undefined {
  const name = texts.get("/etc/kernel/devicetree")?.trim();
  const { version } = kernel;
  const places = [
    ...[`/usr/lib/firmware/${version}/device-tree`, `/usr/lib/linux-image-${version}`],
    ...[`/usr/lib/modules/${version}/dtb`, `/boot/dtb-${version}`, `/boot/dtbs/${version}`, "/boot/dtb"],
  ];
  const path = name &&
    places.map((place) => `${place}/${name}`).find((path) => fileAt(nodes, path) !== undefined);
  const found = findEntry(texts, nodes, kernel)?.devicetree ?? (path && pathOf(nodes, lookup(nodes, path)!));
  // It becomes part of a boot entry.
  return found && /^[\w/.,+~-]+$/.test(found) ? found : undefined;
}
