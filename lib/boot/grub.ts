/**
 * GRUB as the distribution built it: one program with all modules in it, signed or not. Nothing needs to run
 * to install it, and grub-install and update-grub can replace it later in the booted system.
 *
 * - https://www.gnu.org/software/grub/manual/grub/grub.html
 *
 * @module
 */

import type { ArchitectureName } from "../core/dps.ts";
import { alignUp, KiB } from "../core/units.ts";
import type { Recipe } from "../efi/recipes.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import { GRUB_MKCONFIG, grubOptions, grubSettings, optionWords } from "../tree/boot-texts.ts";
import { readAssignments } from "../tree/assignments.ts";
import type { EfiProgram } from "../tree/efi-programs.ts";
import type { Tree } from "../tree/inspect.ts";
import { distributionIds } from "../tree/os-release.ts";
import { entriesIn, fileAt, firstFile, namesIn } from "../tree/query.ts";
import {
  bootableKernels,
  type BootContext,
  copy,
  type EfiNames,
  file,
  firmwareOf,
  type FoundLoader,
  lacksKernels,
  optionsFor,
  programAt,
  titleOf,
  unifiedFindings,
} from "./loader.ts";
import { bootEntries } from "./systemd-boot.ts";
import { isForeign } from "./options.ts";
import { findShim, findShimAmong, type Shim } from "./shim.ts";

/** GRUB's names of the architectures it supports under UEFI. */
const TARGETS: { readonly [name in ArchitectureName]?: string } = {
  "x86-64": "x86_64-efi",
  "x86": "i386-efi",
  "arm64": "arm64-efi",
  "arm": "arm-efi",
  "riscv64": "riscv64-efi",
  "loongarch64": "loongarch64-efi",
};

/** The tree's GRUB, started by shim if both are signed. */
export function findGrub(tree: Tree): FoundLoader | string {
  const names = firmwareOf(tree);
  const target = names && TARGETS[names.architecture];
  if (!target) return "no GRUB for an architecture without UEFI";
  const lacking = lacksKernels(tree);
  if (lacking !== undefined) return lacking;
  const found = findImage(tree, names, target);
  if (!found) {
    return `no /usr/lib/grub/${target}/monolithic/grub${names.efi}.efi (in Debian: package grub-efi-*-bin or ` +
      "-unsigned), and no modules to make one of";
  }
  const { from, shim, make } = found;
  const path = `/${names.path}`;
  const directory = path.replace(/\/[^/]*$/, ""), first = path.split("/").at(-1)!;
  const image = programAt(tree, from)?.grub;
  return {
    reason: `the tree has ${shim ? `${shim.path} and ` : ""}${from}`,
    signed: Boolean(shim),
    verifiesKernels: shim ? true : {
      problem: "Cannot sign GRUB for Secure Boot: without shim it would start no kernel",
      hint: "Add shim and the signed GRUB to the tree (in Debian: shim-signed, grub-efi-*-signed)",
    },
    // dpkg makes hard links when it replaces a kernel, and FAT has none.
    boot: "ext4",
    needsSmallSectors: false,
    findings: unifiedFindings(tree),
    files: (context) => {
      const stub = grubStub(tree, context);
      const stubs = new Set([
        // Where the built-in prefix of a distribution's GRUB points, and where other GRUBs look first.
        ...vendors(tree).map((vendor) => `/EFI/${vendor}`),
        ...image && /^\/[\w./+-]+$/.test(image.prefix) ? [image.prefix.replace(/\/+$/, "")] : [],
        directory,
      ]);
      return {
        esp: make
          // What the stub says is built in.
          ? [{ path, type: "made", recipe: make(context) }]
          : [
            ...shim ? shim.files(directory, first, from) : [copy(from, path)],
            ...[...stubs].map((place) => file(`${place}/grub.cfg`, stub)),
          ],
        xbootldr: grubFiles(tree, context, image),
      };
    },
  };
}

