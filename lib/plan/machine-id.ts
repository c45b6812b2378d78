/**
 * Resets the machine ID of an image, so that each machine gets its own.
 *
 * https://www.freedesktop.org/software/systemd/man/latest/machine-id.html#First%20Boot%20Semantics
 *
 * @module
 */

import { lookup, type Nodes, targetBytes, typeOf } from "../tree/nodes.ts";
import { exists, namesIn } from "../tree/query.ts";

/** The first version of systemd that supports `uninitialized`. */
const UNINITIALIZED_SINCE = 247;

/** Whether a machine ID is set, that is, not empty or `uninitialized`. */
export function isFilled(machineId: string | undefined): boolean {
  return /^[0-9a-f-]{32,36}\s*$/i.test(machineId ?? "");
}

/**
 * The new text of `/etc/machine-id`; `undefined` to remove it: without systemd, the program that sets the ID rejects
 * an empty file.
 *
 * With `uninitialized`, systemd treats the first boot as such, and `systemd-firstboot` may wait for answers about
 * missing configuration. If it would, the file is empty instead: then it asks nothing, and the ID is set all the same.
 */
export function resetMachineId(nodes: Nodes): string | undefined {
  const version = systemdVersion(nodes);
  if (version === undefined) return undefined;
  return version >= UNINITIALIZED_SINCE && !asksOnFirstBoot(nodes) ? "uninitialized\n" : "";
}

/** The version of the tree's systemd, from the name of its library. */
export function systemdVersion(nodes: Nodes): number | undefined {
  for (const base of ["/usr/lib", "/lib", "/usr/lib64"]) {
    const names = namesIn(nodes, base).filter((name) => name === "systemd" || name.includes("-linux-"));
    for (const name of names) {
      // Debian has it in the library directory of the architecture.
      const directory = name === "systemd" ? `${base}/systemd` : `${base}/${name}/systemd`;
      for (const library of namesIn(nodes, directory)) {
        const version = /^libsystemd-shared-(\d+).*\.so$/.exec(library)?.[1];
        if (version) return Number(version);
      }
    }
  }
}

/** Whether systemd-firstboot would ask for something missing. It asks for a locale only if there is a choice. */
function asksOnFirstBoot(nodes: Nodes): boolean {
  const unit = "systemd-firstboot.service";
  const wanted = ["/usr/lib", "/lib", "/etc"].some((base) =>
    exists(nodes, `${base}/systemd/system/sysinit.target.wants/${unit}`)
  );
  if (!wanted || isMasked(nodes, `/etc/systemd/system/${unit}`)) return false;
  const locales = namesIn(nodes, "/usr/lib/locale");
  const asksLocale = !exists(nodes, "/etc/locale.conf") &&
    (locales.length > 1 || locales.includes("locale-archive"));
  return asksLocale || !exists(nodes, "/etc/localtime") || !exists(nodes, "/etc/shadow");
}

/** A unit is masked by a link to `/dev/null`, which is not in the tree, or by an empty file. */
function isMasked(nodes: Nodes, path: string): boolean {
  const node = lookup(nodes, path, { follow: false });
  if (node === undefined) return false;
  if (typeOf(nodes, node) === "symlink") {
    return new TextDecoder().decode(targetBytes(nodes, node)) === "/dev/null";
  }
  return nodes.size[node] === 0;
}
