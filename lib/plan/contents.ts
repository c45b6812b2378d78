/**
 * Decides what goes where on a disk: which part of the tree each filesystem holds, and what is added to it.
 *
 * @module
 */

import { grubDefaults } from "../boot/grub.ts";
import { type BootFiles, ESP_DIRECTORIES } from "../boot/loader.ts";
import { defaultEntry } from "../boot/systemd-boot.ts";
import { foreignEntries } from "../boot/tree-esp.ts";
import { BuildError } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import type { Contents, ExtraFile } from "../filesystem/entries.ts";
import type { Tree } from "../tree/inspect.ts";
import { lookup, type Nodes, typeOf } from "../tree/nodes.ts";
import { countIn, directoryAt, entriesIn, exists, namesIn } from "../tree/query.ts";
import { planFstab } from "./fstab.ts";
import { growFiles } from "./grow.ts";
import type { Leftovers } from "./leftovers.ts";

/** Earlier decisions. */
interface Decided {
  readonly kernelOptions: string;
  readonly kernelCmdline: string | undefined;
  /** Whether the root filesystem is read-only. */
  readonly readOnly: boolean;
  readonly leftovers: Leftovers;
  /** The filesystem of `/boot`. */
  readonly boot: "vfat" | "ext4";
  /** Absent: no boot loader is installed. */
  readonly files: BootFiles | undefined;
  /** How fstab names the filesystems of `/boot` and the ESP. */
  readonly devices: { readonly xbootldr: string; readonly esp: string };
}

/** The contents of the three filesystems of a disk. @throws {BuildError} when the tree has two ESPs. */
export function planContents(
  tree: Tree,
  decided: Decided,
): { esp: Contents; xbootldr: Contents; root: Contents; findings: Finding[] } {
  const { leftovers: { without, add }, files, boot } = decided;
  const { nodes } = tree;
  const esp = espSource(tree);
  const entries = files && countIn(nodes, "/boot/loader/entries") ? ["/loader/entries/"] : [];
  const foreign = files && esp.from ? foreignEntries(tree, esp.from) : [];
  const hasEfi = boot === "vfat" && hasOwnEfi(tree);
  const bootFrom = directoryAt(nodes, "/boot") === undefined ? undefined : "/boot";
  const fstab = planFstab(tree.fstab, {
    boot,
    devices: decided.devices,
    exists: (path) => exists(nodes, path),
  });
  return {
    esp: { ...esp, omit: foreign, without, add: asSpelled(nodes, esp.from, files?.esp ?? []) },
    xbootldr: {
      ...bootFrom && { from: bootFrom },
      omit: [hasEfi ? "/efi" : "/efi/", ...entries, ...files?.moved ?? []],
      without,
      add: [
        // The mount point of the ESP. On FAT, a directory EFI is the same.
        ...hasEfi ? [] : [{ path: "/efi", type: "directory" } as const],
        ...boot === "vfat" ? asSpelled(nodes, bootFrom, files?.xbootldr ?? []) : files?.xbootldr ?? [],
      ],
    },
    root: {
      from: "/",
      omit: ["/boot/", "/efi/"],
      without,
      add: [...add, ...rootAdditions(tree, decided, fstab.text)],
    },
    findings: [
      ...fstab.findings,
      ...[
        ...entries.map((path) => `/boot${path}`),
        ...foreign.map((path) => `${esp.from}${path}`),
        ...files && defaultEntry(tree) || [],
      ].map((path) =>
        finding("boot-entries", "Leaving out the boot entries: they name another disk", {
          path: path.replace(/\/$/, ""),
        })
      ),
    ],
  };
}

/** Files for FAT under the names that are already there, since two names cannot differ only in case. */
function asSpelled(
  nodes: Nodes,
  from: string | undefined,
  files: readonly ExtraFile[],
): readonly ExtraFile[] {
  const spellings = new Map<string, string>();
  const spell = (path: string): string => {
    if (path === "") return "";
    const slash = path.lastIndexOf("/");
    const above = spell(path.slice(0, slash));
    const name = path.slice(slash + 1);
    const key = `${above}/${name}`.toLowerCase();
    const names = from === undefined ? [] : namesIn(nodes, from + above);
    const known = spellings.get(key) ??
      `${above}/${
        names.includes(name)
          ? name
          : names.find((other) => other.toLowerCase() === name.toLowerCase()) ?? name
      }`;
    spellings.set(key, known);
    return known;
  };
  return files.map((file) => ({ ...file, path: spell(file.path) }));
}

function rootAdditions(tree: Tree, decided: Decided, fstab: string): Contents["add"] {
  const { kernelOptions, kernelCmdline, readOnly } = decided;
  const always = [
    { path: "/boot", type: "directory" },
    { path: "/efi", type: "directory" },
    { path: "/etc/fstab", type: "file", text: fstab },
  ] as const;
  // A read-only root never gets new kernels, and does not grow.
  if (readOnly) return always;
  const asked = tree.kernelOptions !== undefined || kernelCmdline !== undefined;
  return [
    ...always,
    // Used by kernel-install for the entries of later kernels.
    ...asked ? [{ path: "/etc/kernel/cmdline", type: "file", text: `${kernelOptions}\n` } as const] : [],
    ...grubDefaults(tree, kernelOptions),
    ...growFiles(tree),
  ];
}

/** Whether `/boot` has a directory that is `efi` on FAT, as boot partitions with UKIs do. */
function hasOwnEfi({ nodes }: Tree): boolean {
  return entriesIn(nodes, "/boot").some(({ name, node }) =>
    name !== "efi" && name.toLowerCase() === "efi" && typeOf(nodes, node) === "directory"
  );
}

/** Where the content of the ESP comes from. */
function espSource(tree: Tree): { from?: string } {
  const full = ESP_DIRECTORIES.filter((path) => countIn(tree.nodes, path) > 0);
  // One may be a symlink to the other.
  const places = new Set(full.map((path) => lookup(tree.nodes, path)));
  if (places.size > 1) {
    throw new BuildError(`Cannot tell which is the ESP: ${full.join(" and ")} of the tree both hold files`, {
      hint: "Leave one of them empty",
    });
  }
  return full[0] ? { from: full[0] } : {};
}
