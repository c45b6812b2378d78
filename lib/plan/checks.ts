/**
 * Checks of the whole tree, one function each. They do not access the disk: everything they check is in the
 * {@link Tree}.
 *
 * @module
 */

import { quote } from "../core/error.ts";
import { type Finding, finding, listPaths } from "../core/findings.ts";
import { PERMISSIONS_MASK } from "../core/mode.ts";
import type { Tree } from "../tree/inspect.ts";
import { MODULES } from "../tree/kernels.ts";
import { children, lookup, nameText, type Nodes, pathOf, typeOf, xattrsOf } from "../tree/nodes.ts";
import { OS_RELEASE_FILES } from "../tree/os-release.ts";
import { exists, firstFile, hasFileBelow, namesIn } from "../tree/query.ts";

/** What a check needs to know about the image. */
export interface CheckContext {
  /** The kernel command line, where the image is to boot on a machine. */
  readonly kernelOptions?: string;
  /** It is an archive, for something that looks for no system in it. */
  readonly isArchive?: boolean;
}

type Check = (tree: Tree, context: CheckContext) => Iterable<Finding>;

const CHECKS: readonly Check[] = [rootDirectory, owners, setuid, init, osRelease, modules];

/** All that is found in a tree that becomes the root of a system, in the order of the checks. */
export function checkSystem(tree: Tree, context: CheckContext = {}): Finding[] {
  return CHECKS.flatMap((check) => [...check(tree, context)]);
}

/** Whether the whole of a tree is a system, and not only files of some kind: it says so, or could start. */
export function isSystem({ nodes, osRelease }: Pick<Tree, "nodes" | "osRelease">): boolean {
  return Object.keys(osRelease).length > 0 || findInit(nodes) !== undefined;
}

/**
 * What a kernel starts, in its order; systemd in an initrd goes on with the second.
 * https://www.kernel.org/doc/html/latest/admin-guide/init.html
 */
const INITS = ["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init"];

/** The first process of a system. */
export function findInit(nodes: Nodes): string | undefined {
  return firstFile(nodes, INITS);
}

/** Whether systemd takes the tree for a system; what is in the file does not matter. */
export function hasOsRelease(nodes: Nodes): boolean {
  return firstFile(nodes, OS_RELEASE_FILES) !== undefined;
}

/** Names that the root of a system has. Enough of them in a directory tell that it is one. */
const SYSTEM_NAMES = ["usr", "etc", "bin", "sbin", "lib"];

/**
 * An archive or directory with a single directory at its top, in which the system is: `tar -c rootfs` where
 * `tar -C rootfs -c .` was meant.
 */
export function findNestedTree({ nodes }: Pick<Tree, "nodes">): string | undefined {
  const [only, ...others] = children(nodes, 0);
  if (only === undefined || others.length > 0 || typeOf(nodes, only) !== "directory") return undefined;
  const name = nameText(nodes, only);
  // A tree that only has /usr is one in which everything else is made on boot.
  if (name === undefined || SYSTEM_NAMES.includes(name)) return undefined;
  const names = namesIn(nodes, `/${name}`).filter((name) => SYSTEM_NAMES.includes(name));
  return names.length >= 2 ? `/${name}` : undefined;
}

/** Says that the system is not where it is looked for. */
export function* checkNesting(tree: Pick<Tree, "nodes">): Iterable<Finding> {
  const path = findNestedTree(tree);
  if (path === undefined) return;
  yield finding(
    "nested-tree",
    `All of the tree is in the directory ${quote(path)}, and will be there in the image`,
    {
      path,
    },
  );
}

/** The bits that a root directory needs: everybody may list and enter it. */
const ROOT_MODE = 0o555;

/** A tree from `mktemp -d` has a root directory of 0700, or one that belongs to whoever made it. */
function* rootDirectory({ nodes }: Tree): Iterable<Finding> {
  const mode = nodes.mode[0]! & PERMISSIONS_MASK, owner = `${nodes.uid[0]}:${nodes.gid[0]}`;
  if ((mode & ROOT_MODE) !== ROOT_MODE) {
    const shown = mode.toString(8).padStart(4, "0");
    yield finding("root-mode", `The root directory has the mode ${shown}: not everybody can enter it`, {
      path: "/",
    });
  }
  if (owner !== "0:0") {
    yield finding("root-owner", `The root directory belongs to ${owner} instead of root`, { path: "/" });
  }
}

/** What belongs to root in every system. */
const OWNED_BY_ROOT = [
  "/etc",
  "/usr",
  "/usr/bin",
  "/usr/lib",
  "/etc/passwd",
  "/etc/shadow",
  "/etc/sudoers",
  "/usr/bin/sudo",
  "/usr/bin/su",
  "/bin/su",
  ...INITS,
];

