/**
 * What the kernel shows in a directory of a tree in which somebody worked: `/proc`, `/sys`, `/dev`. It belongs to the machine.
 *
 * Magic numbers: https://github.com/torvalds/linux/blob/master/include/uapi/linux/magic.h
 *
 * @module
 */

/** Filesystems without contents of their own. */
const KERNEL_FILESYSTEMS: ReadonlySet<number> = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x1cd1, // devpts
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x73636673, // securityfs
  0x64626720, // debugfs
  0x74726163, // tracefs
  0xcafe4a11, // bpf
  0x19800202, // mqueue
  0x958458f6, // hugetlbfs
  0x6165676c, // pstore
  0xde5e81e4, // efivarfs
  0x62656570, // configfs
  0x65735543, // fusectl
  0x42494e4d, // binfmt_misc
  0xf97cff8c, // selinuxfs
  0x187, // autofs
]);

/** Also that of devtmpfs. */
const TMPFS = 0x01021994;

/** Where a tmpfs has what a running system put there. */
const RUNTIME = ["/dev", "/run"];

/** Whether what is mounted at a path of the tree is the machine's. */
export function isMachines(filesystem: number, path: string): boolean {
  return KERNEL_FILESYSTEMS.has(filesystem) || filesystem === TMPFS && RUNTIME.includes(path);
}

/** FUSE, which does not say where the holes of a file are. */
export const FUSE = 0x65735546;
