/**
 * Decides on SELinux labels: where they come from, and what to do when they are missing.
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { type Finding, finding } from "../core/findings.ts";
import { select, type Selection } from "../filesystem/contents.ts";
import type { Contents, ExtraFile } from "../filesystem/entries.ts";
import { type FilesystemName, FILESYSTEMS } from "../filesystem/filesystems.ts";
import { labelInTree, type LabelSource, withLabels } from "../filesystem/labels.ts";
import type { Tree } from "../tree/inspect.ts";
import { lookup } from "../tree/nodes.ts";
import { exists } from "../tree/query.ts";
import type { Settings } from "./settings.ts";

/** Makes the system label all its files when it boots, and reboot. */
const AUTORELABEL = "/.autorelabel";

/** What was decided about labels. */
export interface SelinuxPlan {
  /** Where they come from. */
  readonly labels: "policy" | "tree" | "none";
  /** The name of the policy that the tree is configured for. */
  readonly policy?: string;
  readonly reason: string;
  /** What happens to `/.autorelabel`. */
  readonly autorelabel?: "added" | "left out";
  readonly findings: readonly Finding[];
}

/** What the labels are for. */
interface Use {
  /** Whether the filesystem is the root of a system. */
  readonly isSystem: boolean;
  readonly kernelOptions: string | undefined;
}

type Facts = Pick<Tree, "nodes" | "selinux" | "hostLabels">;

/** Where the labels come from. @throws {BuildError} (usage) when the policy is asked for and the tree has none. */
export function planSelinux(
  { selinux: asked, filesystem }: Pick<Settings, "selinux" | "filesystem">,
  tree: Facts,
  use: Use,
): SelinuxPlan {
  const { selinux } = tree;
  const decided = (labels: SelinuxPlan["labels"], reason: string): SelinuxPlan => ({
    labels,
    ...selinux && { policy: selinux.type },
    reason,
    findings: [],
  });
  if (!FILESYSTEMS[filesystem].holdsSystem) {
    if (asked === "policy" || asked === "tree") {
      throw new BuildError(`Cannot use SELINUX=${asked} with FILESYSTEM=${filesystem}`, {
        kind: "usage",
        hint: "This filesystem has no labels: leave SELINUX out, or set FILESYSTEM to another one",
      });
    }
    return decided("none", `${filesystem} has none`);
  }
  if (asked === "none") return decided("none", "SELINUX=none");
  if (selinux?.labelsIn && asked !== "tree") {
    return {
      ...decided("policy", `the tree is configured for the policy ${selinux.type}`),
      // All labels are there: relabelling would only cost a reboot.
      ...use.isSystem && exists(tree.nodes, AUTORELABEL) && { autorelabel: "left out" },
    };
  }
  if (asked === "policy") {
    const missing = selinux
      ? `/etc/selinux/${selinux.type}/contexts/files/file_contexts`
      : "/etc/selinux/config with SELINUXTYPE";
    throw new BuildError(`Cannot use SELINUX=policy: the tree has no ${missing}`, {
      kind: "usage",
      hint: "Install the policy in the tree, or leave SELINUX out",
    });
  }
  if (asked === "auto" && !selinux && !hasLabels(tree.nodes)) {
    return { ...decided("none", "the tree has no SELinux policy"), findings: hostFindings(tree) };
  }
  const reason = asked === "tree"
    ? "SELINUX=tree"
    : selinux
    ? `the policy ${selinux.type} of the tree has no file_contexts`
    : "the tree has labels, but no /etc/selinux/config";
  return { ...decided("tree", reason), ...planMissing(filesystem, tree, use) };
}

/** What is done about missing labels when nothing in the tree tells which they should be. */
function planMissing(
  filesystem: FilesystemName,
  tree: Facts,
  { isSystem, kernelOptions }: Use,
): Pick<SelinuxPlan, "findings" | "autorelabel"> {
  const findings = hostFindings(tree);
  const missing = isSystem && isEnforcing(tree, kernelOptions) ? countMissing(tree) : 0;
  if (missing === 0) return { findings };
  const { readOnly } = FILESYSTEMS[filesystem];
  const then = readOnly
    ? `and ${filesystem} cannot be relabelled`
    : "so it relabels itself on its first boot";
  return {
    ...!readOnly && { autorelabel: "added" },
    findings: [
      ...findings,
      finding("selinux-labels", `The system enforces SELinux, but ${missing} entries have no label, ${then}`),
    ],
  };
}

