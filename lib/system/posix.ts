/**
 * The libc calls that read a tree as bytes: Deno's own functions turn names that are not UTF-8 into U+FFFD, and
 * support neither xattrs nor holes.
 *
 * Every function is one system call, and returns its result or `-errno`, since only the caller knows which path
 * belongs into an error message. Names and paths are NUL-terminated bytes. Besides this file, only `selinux.ts` uses FFI.
 *
 * - man pages: https://man7.org/linux/man-pages/dir_section_2.html
 * - struct statx: https://man7.org/linux/man-pages/man2/statx.2.html (the same on every architecture)
 *
 * @module
 */

import { BuildError } from "../core/error.ts";
import { KiB, MiB } from "../core/units.ts";

/** A file descriptor of this process. */
export type Fd = number;

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
/** Same on every architecture: https://man7.org/linux/man-pages/man2/openat2.2.html */
const SYS_openat2 = 437n;
const RESOLVE_NO_MAGICLINKS = 0x02n;
const RESOLVE_NO_SYMLINKS = 0x04n;
const RESOLVE_IN_ROOT = 0x10n;
const POSIX_FADV_WILLNEED = 3;
const MFD_CLOEXEC = 1;
const EXDEV = 18, ENOSYS = 38;

/** Two flags have different values on ARM: linux/arch/arm64/include/uapi/asm/fcntl.h. */
const ARM = Deno.build.arch === "aarch64";
const O_DIRECTORY = ARM ? 0o40000 : 0o200000;
const O_NOFOLLOW = ARM ? 0o100000 : 0o400000;
const O_RDONLY = 0,
  O_RDWR = 2,
  O_EXCL = 0o200,
  O_NONBLOCK = 0o4000,
  O_CLOEXEC = 0o2000000,
  O_PATH = 0o10000000;

/** Flags to open a file with. `file` never blocks on a FIFO and never follows a symlink. */
export const OPEN = {
  file: O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
  directory: O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC,
  place: O_PATH | O_DIRECTORY | O_CLOEXEC,
  read: O_RDONLY | O_CLOEXEC,
  /** For any type of file, only to query it. */
  path: O_PATH | O_CLOEXEC,
  readWrite: O_RDWR | O_CLOEXEC,
  pipe: O_RDONLY | O_NONBLOCK | O_CLOEXEC,
  /** For a block device that nothing else is using. */
  exclusive: O_RDWR | O_EXCL | O_CLOEXEC,
} as const;

export const ENOENT = 2,
  EIO = 5,
  ENXIO = 6,
  EAGAIN = 11,
  ENOMEM = 12,
  EACCES = 13,
  EINVAL = 22,
  ENFILE = 23,
  EMFILE = 24,
  EFBIG = 27,
  ENOSPC = 28,
  ERANGE = 34,
  ELOOP = 40,
  ENODATA = 61,
  EOPNOTSUPP = 95,
  EDQUOT = 122;