/** A GRUB that could be installed. */
interface GrubProgram {
  /** The program, or the directory of the modules to build it from. */
  readonly from: string;
  readonly shim?: Shim;
  readonly make?: (context: BootContext) => Recipe;
}

/**
 * The GRUB of a tree: signed by its distribution, with its shim; ready-made; or to be built from modules.
 */
function findImage(tree: Tree, names: EfiNames, target: string): GrubProgram | undefined {
  const { nodes } = tree;
  const { efi, architecture } = names;
  const debian = firstFile(nodes, [`/usr/lib/grub/${target}-signed/grub${efi}.efi.signed`]);
  const debianShim = debian && findShim(tree, names);
  if (debian && debianShim) return { from: debian, shim: debianShim };
  const fits = (path: string) => {
    const program = programAt(tree, path);
    return program?.grub && program.architecture === architecture && !foreignGrub(program.grub);
  };
  // Fedora and others ship the files of the ESP, or a copy of them; SUSE keeps them elsewhere.
  const vendors = vendorDirectories(tree);
  const suse = [`/usr/share/efi/${CPUS[architecture] ?? architecture}`, "/usr/lib64/efi"];
  const from = [
    ...vendors.map((directory) => `${directory}/grub${efi}.efi`),
    ...[...suse, `/usr/share/grub2/${target}`].map((directory) => `${directory}/grub.efi`),
  ].find(fits);
  if (from) {
    const shim = findShimAmong(
      from.endsWith("/grub.efi")
        ? suse.map((directory) => `${directory}/shim.efi`)
        : vendors.map((directory) => `${directory}/shim${efi}.efi`),
      tree,
      names,
    );
    return { from, ...shim && programAt(tree, from)?.signed && { shim } };
  }
  const monolithic = firstFile(nodes, [`/usr/lib/grub/${target}/monolithic/grub${efi}.efi`]) ?? debian;
  if (monolithic) return { from: monolithic };
  const directory = moduleDirectory(tree, target);
  return directory
    ? { from: directory, make: (context) => grubRecipe(tree, context, directory, target) }
    : undefined;
}

/** SUSE's names of architectures in paths. */
const CPUS: { readonly [name in ArchitectureName]?: string } = { "x86-64": "x86_64", "arm64": "aarch64" };

/** Vendor directories of an ESP, and where image-based systems keep a copy of them. */
function vendorDirectories({ nodes }: Tree): string[] {
  const packages = namesIn(nodes, "/usr/lib/efi").flatMap((name) =>
    namesIn(nodes, `/usr/lib/efi/${name}`).map((version) => `/usr/lib/efi/${name}/${version}`)
  );
  return ["/boot/efi", "/efi", ...packages, "/usr/lib/bootupd/updates", "/usr/lib/ostree-boot/efi"]
    .flatMap((place) => namesIn(nodes, `${place}/EFI`).map((vendor) => `${place}/EFI/${vendor}`));
}

/** Where distributions keep GRUB's modules, in a directory per platform. */
const MODULE_DIRECTORIES = [
  "/usr/lib/grub",
  "/usr/share/grub2",
  "/usr/lib/grub2",
  "/usr/lib64/grub",
  "/usr/lib64/grub2",
];

/** The tree's directory of modules for a platform: `i386-pc`, `x86_64-efi`. */
export function moduleDirectory({ nodes }: Tree, target: string): string | undefined {
  return MODULE_DIRECTORIES.map((directory) => `${directory}/${target}`)
    .find((directory) => firstFile(nodes, [`${directory}/kernel.img`]));
}

/** Modules that our menu and the menus of grub-mkconfig need: they are nowhere else on the disk. */
export const MENU_MODULES = [
  ...[
    "part_gpt",
    "part_msdos",
    "fat",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "minicmd",
    "boot",
    "echo",
    "test",
  ],
  ...["true", "sleep", "search", "search_fs_file", "search_fs_uuid", "search_label", "ls", "cat", "gzio"],
  ...["loadenv", "regexp", "all_video", "gfxterm", "font", "reboot", "halt"],
];