/** The first owner that no machine's own users have: user namespaces begin there. */
const FIRST_SHIFTED = 65536;

/** A tree that was unpacked without root belongs to whoever did; one of a user namespace is shifted by a number. */
function* owners({ nodes }: Tree): Iterable<Finding> {
  const foreign = new Map<number, string>();
  for (const path of OWNED_BY_ROOT) {
    const node = lookup(nodes, path);
    if (node !== undefined && nodes.uid[node] !== 0) foreign.set(node, path);
  }
  const [first] = foreign.keys();
  if (first === undefined) return;
  const paths = [...foreign.values()];
  const uid = nodes.uid[first]!;
  const reason = uid >= FIRST_SHIFTED
    ? `the owners are those of a user namespace that begins at ${uid}`
    : "the tree was unpacked without root";
  yield finding("owners", `${listPaths(paths)}: owned by ${uid} instead of root, as if ${reason}`, {
    path: paths[0]!,
    ...uid >= FIRST_SHIFTED && {
      hint: "Shift the owners back, or export the tree inside the namespace, e.g. with podman unshare",
    },
  });
}

const SETUID = 0o4000;

/** Programs that do nothing without setuid, unless they are another program under this name. */
const SETUID_PROGRAMS = ["sudo", "su"];

/** Unpacking as a user, or copying, drops setuid. */
function* setuid({ nodes }: Tree): Iterable<Finding> {
  const found = new Set<number>();
  for (const directory of ["/usr/bin", "/bin"]) {
    for (const name of SETUID_PROGRAMS) {
      const node = lookup(nodes, `${directory}/${name}`);
      // Of busybox and the like it is a link.
      if (node === undefined || typeOf(nodes, node) !== "file" || nameText(nodes, node) !== name) continue;
      if (
        nodes.mode[node]! & SETUID || xattrsOf(nodes, node).some(({ name }) => name === "security.capability")
      ) {
        continue;
      }
      found.add(node);
    }
  }
  const paths = [...found].map((node) => pathOf(nodes, node));
  if (paths.length === 0) return;
  yield finding("setuid", `${listPaths(paths)}: not setuid, so that nobody can become root with it`, {
    path: paths[0]!,
  });
}

/** Options with which the first process comes from elsewhere: an initrd that is the system, a deployment of ostree. */
const OTHER_INIT = /^(rdinit=|ostree=)/;

function* init({ nodes }: Tree, { kernelOptions }: CheckContext): Iterable<Finding> {
  const options = kernelOptions?.split(" ");
  if (!options || options.some((option) => OTHER_INIT.test(option))) return;
  const wanted = options.findLast((option) => option.startsWith("init="))?.slice("init=".length);
  if (wanted === undefined ? findInit(nodes) : exists(nodes, wanted)) return;
  yield finding(
    "no-init",
    wanted === undefined
      ? "Nothing starts the system: the tree has no /sbin/init, nor anything else that a kernel starts"
      : `Nothing starts the system: the kernel option ${quote(`init=${wanted}`)} names nothing in the tree`,
    { path: wanted ?? "/sbin/init" },
  );
}

/** systemd tells by this file that a directory or an image holds a system: `path_is_os_tree` in its source. */
function* osRelease({ nodes }: Tree, { kernelOptions, isArchive }: CheckContext): Iterable<Finding> {
  if (isArchive || findInit(nodes) === undefined || hasOsRelease(nodes)) return;
  if (kernelOptions?.split(" ").some((option) => OTHER_INIT.test(option))) return;
  yield finding(
    "no-os-release",
    "The tree has no os-release: systemd-nspawn and portablectl refuse the image" +
      (kernelOptions === undefined ? "" : ", and so does systemd in an initrd"),
    { path: "/usr/lib/os-release" },
  );
}

/** A kernel without the filesystem of /boot and the ESP. */
function* modules({ nodes, kernels }: Tree, { kernelOptions }: CheckContext): Iterable<Finding> {
  if (kernelOptions === undefined) return;
  const hasVfat = MODULES.some((path) => hasFileBelow(nodes, path, /^vfat\.ko(\.\w+)?$/));
  for (const { version, image, modules } of kernels) {
    // One that is called bzImage may have everything built in.
    if (!/^\d/.test(version)) continue;
    // The lack of all of them is reported elsewhere. Those of a backup are those of the kernel that replaced it.
    if (!modules?.path.endsWith(`/${version}`)) continue;
    if (hasVfat || modules.builtin?.includes("vfat")) continue;
    yield finding(
      "no-vfat",
      `The kernel ${version} has no vfat, with which /boot and the ESP are mounted`,
      { path: image },
    );
  }
}