function load() {
  try {
    return Deno.dlopen("libc.so.6", {
      // i32 results suffice: no call here transfers 2 GiB or more.
      syscall: { parameters: ["i64", "i32", "buffer", "buffer", "usize"], result: "i32" },
      openat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
      close: { parameters: ["i32"], result: "i32" },
      getdents64: { parameters: ["i32", "buffer", "usize"], result: "i32" },
      statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
      readlinkat: { parameters: ["i32", "buffer", "buffer", "usize"], result: "i32" },
      unshare: { parameters: ["i32"], result: "i32" },
      fchdir: { parameters: ["i32"], result: "i32" },
      llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
      lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "i32" },
      lremovexattr: { parameters: ["buffer", "buffer"], result: "i32" },
      lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
      pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
      preadv2: { parameters: ["i32", "buffer", "i32", "i64", "i32"], result: "i32" },
      // Addresses as numbers: nothing here is at them to be read.
      mmap: { parameters: ["u64", "usize", "i32", "i32", "i32", "i64"], result: "u64" },
      mincore: { parameters: ["u64", "usize", "buffer"], result: "i32" },
      munmap: { parameters: ["u64", "usize"], result: "i32" },
      pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
      pwriteAside: {
        name: "pwrite",
        parameters: ["i32", "buffer", "usize", "i64"],
        result: "i32",
        nonblocking: true,
      },
      posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
      fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
      truncate: { parameters: ["buffer", "i64"], result: "i32" },
      fchown: { parameters: ["i32", "u32", "u32"], result: "i32" },
      fchmod: { parameters: ["i32", "u32"], result: "i32" },
      futimens: { parameters: ["i32", "buffer"], result: "i32" },
      // The third argument of a variadic function is passed like any other on all of Deno's Linux targets.
      memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
      fcntl: { parameters: ["i32", "i32", "buffer"], result: "i32" },
      fcntlNumber: { name: "fcntl", parameters: ["i32", "i32", "i32"], result: "i32" },
      statvfs: { parameters: ["buffer", "buffer"], result: "i32" },
      fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
      ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
      strerror: { parameters: ["i32"], result: "pointer" },
      __errno_location: { parameters: [], result: "pointer" },
    }).symbols;
  } catch (cause) {
    const denied = cause instanceof Deno.errors.NotCapable;
    throw new BuildError("Cannot load libc.so.6 to read the tree", {
      hint: denied ? "Run with --allow-ffi" : "Run on Linux with glibc, for example in a Debian container",
      cause,
    });
  }
}

/** Loaded on first use, so that planning alone needs no permission. */
let loaded: ReturnType<typeof load> | undefined;
const libc = () => loaded ??= load();

/** What `errno` is after a call that failed, of whichever library. */
export function errno(): number {
  return new Deno.UnsafePointerView(libc().__errno_location()!).getInt32();
}

/** Sets `errno` to 0 before a call that may fail without setting it. */
export function clearErrno(): void {
  new Int32Array(Deno.UnsafePointerView.getArrayBuffer(libc().__errno_location()!, 4))[0] = 0;
}

/** Turns libc's -1 into `-errno`. */
function result(value: number): number {
  return value === -1 ? -errno() : value;
}

const encoder = new TextEncoder();

/** Text as NUL-terminated bytes, as these calls take it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text + "\0");
}

/** libc's text for an errno of either sign, e.g. `No such file or directory`. */
export function errorText(errno: number): string {
  return new Deno.UnsafePointerView(libc().strerror(Math.abs(errno))!).getCString();
}

/** Opens a path, relative to the working directory. */
export function open(path: Uint8Array<ArrayBuffer>, flags: number): Fd {
  return result(libc().openat(AT_FDCWD, path, flags));
}

/** Opens one entry of a directory. */
export function openAt(directory: Fd, name: Uint8Array<ArrayBuffer>, flags: number): Fd {
  return result(libc().openat(directory, name, flags));
}

const how = new BigUint64Array(3);

/** Whether openat2 works: not in systemd-nspawn with `--suppress-sync`, which is how Raptor runs it. */
let hasOpenat2 = true;

/** Opens a path without symlinks below `root`. No path, not even a bad one, leads out of `root`. */
export function openInside(root: Fd, path: Uint8Array<ArrayBuffer>, flags: number): Fd {
  if (hasOpenat2) {
    how[0] = BigInt(flags);
    how[2] = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const fd = result(libc().syscall(SYS_openat2, root, path, how, BigInt(how.byteLength)));
    if (fd !== -ENOSYS) return fd;
    hasOpenat2 = false;
  }
  return openStepwise(root, path, flags);
}

/** Like {@link openInside}, with one openat per component. None may be a symlink or `..`. */
function openStepwise(root: Fd, path: Uint8Array<ArrayBuffer>, flags: number): Fd {
  for (let at = root, from = 0;;) {
    const slash = path.indexOf(0x2f, from);
    const name = new Uint8Array(slash < 0 ? path.length - from : slash - from + 1);
    name.set(path.subarray(from, slash < 0 ? path.length : slash));
    const parent = name.length === 3 && name[0] === 0x2e && name[1] === 0x2e;
    const directory = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const next = parent ? -EXDEV : openAt(at, name, slash < 0 ? flags | O_NOFOLLOW : directory);
    if (at !== root) close(at);
    if (next < 0 || slash < 0) return next;
    [at, from] = [next, slash + 1];
  }
}

