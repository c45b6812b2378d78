/**
 * The table of extended attributes: which are part of a tree, and which belong to the filesystem or the machine that it
 * lies on. The same tree on another filesystem has other ones of the second kind, and gives the same image.
 *
 * - https://man7.org/linux/man-pages/man7/xattr.7.html
 * - overlayfs: https://docs.kernel.org/filesystems/overlayfs.html
 *
 * @module
 */

interface XattrKind {
  /** For the docs. */
  readonly names: string;
  readonly pattern: RegExp;
  readonly fate: "kept" | "translated" | "left out";
  /** Why, or what becomes of it. */
  readonly why: string;
  /** Whether one with this value is kept all the same. */
  readonly keeps?: (value: Uint8Array) => boolean;
}

/** The type of a signature by EVM that does not depend on inode and filesystem: `EVM_XATTR_PORTABLE_DIGSIG`. */
const EVM_PORTABLE = 5;

/** The first row that fits decides. */
export const XATTRS: readonly XattrKind[] = [
  {
    names: "`system.posix_acl_access`, `system.posix_acl_default`",
    pattern: /^system\.posix_acl_(access|default)$/,
    fate: "translated",
    why: "into the form in which the filesystem of the image stores an ACL; squashfs has none, and says so",
  },
  {
    names: "`trusted.SGI_*`",
    pattern: /^trusted\.SGI_/,
    fate: "left out",
    why: "how xfs stores ACLs, which it also shows under their own names",
  },
  {
    names: "`trusted.overlay.*`, `user.overlay.*`",
    pattern: /^(trusted|user)\.overlay\./,
    fate: "left out",
    why: "how overlayfs keeps track of its layers",
  },
  {
    names: "`user.fuseoverlayfs.*`, `user.containers.*`, `user.rootlesscontainers`",
    pattern: /^user\.(fuseoverlayfs\.|containers\.|rootlesscontainers$)/,
    fate: "left out",
    why: "how rootless containers keep owners and modes that they cannot set",
  },
  {
    names:
      "`trusted.glusterfs.*`, `trusted.gfid*`, `trusted.afr.*`, `trusted.lov`, `trusted.lma`, `trusted.link`",
    pattern: /^trusted\.(glusterfs\.|gfid|afr\.|(lov|lma|link)$)/,
    fate: "left out",
    why: "how cluster filesystems find the parts of a file",
  },
  {
    names: "`security.selinux` of the build host",
    pattern: /^security\.selinux$/,
    fate: "kept",
    why:
      "a label of the tree's own policy is kept; see below for those of the build host, which are left out",
  },
  {
    names: "`security.evm`",
    pattern: /^security\.evm$/,
    fate: "left out",
    why: "it holds for one inode of one filesystem; portable signatures are kept",
    keeps: (value) => value[0] === EVM_PORTABLE,
  },
  {
    names: "`user.*`, `trusted.*`, `security.*`",
    pattern: /^(user|trusted|security)\../,
    fate: "kept",
    why: "the file's own: capabilities, IMA signatures, labels, and what programs noted",
  },
  {
    names: "all others, e.g. `btrfs.*`, `system.nfs4_acl`, `system.cifs_acl`",
    pattern: /(?:)/,
    fate: "left out",
    why: "the filesystem that the tree is read from made them up, and ext4 has no place for them",
  },
];

/** The row of an attribute. */
export function xattrKind(name: string): XattrKind {
  return XATTRS.find(({ pattern }) => pattern.test(name))!;
}

/** Whether an attribute is part of the tree, whatever its value. */
export function isKept(name: string): boolean {
  const { fate, keeps } = xattrKind(name);
  return fate !== "left out" || keeps !== undefined;
}

/** Whether an attribute with this value is part of the tree. */
export function isValueKept(name: string, value: Uint8Array): boolean {
  return xattrKind(name).keeps?.(value) ?? true;
}
