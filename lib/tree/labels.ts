/**
 * SELinux labels of the build host in a tree.
 *
 * Whatever is made on a host with SELinux gets a label of the host: that of a container with its random categories
 * (`container_file_t:s0:c1,c2`), or that of the directory it lies in (`user_home_t`). In the image such a label is worse than
 * none, and another host gives other ones. Labels that the tree's own policy gave its files are kept.
 *
 * - https://www.man7.org/linux/man-pages/man8/container_selinux.8.html
 *
 * @module
 */

import { addBytes, encodeXattrs, type NodesBuilder } from "./builder.ts";
import { pathOf, xattrsOf } from "./nodes.ts";
import { directoryAt, fileAt } from "./query.ts";

const LABEL = "security.selinux";

/** Types that a host gives to the files of containers. */
const CONTAINER_TYPES = [
  "container_file_t",
  "container_ro_file_t",
  "container_share_t",
  "svirt_sandbox_file_t",
];

/** Types of places in which a tree may lie on a host, and which no policy gives to the directories of a system. */
const HOST_TYPES = [
  ...CONTAINER_TYPES,
  "admin_home_t",
  "cifs_t",
  "container_var_lib_t",
  "data_home_t",
  "default_t",
  "fusefs_t",
  "home_root_t",
  "httpd_sys_content_t",
  "mnt_t",
  "nfs_t",
  "public_content_t",
  "tmp_t",
  "tmpfs_t",
  "unlabeled_t",
  "user_home_t",
  "user_home_dir_t",
  "user_tmp_t",
  "var_lib_t",
  "var_t",
  "virt_content_t",
  "virt_image_t",
  "virt_var_lib_t",
];

/** Where a system with SELinux says so; the second and third of one whose /etc is made from /usr on boot. */
const POLICIES = ["", "/usr", "/usr/share/factory"].map((base) => `${base}/etc/selinux/config`);

/** Directories that have a type of their own in every policy. */
const SYSTEM_DIRECTORIES = ["/etc", "/usr", "/usr/bin"];

/** Where a system keeps files of containers itself. */
const CONTAINER_STORAGE = /^\/var\/lib\//;

/** What a label says: `user:role:type:level`. */
function parseLabel(value: Uint8Array): { type: string; hasCategories: boolean } {
  const [, , type = "", , ...categories] = new TextDecoder().decode(value).replace(/\0$/, "").split(":");
  return { type, hasCategories: categories.length > 0 };
}

/** What was taken out of a tree. */
export interface HostLabels {
  /** How many entries had one. */
  readonly entries: number;
  /** The path of the first. */
  readonly path: string;
  /** Whether the tree has a policy, and so labels of its own. */
  readonly hasPolicy: boolean;
}

/** Takes the labels of the build host out of a tree. */
export function dropHostLabels(nodes: NodesBuilder): HostLabels | undefined {
  const labelOf = (node: number) => xattrsOf(nodes, node).find(({ name }) => name === LABEL);
  const hasPolicy = POLICIES.some((path) => fileAt(nodes, path) !== undefined);
  const all = !hasPolicy || SYSTEM_DIRECTORIES.some((path) => {
    const node = directoryAt(nodes, path);
    const label = node === undefined ? undefined : labelOf(node);
    const parsed = label && parseLabel(label.value);
    return parsed && (parsed.hasCategories || HOST_TYPES.includes(parsed.type));
  });
  let entries = 0, first = 0;
  // Equal sets are stored once: what a set becomes is found out once.
  const sets = new Map<number, { isHosts: boolean; without: number }>();
  for (let node = 0; node < nodes.count; node++) {
    const at = nodes.xattrsAt[node]!;
    if (at === 0) continue;
    let set = sets.get(at);
    if (!set) {
      const label = labelOf(node);
      const parsed = label && parseLabel(label.value);
      const isHosts = parsed !== undefined &&
        (all || parsed.hasCategories || CONTAINER_TYPES.includes(parsed.type));
      const rest = isHosts ? xattrsOf(nodes, node).filter(({ name }) => name !== LABEL) : [];
      set = { isHosts, without: rest.length ? addBytes(nodes, encodeXattrs(rest)) : 0 };
      sets.set(at, set);
    }
    if (!set.isHosts || !all && CONTAINER_STORAGE.test(pathOf(nodes, node))) continue;
    nodes.xattrsAt[node] = set.without;
    if (entries++ === 0) first = node;
  }
  return entries === 0 ? undefined : { entries, path: pathOf(nodes, first), hasPolicy };
}
