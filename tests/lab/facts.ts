/**
 * Imaginary trees: the facts that `inspectTree` would find, for tests of decisions.
 *
 * @module
 */

import { readSettings } from "../../lib/plan/read-settings.ts";
import { type SettingName, SETTINGS, type Settings } from "../../lib/plan/settings.ts";
import { buildNodes, type NodeInput } from "../../lib/tree/builder.ts";
import type { EfiProgram, EfiPrograms } from "../../lib/tree/efi-programs.ts";
import type { Tree } from "../../lib/tree/inspect.ts";
import type { Kernel } from "../../lib/tree/kernels.ts";

export const OS_RELEASE = { ID: "debian", VERSION_ID: "13", PRETTY_NAME: "Debian GNU/Linux 13 (trixie)" };

export const NEWEST = 1_700_000_000;

export function kernel(version: string, more: Partial<Kernel> = {}): Kernel {
  return {
    version,
    image: `/boot/vmlinuz-${version}`,
    initrds: [`/boot/initrd.img-${version}`],
    architecture: "x86-64",
    modules: { path: `/usr/lib/modules/${version}` },
    ...more,
  };
}

export const LOADER = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

export const SYSTEMD = "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so";

/** The contents of a small Debian tree with a kernel and systemd-boot. */
export const DEBIAN: readonly NodeInput[] = [
  { path: "/boot/vmlinuz-6.12.48", size: 12_000_000 },
  { path: "/boot/initrd.img-6.12.48", size: 40_000_000 },
  { path: "/boot/efi", type: "directory" },
  { path: "/etc/os-release", target: "../usr/lib/os-release" },
  { path: "/etc/fstab", size: 40 },
  { path: "/etc/machine-id", size: 14, mode: 0o444 },
  { path: "/usr/lib/os-release", size: 267 },
  { path: SYSTEMD, size: 4_000_000 },
  { path: "/usr/lib/modules/6.12.48/kernel/fs/fat/vfat.ko.xz", size: 20_000 },
  { path: "/usr/sbin/init", size: 100_000, mode: 0o755 },
  { path: "/sbin", target: "usr/sbin" },
  ...["/dev", "/proc", "/run", "/sys"].map((path): NodeInput => ({ path, type: "directory" })),
  { path: "/tmp", type: "directory", mode: 0o1777 },
  { path: LOADER, size: 120_000 },
];

/** The facts that `inspectTree` would find in UEFI programs, by path. */
export function programs(
  kinds: Readonly<Record<string, EfiProgram["kind"] | Partial<EfiProgram>>>,
): EfiPrograms {
  const common = { architecture: "x86-64", kind: "unknown", signed: false } as const;
  return new Map(
    Object.entries(kinds).map(([path, kind]) => [
      path,
      typeof kind === "string" ? { ...common, kind } : { ...common, ...kind },
    ]),
  );
}

/** A tree with these entries and facts; by default the small Debian. */
export function factsOf(
  list: readonly NodeInput[] = DEBIAN,
  more: Partial<Omit<Tree, "nodes">> = {},
): Tree {
  return {
    path: "/input",
    nodes: buildNodes(list),
    osRelease: OS_RELEASE,
    architecture: "x86-64",
    kernels: list === DEBIAN ? [kernel("6.12.48")] : [],
    bootTexts: new Map(),
    programs: new Map(),
    initrdFiles: () => undefined,
    fstab: "",
    repart: {},
    newest: NEWEST,
    appleDouble: [],
    networkByMac: [],
    findings: [],
    kernelFindings: [],
    ...more,
  };
}

/** All settings, from these environment variables. */
export function settingsOf(env: Readonly<Record<string, string>> = {}): Settings {
  return readSettings(Object.keys(SETTINGS) as SettingName[], {}, env);
}