/** For UEFI: also boot entries if this GRUB supports them, device trees, and telling systemd its partition. */
const EFI_MODULES = [...MENU_MODULES, "blscfg", "fdt", "bli"];

/** Modules and their dependencies; GRUB's kernel is larger in memory than in its file. */
function grubRecipe(tree: Tree, { bootUuid }: BootContext, directory: string, format: string): Recipe {
  const { nodes } = tree;
  const bytes = entriesIn(nodes, directory).filter(({ name }) => name.endsWith(".mod"))
    .reduce((sum, { node }) => sum + nodes.size[node]!, 0);
  const kernel = nodes.size[fileAt(nodes, `${directory}/kernel.img`)!]!;
  const prefix = grubDirectory(tree);
  return {
    type: "grub",
    directory,
    format,
    modules: EFI_MODULES.filter((name) => firstFile(nodes, [`${directory}/${name}.mod`])),
    prefix,
    // As grub-install does.
    script: `search.fs_uuid ${bootUuid} root\nset prefix=($root)'${prefix}'\n`,
    size: alignUp(bytes + 4 * kernel + 256 * KiB, 4 * KiB),
  };
}

/** The reason why a GRUB would look for its menu on another disk. */
export function foreignGrub({ prefix, script = "" }: NonNullable<EfiProgram["grub"]>): string | undefined {
  const search = /^\s*(?:search\.\w+|search\s.*--(?:fs-uuid|label|set)\b).*$/m.exec(script)?.[0];
  if (search) return `GRUB with ${JSON.stringify(search.trim())} built in`;
  // A memdisk is part of the program itself.
  if (/^\((?!memdisk\))/.test(prefix)) return `GRUB with its menu in ${JSON.stringify(prefix)}`;
}

/** Possible names of the directory on the ESP: the distribution's own, and those of what it derives from. */
function vendors({ osRelease }: Tree): string[] {
  const names = distributionIds(osRelease).filter((word) =>
    /^[a-z0-9][a-z0-9._-]{0,30}$/.test(word) && word !== "boot"
  );
  return [...new Set([...names, "debian"])];
}

/** What GRUB reads first, on the ESP: exactly what grub-install writes. */
export function grubStub(tree: Tree, { bootUuid }: BootContext): string {
  const prefix = grubDirectory(tree);
  return `search.fs_uuid ${bootUuid} root\nset prefix=($root)'${prefix}'\nconfigfile $prefix/grub.cfg\n`;
}

/** The directory on XBOOTLDR where the tree's own tools write the menu. */
export function grubDirectory({ nodes }: Tree): string {
  return firstFile(nodes, GRUB_MKCONFIG)?.endsWith("/grub2-mkconfig") ? "/grub2" : "/grub";
}

/** The menu on XBOOTLDR, and what else it needs; `image` is the GRUB for UEFI that reads it. */
export function grubFiles(tree: Tree, context: BootContext, image?: EfiProgram["grub"]): ExtraFile[] {
  const path = `${grubDirectory(tree)}/grub.cfg`;
  if (image?.readsEntries && usesEntries(tree)) {
    // If kernel-install finds entries.srel, it assumes systemd-boot and does not update GRUB.
    const entries = bootEntries(tree, context).filter(({ path }) => path !== "/loader/entries.srel");
    return [...entries, file(path, ENTRIES_MENU)];
  }
  const { kernels, copies } = bootableKernels(tree);
  const title = titleOf(tree);
  const [linuxWord, initrdWord] = image?.hasLinux === false ? ["$linux", "$initrd"] : ["linux", "initrd"];
  const entries = kernels.map(({ version, linux, initrds, devicetree }, i) =>
    [
      `menuentry ${quoteGrub(i ? `${title}, Linux ${version}` : title)} {`,
      `  ${linuxWord} ${linux} ${splitOptions(optionsFor({ initrds }, context)).map(quoteGrub).join(" ")}`,
      ...initrds.length ? [`  ${initrdWord} ${initrds.join(" ")}`] : [],
      ...devicetree ? [`  devicetree ${devicetree}`] : [],
      "}",
      "",
    ].join("\n")
  );
  const text = [
    "# The menu of the image; update-grub replaces it.",
    "set default=0",
    "set timeout=1",
    ...image?.hasLinux === false ? PLATFORM_COMMANDS : [],
    "",
  ];
  return [...copies, file(path, text.join("\n") + entries.join(""))];
}