export function close(fd: Fd): void {
  libc().close(fd);
}

/** Fills `buffer` with `struct linux_dirent64` records; 0 at the end of the directory. */
export function getdents(directory: Fd, buffer: Uint8Array<ArrayBuffer>): number {
  return result(libc().getdents64(directory, buffer, BigInt(buffer.length)));
}

/** Fills `out` with the `struct statx` of a directory entry. Symlinks are not followed. */
export function statxAt(directory: Fd, name: Uint8Array<ArrayBuffer>, out: Uint8Array<ArrayBuffer>): number {
  return result(libc().statx(directory, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, out));
}

const NOTHING = new Uint8Array(1);

/** Fills `out` with the `struct statx` of an open file. */
export function statx(fd: Fd, out: Uint8Array<ArrayBuffer>): number {
  return result(libc().statx(fd, NOTHING, AT_EMPTY_PATH, STATX_BASIC_STATS, out));
}

/** Byte offsets in `struct statx`. */
export const STATX = {
  /** 64 bits; all that are defined are in the lower 32. */
  attributes: 8,
  nlink: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  mtime: 112,
  rdevMajor: 128,
  rdevMinor: 132,
  devMajor: 136,
  devMinor: 140,
} as const;

/** The target of a symlink, without a NUL. */
export function readlinkAt(
  directory: Fd,
  name: Uint8Array<ArrayBuffer>,
  out: Uint8Array<ArrayBuffer>,
): number {
  return result(libc().readlinkat(directory, name, out, BigInt(out.length)));
}

const CLONE_FS = 0x200;

/**
 * Gives this thread a working directory of its own, so that no other thread of the process notices {@link enter}. Docker's
 * seccomp profile forbids it.
 */
export function ownWorkingDirectory(): number {
  return result(libc().unshare(CLONE_FS));
}

/** Makes an open directory the working directory: leave it before anything else can run. */
export function enter(directory: Fd): number {
  return result(libc().fchdir(directory));
}

/** The names of a file's xattrs, each followed by a NUL. Symlinks are not followed. */
export function listxattr(path: Uint8Array<ArrayBuffer>, out: Uint8Array<ArrayBuffer>): number {
  return result(libc().llistxattr(path, out, BigInt(out.length)));
}

/** The value of one xattr. Symlinks are not followed. */
export function getxattr(
  path: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  out: Uint8Array<ArrayBuffer>,
): number {
  return result(libc().lgetxattr(path, name, out, BigInt(out.length)));
}

/** Removes one xattr. Symlinks are not followed. */
export function removexattr(path: Uint8Array<ArrayBuffer>, name: Uint8Array<ArrayBuffer>): number {
  return result(libc().lremovexattr(path, name));
}

/** `whence` of `lseek`: `offset` from the end, or the next data or hole at or after `offset`. */
const WHENCE = { end: 2, data: 3, hole: 4 } as const;

/** `lseek`; `-ENXIO` if there is no more data or hole. */
export function seek(fd: Fd, offset: number, to: keyof typeof WHENCE): number {
  const at = Number(libc().lseek(fd, BigInt(offset), WHENCE[to]));
  return at === -1 ? result(-1) : at;
}

/** Reads up to `buffer.length` bytes at `offset`; fewer at the end of the file. */
export function pread(fd: Fd, buffer: Uint8Array<ArrayBuffer>, offset: number): number {
  return result(libc().pread(fd, buffer, BigInt(buffer.length), BigInt(offset)));
}

const RWF_NOWAIT = 0x8;

/** `struct iovec` of one byte, which is read for nothing. */
const PROBE = new Uint8Array(1), probe = new BigUint64Array(2);

/**
 * Whether the byte at `offset` of a file is in memory. Filesystems that cannot tell at all are taken for slow ones.
 *
 * https://man7.org/linux/man-pages/man2/readv.2.html
 */
export function isCached(fd: Fd, offset: number): boolean {
  probe[0] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(PROBE));
  probe[1] = 1n;
  const read = result(libc().preadv2(fd, new Uint8Array(probe.buffer), 1, BigInt(offset), RWF_NOWAIT));
  return read === -EOPNOTSUPP ? isResident(fd, offset) : read >= 0;
}