function hostFindings({ hostLabels }: Facts): Finding[] {
  if (!hostLabels) return [];
  const { entries, path, hasPolicy } = hostLabels;
  return [
    finding(
      hasPolicy ? "selinux-host" : "selinux-unused",
      `Leaving out the SELinux labels of ${entries} entries: they are those of the machine that builds`,
      { path },
    ),
  ];
}

/** Options of the kernel win: https://www.kernel.org/doc/html/latest/admin-guide/kernel-parameters.html */
function isEnforcing({ selinux }: Facts, kernelOptions = ""): boolean {
  const options = kernelOptions.split(" ");
  if (options.includes("selinux=0") || options.includes("enforcing=0")) return false;
  return options.includes("enforcing=1") || selinux?.enforcing === true;
}

/** Where something else is mounted, or nothing lasts. Policies give many files there no label. */
const UNLABELLED = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"];

function countMissing({ nodes }: Facts): number {
  const without = new Set(UNLABELLED.map((path) => lookup(nodes, path, { follow: false })));
  let missing = 0;
  // Directories come before what is in them.
  for (let node = 0; node < nodes.count; node++) {
    if (node > 0 && without.has(nodes.parent[node]!)) without.add(node);
    if (!without.has(node) && treeLabel(nodes, node) === undefined) missing++;
  }
  return missing;
}

function treeLabel(nodes: Tree["nodes"], node: number | undefined): string | undefined {
  return node === undefined || nodes.xattrsAt[node] === 0 ? undefined : labelInTree(nodes, node);
}

function hasLabels(nodes: Tree["nodes"]): boolean {
  // Few sets of xattrs belong to many rows.
  const seen = new Set([0]);
  for (let node = 0; node < nodes.count; node++) {
    const at = nodes.xattrsAt[node]!;
    if (!seen.has(at) && labelInTree(nodes, node) !== undefined) return true;
    seen.add(at);
  }
  return false;
}

/** What is added to and left out of the root filesystem of a system. */
export function selinuxFiles(
  { autorelabel }: SelinuxPlan,
): { add: readonly ExtraFile[]; omit: readonly string[] } {
  return {
    add: autorelabel === "added" ? [{ path: AUTORELABEL, type: "file", text: "" }] : [],
    omit: autorelabel === "left out" ? [AUTORELABEL] : [],
  };
}

/** Resolves contents to entries with the labels that were decided on. @param at the path of the root in the system. */
export function selectLabelled(
  { nodes, selinux }: Pick<Tree, "nodes" | "selinux">,
  contents: Contents,
  filesystem: FilesystemName,
  { labels }: SelinuxPlan,
  at: string,
): Selection {
  const selection = select(nodes, contents);
  if (!FILESYSTEMS[filesystem].holdsSystem) return selection;
  const sources: Readonly<Record<SelinuxPlan["labels"], LabelSource>> = {
    policy: { labelsIn: (directory) => selinux!.labelsIn!(directory) },
    tree: { labelsIn: () => (_name, _mode, node) => treeLabel(nodes, node), inherits: true },
    none: { labelsIn: () => () => undefined },
  };
  // Without labels in the tree, there is nothing to remove or to inherit.
  return labels !== "policy" && !hasLabels(nodes) ? selection : withLabels(selection, sources[labels], at);
}

/** For people, one line; none if nobody asked and the tree has nothing to do with SELinux. */
export function describeSelinux(
  { labels, reason, policy, autorelabel }: SelinuxPlan,
  { selinux }: Pick<Settings, "selinux">,
): string[] {
  if (policy === undefined && selinux === "auto" && labels === "none") return [];
  return [
    `SELinux labels: ${labels}, since ${reason}${autorelabel ? `; ${AUTORELABEL} is ${autorelabel}` : ""}`,
  ];
}
