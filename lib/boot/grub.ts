/**
 * GRUB as the distribution built it: one program with all modules in it, signed or not. Nothing has to be run
 * to install it, and what grub-install and update-grub write later in the booted system replaces it.
 *
 * - https://www.gnu.org/software/grub/manual/grub/grub.html
 *
 * @module
 */

import type { ArchitectureName } from "../core/dps.ts";
import type { ExtraFile } from "../filesystem/contents.ts";
import { GRUB_MKCONFIG, grubOptions, grubSettings, optionWords } from "../tree/boot-texts.ts";
import type { Tree } from "../tree/inspect.ts";
import { firstFile } from "../tree/query.ts";
import {
  bootableKernels,
  type BootContext,
  copy,
  file,
  firmwareOf,
  type FoundLoader,
  optionsFor,
  titleOf,
} from "./loader.ts";
import { isForeign } from "./options.ts";
import { findShim } from "./shim.ts";

/** What GRUB calls the architectures that it runs on under UEFI. */
const TARGETS: { readonly [name in ArchitectureName]?: string } = {
  "x86-64": "x86_64-efi",
  "x86": "i386-efi",
  "arm64": "arm64-efi",
  "arm": "arm-efi",
  "riscv64": "riscv64-efi",
  "loongarch64": "loongarch64-efi",
};

/** GRUB of the tree, behind shim where both are signed. */
export function findGrub(tree: Tree): FoundLoader | string {
  const names = firmwareOf(tree);
  const target = names && TARGETS[names.architecture];
  if (!target) return "no GRUB for an architecture without UEFI";
  const { efi, path } = names;
  const monolithic = `/usr/lib/grub/${target}/monolithic/grub${efi}.efi`;
  const signed = firstFile(tree.nodes, [`/usr/lib/grub/${target}-signed/grub${efi}.efi.signed`]);
  const shim = signed && findShim(tree, names);
  const from = shim ? signed : firstFile(tree.nodes, [monolithic]) ?? signed;
  if (!from) return `no ${monolithic} (in Debian: package grub-efi-*-bin or -unsigned)`;
  const [directory, first] = [`/${path.replace(/\/[^/]*$/, "")}`, path.split("/").at(-1)!];
  return {
    reason: `the tree has ${shim ? `${shim.path} and ` : ""}${from}`,
    signed: Boolean(shim),
    verifiesKernels: shim ? true : {
      problem: "Cannot sign GRUB for Secure Boot: without shim it would start no kernel",
      hint: "Add shim and the signed GRUB to the tree (in Debian: shim-signed, grub-efi-*-signed)",
    },
    // dpkg makes hard links when it replaces a kernel, and FAT has none.
    boot: "ext4",
    readsXbootldr: false,
    files: (context) => {
      const stub = grubStub(context);
      return {
        esp: [
          ...shim ? shim.files(directory, first, from) : [copy(from, `${directory}/${first}`)],
          // Where the built-in prefix of a distribution's GRUB points to, and where others look first.
          ...vendors(tree).map((vendor) => file(`/EFI/${vendor}/grub.cfg`, stub)),
          file(`${directory}/grub.cfg`, stub),
        ],
        xbootldr: grubFiles(tree, context),
      };
    },
  };
}

/** The names that a distribution and those that it derives from may have given to their directory of the ESP. */
function vendors({ osRelease }: Tree): string[] {
  const words = `${osRelease["ID"] ?? ""} ${osRelease["ID_LIKE"] ?? ""}`.split(/\s+/);
  const names = words.filter((word) => /^[a-z0-9][a-z0-9._-]{0,30}$/.test(word) && word !== "boot");
  return [...new Set([...names, "debian"])];
}

/** What GRUB reads first, on the ESP; to the letter what grub-install writes. */
export function grubStub({ bootUuid }: BootContext): string {
  return `search.fs_uuid ${bootUuid} root\nset prefix=($root)'/grub'\nconfigfile $prefix/grub.cfg\n`;
}

/** The menu on XBOOTLDR, and what it needs besides. */
export function grubFiles(tree: Tree, context: BootContext): ExtraFile[] {
  const { kernels, copies } = bootableKernels(tree);
  const title = titleOf(tree);
  const entries = kernels.map(({ version, linux, initrds, devicetree }, i) =>
    [
      `menuentry ${quoteGrub(i ? `${title}, Linux ${version}` : title)} {`,
      `  linux ${linux} ${splitOptions(optionsFor({ initrds }, context)).map(quoteGrub).join(" ")}`,
      ...initrds.length ? [`  initrd ${initrds.join(" ")}`] : [],
      ...devicetree ? [`  devicetree ${devicetree}`] : [],
      "}",
      "",
    ].join("\n")
  );
  const text = ["# The menu of the image; update-grub replaces it.", "set default=0", "set timeout=1", ""];
  return [...copies, file("/grub/grub.cfg", text.join("\n") + entries.join(""))];
}

/** The words of a kernel command line, in which double quotes keep words together. GRUB quotes them again. */
export function splitOptions(options: string): string[] {
  return optionWords(options).map((word) => word.replaceAll('"', ""));
}

/** One word of GRUB's script language. */
export function quoteGrub(word: string): string {
  return /^[\w.,:=/@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * What update-grub in the image has to know: without `rw` it would make entries whose root stays read-only, and
 * without our options, such as `console=`, later kernels would boot silently. What names another machine is removed,
 * or it would come back with the next menu.
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
  // Only some distributions' grub-mkconfig reads more than the one file.
  const readsMore = bootTexts.get(program)?.includes("default/grub.d") ?? program.endsWith("/grub-mkconfig");
  const main = "/etc/default/grub";
  if (readsMore) settings.set("/etc/default/grub.d/50-image.cfg", lines);
  else settings.set(main, `${settings.get(main) ?? bootTexts.get(main) ?? ""}\n${lines}`);
  return [...settings].map(([path, text]) => file(path, text));
}

/** GRUB's settings without the options that name another machine. */
function withoutForeign(text: string): string {
  return text.replace(
    /^\s*(?:export\s+)?GRUB_CMDLINE_LINUX(?:_DEFAULT)?=.*$/gm,
    (line) => line.replace(/(?<=[\s"'=])[^\s"'=]+=[^\s"']*[ \t]?/g, (word) => isForeign(word) ? "" : word),
  );
}