const PROT_READ = 1, MAP_PRIVATE = 2, MAP_FAILED = 2n ** 64n - 1n;

/** The largest page size of any machine that Deno runs on. */
const MAX_PAGE = 64 * KiB;

/**
 * The same in three calls, for filesystems that do not know RWF_NOWAIT, of which overlayfs is one. To somebody who could not
 * write to the file either, the kernel says that all of it is in memory.
 *
 * https://man7.org/linux/man-pages/man2/mincore.2.html
 */
function isResident(fd: Fd, offset: number): boolean {
  const start = offset - offset % MAX_PAGE;
  const address = libc().mmap(0n, 1n, PROT_READ, MAP_PRIVATE, fd, BigInt(start));
  if (BigInt(address) === MAP_FAILED) return false;
  const failed = libc().mincore(address, 1n, PROBE);
  libc().munmap(address, 1n);
  return failed === 0 && (PROBE[0]! & 1) === 1;
}

/** Writes up to `buffer.length` bytes at `offset`; fewer when the disk is nearly full. */
export function pwrite(fd: Fd, buffer: Uint8Array<ArrayBuffer>, offset: number): number {
  return result(libc().pwrite(fd, buffer, BigInt(buffer.length), BigInt(offset)));
}

/**
 * Like {@link pwrite}, in another thread, whose `errno` is lost: -1 if it failed. Neither close the file nor touch the buffer
 * before.
 */
export function pwriteAside(fd: Fd, buffer: Uint8Array<ArrayBuffer>, offset: number): Promise<number> {
  return libc().pwriteAside(fd, buffer, BigInt(buffer.length), BigInt(offset));
}

/** Opens a file in memory, which is gone when it is closed. Its path is `/proc/self/fd/` and its number. */
export function memoryFile(): Fd {
  return result(libc().memfd_create(cString("raptor-builders"), MFD_CLOEXEC));
}

const F_SETPIPE_SZ = 1031;

/**
 * Lets the pipe that a process reads on stdin hold 1 MiB instead of 64 KiB: the most that Linux grants everyone, who then wait
 * less often for each other. A hint: failures do not matter.
 *
 * https://man7.org/linux/man-pages/man7/pipe.7.html
 */
export function enlargeStdin(pid: number): void {
  const fd = open(cString(`/proc/${pid}/fd/0`), OPEN.pipe);
  if (fd < 0) return;
  libc().fcntlNumber(fd, F_SETPIPE_SZ, MiB);
  close(fd);
}

/** Asks the kernel to start reading a file that will be needed soon. A hint: failures do not matter. */
export function readAhead(fd: Fd, length: number): void {
  libc().posix_fadvise(fd, 0n, BigInt(length), POSIX_FADV_WILLNEED);
}

/** Gives a file another size; what is new reads as zeros. */
export function truncate(path: Uint8Array<ArrayBuffer>, size: number): number {
  return result(libc().truncate(path, BigInt(size)));
}

/** Sets the owner of an open file: like the next two, of none that is opened as {@link OPEN.place}. */
export function setOwner(fd: Fd, uid: number, gid: number): number {
  return result(libc().fchown(fd, uid, gid));
}

/** Sets the mode of an open file. */
export function setMode(fd: Fd, mode: number): number {
  return result(libc().fchmod(fd, mode));
}

/** Sets when an open file was read and changed, in seconds. */
export function setTime(fd: Fd, time: number): number {
  // Two struct timespec, which have 64-bit fields on all of Deno's Linux targets.
  const times = BigInt64Array.of(BigInt(time), 0n, BigInt(time), 0n);
  return result(libc().futimens(fd, new Uint8Array(times.buffer)));
}

const FALLOC_FL_KEEP_SIZE = 0x01, FALLOC_FL_ZERO_RANGE = 0x10;

/** Makes a range of a file or block device read as zeros. Devices do it themselves if they can. */
export function zeroRange(fd: Fd, offset: number, length: number): number {
  const mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  return result(libc().fallocate(fd, mode, BigInt(offset), BigInt(length)));
}

const statfs = new BigInt64Array(32);

