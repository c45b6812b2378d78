/**
 * Decides how a disk boots: the kernel command line, the boot loaders with their files, what is missing.
 *
 * @module
 */

import { chooseLoader } from "../boot/bootloaders.ts";
import { planGrubBios } from "../boot/grub-bios.ts";
import { grubFiles } from "../boot/grub.ts";
import type { BootContext } from "../boot/loader.ts";
import { foreignOptions, keptOptions } from "../boot/options.ts";
import { signFiles } from "../boot/secure-boot.ts";
import { BuildError } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { readSigner, type Signer } from "../efi/authenticode.ts";
import { type Contents, select } from "../filesystem/contents.ts";
import type { Tree } from "../tree/inspect.ts";
import type { Volume } from "./root.ts";
import type { Settings } from "./settings.ts";

/** The kernel command line: `root` says where the root is, then come the options of the tree and the setting. */
export function planKernelOptions({ kernelCmdline }: Settings, tree: Tree, root: readonly string[]): string {
  return [...root, ...keptOptions(tree), ...kernelCmdline ? [kernelCmdline] : []].join(" ");
}

/** The boot loaders for UEFI and BIOS: their files, and the filesystem of `/boot`. */
export function planBoot(settings: Settings, tree: Tree, context: BootContext) {
  const { firmware } = settings;
  const chosen = chooseLoader(firmware === "bios" ? { ...settings, bootloader: "none" } : settings, tree);
  const loader = Array.isArray(chosen) ? undefined : chosen;
  const findings = [
    ...tree.kernelFindings,
    ...foreignOptions(tree),
    ...bootFindings(settings, tree, Array.isArray(chosen) ? chosen : []),
    ...loader?.findings ?? [],
  ];
  const signer = signerOf(settings);
  const found = loader?.files(context);
  const menu = firmware === "uefi" ? [] : grubFiles(tree, context);
  if (!found && menu.length === 0) return { boot: "vfat" as const, findings };
  const all = { esp: found?.esp ?? [], xbootldr: [...menu, ...found?.xbootldr ?? []] };
  return {
    loader,
    // GRUB for BIOS reads either.
    boot: loader?.boot ?? "ext4" as const,
    files: loader && signer ? signFiles(all, loader, tree, signer) : all,
    findings,
  };
}

/** What to say of a tree that lacks something for booting; `missing` is what boot loaders miss. */
function bootFindings({ bootloader }: Settings, tree: Tree, missing: readonly string[]): Finding[] {
  const lacks = tree.kernels.length ? missing : ["no kernel in /boot or /usr/lib/modules", ...missing];
  if (bootloader === "none" || lacks.length === 0) return [];
  return [
    finding("no-boot", `The image boots in a container, but on no machine; the tree has ${lacks.join(", ")}`),
  ];
}

/** Who signs what boots; nobody unless asked for. */
function signerOf({ secureBootKey: key, secureBootCert: certificate }: Settings): Signer | undefined {
  if (key === undefined && certificate === undefined) return undefined;
  if (key !== undefined && certificate !== undefined) return readSigner(key, certificate);
  throw new BuildError("Cannot sign with only one of SECURE_BOOT_KEY and SECURE_BOOT_CERT", {
    kind: "usage",
    hint: "Set both, or neither",
  });
}

/** Number of XBOOTLDR in the table of an image with a BIOS boot partition, which comes first. */
const BIOS_XBOOTLDR = 3;

/** The BIOS boot partition: GRUB, which finds its menu on XBOOTLDR. */
export function planBios(settings: Settings, tree: Tree): Volume {
  const contents: Contents = { omit: [], add: [] };
  const filesystem = planGrubBios(tree, settings, BIOS_XBOOTLDR);
  return { contents, selection: select(tree.nodes, contents), filesystem };
}
