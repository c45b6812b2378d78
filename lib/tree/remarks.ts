/**
 * What only the contents of a few files tell.
 *
 * @module
 */

import { KiB } from "../core/units.ts";
import { childNamed, nameBytes, type Nodes, typeOf } from "./nodes.ts";
import { matching } from "./query.ts";
import { readFile, type Root } from "./root.ts";

/** `._NAME` beside NAME. */
const APPLE_PREFIX = [0x2e, 0x5f];

/** The magic number of AppleDouble, version 1 or 2: https://www.rfc-editor.org/rfc/rfc1740#appendix-A */
const APPLE_DOUBLE = [0x00, 0x05, 0x16, 0x07];

/** The `._*` files that macOS makes of what a filesystem or archive has no place for. */
export function findAppleDouble(root: Root, nodes: Nodes): number[] {
  const found: number[] = [];
  for (let node = 1; node < nodes.count; node++) {
    const name = nameBytes(nodes, node);
    if (name[0] !== APPLE_PREFIX[0] || name[1] !== APPLE_PREFIX[1] || typeOf(nodes, node) !== "file") {
      continue;
    }
    if (childNamed(nodes, nodes.parent[node]!, name.subarray(2)) === undefined) continue;
    const head = readFile(root, nodes, node, { limit: APPLE_DOUBLE.length });
    if (APPLE_DOUBLE.every((byte, i) => head[i] === byte)) found.push(node);
  }
  return found;
}

/** Where cloud-init writes the configuration of the network. */
const NETWORK_FILES = [
  "/etc/netplan/50-cloud-init.yaml",
  "/etc/network/interfaces.d/50-cloud-init*",
  "/etc/systemd/network/10-cloud-init-*.network",
  "/etc/systemd/network/10-cloud-init-*.link",
  "/etc/NetworkManager/system-connections/cloud-init-*.nmconnection",
];

const MAC_ADDRESS = /(?<![0-9a-f:])[0-9a-f]{2}(:[0-9a-f]{2}){5}(?![0-9a-f:])/i;

/** More than any such file has. */
const NETWORK_LIMIT = 64 * KiB;

/** Files of cloud-init with a MAC address in them: they are for the machine on which it wrote them. */
export function findNetworkByMac(root: Root, nodes: Nodes): number[] {
  return NETWORK_FILES.flatMap((path) => matching(nodes, path)).filter((node) =>
    typeOf(nodes, node) === "file" &&
    MAC_ADDRESS.test(new TextDecoder().decode(readFile(root, nodes, node, { limit: NETWORK_LIMIT })))
  );
}