/** SUSE's signed GRUB has its own command to start kernels; GRUB for BIOS reads the same menu. */
const PLATFORM_COMMANDS = [
  "set linux=linux",
  "set initrd=initrd",
  'if [ "$grub_platform" = efi ]; then',
  "  set linux=linuxefi",
  "  set initrd=initrdefi",
  "fi",
];

/** A menu of the boot entries, to which kernel-install adds; grubenv says which one is the default. */
const ENTRIES_MENU = [
  "# The menu of the image; grub2-mkconfig replaces it.",
  "if [ -s $prefix/grubenv ]; then",
  "  load_env",
  "fi",
  'if [ -n "$saved_entry" ]; then',
  '  set default="$saved_entry"',
  "fi",
  "set timeout=1",
  "blscfg",
  "",
].join("\n");

/** Whether later kernels get boot entries for GRUB, as in Fedora and its derivatives. */
function usesEntries({ bootTexts, nodes }: Tree): boolean {
  const values = new Map<string, string>();
  for (const [, text] of grubSettings(bootTexts)) readAssignments(text, values);
  const setting = values.get("GRUB_ENABLE_BLSCFG");
  return setting === undefined
    ? firstFile(nodes, ["/usr/lib/kernel/install.d/20-grub.install"]) !== undefined
    : setting === "true";
}

/** The words of a kernel command line, where double quotes keep words together. GRUB quotes them again. */
export function splitOptions(options: string): string[] {
  return optionWords(options).map((word) => word.replaceAll('"', ""));
}

/** One word of GRUB's script language. */
export function quoteGrub(word: string): string {
  return /^[\w.,:=/@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * Settings for update-grub in the image: without `rw`, its entries would leave the root read-only, and
 * without our options, such as `console=`, later kernels would boot silently. Options for another machine are
 * removed, or they would come back with the next menu.
 */
export function grubDefaults(tree: Tree, options: string): ExtraFile[] {
  const { bootTexts, nodes } = tree;
  const program = firstFile(nodes, GRUB_MKCONFIG);
  if (!program) return [];
  const settings = new Map(
    grubSettings(bootTexts).map(([path, text]) => [path, withoutForeign(text)] as const)
      .filter(([path, text]) => text !== bootTexts.get(path)),
  );
  const present = splitOptions(grubOptions(bootTexts) ?? "");
  const own = splitOptions(options).filter((word) => !word.startsWith("root=") && !present.includes(word));
  const value = own.map((word) => /\s/.test(word) ? `"${word}"` : word).join(" ").replaceAll("'", "'\\''");
  const lines = `# The options of the image.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "'${value}'\n`;
  // grub-mkconfig of most distributions reads only /etc/default/grub.
  const readsMore = bootTexts.get(program)?.includes("default/grub.d") ?? program.endsWith("/grub-mkconfig");
  const main = "/etc/default/grub";
  if (readsMore) settings.set("/etc/default/grub.d/50-image.cfg", lines);
  else settings.set(main, `${settings.get(main) ?? bootTexts.get(main) ?? ""}\n${lines}`);
  return [...settings].map(([path, text]) => file(path, text));
}

/** GRUB's settings without options for another machine. */
function withoutForeign(text: string): string {
  return text.replace(
    /^\s*(?:export\s+)?GRUB_CMDLINE_LINUX(?:_DEFAULT)?=.*$/gm,
    (line) => line.replace(/(?<=[\s"'=])[^\s"'=]+=[^\s"']*[ \t]?/g, (word) => isForeign(word) ? "" : word),
  );
}