/** The type of the filesystem that an open file is on (`f_type`, a magic number of include/uapi/linux/magic.h). */
export function filesystemType(fd: Fd): number {
  const failed = result(libc().fstatfs(fd, new Uint8Array(statfs.buffer)));
  return failed < 0 ? failed : Number(statfs[0]! & 0xffffffffn);
}

/** The type of a filesystem in memory. */
export const TMPFS = 0x01021994;

/**
 * `FS_IOC_GETFLAGS`: _IOR('f', 1, long), whose number has the size of a long (8) in it, though an int is written. MIPS,
 * PowerPC and SPARC have another number, and are no machines that Deno runs on.
 */
const FS_IOC_GETFLAGS = 0x80086601n;

const flagsOut = new Int32Array(2);

/** The flags of an open file or directory as chattr shows them; `-errno` where its filesystem has none. */
export function inodeFlags(fd: Fd): number {
  const failed = result(libc().ioctl(fd, FS_IOC_GETFLAGS, new Uint8Array(flagsOut.buffer)));
  return failed < 0 ? failed : flagsOut[0]! & 0x7fffffff;
}

/** `FICLONERANGE`: _IOW(0x94, 13, struct file_clone_range), as ioctl_ficlonerange(2) has it. */
const FICLONERANGE = 0x4020940dn;

const cloneRange = new BigInt64Array(4);

/**
 * Has the filesystem keep `length` bytes at `offset` in one file at `to` in another, too, without a copy. All are multiples of
 * its block size.
 *
 * @returns 0, or `-errno`: most filesystems cannot, and none with files of another one.
 */
export function shareBlocks(from: Fd, offset: number, length: number, image: Fd, to: number): number {
  cloneRange.set([BigInt(from), BigInt(offset), BigInt(length), BigInt(to)]);
  return result(libc().ioctl(image, FICLONERANGE, new Uint8Array(cloneRange.buffer)));
}

/** Bytes that this process may still write to the filesystem that holds `path`, or `-errno`. */
export function freeBytes(path: Uint8Array<ArrayBuffer>): number {
  const out = new BigUint64Array(16);
  const failed = result(libc().statvfs(path, new Uint8Array(out.buffer)));
  // glibc's struct statvfs on 64 bits: f_bsize, f_frsize, f_blocks, f_bfree, f_bavail.
  return failed < 0 ? failed : Number(out[1]! * out[4]!);
}

const F_OFD_GETLK = 36, F_OFD_SETLK = 37, F_WRLCK = 1, F_UNLCK = 2;

/** Where in a file the lock is: behind all that any program locks or stores there. */
const LOCK_START = 2n ** 61n;

/** No process has a higher number: `PID_MAX_LIMIT` in linux/include/linux/threads.h. */
const PID_LIMIT = 2n ** 22n;

/**
 * Locks a file for as long as it is open: the kernel unlocks it however this process ends. It is a lock on bytes, which works
 * over NFS as well, and of an open file, which no other `open` and `close` of this process undoes. Others are told who has it
 * by where it begins: the number of a process has its own byte, and all locks reach to the same end.
 *
 * https://man7.org/linux/man-pages/man2/F_OFD_SETLK.2const.html
 *
 * @returns 0, or the number of the process that has locked it, or `-errno`.
 */
export function lock(fd: Fd, pid: number): number {
  const range = new DataView(new ArrayBuffer(32));
  const set = (start: bigint) => {
    range.setInt16(0, F_WRLCK, true);
    range.setBigInt64(8, LOCK_START + start, true);
    range.setBigInt64(16, PID_LIMIT - start + 1n, true);
    range.setInt32(24, 0, true);
  };
  const bytes = new Uint8Array(range.buffer);
  set(BigInt(pid));
  const failed = result(libc().fcntl(fd, F_OFD_SETLK, bytes));
  if (failed !== -EAGAIN && failed !== -EACCES) return failed;
  set(0n);
  const asked = result(libc().fcntl(fd, F_OFD_GETLK, bytes));
  // It was unlocked a moment ago.
  if (asked < 0 || range.getInt16(0, true) === F_UNLCK) return asked < 0 ? asked : lock(fd, pid);
  return Number(range.getBigInt64(8, true) - LOCK_START);
}
