/**
 * Creates files that Deno's own calls cannot create: names of any bytes, devices, sockets, xattrs, late dates.
 * Paths and names are Latin-1 strings here: one character for each byte.
 *
 * @module
 */

import { errorText } from "../../lib/system/posix.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  mknod: { parameters: ["buffer", "u32", "u64"], result: "i32" },
  symlink: { parameters: ["buffer", "buffer"], result: "i32" },
  link: { parameters: ["buffer", "buffer"], result: "i32" },
  lchown: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  lsetxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  utimensat: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
});

/** Latin-1 text as bytes. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return bytesOf(text + "\0");
}

function check(result: number, what: string): number {
  if (result !== -1) return result;
  const errno = new Deno.UnsafePointerView(libc.__errno_location()!).getInt32();
  throw new Error(`${what}: ${errorText(errno)}`);
}

/** Writes a file of `size` bytes with pieces of data and holes between them. */
export function writeSparse(
  path: string,
  size: number,
  pieces: readonly (readonly [offset: number, data: Uint8Array<ArrayBuffer>])[],
): void {
  const O_WRONLY_CREAT_TRUNC = 0o1101;
  const fd = check(libc.open(cString(path), O_WRONLY_CREAT_TRUNC, 0o644), `open ${path}`);
  try {
    for (const [offset, data] of pieces) {
      check(libc.pwrite(fd, data, BigInt(data.length), BigInt(offset)), `pwrite ${path}`);
    }
    check(libc.ftruncate(fd, BigInt(size)), `ftruncate ${path}`);
  } finally {
    libc.close(fd);
  }
}

export function makeDirectory(path: string): void {
  check(libc.mkdir(cString(path), 0o755), `mkdir ${path}`);
}

/** A FIFO, socket or device: `mode` with its type, and the device number as glibc encodes it. */
export function makeNode(path: string, mode: number, major = 0, minor = 0): void {
  const device = BigInt(major & 0xfff) << 8n | BigInt(minor & 0xff) | BigInt(minor >>> 8) << 20n;
  check(libc.mknod(cString(path), mode, device), `mknod ${path}`);
}

export function makeSymlink(target: string, path: string): void {
  check(libc.symlink(cString(target), cString(path)), `symlink ${path}`);
}

export function makeLink(from: string, path: string): void {
  check(libc.link(cString(from), cString(path)), `link ${path}`);
}

export function changeOwner(path: string, uid: number, gid: number): void {
  check(libc.lchown(cString(path), uid, gid), `lchown ${path}`);
}

export function changeMode(path: string, mode: number): void {
  check(libc.chmod(cString(path), mode), `chmod ${path}`);
}

export function setXattr(path: string, name: string, value: Uint8Array<ArrayBuffer>): void {
  check(
    libc.lsetxattr(cString(path), cString(name), value, BigInt(value.length), 0),
    `lsetxattr ${path} ${name}`,
  );
}

/** Sets atime and mtime, in nanoseconds since 1970. */
export function setTime(path: string, time: bigint): void {
  const nanoseconds = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = (time - nanoseconds) / 1_000_000_000n;
  const times = BigInt64Array.of(seconds, nanoseconds, seconds, nanoseconds);
  const AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100;
  check(
    libc.utimensat(AT_FDCWD, cString(path), new Uint8Array(times.buffer), AT_SYMLINK_NOFOLLOW),
    `utimensat ${path}`,
  );
}
