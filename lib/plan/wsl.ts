/**
 * Plans distributions for the Windows Subsystem for Linux, as Microsoft's guide wants them, and names what its checks do
 * not like.
 *
 * - https://learn.microsoft.com/windows/wsl/build-custom-distro
 * - https://learn.microsoft.com/windows/wsl/wsl-config#wslconf
 * - the checks: https://github.com/microsoft/WSL/blob/master/distributions/validate-modern.py
 *
 * @module
 */

import { decodeText } from "../core/bytes.ts";
import { type Finding, finding, listPaths } from "../core/findings.ts";
import type { ExtraFile } from "../filesystem/entries.ts";
import type { ArchiveForm } from "../filesystem/tar.ts";
import type { Tree } from "../tree/inspect.ts";
import { lookup, type Nodes, targetBytes, typeOf } from "../tree/nodes.ts";
import { exists, fileAt, namesIn } from "../tree/query.ts";
import { findInit } from "./checks.ts";
import { systemdVersion } from "./machine-id.ts";

const DISTRIBUTION = "/etc/wsl-distribution.conf", CONFIGURATION = "/etc/wsl.conf";

/** Written by WSL each time that it starts. */
const RESOLVER = "/etc/resolv.conf";

/** Units that are in the way of what WSL does itself. */
const DISCOURAGED = [
  ...[
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "console-getty.service",
    "hypervkvpd.service",
  ],
  ...["networking.service", "systemd-networkd.service", "systemd-networkd-wait-online.service"],
  ...[
    "systemd-resolved.service",
    "systemd-tmpfiles-clean.service",
    "systemd-tmpfiles-setup-dev-early.service",
  ],
  ...[
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup.service",
    "systemd-vconsole-setup.service",
  ],
  "tmp.mount",
];

/** Where units are enabled, and masked. */
const UNITS = ["/etc/systemd/system", "/usr/lib/systemd/system", "/usr/local/lib/systemd/system"];

/** What WSL needs to start a shell as a user. */
const NEEDED = ["/etc/passwd", "/etc/shadow", "/bin/sh"];

/** Plans the archive. Holes are zeros, which are compressed: other programs than bsdtar may unpack it. */
export function planWsl(): ArchiveForm {
  return { pax: { sparse: false } };
}

/** What is added to the tree and left out of it. */
export function planWslFiles(tree: Tree): { add: ExtraFile[]; omit: string[]; findings: Finding[] } {
  const { nodes, osRelease: { ID = "linux", VERSION_ID }, fstab, kernels } = tree;
  const findings: Finding[] = [];
  const found = (name: Parameters<typeof finding>[0], message: string, path?: string) =>
    findings.push(finding(name, message, path === undefined ? {} : { path }));
  const name = [ID, VERSION_ID].filter(Boolean).join("-").replaceAll(/[^A-Za-z0-9._-]/g, "-");
  const add: ExtraFile[] = [];
  if (!exists(nodes, DISTRIBUTION)) {
    add.push({ path: DISTRIBUTION, type: "file", text: `[oobe]\ndefaultName = ${name}\n` });
  }
  const isConfigured = exists(nodes, CONFIGURATION);
  if (!isConfigured && findInit(nodes) !== undefined && systemdVersion(nodes) !== undefined) {
    add.push({ path: CONFIGURATION, type: "file", text: "[boot]\nsystemd = true\n" });
  }
  // Whoever configures WSL may also say that it shall not write the file.
  const omit = !isConfigured && exists(nodes, RESOLVER) ? [RESOLVER] : [];
  if (omit.length) found("wsl-resolver", `Leaving out ${RESOLVER}, which WSL writes`, RESOLVER);
  const lacks = NEEDED.filter((path) => fileAt(nodes, path) === undefined);
  if (lacks.length) {
    found("wsl-lacks", `WSL needs ${listPaths(lacks)}, which the tree does not have`, lacks[0]);
  }
  const units = enabledUnits(nodes);
  if (units.length) found("wsl-units", `${listPaths(units)}: in the way of what WSL does itself`, units[0]);
  const mounts = fstab.split("\n").filter((line) => /^\s*[^#\s]/.test(line));
  if (mounts.length) {
    found("wsl-fstab", `WSL will mount the ${mounts.length} lines of /etc/fstab`, "/etc/fstab");
  }
  if (kernels[0]) {
    found(
      "wsl-kernel",
      "Kernels and initrds in the tree are of no use: WSL brings its own",
      kernels[0].image,
    );
  }
  return { add, omit, findings };
}

/** The discouraged units that are enabled, by their paths. */
function enabledUnits(nodes: Nodes): string[] {
  return UNITS.flatMap((directory) =>
    namesIn(nodes, directory).filter((name) => name.endsWith(".target.wants")).flatMap((wants) =>
      namesIn(nodes, `${directory}/${wants}`)
        .filter((unit) => DISCOURAGED.includes(unit) && !isMasked(nodes, unit))
        .map((unit) => `${directory}/${wants}/${unit}`)
    )
  );
}

function isMasked(nodes: Nodes, unit: string): boolean {
  const node = lookup(nodes, `${UNITS[0]}/${unit}`, { follow: false });
  if (node === undefined || typeOf(nodes, node) !== "symlink") return false;
  return decodeText(targetBytes(nodes, node)) === "/dev/null";
}
